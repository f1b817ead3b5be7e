"""Studies that were cut off, read as they stand: what has ended is judged, and the conditions say what is left."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from core_support.objects import at, benchmark, later, plan_of, several
from core_support.studies import SPEED, cut_off
from quantbench import times
from quantbench.api.benchmark import CONTROL, QuantBenchmarkSpec
from quantbench.api.conditions import ConditionType
from quantbench.api.names import Difference, Verdict
from quantbench.api.run import Outcome
from quantbench.api.status import Cell
from quantbench.decide.benchmark import decide_benchmark, decide_invalid
from quantbench.exports import ExportError, Study, as_it_stands, from_document, merged, to_document
from quantbench.exports.figures import judged_once
from quantbench.exports.standing import reopened
from quantbench.observe import Run
from quantbench.plan import FieldError, plan_hash
from quantbench.report.build import build

FASTER, SLOWER, ALIKE = Difference.FASTER, Difference.SLOWER, Difference.NOT_DISTINGUISHABLE
UNDECIDED = Difference.UNDECIDED

REFUSED = {"type": "Accepted", "status": "False", "reason": "InvalidSpec", "message": "no such baseline",
           "lastTransitionTime": at()}  # fmt: skip


def spec_with(*names: str, starts: int = 2, **changes: Any) -> QuantBenchmarkSpec:
    sampling = {"starts": starts, "maxStarts": starts, "repeats": 2, "control": True}
    return several("bf16", *names, **{"sampling": sampling, **changes})


def last_control(run: Run) -> bool:
    return run.spec.variant.name == CONTROL and run.spec.block == 2


def later_block(run: Run) -> bool:
    return run.spec.block > 1


def words(study: Study) -> dict[str, Difference | None]:
    return {cell.variant: cell.loads[0].difference for cell in study.benchmark.status.cells if cell.loads}


def told(study: Study) -> dict[str, tuple[str, str, str]]:
    return {str(kind): study.condition(kind) for kind in ConditionType if kind != ConditionType.ACCEPTED}


def renamed(study: Study, name: str, after: float = 0.0) -> Study:
    """The same measurements as another study's."""
    runs = tuple(
        dataclasses.replace(run, name=f"{name}-{run.name}", uid=f"{name}-{run.uid}", created_at=at(after + place))
        for place, run in enumerate(study.runs)
    )
    return Study(dataclasses.replace(study.benchmark, name=name, uid=f"uid-{name}"), runs)


def replaced(study: Study, variant: str, block: int, **changes: Any) -> Study:
    """The study with the status of one run changed."""
    runs = tuple(
        dataclasses.replace(run, status=run.status.model_copy(update=changes))
        if (run.spec.variant.name, run.spec.block) == (variant, block)
        else run
        for run in study.runs
    )
    return dataclasses.replace(study, runs=runs)


# --- one study -----------------------------------------------------------------------------------------------------


def test_what_has_ended_is_judged() -> None:
    study = cut_off(spec_with("fp8", "awq", "w4a16"), left=last_control)
    assert {words(study)[name] for name in ("fp8", "awq", "w4a16")} == {UNDECIDED}
    closed = as_it_stands(study)
    assert [words(closed)[name] for name in ("fp8", "awq", "w4a16")] == [FASTER, SLOWER, ALIKE]
    assert (study.benchmark.status.summary or "").startswith("undecided so far: fp8 is 1.2")
    assert (closed.benchmark.status.summary or "").startswith("fp8 is 1.2")
    assert tuple(map(reopened, closed.runs)) == study.runs
    figures = [
        {cell.variant: (row.total_tokens_per_second, row.ratio, row.starts) for cell in of.cells for row in cell.loads}
        for of in (study.benchmark.status, closed.benchmark.status)
    ]
    assert {variant for variant, said in figures[0].items() if said != figures[1][variant]} == {CONTROL}


def test_the_conditions_say_how_it_came_to_its_end() -> None:
    study = cut_off(spec_with("fp8", "awq"), left=last_control)
    assert "undecided" in told(study)["Comparable"][2]
    closed = as_it_stands(study)
    assert (study.ended, closed.ended, closed.cut_off) == (False, True, True)
    # The last news is the pass that the interrupted run reported, 9000 s after noon.
    said = "judged as it stood at 2026-11-01 14:30 UTC: 1 of 8 runs had not ended"
    assert told(closed) == {
        "Progressing": ("False", "CutOff", "no run follows"),
        "Complete": ("True", "CutOff", said),
        "Comparable": ("True", "BaselineMeasured", "ratios rest on 2 starts; at saturated: 1 faster, 1 slower"),
    }
    status, before = closed.benchmark.status, study.benchmark.status
    assert (status.progress, status.finished_at, status.active_runs) == ("7/8", at(9000), 0)
    assert (before.progress, before.finished_at, before.active_runs) == ("7/8", None, 1)
    (moved,) = [c.last_transition_time for c in status.conditions if c.type == ConditionType.COMPLETE]
    assert moved == at(9000)
    assert build(closed, "1").state == said
    assert build(closed, "1").done


def test_a_server_that_was_cut_off_has_cost_what_is_known_of_it() -> None:
    study = cut_off(spec_with("fp8"), left=last_control)
    (run,) = [run for run in study.runs if not run.status.verdict]
    hours = (times.seconds_between(run.status.times.scheduled, at(9000)) or 0.0) / 3600
    assert hours > 1
    before, after = study.benchmark.status.gpu_hours, as_it_stands(study).benchmark.status.gpu_hours
    assert (before, after) == (pytest.approx(5 / 6), pytest.approx(5 / 6 + hours, rel=1e-5))


def test_runs_that_were_never_created_are_counted() -> None:
    study = cut_off(
        spec_with("fp8"), left=lambda run: False, missing=lambda run: later_block(run) and run.name[-1] > "0"
    )
    created, ended = len(study.runs), sum(1 for run in study.runs if run.status.verdict)
    assert ended == created < 6
    closed = as_it_stands(study)
    assert closed.condition(ConditionType.COMPLETE)[2].endswith(f" UTC: {6 - ended} of 6 had not been started")
    assert closed.benchmark.status.progress == f"{ended}/6"
    assert [cell.planned for cell in closed.benchmark.status.cells] == [2, 2, 2]
    both = cut_off(spec_with("fp8"), left=lambda run: run.name == study.runs[0].name, missing=later_block)
    said = as_it_stands(both).condition(ConditionType.COMPLETE)[2]
    assert said.endswith(": 1 of 6 runs had not ended, 3 of 6 had not been started")


def test_what_later_looks_might_have_spent_stays_unspent(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two starts of up to five only a small share of the error may be spent; as the last look it is enough."""
    monkeypatch.setitem(SPEED, "fp8", 1050.0)
    for most, word in ((5, ALIKE), (2, FASTER)):
        spec = spec_with("fp8", "w4a16", sampling={"starts": 2, "maxStarts": most, "repeats": 2, "control": True})
        study = cut_off(spec, left=lambda run: False, missing=lambda run: run.spec.block > 2)
        assert words(as_it_stands(study))["fp8"] is word


def test_the_plan_keeps_its_digest_where_credentials_are_left_out() -> None:
    engine = {"image": "vllm/vllm-openai:v0.24.0", "args": ["--hf-token=secret"]}
    study = cut_off(spec_with("fp8", engine=engine), left=last_control)
    assert study.benchmark.status.plan_hash != plan_hash(study.benchmark.spec)
    assert as_it_stands(study).benchmark.status.plan_hash == study.benchmark.status.plan_hash


@pytest.mark.parametrize("block", [1, 2, 3])
def test_blocks_that_were_not_reached_are_not_waited_for(block: int) -> None:
    """Three starts were asked for at least: no look was due before the third block."""
    spec = spec_with("fp8", "awq", starts=3)
    study = cut_off(spec, left=lambda run: run.spec.block == block and run.spec.variant.name == CONTROL,
                    missing=lambda run: run.spec.block > block)  # fmt: skip
    closed = words(as_it_stands(study))
    expected = [Difference.ONE_RUN] * 2 if block == 1 else [FASTER, SLOWER]
    assert [closed["fp8"], closed["awq"]] == expected
    assert FASTER not in words(study).values()


def test_without_the_baseline_there_are_no_ratios() -> None:
    study = cut_off(spec_with("fp8"), left=lambda run: run.spec.variant.name == "bf16", passes=0)
    assert told(study)["Comparable"][:2] == ("Unknown", "Running")
    assert told(as_it_stands(study))["Comparable"] == (
        "False",
        "BaselineMissing",
        "baseline bf16 has no valid result",
    )


def test_without_another_variant_there_is_nothing_to_compare() -> None:
    study = cut_off(spec_with("fp8"), left=lambda run: run.spec.variant.name == "fp8", passes=0)
    said = ("Unknown", "NothingToCompare", "no other variant is measured yet")
    assert told(study)["Comparable"] == said
    assert told(as_it_stands(study))["Comparable"] == (*said[:2], "no other variant has a valid result")


def test_what_has_ended_by_itself_is_left_alone() -> None:
    whole = cut_off(spec_with("fp8"), left=lambda run: False)
    assert (whole.ended, whole.cut_off) == (True, False)
    assert as_it_stands(whole) is whole
    closed = as_it_stands(cut_off(spec_with("fp8"), left=last_control))
    again = from_document(json.loads(json.dumps(to_document(closed, "1"), allow_nan=False)))
    assert again == closed
    assert as_it_stands(again) is again


def test_a_refused_study_is_left_alone() -> None:
    study = Study(benchmark(spec_with("fp8", baseline="none"), status={"conditions": [REFUSED]}), ())
    assert as_it_stands(study) is study


def test_a_study_that_was_refused_after_runs_is_ended() -> None:
    """As an operator does that no longer takes the specification, while its runs go on."""
    study = cut_off(spec_with("fp8"), left=last_control)
    old = study.benchmark.status
    refused = decide_invalid(old, 1, [FieldError("spec.loads", "no")], later(9100), study.runs).status
    closed = as_it_stands(Study(benchmark(study.benchmark.spec, status=refused), study.runs))
    assert (closed.refused, closed.cut_off, words(closed)["fp8"]) == (True, True, FASTER)


def test_a_sitting_that_was_refused_is_to_be_left_out() -> None:
    """Or the whole would pass for refused, and never end."""
    bad = Study(benchmark(spec_with("fp8"), name="monday", uid="uid-1", status={"conditions": [REFUSED]}), ())
    good = renamed(cut_off(spec_with("awq"), left=lambda run: False), "tuesday")
    for parts in ([bad, good], [good, bad]):
        with pytest.raises(ExportError, match=r"^monday was not accepted \(no such baseline\), and has no runs: leave"):
            merged(parts, as_they_stand=True)


def test_a_suspended_study_is_ended_too() -> None:
    spec = spec_with("fp8", suspend=True)
    study = cut_off(spec, left=last_control)
    assert told(study)["Progressing"][1] == "Suspended"
    closed = as_it_stands(study)
    assert (words(closed)["fp8"], closed.ended, told(closed)["Progressing"][1]) == (FASTER, True, "CutOff")


def test_a_study_of_which_nothing_was_started_has_ended_with_nothing() -> None:
    study = cut_off(spec_with("fp8"), left=lambda run: False, missing=lambda run: True)
    closed = as_it_stands(study)
    assert (closed.ended, closed.measured, closed.benchmark.status.progress) == (True, False, "0/6")
    bare = as_it_stands(Study(benchmark(spec_with("fp8")), ()))
    assert (bare.ended, bare.benchmark.status.finished_at) == (True, None)
    assert build(bare, "1").state == "judged as it stood before any run was planned"


# --- several exports -----------------------------------------------------------------------------------------------


def two_sittings() -> list[Study]:
    """The first one was cut off."""
    one = renamed(cut_off(spec_with("fp8"), left=last_control), "monday")
    other = renamed(cut_off(spec_with("awq"), left=lambda run: False), "tuesday", after=20_000)
    return [one, other]


def test_a_sitting_that_was_cut_off_is_ended_before_it_is_merged() -> None:
    whole, closed = merged(two_sittings()), merged(two_sittings(), as_they_stand=True)
    assert (whole.ended, words(whole)["fp8"], words(whole)["awq"]) == (False, UNDECIDED, UNDECIDED)
    assert (closed.ended, words(closed)["fp8"], words(closed)["awq"]) == (True, FASTER, SLOWER)
    status, reason, message = closed.condition(ConditionType.COMPLETE)
    assert (status, reason) == ("True", "CutOff")
    assert message == "monday: judged as it stood at 2026-11-01 14:30 UTC: 1 of 6 runs had not ended"
    assert closed.benchmark.status.progress == "11/12"
    assert closed.benchmark.status.finished_at is not None
    assert tuple(map(reopened, closed.runs)) == whole.runs
    ended = merged([two_sittings()[1], as_it_stands(two_sittings()[0])])
    assert words(ended) == words(closed)
    assert ended.condition(ConditionType.COMPLETE)[2] == message


def test_what_was_merged_can_be_ended_later() -> None:
    """All its blocks are judged, not only as many as one sitting had."""
    whole = merged(two_sittings())
    later_on = as_it_stands(from_document(json.loads(json.dumps(to_document(whole, "1"), allow_nan=False))))
    assert words(later_on) == words(merged(two_sittings(), as_they_stand=True))


def test_what_was_merged_is_the_same_given_twice() -> None:
    """All blocks are judged again, not only as many as one sitting had."""
    one = renamed(cut_off(spec_with("fp8"), left=lambda run: False), "monday")
    whole = merged([one, two_sittings()[1]])
    assert (words(whole)["fp8"], words(whole)["awq"], whole.cut_off) == (FASTER, SLOWER, False)
    assert words(merged([whole, whole])) == words(whole)


def test_parts_of_one_study_complete_each_other_before_it_is_ended() -> None:
    spec = spec_with("fp8")
    early, late = cut_off(spec, left=later_block), cut_off(spec, left=last_control)
    for parts in ([early, late], [late, early]):
        together = merged(parts)
        assert (together.ended, words(together)["fp8"]) == (False, UNDECIDED)
        closed = merged(parts, as_they_stand=True)
        assert closed.condition(ConditionType.COMPLETE)[2].endswith("1 of 6 runs had not ended")
        assert words(closed)["fp8"] is FASTER
        # What was ended too early learns from the later export, and is ended anew.
        assert merged([as_it_stands(part) for part in parts]) == closed


def test_the_end_that_the_operator_saw_counts() -> None:
    spec = spec_with("fp8")
    whole = cut_off(spec, left=lambda run: False)
    early = as_it_stands(cut_off(spec, left=last_control))
    for parts in ([early, whole], [whole, early]):
        together = merged(parts)
        assert told(together) == told(whole)
        assert together.benchmark.status.progress == "6/6"
        assert together.benchmark.status.finished_at == whole.benchmark.status.finished_at


def test_one_that_was_ended_and_its_running_self_are_not_ended() -> None:
    spec = spec_with("fp8")
    early, late = as_it_stands(cut_off(spec, left=later_block)), cut_off(spec, left=last_control)
    for parts in ([early, late], [late, early]):
        assert not merged(parts).ended
        assert words(merged(parts))["fp8"] is UNDECIDED
    # The operator says from the beginning that runs are left; what was cut off has news that are later.
    conditions = tuple(c.model_copy(update={"last_transition_time": at(1)}) for c in late.benchmark.status.conditions)
    status = late.benchmark.status.model_copy(update={"conditions": conditions})
    first = Study(dataclasses.replace(late.benchmark, status=status), late.runs)
    for parts in ([early, first], [first, early]):
        assert not merged(parts).ended


def cut_passes(spec: QuantBenchmarkSpec, passes: int, **changes: Any) -> tuple[Cell, Outcome | None]:
    """What a study says of a variant's only start, which was cut off after so many passes, changed by ``changes``."""
    study = cut_off(spec, left=lambda run: run.spec.variant.name == "fp8", passes=passes)
    (run,) = [run for run in study.runs if not run.status.verdict]
    done = tuple(one.model_copy(update=changes) for one in run.status.passes)
    closed = as_it_stands(replaced(study, "fp8", run.spec.block, passes=done))
    (cell,) = [cell for cell in closed.benchmark.status.cells if cell.variant == "fp8"]
    return cell, next(one.status.verdict for one in closed.runs if one.name == run.name)


def test_finished_passes_of_a_run_that_was_cut_off_count() -> None:
    loads = [{"name": "saturated", "requestRate": "inf"}, {"name": "c8", "maxConcurrency": 8}]
    spec = spec_with("fp8", starts=1, loads=loads)
    for passes, counted, measured in (
        (4, "2 of 2 of saturated, 2 of 2 of c8", {"saturated": 2, "c8": 2}),
        (3, "2 of 2 of saturated, 1 of 2 of c8", {"saturated": 2, "c8": 1}),
        (2, "2 of 2 of saturated, 0 of 2 of c8", {"saturated": 2}),
    ):
        message = f"passes that count: {counted}"
        cell, outcome = cut_passes(spec, passes)
        assert outcome == Outcome(name=Verdict.CUT_OFF, reason="CutOff", message=message)
        assert {row.load: row.passes for row in cell.loads} == measured
        assert (cell.verdict, cell.message, cell.finished, cell.planned) == (Verdict.CUT_OFF, message, 0, 1)
        assert {row.difference for row in cell.loads} == {Difference.ONE_RUN}


@pytest.mark.parametrize("changes", [{"valid": False, "invalid_reason": "ClientLate"}, {"attempt": 7}])
def test_without_a_pass_that_counts_there_is_nothing_to_keep(changes: dict[str, Any]) -> None:
    """As of a server that was lost and started again: its passes were of the attempt before."""
    cell, outcome = cut_passes(spec_with("fp8", starts=1), 1, **changes)
    assert (outcome, cell.verdict, cell.loads) == (None, None, ())


def test_what_its_end_would_have_made_worthless_does_not_count() -> None:
    """All passes of a load are invalid: a run that ends so has no figures, and being cut off makes it no better."""
    loads = [{"name": "saturated", "requestRate": "inf"}, {"name": "c8", "maxConcurrency": 8}]
    study = cut_off(spec_with("fp8", starts=1, loads=loads), left=lambda run: run.spec.variant.name == "fp8", passes=3)
    (run,) = [run for run in study.runs if not run.status.verdict]
    bad = [one.model_copy(update={"valid": one.load != "saturated"}) for one in run.status.passes]
    assert [one.valid for one in bad] == [False, False, True]
    for passes, counts in ((bad, False), ([bad[0], *bad[2:]], True)):
        closed = as_it_stands(replaced(study, "fp8", 1, passes=tuple(passes)))
        (cell,) = [cell for cell in closed.benchmark.status.cells if cell.variant == "fp8"]
        assert ([row.load for row in cell.loads] == ["c8"]) is counts
        assert bool(cell.verdict) is counts


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("other", [Verdict.INCONSISTENT, Verdict.EVICTED])
def test_figures_of_a_start_that_was_cut_off_stay_beside_one_without(first: int, other: Verdict) -> None:
    study = cut_off(spec_with("fp8"), left=lambda run: (run.spec.variant.name, run.spec.block) == ("fp8", first))
    ended = Outcome(name=other, reason="Why", message="so")
    closed = as_it_stands(replaced(study, "fp8", 3 - first, verdict=ended))
    (cell,) = [cell for cell in closed.benchmark.status.cells if cell.variant == "fp8"]
    assert (cell.verdict, cell.loads[0].ratio_starts) == (Verdict.CUT_OFF, 1)
    assert "fp8 is 1.23× bf16 at saturated" in (closed.benchmark.status.summary or "")


@pytest.mark.parametrize(
    ("early", "late", "counted"),
    [
        ({"passes": 1}, {"passes": 2}, 2),
        # The server was lost: what its first attempt measured is worth nothing.
        ({"passes": 2}, {"passes": 2, "attempt": 2}, 0),
        ({"passes": 2}, {"passes": 2, "ended": True}, 0),
    ],
)
def test_the_later_state_of_a_run_counts_in_whatever_order(
    early: dict[str, int], late: dict[str, int], counted: int
) -> None:
    spec = spec_with("fp8")

    def state(passes: int, attempt: int = 1, *, ended: bool = False) -> Study:
        study = cut_off(spec, left=last_control, passes=passes)
        verdict = Outcome(name=Verdict.EVICTED, reason="NodeLost", message="gone") if ended else None
        return replaced(study, CONTROL, 2, attempt=attempt, verdict=verdict)

    for parts in ([state(**early), state(**late)], [state(**late), state(**early)]):
        (control,) = [c for c in merged(parts, as_they_stand=True).benchmark.status.cells if c.variant == CONTROL]
        assert control.loads[0].passes == 2 + counted


# --- what several exports say together -----------------------------------------------------------------------------


def spent(study: Study, hours: float) -> Study:
    """The operator's words where the budget was spent."""
    spec = study.benchmark.spec
    limited = spec.model_copy(update={"limits": spec.limits.model_copy(update={"gpu_hours": hours})})
    old = study.benchmark.status.to_json()
    decision = decide_benchmark(benchmark(limited, status=old), plan_of(limited), study.runs, later(9000))
    return Study(benchmark(limited, status=decision.status), study.runs)


def test_a_budget_that_was_raised_again_is_no_end() -> None:
    """A newer export of a study that went on says more than an older one that had ended."""
    spec = spec_with("fp8", "awq", starts=3)
    begun = cut_off(spec, left=lambda run: False, missing=lambda run: run.spec.block > 2)
    ended = spent(begun, 0.1)
    assert (ended.condition(ConditionType.COMPLETE)[1], words(ended)["fp8"]) == ("BudgetSpent", FASTER)
    runs = cut_off(spec, left=lambda run: run.spec.block == 3 and run.spec.variant.name == CONTROL).runs
    on = decide_benchmark(benchmark(spec, status=ended.benchmark.status.to_json()), plan_of(spec), runs, later(9100))
    going_on = Study(benchmark(spec, status=on.status), runs)
    whole = cut_off(spec, left=lambda run: False)
    done = decide_benchmark(
        benchmark(spec, status=going_on.benchmark.status.to_json()), plan_of(spec), whole.runs, later(9200)
    )
    finished = Study(benchmark(spec, status=done.status), whole.runs)
    for parts in ([ended, going_on], [going_on, ended]):
        assert not merged(parts).ended
        assert words(merged(parts))["fp8"] is UNDECIDED
        assert merged(parts).benchmark.status.gpu_hours == going_on.benchmark.status.gpu_hours
    raised = decide_benchmark(
        benchmark(spec, status=ended.benchmark.status.to_json()), plan_of(spec), begun.runs, later(9050)
    )
    at_once = Study(benchmark(spec, status=raised.status), begun.runs)  # before any further run
    for parts in ([ended, at_once], [at_once, ended]):
        assert (merged(parts).ended, words(merged(parts))["fp8"]) == (False, UNDECIDED)
    for parts in ([ended, finished], [finished, ended], [going_on, finished, ended]):
        assert told(merged(parts)) == told(finished)
        assert merged(parts).benchmark.status == finished.benchmark.status


def test_parts_of_one_study_cost_and_say_what_the_latest_does() -> None:
    spec = spec_with("fp8")
    early, late = cut_off(spec, left=later_block), cut_off(spec, left=last_control)
    for parts in ([early, late], [late, early]):
        status = merged(parts).benchmark.status
        assert (status.gpu_hours, status.active_runs) == (late.benchmark.status.gpu_hours, 1)
        assert told(merged(parts)) == told(late)


def test_runs_that_may_still_be_started_are_waited_for() -> None:
    """As the operator does: a block of which some runs have not begun has not ended."""
    spec = spec_with("fp8", "awq")
    study = cut_off(spec, left=lambda run: False, missing=last_control)
    assert (study.ended, words(study)["fp8"]) == (False, UNDECIDED)
    assert words(merged([study, study])) == words(study)
    other = renamed(cut_off(spec_with("w4a16"), left=lambda run: False), "tuesday", after=20_000)
    whole = merged([renamed(study, "monday"), other])
    assert (whole.ended, words(whole)["fp8"], words(whole)["w4a16"]) == (False, UNDECIDED, UNDECIDED)
    assert words(merged([renamed(study, "monday"), other], as_they_stand=True))["fp8"] is FASTER


def test_runs_that_no_sitting_started_stay_planned() -> None:
    one = renamed(cut_off(spec_with("fp8"), left=lambda run: False, missing=later_block), "monday")
    other = renamed(cut_off(spec_with("awq"), left=lambda run: False), "tuesday", after=20_000)
    whole = merged([one, other])
    assert whole.benchmark.status.progress == "9/12"
    assert as_it_stands(whole).condition(ConditionType.COMPLETE)[2].endswith(": 3 of 12 had not been started")
    assert merged([one, other], as_they_stand=True).benchmark.status.progress == "9/12"


def test_a_server_of_monday_costs_nothing_on_tuesday() -> None:
    apart = merged(two_sittings(), as_they_stand=True).benchmark.status.gpu_hours
    later_on = as_it_stands(merged(two_sittings())).benchmark.status.gpu_hours
    assert later_on == pytest.approx(apart, rel=1e-5)


def test_the_conditions_of_sittings_speak_of_all_of_them() -> None:
    one = renamed(cut_off(spec_with("fp8"), left=lambda run: False), "monday")
    other = renamed(cut_off(spec_with("awq"), left=lambda run: False), "tuesday", after=20_000)
    assert told(merged([one, other])) == {
        "Progressing": ("False", "Finished", "no run is left"),
        "Complete": ("True", "AllRunsEnded", "monday: 6 Measured; tuesday: 6 Measured"),
        "Comparable": ("True", "BaselineMeasured", "ratios rest on 2 starts; at saturated: 1 faster, 1 slower"),
    }
    begun = cut_off(spec_with("fp8"), left=lambda run: False, missing=later_block)
    short = renamed(spent(begun, 0.1), "monday")
    _, reason, message = merged([short, other]).condition(ConditionType.COMPLETE)
    assert reason == "BudgetSpent"
    assert message.startswith("monday: ")
    assert "tuesday" not in message
    assert message.endswith("3 runs were not started: raise limits.gpuHours to go on")


def test_what_was_cut_off_twice_is_ended_once_more() -> None:
    """Each of two exports knows of a run that the other does not."""
    spec = spec_with("fp8")
    whole = cut_off(spec, left=lambda run: False)
    one, other = (run.name for run in whole.runs[-2:])
    parts = [
        as_it_stands(cut_off(spec, left=lambda run: False, missing=lambda run: run.name == one)),
        as_it_stands(cut_off(spec, left=lambda run: False, missing=lambda run: run.name == other)),
    ]
    assert all("1 of 6 had not been started" in part.condition(ConditionType.COMPLETE)[2] for part in parts)
    together = merged(parts)
    assert together.condition(ConditionType.COMPLETE)[2].endswith(": all 6 runs had ended")
    assert together.benchmark.status.progress == "6/6"


def test_a_latest_export_that_lacks_runs_still_knows_the_plan() -> None:
    spec = spec_with("fp8")
    early = cut_off(spec, left=lambda run: False, missing=lambda run: True)
    late = cut_off(spec, left=lambda run: False, missing=later_block)
    assert merged([early, late]).benchmark.status.progress == "3/6"


def test_a_cut_off_sitting_weighs_more_than_a_spent_budget() -> None:
    begun = cut_off(spec_with("awq"), left=lambda run: False, missing=later_block)
    short, cut = renamed(spent(begun, 0.1), "tuesday", after=20_000), as_it_stands(two_sittings()[0])
    assert merged([short, cut]).condition(ConditionType.COMPLETE)[1] == "CutOff"
    assert merged([short, two_sittings()[0]]).benchmark.status.active_runs == 1


def test_sittings_are_judged_at_one_last_look() -> None:
    whole = merged(two_sittings())
    sampling = judged_once(whole.benchmark.spec, whole.runs).sampling
    assert (sampling.starts, sampling.most_starts) == (4, 4)


def test_ratios_may_rest_on_different_numbers_of_starts() -> None:
    one = renamed(cut_off(spec_with("fp8"), left=lambda run: False), "monday")
    other = renamed(cut_off(spec_with("awq", starts=1), left=lambda run: False), "tuesday", after=20_000)
    status, reason, message = merged([one, other]).condition(ConditionType.COMPARABLE)
    assert (status, reason) == ("True", "BaselineMeasured")
    assert message == "ratios rest on 1 to 2 starts; at saturated: 1 faster, 1 one run"


def test_a_budget_does_not_bring_back_what_cannot_work() -> None:
    """The second start of a variant whose first one failed is never made, and not waited for."""
    spec = spec_with("fp8", "awq")
    begun = cut_off(
        spec, left=lambda run: False, missing=lambda run: last_control(run) or (broken(run) and later_block(run))
    )
    runs = tuple(failed(run) if broken(run) else run for run in begun.runs)
    study = spent(Study(begun.benchmark, runs), 0.1)
    assert (study.condition(ConditionType.COMPLETE)[1], words(study)["fp8"]) == ("BudgetSpent", FASTER)


def broken(run: Run) -> bool:
    return run.spec.variant.name == "awq"


def failed(run: Run) -> Run:
    outcome = Outcome(name=Verdict.FAILED, reason="Failed", message="it broke")
    return dataclasses.replace(run, status=run.status.model_copy(update={"verdict": outcome, "passes": ()}))


def test_of_two_states_of_one_run_the_later_one_counts_whatever_the_order_of_the_files() -> None:
    """Both have not ended and hold as many passes: by their moments one is later."""
    study = cut_off(spec_with("fp8", starts=3), left=lambda run: run.spec.block == 3)

    def seen(seconds: float, server: float = 0.0) -> Study:
        def earlier(one: Run) -> Run:
            when = one.status.times.model_copy(update={"last_pass": at(seconds)})
            status = one.status.model_copy(update={"times": when, "server_seconds": server})
            return one if one.ended else dataclasses.replace(one, status=status)

        return dataclasses.replace(study, runs=tuple(map(earlier, study.runs)))

    for states in ((seen(7000), seen(8000)), (seen(8000, 1.0), seen(8000, 2.0))):
        assert merged(states, as_they_stand=True) == merged(states[::-1], as_they_stand=True)
    of_both = merged((seen(8000), seen(7000)), as_they_stand=True)
    assert of_both == as_it_stands(seen(8000))
