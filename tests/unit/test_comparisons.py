"""Which starts follow and what is said of each comparison, through the operator's own decisions."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.simulation.simulate import Scenario, passes, play
from core_support.objects import at, benchmark, ended, later, merged, pass_json, plan_of, several, stored
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import CONTROL, QuantBenchmarkSpec
from quantbench.api.names import Difference, FindingKind, Verdict
from quantbench.api.run import Outcome, Refusal
from quantbench.api.status import LoadResult, QuantBenchmarkStatus
from quantbench.comparisons import Comparisons
from quantbench.decide.actions import Apply
from quantbench.decide.benchmark import decide_benchmark
from quantbench.observe import Run, read_run

Speed = Callable[[str, int], float]
"""Variant, block → tokens per second."""


def noisy(factors: dict[str, float], *, noise: float = 0.01, seed: int = 1) -> Speed:
    """Speeds with noise from start to start that depends on variant and block alone."""

    def speed(variant: str, block: int) -> float:
        drawn = random.Random(f"{seed} {variant} {block}").gauss(0, noise)
        return 1000 * factors.get(variant, 1.0) * math.exp(drawn)

    return speed


def finished(apply: Apply, speed: Speed, **more: Any) -> Run:
    """The run that was asked for, measured at this speed under every load."""
    raw = merged(apply.manifest, {})
    raw["metadata"] |= {"uid": f"uid-{raw['metadata']['name']}", "generation": 1, "creationTimestamp": at(0)}
    spec = raw["spec"]
    tps = speed(spec["variant"]["name"], spec["block"])
    loads = [pass_json(load["name"], tps=tps, tpotMilliseconds={"mean": 8e3 / tps}) for load in spec["load"]["loads"]]
    raw["status"] = ended(passes=loads, **more)
    return read_run(stored(raw))


class Played:
    """A study that was run to its end, one decision after the other."""

    def __init__(
        self, spec: QuantBenchmarkSpec, speed: Speed, *, order: random.Random | None = None, **more: Any
    ) -> None:
        self.spec, self.runs, self.progress = spec, list[Run](), list[str]()
        status: JsonObject | None = None
        under_way: list[Apply] = []
        for step in range(2000):
            waiting = [self.started(apply) for apply in under_way]
            decision = decide_benchmark(benchmark(spec, status=status), plan_of(spec), self.runs + waiting, later(step))
            status = decision.status
            self.status = QuantBenchmarkStatus.model_validate(stored(status or {}))
            self.progress.append(self.status.progress or "")
            asked = [action for action in decision.actions if isinstance(action, Apply)]
            under_way += asked
            if self.condition("Complete")[0] == "True":
                assert not under_way
                return
            assert under_way, "nothing is under way, and the study is not complete"
            ending = under_way.pop(order.randrange(len(under_way)) if order else 0)
            self.runs.append(finished(ending, speed, **more))
        raise AssertionError("the study does not end")

    @staticmethod
    def started(apply: Apply) -> Run:
        raw = merged(apply.manifest, {})
        raw["metadata"] |= {"uid": f"uid-{raw['metadata']['name']}", "generation": 1, "creationTimestamp": at(0)}
        return read_run(stored({**raw, "status": {"times": {"serverCreated": at(0)}}}))

    def condition(self, kind: str) -> tuple[str, str]:
        return next((c.status, c.reason) for c in self.status.conditions if c.type == kind)

    def starts(self, target: str = "h100") -> Counter[str]:
        return Counter(run.spec.variant.name for run in self.runs if run.spec.target.name == target)

    def row(self, variant: str, target: str = "h100", load: int = 0) -> LoadResult:
        return next(cell for cell in self.status.cells if (cell.variant, cell.target) == (variant, target)).loads[load]


ADAPTIVE: JsonObject = {"starts": 2, "maxStarts": 5, "control": True}


def test_a_clear_difference_needs_no_more_starts() -> None:
    done = Played(several("a", "b", "c", sampling=ADAPTIVE), noisy({"b": 1.3, "c": 0.7}, seed=2))
    assert done.starts() == {"a": 2, "b": 2, "c": 2, CONTROL: 2}
    assert (done.row("b").difference, done.row("c").difference) == (Difference.FASTER, Difference.SLOWER)
    assert (done.row("a").difference, done.row(CONTROL).difference) == (None, None)
    row = done.row("b")
    assert row.ratio_low is not None
    assert row.ratio_high is not None
    assert 1.2 < row.ratio_low < (row.ratio or 0.0) < row.ratio_high < 1.4
    assert done.status.progress == "8/8"
    assert done.status.summary is not None
    assert done.status.summary.startswith("b is 1.")
    assert " a at saturated (95 % CI 1." in done.status.summary


def test_only_what_is_undecided_gets_more_starts() -> None:
    done = Played(several("a", "b", "c", sampling=ADAPTIVE), noisy({"b": 1.3}, noise=0.02))
    assert done.starts() == {"a": 5, "b": 2, "c": 5, CONTROL: 5}
    assert done.row("c").difference is Difference.NOT_DISTINGUISHABLE
    assert done.row("c").ratio_starts == 5
    assert done.condition("Complete") == ("True", "AllRunsEnded")
    assert done.status.progress == "17/17"


def test_the_plan_grows_by_whole_blocks_and_never_shrinks() -> None:
    done = Played(several("a", "b", "c", sampling=ADAPTIVE), noisy({"b": 1.3}, noise=0.02))
    planned = [int(text.split("/")[1]) for text in done.progress]
    assert sorted(set(planned)) == [8, 11, 14, 17]
    assert planned == sorted(planned)


def test_a_narrow_interval_is_the_end() -> None:
    spec = several("a", "b", "c", "d", "e", "f", sampling={**ADAPTIVE, "targetRatioError": 0.05})
    done = Played(spec, noisy({}, noise=0.005))
    assert set(done.starts().values()) == {4}
    assert done.row("b").difference is Difference.NOT_DISTINGUISHABLE


def test_fixed_starts_stay_fixed() -> None:
    done = Played(several("a", "b", sampling={"starts": 3, "maxStarts": 3}), noisy({}, noise=0.05))
    assert done.starts() == {"a": 3, "b": 3}


def test_one_start_is_no_verdict() -> None:
    done = Played(several("a", "b", sampling={"starts": 1}), noisy({"b": 2.0}))
    row = done.row("b")
    assert (row.difference, row.ratio_starts, row.ratio_low, row.ratio_high) == (Difference.ONE_RUN, 1, None, None)
    assert row.ratio == pytest.approx(2.0, rel=0.05)


def test_one_start_and_more_if_needed() -> None:
    done = Played(
        several("a", "b", "c", sampling={"starts": 1, "maxStarts": 4, "control": True}), noisy({"b": 1.3}, noise=0.02)
    )
    assert done.starts() == {"a": 4, "b": 2, "c": 4, CONTROL: 4}


def test_while_more_starts_follow_it_is_undecided() -> None:
    spec = several("a", "b", sampling={"starts": 3, "maxStarts": 5})
    speed = noisy({}, noise=0.05)
    decision = decide_benchmark(benchmark(spec), plan_of(spec), [], later(0))
    runs: list[Run] = []
    while len(runs) < 4:
        (apply,) = [action for action in decision.actions if isinstance(action, Apply)]
        runs.append(finished(apply, speed))
        decision = decide_benchmark(benchmark(spec), plan_of(spec), runs, later(0))
    status = QuantBenchmarkStatus.model_validate(stored(decision.status or {}))
    assert status.cells[1].loads[0].difference is Difference.UNDECIDED
    assert status.progress == "4/6"


def test_the_budget_ends_it() -> None:
    spec = several("a", "b", sampling={"starts": 2, "maxStarts": 5}, limits={"gpuHours": 0.6})
    done = Played(spec, noisy({}, noise=0.05))  # each run takes a sixth of an hour
    assert done.starts() == {"a": 2, "b": 2}
    assert done.condition("Complete") == ("True", "BudgetSpent")
    assert done.row("b").difference is Difference.NOT_DISTINGUISHABLE


@pytest.mark.parametrize(("starts", "hours"), [(3, 1.4), (2, 1.1)])
def test_a_block_that_the_budget_cuts_short_is_judged(starts: int, hours: float) -> None:
    sampling = {"starts": starts, "maxStarts": starts, "control": True}
    done = Played(several("a", "b", "c", sampling=sampling, limits={"gpuHours": hours}), noisy({"b": 1.45, "c": 1.2}))
    assert done.condition("Complete") == ("True", "BudgetSpent")
    assert len(done.runs) < 4 * starts
    assert done.row("b").difference is Difference.FASTER


def test_a_control_that_differs_from_itself_is_an_alarm_at_the_end() -> None:
    def alarms(played: Played) -> list[str]:
        found = [one for one in played.status.findings if one.kind is FindingKind.CONTROL]
        return [one.message for one in found if "though nothing differs" in one.message]

    names, loads = ("bf16", "fp8", "awq"), [{"name": "saturated"}, {"name": "r4", "requestRate": 4}]
    spec = several(*names, loads=loads, sampling={"starts": 4, "maxStarts": 4, "control": True})
    odd = Played(spec, noisy({"control": 0.9}, noise=0.01))
    assert [odd.row(CONTROL, load=load).difference for load in (0, 1)] == [Difference.SLOWER] * 2
    assert [message.split(" lies at ")[1].split(" on ")[0] for message in alarms(odd)] == [
        "0.91× at saturated",
        "1.10× at r4",
    ]
    assert odd.status.findings[0].kind is FindingKind.CONTROL
    plain = Played(spec, noisy({}, noise=0.01))
    assert (plain.row(CONTROL).difference, alarms(plain)) == (None, [])
    under_way = [run for run in odd.runs if run.spec.block < 4]
    status = decide_benchmark(benchmark(spec), plan_of(spec), under_way, later(1)).status
    assert status
    assert "though nothing differs" not in str(status["findings"])


def test_the_family_holds_what_was_never_started() -> None:
    """A study that is cut off asks no fewer questions than it was made to ask."""
    spec = several("bf16", "fp8", "awq", "w4a16", sampling={"starts": 2})
    begun = [one for one in plan_of(spec).runs if one.variant not in ("awq", "w4a16")]
    for runs in (plan_of(spec).runs, tuple(begun)):
        assert Comparisons(spec, replace(plan_of(spec), runs=runs), ()).rule.family == 3 * len(spec.loads)
    refused = tuple(
        replace(one, refusal=Refusal(verdict=Verdict.UNSUPPORTED, reason="Unsupported", message="no"))
        if one.variant == "awq"
        else one
        for one in plan_of(spec).runs
    )
    assert Comparisons(spec, replace(plan_of(spec), runs=refused), ()).rule.family == 2 * len(spec.loads)


def test_targets_do_not_wait_for_each_other() -> None:
    targets = [{"name": "x"}, {"name": "y"}]
    spec = several("a", "b", "c", targets=targets, sampling=ADAPTIVE, limits={"parallelism": 4})
    shape = [Played(spec, noisy({"b": 1.3}, noise=0.02), order=random.Random(seed)) for seed in range(6)]
    assert {tuple(sorted(done.starts("x").items())) for done in shape} == {(("a", 5), ("b", 2), ("c", 5), (CONTROL, 5))}
    assert len({done.status.model_copy(update={"conditions": (), "finished_at": None}) for done in shape}) == 1


def test_whatever_the_order_of_events_the_end_is_the_same() -> None:
    spec = several("a", "b", "c", "d", sampling=ADAPTIVE, limits={"parallelism": 3})
    speed = noisy({"b": 1.02, "c": 1.05}, noise=0.01, seed=4)
    ends = [Played(spec, speed, order=random.Random(seed)) for seed in range(8)]
    assert (
        len({(tuple(sorted(run.name for run in end.runs)), end.status.cells, end.status.summary) for end in ends}) == 1
    )


def test_under_a_fixed_rate_the_time_per_token_decides() -> None:
    spec = several("a", "b", loads=[{"name": "r2", "requestRate": 2}], sampling=ADAPTIVE)
    done = Played(spec, noisy({"b": 1.25}))
    row = done.row("b")
    assert row.difference is Difference.FASTER
    assert row.tpot_ratio is not None
    assert row.tpot_ratio < 0.85
    assert "time per output token" in (done.status.summary or "")


def test_a_duplicate_is_not_compared_and_gets_no_more_starts() -> None:
    spec = several("a", "b", "c", sampling=ADAPTIVE)
    runs = [run for run in Played(spec, noisy({}, noise=0.05)).runs if run.spec.block <= 2]
    plain = Comparisons(spec, plan_of(spec), runs)
    assert {run.variant for run in plain.further} == {"a", "b", "c", CONTROL}
    same = Comparisons(spec, plan_of(spec), runs, same_as={("c", "h100"): "b"})
    assert {run.variant for run in same.further} == {"a", "b", CONTROL}
    one = several("a", "b", "c", sampling={**ADAPTIVE, "starts": 1})
    first = [run for run in Played(one, noisy({}, noise=0.05)).runs if run.spec.block == 1]
    assert {run.variant for run in Comparisons(one, plan_of(one), first, same_as={("c", "h100"): "b"}).further} == {
        "a",
        "b",
        CONTROL,
    }
    (row,) = same.rows("c", "h100", complete=False)
    assert row.difference is Difference.SAME_CONFIGURATION
    assert row.ratio is not None


def test_hopeless_cells_get_no_more_starts() -> None:
    spec = several("a", "b", "c", sampling=ADAPTIVE)
    runs = [run for run in Played(spec, noisy({}, noise=0.05)).runs if run.spec.block <= 2]
    assert {run.variant for run in Comparisons(spec, plan_of(spec), runs, hopeless={("c", "h100")}).further} == {
        "a",
        "b",
        CONTROL,
    }
    assert Comparisons(spec, plan_of(spec), runs, hopeless={("a", "h100")}).further == ()


def test_a_cell_that_was_never_measured_gets_no_more_starts() -> None:
    spec = several("a", "b", "c", sampling=ADAPTIVE)
    runs = [run for run in Played(spec, noisy({}, noise=0.05)).runs if run.spec.block <= 2]
    silent = [
        replace(run, status=run.status.model_copy(update={"passes": ()})) if run.spec.variant.name == "c" else run
        for run in runs
    ]
    assert {run.variant for run in Comparisons(spec, plan_of(spec), silent).further} == {"a", "b", CONTROL}


def test_void_cells_have_no_figures_and_get_no_more_starts() -> None:
    spec = several("a", "b", "c", sampling=ADAPTIVE)
    runs = [run for run in Played(spec, noisy({}, noise=0.05)).runs if run.spec.block <= 2]
    comparisons = Comparisons(spec, plan_of(spec), runs, void={("c", "h100")})
    assert {run.variant for run in comparisons.further} == {"a", "b", CONTROL}
    assert comparisons.rows("c", "h100", complete=False) == ()


def test_later_blocks_do_not_change_what_an_earlier_look_saw() -> None:
    spec = several("a", "b", "c", sampling=ADAPTIVE)
    done = Played(spec, noisy({"b": 1.3}, noise=0.02))
    for block in (2, 3, 4):
        until = Comparisons(spec, plan_of(spec), [run for run in done.runs if run.spec.block <= block])
        whole = Comparisons(spec, plan_of(spec), done.runs)
        assert until.further == tuple(run for run in whole.further if run.block <= block + 1)


# --- the simulation is the operator ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_simulated_studies_go_as_the_operator_would_run_them(seed: int) -> None:
    scenario = Scenario(variants=3, control=seed % 2 == 0, start=0.012, ratio=1.04, different=2, repeats=1)
    throughput = passes(scenario, 1, np.random.default_rng(seed))
    outcome = play(scenario, throughput)
    names = ["a", "b", "c", "d", *([CONTROL] if scenario.control else [])]
    spec = several("a", "b", "c", "d", sampling={**ADAPTIVE, "control": scenario.control, "repeats": 1})
    done = Played(spec, lambda variant, block: float(throughput[0, 0, names.index(variant), block - 1, 0]))
    assert done.starts() == {name: int(outcome.run[0, place].sum()) for place, name in enumerate(names)}
    called = [done.row(name).difference in (Difference.FASTER, Difference.SLOWER) for name in ("b", "c", "d")]
    assert called == outcome.different[0, 0, 1:4].tolist()


@pytest.mark.parametrize(
    ("scenario", "most_alarms"),
    [
        (Scenario(variants=4, start=0.03, repeats=3), 0.05),
        (Scenario(variants=4, start=0.01, repeats=3), 0.05),
        (Scenario(variants=4, loads=2, start=0.05), 0.05),
        (Scenario(variants=1, most=12, start=0.03, precision=0.001), 0.05),
    ],
    ids=["4 variants", "stopping by precision", "2 loads", "11 looks"],
)
def test_false_alarms_and_coverage(scenario: Scenario, most_alarms: float) -> None:
    """With 1500 studies 5 % have a standard error of 0.56 %, so up to 6.7 % is chance to one in a thousand."""
    outcome = play(scenario, passes(scenario, 1500, np.random.default_rng(7)))
    assert outcome.false_alarms <= most_alarms + 0.017
    assert 0.93 <= outcome.coverage <= 0.97


@pytest.mark.parametrize(("ratio", "noise"), [(1.03, 0.01), (1.10, 0.04)])
def test_true_differences_are_found(ratio: float, noise: float) -> None:
    scenario = Scenario(variants=1, ratio=ratio, different=1, start=noise)
    outcome = play(scenario, passes(scenario, 800, np.random.default_rng(7)))
    assert outcome.power >= 0.80


def test_what_is_decided_outlives_a_later_failure_of_the_baseline() -> None:
    """A start that fails late ends the study; it takes nothing back of what was measured and judged before."""
    spec = several("a", "b", "c", sampling={"starts": 2, "maxStarts": 6})
    done = Played(spec, noisy({"b": 1.3}, noise=0.02))
    assert done.row("b").difference is Difference.FASTER
    last = max((run for run in done.runs if run.spec.variant.name == "a"), key=lambda run: run.spec.block)
    assert last.spec.block > 3
    verdict = Outcome(name=Verdict.OUT_OF_MEMORY, reason="UnderLoad", message="it failed")
    failed = replace(last, status=last.status.model_copy(update={"verdict": verdict, "passes": ()}))
    runs = [failed if run is last else run for run in done.runs]
    status = decide_benchmark(benchmark(spec), plan_of(spec), runs, later(9999)).status
    cells = QuantBenchmarkStatus.model_validate(stored(status or {})).cells
    assert next(cell for cell in cells if cell.variant == "b").loads[0].difference is Difference.FASTER


def test_a_run_that_ended_but_cannot_be_read_stops_nothing() -> None:
    spec = several("a", "b", sampling={"starts": 2, "maxStarts": 3})
    runs = Played(spec, noisy({}, noise=0.05)).runs
    plan, hidden = plan_of(spec), next(run for run in runs if run.spec.block == 2)
    rest = [run for run in runs if run.spec.block < 3 and run is not hidden]
    assert not Comparisons(spec, plan, rest).further
    assert Comparisons(spec, plan, rest, ended=[hidden.name]).further
