"""One study: which runs are started when, what is said about it, and when it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from core_support.objects import (
    UID,
    at,
    benchmark,
    benchmark_object,
    ended,
    later,
    merged,
    pass_json,
    plan_of,
    run_raw,
    several,
    stored,
    study,
)
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Verdict
from quantbench.api.status import QuantBenchmarkStatus
from quantbench.decide.actions import Apply, Decision, Delete, PatchSpec
from quantbench.decide.benchmark import (
    CREATED_AT_ONCE,
    PASSING,
    REPEATABLE,
    WATCHDOG_SECONDS,
    decide_benchmark,
    decide_invalid,
)
from quantbench.engine.signatures import SIGNATURES
from quantbench.execute import merge_patch
from quantbench.observe import Run, benchmark_status, read_run
from quantbench.plan import FieldError, make_plan, run_spec
from quantbench.resources.run import run_object

GGUF = {"name": "gguf", "method": "GGUF", "model": "/m.gguf"}


def a_run(spec: QuantBenchmarkSpec, name: str, status: JsonObject | None = None, **changes: Any) -> Run:
    """The run of a plan with this name, as read."""
    plan = plan_of(spec)
    planned = next(run for run in plan.runs if run.name == name)
    raw = run_object(name, "bench", UID, run_spec("demo", spec, plan, planned))
    raw["metadata"] |= {"uid": f"uid-{name}", "generation": 1, "creationTimestamp": at(0).replace(".000", "")}
    raw["spec"] = merged(raw["spec"], changes)
    return read_run(stored({**raw, "status": status or {}}))


def runs_of(spec: QuantBenchmarkSpec, *statuses: JsonObject | None) -> list[Run]:
    """The first runs of the plan with these statuses."""
    return [a_run(spec, planned.name, status) for planned, status in zip(plan_of(spec).runs, statuses, strict=False)]


def all_runs(spec: QuantBenchmarkSpec, **by_variant: JsonObject) -> list[Run]:
    """Every run of the plan, measured unless its variant has another status."""
    return [a_run(spec, run.name, by_variant.get(run.variant, ended())) for run in plan_of(spec).runs]


def decide(
    spec: QuantBenchmarkSpec, runs: list[Run], *, status: JsonObject | None = None, now: float = 1000, **head: Any
) -> Decision:
    return decide_benchmark(benchmark(spec, status=status, **head), plan_of(spec), runs, later(now))


def created(decision: Decision) -> list[tuple[str, str]]:
    """Variant and target of the runs that are created."""
    manifests = [action.manifest for action in decision.actions if isinstance(action, Apply)]
    return [(made["spec"]["variant"]["name"], made["spec"]["target"]["name"]) for made in manifests]


def next_status(decision: Decision) -> QuantBenchmarkStatus:
    assert decision.status is not None
    return QuantBenchmarkStatus.model_validate(stored(decision.status))


def conditions(decision: Decision) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in next_status(decision).conditions}


# --- starting --------------------------------------------------------------------------------------------------


def test_a_new_study_starts_its_first_run() -> None:
    spec = several("a", "b", "c")
    decision = decide(spec, [])
    assert created(decision) == [plan_of(spec).runs[0].cell]
    assert conditions(decision) == {
        "Accepted": ("True", "Valid"),
        "Progressing": ("True", "Running"),
        "Complete": ("False", "NotStarted"),
        "Comparable": ("Unknown", "Running"),
    }
    assert next_status(decision).progress == "0/6"
    assert decision.requeue_after == WATCHDOG_SECONDS


def test_the_run_object_belongs_to_the_study() -> None:
    (action,) = decide(several("a"), []).actions
    assert isinstance(action, Apply)
    head = action.manifest["metadata"]
    assert head["name"] == plan_of(several("a")).runs[0].name
    (owner,) = head["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("QuantBenchmark", "demo", UID, True)


@pytest.mark.parametrize("parallelism", [1, 2, 3, 64])
def test_no_more_servers_than_allowed(parallelism: int) -> None:
    spec = several("a", "b", "c", "d", limits={"parallelism": parallelism})
    everything = len(plan_of(spec).runs)
    assert len(created(decide(spec, []))) == min(parallelism, everything)
    busy = runs_of(spec, {}, {})
    assert len(created(decide(spec, busy))) == max(0, min(parallelism, everything) - 2)


def test_a_run_holds_its_slot_until_its_pods_are_gone() -> None:
    spec = several("a", "b")
    not_released = merged(ended(), {"times": {"released": None}})
    assert created(decide(spec, runs_of(spec, not_released))) == []
    assert len(created(decide(spec, runs_of(spec, ended())))) == 1


def test_runs_follow_the_plans_order() -> None:
    spec = several("a", "b", "c", sampling={"starts": 3, "maxStarts": 3})
    plan, runs = plan_of(spec), []
    for planned in plan.runs:
        assert created(decide(spec, runs)) == [planned.cell]
        runs.append(a_run(spec, planned.name, ended()))
    assert created(decide(spec, runs)) == []


def test_slots_are_spread_over_the_targets() -> None:
    targets = [{"name": "x"}, {"name": "y"}, {"name": "z"}]
    spec = several("a", "b", "c", targets=targets, limits={"parallelism": 6})
    assert Counter(target for _, target in created(decide(spec, []))) == {"x": 2, "y": 2, "z": 2}
    busy = [a_run(spec, planned.name) for planned in plan_of(spec).runs if planned.target == "x"][:2]
    assert Counter(target for _, target in created(decide(spec, busy))) == {"y": 2, "z": 2}


def test_refusals_need_no_slot() -> None:
    spec = study(variants=[{"name": "bf16", "method": "BF16"}, GGUF], sampling={"control": False})
    busy = [a_run(spec, planned.name) for planned in plan_of(spec).runs if planned.cell == ("bf16", "h100")][:1]
    assert created(decide(spec, busy)) == [("gguf", "h100")]


def test_many_refusals_come_in_portions() -> None:
    variants = [{"name": "bf16", "method": "BF16"}, *({**GGUF, "name": f"g{place}"} for place in range(31))]
    targets = [{"name": f"t{place}"} for place in range(4)]
    spec = study(variants=variants, targets=targets, sampling={"control": False, "starts": 1})
    made = created(decide(spec, []))
    assert len(made) == CREATED_AT_ONCE + 1
    assert sum(1 for variant, _ in made if variant == "bf16") == 1


# --- what is not worth starting --------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.CUT_OFF])
def test_another_start_only_where_it_may_end_differently(verdict: Verdict) -> None:
    spec = several("a", "b", sampling={"starts": 3})
    first = next(planned for planned in plan_of(spec).runs if planned.variant == "b")
    decision = decide(spec, [a_run(spec, first.name, ended(str(verdict)))], now=1000)
    assert next_status(decision).progress == ("1/6" if verdict in REPEATABLE else "1/4")


def test_hopeless_cells_do_not_stop_others() -> None:
    spec = several("a", "b", sampling={"starts": 3})
    runs = [
        a_run(spec, planned.name, ended("OutOfMemory")) for planned in plan_of(spec).runs if planned.variant == "b"
    ][:1]
    for _ in range(3):
        made = created(decide(spec, runs))
        assert [variant for variant, _ in made] == ["a"]
        names = [planned.name for planned in plan_of(spec).runs if planned.variant == "a"]
        runs.append(a_run(spec, names[len(runs) - 1], ended()))
    assert created(decide(spec, runs)) == []
    assert conditions(decide(spec, runs))["Complete"] == ("True", "AllRunsEnded")


def test_a_target_without_nodes_is_closed() -> None:
    spec = several("a", "b", "c", targets=[{"name": "x"}, {"name": "y"}], sampling={"starts": 2})
    first = next(planned for planned in plan_of(spec).runs if planned.target == "x")
    decision = decide(spec, [a_run(spec, first.name, ended("Unschedulable", reason="NoNode"))])
    refused = [action.manifest["spec"] for action in decision.actions if isinstance(action, Apply)]
    by_target = Counter((made["target"]["name"], "refusal" in made) for made in refused)
    assert by_target == {("x", True): 4, ("y", False): 1}  # two other variants twice; the first one's is pointless
    refusal = next(made["refusal"] for made in refused if "refusal" in made)
    assert (refusal["verdict"], refusal["reason"]) == ("Unschedulable", "NoNode")
    assert refusal["message"] == f"no node was found for target x by run {first.name}: as it went"


BUSY = "no node for pod p within 900 s: 0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match"


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("NoNode", BUSY),
        ("NoNode", "no node within 900 s: SchedulingGated: waiting"),
        ("PodForbidden", "exceeded quota"),
        ("NoNodeForLoad", "0/3 nodes"),
        ("LoadPodMissing", "quota"),
    ],
)
def test_a_target_whose_gpus_are_in_use_stays_open(reason: str, message: str) -> None:
    spec = several("a", "b", sampling={"starts": 2})
    first = plan_of(spec).runs[0]
    decision = decide(spec, [a_run(spec, first.name, ended("Unschedulable", reason=reason, message=message))])
    manifests = [action.manifest["spec"] for action in decision.actions if isinstance(action, Apply)]
    assert len(manifests) == 1
    assert "refusal" not in manifests[0]
    # What held a GPU in vain is not repeated, what only waited is.
    again = reason in ("NoNode", "PodForbidden")
    assert next_status(decision).progress == ("1/4" if again else "1/3")


@pytest.mark.parametrize(
    ("verdict", "reason", "again"),
    [
        ("Failed", "GPUDefect", True),
        ("Failed", "GPUUnavailable", True),
        ("ModelUnavailable", "HubUnreachable", True),
        ("ModelUnavailable", "RateLimited", True),
        ("ModelUnavailable", "Gated", False),
        ("Failed", "CreateContainerConfigError", False),
        ("Unschedulable", "NoNode", False),
    ],
)
def test_what_another_node_or_time_mends_is_tried_again(verdict: str, reason: str, again: bool) -> None:
    spec = several("a", sampling={"starts": 3})
    decision = decide(spec, [a_run(spec, plan_of(spec).runs[0].name, ended(verdict, reason=reason))])
    assert next_status(decision).progress == ("1/3" if again else "1/1")


@pytest.mark.parametrize("reason", sorted(PASSING - {"PodForbidden"}))
def test_reasons_of_a_passing_fault_are_the_diagnosis_own(reason: str) -> None:
    assert reason in {signature.reason for signature in SIGNATURES}


def test_a_closed_target_stays_closed_for_more_runs_than_are_recorded_at_once() -> None:
    names = [f"v{place}" for place in range(30)]
    spec = several(*names, sampling={"starts": 4}, limits={"parallelism": 5})
    first = plan_of(spec).runs[0]
    decision = decide(spec, [a_run(spec, first.name, ended("Unschedulable", reason="NoNode"))])
    manifests = [action.manifest["spec"] for action in decision.actions if isinstance(action, Apply)]
    assert len(manifests) == CREATED_AT_ONCE
    assert all("refusal" in made for made in manifests)


def test_a_recorded_refusal_does_not_close_a_target() -> None:
    spec = several("a", "b")
    first = plan_of(spec).runs[0]
    refusal = {"verdict": "Unschedulable", "reason": "NoNode", "message": "m"}
    decision = decide(spec, [a_run(spec, first.name, ended("Unschedulable", reason="NoNode"), refusal=refusal)])
    manifests = [action.manifest["spec"] for action in decision.actions if isinstance(action, Apply)]
    assert not any("refusal" in made for made in manifests)


# --- limits that change ----------------------------------------------------------------------------------------


def test_suspended() -> None:
    spec = several("a", "b", suspend=True)
    decision = decide(spec, [])
    assert decision.actions == ()
    assert conditions(decision)["Progressing"] == ("False", "Suspended")
    assert conditions(decision)["Complete"] == ("False", "NotStarted")


def test_suspend_and_limits_reach_the_runs_under_way() -> None:
    spec = several("a", "b", "c", limits={"parallelism": 2})
    runs = [*runs_of(spec, {}, ended())]
    changed = several("a", "b", "c", limits={"parallelism": 2, "loadTimeout": "5m"}, suspend=True)
    decision = decide(changed, runs)
    (patch,) = decision.actions
    assert isinstance(patch, PatchSpec)
    assert patch.name == runs[0].name
    assert patch.patch["suspend"] is True
    assert patch.patch["limits"]["loadTimeoutSeconds"] == 300
    in_step = [a_run(spec, runs[0].name, **patch.patch), runs[1]]
    assert decide(changed, in_step).actions == ()


def test_the_budget() -> None:
    spec = several("a", "b", limits={"gpuHours": 0.5})
    hour = ended(seconds=3600)
    decision = decide(spec, runs_of(spec, hour))
    assert created(decision) == []
    assert conditions(decision)["Complete"] == ("True", "BudgetSpent")
    assert next_status(decision).gpu_hours == 1.0
    more = several("a", "b", limits={"gpuHours": 2})
    again = decide(more, runs_of(more, hour), status=decision.status)
    assert len(created(again)) == 1
    assert conditions(again)["Complete"] == ("False", "Running")
    assert next_status(again).finished_at is None


def test_a_run_under_way_is_told_that_the_budget_is_spent() -> None:
    spec = several("a", "b", limits={"gpuHours": 0.5})
    busy = {"times": {"serverCreated": at(0), "scheduled": at(0)}}
    (told,) = decide(spec, runs_of(spec, busy), now=1801).actions
    assert isinstance(told, PatchSpec)
    assert told.patch["limits"]["budgetSpent"] is True
    told_already = a_run(spec, told.name, status=busy, **told.patch)
    assert decide(spec, [told_already], now=1802).actions == ()
    (taken_back,) = decide(several("a", "b", limits={"gpuHours": 2}), [told_already], now=1803).actions
    assert isinstance(taken_back, PatchSpec)
    assert taken_back.patch["limits"]["budgetSpent"] is False
    # A specification that cannot be planned any more has its limits all the same.
    wrong = [FieldError("spec.loads", "no")]
    (handed_on,) = decide_invalid(QuantBenchmarkStatus(), 1, wrong, later(1801), runs_of(spec, busy), spec).actions
    assert handed_on == told


def without_budget(spec: QuantBenchmarkSpec, place: int = 0, *, told: bool = True, reason: str = "BudgetSpent") -> Run:
    """A run that has lost its server after an hour."""
    said = {"type": "Complete", "status": "False", "reason": reason, "message": "", "lastTransitionTime": at(3600)}
    status = {"attempt": 2, "lost": 1, "serverSeconds": 3600.0, "conditions": [said]}
    return a_run(spec, plan_of(spec).runs[place].name, status, limits={"budgetSpent": told})


def test_a_run_without_server_and_budget_is_not_waited_for() -> None:
    spec = several("a", "b", limits={"gpuHours": 0.5})
    decision = decide(spec, [without_budget(spec)])
    assert (decision.actions, conditions(decision)["Complete"]) == ((), ("True", "BudgetSpent"))
    after = next_status(decision)
    assert after.active_runs == 0
    assert after.conditions[2].message.endswith("4 runs were not started: raise limits.gpuHours to go on")
    # With one run the study would be complete without it just the same.
    alone = several("a", limits={"gpuHours": 0.5})
    assert conditions(decide(alone, [without_budget(alone)]))["Complete"] == ("True", "BudgetSpent")
    # Nor does suspending the study take its end back.
    suspended = decide(alone, [without_budget(alone, reason="Suspended")])
    assert conditions(suspended)["Complete"] == ("True", "BudgetSpent")
    # It is waited for until it is known to hold nothing and to start nothing.
    for run in (without_budget(spec, told=False), without_budget(spec, reason="Scheduling")):
        assert conditions(decide(spec, [run]))["Complete"] == ("False", "Running")
    more = several("a", "b", limits={"gpuHours": 2})
    raised = decide(more, [without_budget(spec)], status=decision.status)
    assert conditions(raised)["Complete"] == ("False", "Running")
    assert [type(action) for action in raised.actions] == [PatchSpec], "it takes the slot again"


def test_blocks_are_judged_without_a_run_that_waits_for_budget() -> None:
    """What the budget leaves out does not keep the others' starts from being compared."""
    spec = several("a", "b", "c", sampling={"starts": 2}, limits={"gpuHours": 0.5})
    runs = all_runs(spec)
    place = next(place for place, run in enumerate(runs) if run.spec.block == 2 and run.spec.variant.name == "b")
    others = [*runs[:place], *runs[place + 1 :]]
    without, with_it = decide(spec, others), decide(spec, [*others, without_budget(spec, place)])
    assert next_status(with_it).cells == next_status(without).cells
    assert conditions(with_it)["Complete"] == conditions(without)["Complete"] == ("True", "BudgetSpent")


def test_running_servers_count_for_the_budget() -> None:
    spec = several("a", "b", limits={"gpuHours": 0.5, "parallelism": 2})
    busy = runs_of(spec, {"times": {"serverCreated": at(-900), "scheduled": at(0)}})
    assert len(created(decide(spec, busy, now=1799))) == 1
    assert created(decide(spec, busy, now=1801)) == []
    assert conditions(decide(spec, busy, now=1801))["Complete"] == ("False", "Running")


def test_the_cpu_costs_nothing() -> None:
    spec = several("a", "b", targets=[{"name": "cpu", "gpus": 0}], limits={"gpuHours": 0.001})
    assert len(created(decide(spec, runs_of(spec, ended(seconds=36000))))) == 1


def test_refusals_are_recorded_although_the_budget_is_spent() -> None:
    spec = study(
        variants=[{"name": "bf16", "method": "BF16"}, GGUF], limits={"gpuHours": 0.1}, sampling={"control": False}
    )
    bf16 = next(planned for planned in plan_of(spec).runs if planned.variant == "bf16")
    spent = a_run(spec, bf16.name, ended(seconds=3600))
    decision = decide(spec, [spent])
    assert created(decision) == [("gguf", "h100")]
    assert conditions(decision)["Complete"] == ("False", "Running")


# --- the end ---------------------------------------------------------------------------------------------------


def test_complete() -> None:
    spec = several("a", "b", sampling={"starts": 2, "maxStarts": 2})
    decision = decide(spec, all_runs(spec))
    assert conditions(decision) == {
        "Accepted": ("True", "Valid"),
        "Progressing": ("False", "Finished"),
        "Complete": ("True", "AllRunsEnded"),
        "Comparable": ("True", "BaselineMeasured"),
    }
    status = next_status(decision)
    assert (status.progress, status.active_runs, status.finished_at, status.started_at) == (
        "4/4",
        0,
        at(1000),
        at(0).replace(".000", ""),
    )
    assert decision.requeue_after is None
    assert decision.actions == ()


def test_not_complete_while_pods_are_left() -> None:
    spec = several("a")
    runs = all_runs(spec)
    runs[0] = a_run(spec, runs[0].name, merged(ended(), {"times": {"released": None}}))
    assert conditions(decide(spec, runs))["Complete"] == ("False", "Running")


def test_the_verdicts_are_counted() -> None:
    spec = several("a", "b", sampling={"starts": 1})
    decision = decide(spec, all_runs(spec, b=ended("OutOfMemory")))
    (message,) = [c.message for c in next_status(decision).conditions if c.type == "Complete"]
    assert message == "1 Measured, 1 OutOfMemory"


@pytest.mark.parametrize(("waited", "deleted"), [(0, False), (59, False), (60, True)])
def test_time_to_live(waited: float, deleted: bool) -> None:
    spec = several("a", ttlSecondsAfterFinished=60)
    first = decide(spec, all_runs(spec), now=1000)
    assert first.actions == ()
    assert first.requeue_after == pytest.approx(60.1)
    second = decide(spec, all_runs(spec), status=first.status, now=1000 + waited)
    assert [action for action in second.actions if isinstance(action, Delete)] == (
        [Delete("QuantBenchmark", "demo", UID)] if deleted else []
    )
    assert second.requeue_after == (None if deleted else pytest.approx(60.1 - waited))


def test_a_study_that_is_being_deleted_is_left_alone() -> None:
    spec = several("a")
    going = replace(benchmark(spec), deleting=True)
    assert decide_benchmark(going, plan_of(spec), [], later(5)) == Decision()


# --- comparability ---------------------------------------------------------------------------------------------


def comparable(decision: Decision) -> tuple[str, str]:
    return conditions(decision)["Comparable"]


def test_without_the_baseline_nothing_can_be_compared() -> None:
    spec = several("a", "b", sampling={"starts": 1})
    only_b = [a_run(spec, planned.name, ended()) for planned in plan_of(spec).runs if planned.variant == "b"]
    assert comparable(decide(spec, only_b)) == ("Unknown", "Running")
    assert comparable(decide(spec, all_runs(spec, a=ended("Failed")))) == ("False", "BaselineMissing")


def test_one_start_is_no_verdict() -> None:
    spec = several("a", "b", sampling={"starts": 1})
    decision = decide(spec, all_runs(spec))
    assert comparable(decision) == ("False", "SingleStart")
    assert next_status(decision).summary == "one run each, no verdict: b is 1.00× a at saturated"


def test_nothing_to_compare_with() -> None:
    spec = several("a", "b", sampling={"starts": 1})
    assert comparable(decide(spec, all_runs(spec, b=ended("Failed")))) == ("Unknown", "NothingToCompare")


def test_the_control_is_no_other_variant() -> None:
    spec = several("a", "b", sampling={"starts": 2, "control": True})
    runs = all_runs(spec, b=ended("Failed"))
    assert any(run.spec.variant.name == "control" for run in runs)
    decision = decide(spec, runs)
    assert comparable(decision) == ("Unknown", "NothingToCompare")
    assert next_status(decision).summary is None


def test_the_summary_names_the_fastest() -> None:
    spec = several("a", "b", "c", sampling={"starts": 2, "maxStarts": 2})
    fast = ended(passes=[pass_json(tps=1500.0)])
    slow = ended(passes=[pass_json(tps=500.0)])
    decision = decide(spec, all_runs(spec, b=fast, c=slow))
    assert next_status(decision).summary == "b is 1.5000× a at saturated (95 % CI 1.5000 to 1.5000, 2 starts)"


# --- the status ------------------------------------------------------------------------------------------------


def test_the_second_look_changes_nothing() -> None:
    spec = several("a", "b", "c", sampling={"starts": 2, "control": True}, limits={"parallelism": 2})
    for runs in ([], runs_of(spec, {}, ended(), ended("OutOfMemory")), all_runs(spec, b=ended("Evicted"))):
        first = decide(spec, runs)
        assert first.status is not None
        second = decide(spec, runs, status=stored(first.status), now=1060)
        assert merge_patch(stored(first.status), second.status or {}) == {}
        assert first.actions == second.actions
        assert decide(spec, runs) == first


def test_one_entry_per_variant_and_target() -> None:
    spec = several("a", "b", targets=[{"name": "x"}, {"name": "y"}], sampling={"starts": 2, "control": True})
    cells = next_status(decide(spec, all_runs(spec, b=ended("Failed", message="it broke")))).cells
    assert [(cell.variant, cell.target) for cell in cells] == [(v, t) for t in "xy" for v in ("a", "b", "control")]
    broken = cells[1]
    assert (broken.verdict, broken.message, broken.finished, broken.loads) == (Verdict.FAILED, "it broke", 2, ())
    measured = cells[0].loads[0]
    assert (measured.starts, measured.passes, measured.ratio) == (2, 2, None)
    assert cells[2].loads[0].ratio == 1.0


def test_a_measured_cell_tells_of_other_ends() -> None:
    spec = several("a", sampling={"starts": 2})
    first, second = all_runs(spec)
    evicted = a_run(spec, second.name, ended("Evicted", message="node gone"))
    (cell,) = next_status(decide(spec, [first, evicted])).cells
    assert (cell.verdict, cell.message) == (Verdict.MEASURED, "1 of 2 starts ended otherwise: Evicted: node gone")


def test_a_cell_with_valid_passes_is_unstable_whatever_its_last_start_ended_in() -> None:
    spec = several("a", sampling={"starts": 2})
    first, second = plan_of(spec).runs
    shaky = a_run(spec, first.name, ended("Unstable", passes=[pass_json()], message="1 of 2 passes is invalid"))
    bound = a_run(spec, second.name, ended("ClientBound", message="the client was busy"))
    (cell,) = next_status(decide(spec, [shaky, bound])).cells
    assert (cell.verdict, cell.loads[0].starts) == (Verdict.UNSTABLE, 1)
    assert cell.message == "1 of 2 starts ended otherwise: ClientBound: the client was busy"


def test_conditions_keep_their_transition_time() -> None:
    spec = several("a", "b", sampling={"starts": 1})
    first = decide(spec, [], now=10)
    second = decide(spec, all_runs(spec), status=first.status, now=99)
    moments = {c.type: c.last_transition_time for c in next_status(second).conditions}
    assert moments == {"Accepted": at(10), "Progressing": at(99), "Complete": at(99), "Comparable": at(99)}


def test_an_invalid_study_says_which_fields() -> None:
    errors = [FieldError("spec.baseline", "'x' is not among the variants"), FieldError("spec.engine.args[0]", "no")]
    before = benchmark_status({"status": decide(several("a"), []).status})
    decision = decide_invalid(before, 7, errors, later(50))
    assert decision.actions == ()
    assert conditions(decision)["Accepted"] == ("False", "InvalidSpec")
    assert conditions(decision)["Progressing"] == ("False", "InvalidSpec")
    status = next_status(decision)
    (message,) = [c.message for c in status.conditions if c.type == "Accepted"]
    assert message == "spec.baseline: 'x' is not among the variants; spec.engine.args[0]: no"
    assert status.observed_generation == 7
    assert status.progress == before.progress
    assert decide_invalid(status, 7, errors, later(90)).status == decision.status


def test_long_errors_fit() -> None:
    errors = [FieldError(f"spec.variants[{place}]", "x" * 200) for place in range(32)]
    assert next_status(decide_invalid(QuantBenchmarkStatus(), 1, errors, later(0))).conditions[0].type == "Accepted"


def test_a_namesake_starts_afresh() -> None:
    spec = several("a")
    old = all_runs(spec)
    again = make_plan("demo", "another-uid", spec)
    raw = benchmark_object(spec, uid="another-uid")
    assert not {run.name for run in old} & {planned.name for planned in again.runs}
    assert raw["metadata"]["uid"] != UID
    assert run_raw(spec)["metadata"]["ownerReferences"][0]["uid"] == UID
