"""Decisions about one study: accept it, start runs within its limits, say what came of it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from quantbench import times
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.conditions import ConditionType, Reason, Stage
from quantbench.api.names import Verdict
from quantbench.api.run import Outcome, Refusal, RunLimits
from quantbench.api.status import QuantBenchmarkStatus
from quantbench.comparisons import Comparisons
from quantbench.decide.actions import Action, Apply, Decision, Delete, PatchSpec
from quantbench.effective import duplicates, void
from quantbench.observe import Benchmark, Run, Unreadable
from quantbench.plan import FieldError, Plan, PlannedRun, run_limits, run_spec
from quantbench.resources.run import run_object
from quantbench.status import Costs, bounded, comparability, gpu_hours, plan_fields, set_condition

WATCHDOG_SECONDS = 15.0
"""How often a running study is looked at without an event, should one get lost."""
REPEATABLE = frozenset(
    {Verdict.MEASURED, Verdict.UNSTABLE, Verdict.EVICTED, Verdict.INCONSISTENT, Verdict.CLIENT_BOUND, Verdict.DUPLICATE}
)
"""Verdicts after which another start may end differently; after any other it would only cost GPU time."""
PASSING = frozenset({"GPUDefect", "GPUUnavailable", "HubUnreachable", "RateLimited", "PodForbidden"})
"""Reasons of other verdicts that another node or time mends."""
CREATED_AT_ONCE = 50
"""Most runs created by one decision: refused ones need no slot and could be many."""


def decide_invalid(
    status: QuantBenchmarkStatus,
    generation: int,
    errors: Sequence[FieldError],
    now: datetime,
    runs: Sequence[Run] = (),
    spec: QuantBenchmarkSpec | None = None,
    suspend: bool = False,
) -> Decision:
    """A specification that cannot be planned: say which fields are wrong, and start nothing.

    Runs that are under way go on, and get ``suspend`` and, where ``spec`` can be read, its limits.
    """
    limits = run_limits(spec, budget_spent=is_spent(spec, gpu_hours(runs, times.render(now)))) if spec else None
    active = [run for run in runs if not run.status.times.released]
    conditions = status.conditions
    ended = next((c.status == "True" for c in conditions if c.type == ConditionType.COMPLETE), False)
    complete = ((ConditionType.COMPLETE, f"{len(active)} runs are left, and no other is started"),)
    for kind, message in (
        (ConditionType.ACCEPTED, "; ".join(str(error) for error in errors)),
        (ConditionType.PROGRESSING, "nothing is started"),
        *(complete if active or not ended else ()),
    ):
        conditions = set_condition(
            conditions, kind, "False", Reason.INVALID_SPEC, message, generation=generation, now=now
        )
    update = {"conditions": conditions, "observed_generation": generation, "active_runs": len(active)}
    return Decision(status.model_copy(update=update).to_json(), tuple(in_step(active, limits, suspend=suspend)))


def in_step(active: Iterable[Run], limits: RunLimits | None, *, suspend: bool) -> list[PatchSpec]:
    """Changes of suspend and limits (None: not known), handed on to the runs that are under way."""
    patches = []
    for run in active:
        wanted = limits or run.spec.limits
        if (run.spec.limits, run.spec.suspend) != (wanted, suspend):
            patches.append(PatchSpec(run.name, {"limits": wanted.to_json(), "suspend": suspend}))
    return patches


def decide_benchmark(
    benchmark: Benchmark, plan: Plan, runs: Sequence[Run], now: datetime, unreadable: Sequence[Unreadable] = ()
) -> Decision:
    """The next step of a study."""
    if benchmark.deleting:
        return Decision()
    study = _Study(benchmark, plan, runs, now, unreadable)
    limits = run_limits(study.spec, budget_spent=study.budget_spent)
    handed_on = in_step((*study.active, *study.waiting), limits, suspend=study.spec.suspend)
    actions = (*handed_on, *study.new_runs())
    decision = Decision(study.status().to_json(), actions, WATCHDOG_SECONDS)
    return study.expire(decision) if study.complete else decision


def hopeless_cells(runs: Iterable[Run]) -> set[tuple[str, str]]:
    """Cells of which a start has shown that they cannot work: another one would be pointless."""
    return {run.cell for run in runs if run.status.verdict and not repeatable(run.status.verdict)}


def repeatable(outcome: Outcome) -> bool:
    """Whether another start may end differently."""
    busy = outcome.reason == "NoNode" and not without_nodes(outcome)
    return outcome.name in REPEATABLE or outcome.reason in PASSING or busy


def without_nodes(outcome: Outcome) -> bool:
    """Whether a target has no node. The scheduler says "Insufficient" of nodes whose GPUs are in use, and has looked at
    none while a gate holds the pod, or while it says nothing.
    """
    others = ("Insufficient", "SchedulingGated", "no reason given")
    return outcome.reason == "NoNode" and not any(word in outcome.message for word in others)


def is_spent(spec: QuantBenchmarkSpec, costs: Costs) -> bool:
    """Whether the study's budget is used up."""
    return spec.limits.gpu_hours is not None and costs.total >= spec.limits.gpu_hours


def waits_for_budget(run: Run) -> bool:
    """Whether a run holds no server and, as long as the budget is spent, starts none: it has been told, and says so.

    Suspended in addition, it still waits for the budget.
    """
    said = run.status.complete
    stages = (Stage.BUDGET_SPENT, Stage.SUSPENDED)
    return run.spec.limits.budget_spent and said is not None and said.reason in stages


class _Study:
    """The facts that a decision about a study rests on."""

    def __init__(
        self, benchmark: Benchmark, plan: Plan, runs: Sequence[Run], now: datetime, unreadable: Sequence[Unreadable]
    ) -> None:
        self.benchmark, self.spec, self.runs, self.now = benchmark, benchmark.spec, runs, now
        self.unreadable, self.held = unreadable, sum(1 for run in unreadable if run.held)
        existing = {run.name for run in runs} | {run.name for run in unreadable}
        no_figures, same_as = void(self.spec, runs), duplicates(self.spec, runs)
        # Another start would end like the last one, or measure again what another variant measures.
        hopeless = hopeless_cells(runs) | no_figures | same_as.keys()
        gone = [run.name for run in unreadable if not run.held]
        judge = partial(Comparisons, self.spec, plan, same_as=same_as, void=no_figures, ended=gone)
        self.comparisons = judge(runs, hopeless=hopeless)
        certain = {run.name for run in (*plan.runs, *self.comparisons.further) if run.cell not in hopeless} | existing
        self.planned = tuple(run for run in (*plan.runs, *plan.further) if run.name in certain)
        self.pending = [run for run in self.planned if run.name not in existing]
        self.plan = plan
        self.costs = gpu_hours(runs, times.render(now))
        self.budget_spent = is_spent(self.spec, self.costs)
        unreleased = [run for run in runs if not run.status.times.released]
        self.waiting = [run for run in unreleased if self.budget_spent and waits_for_budget(run)]
        self.active = [run for run in unreleased if run not in self.waiting]
        self.complete = (
            not self.active
            and not self.held
            and (not self.pending or (self.budget_spent and not self.free_of_charge()))
        )
        self.left_out = [run.cell for run in self.pending] + [run.cell for run in self.waiting]
        if self.complete and self.left_out:
            # What the budget leaves out is not waited for: blocks are judged by those of their runs that ended.
            others = [run for run in runs if run not in self.waiting]
            self.comparisons = judge(others, hopeless=hopeless | set(self.left_out))

    def closed_targets(self) -> dict[str, Refusal]:
        """Targets that have no node, with what the run says that found out: others need not wait as long again."""
        closed = {}
        for run in self.runs:
            found = run.status.verdict
            if found and without_nodes(found) and not run.spec.refusal:
                message = f"no node was found for target {run.spec.target.name} by run {run.name}: {found.message}"
                refusal = Refusal(verdict=found.name, reason=found.reason, message=message[:1024])
                closed[run.spec.target.name] = refusal
        return closed

    def free_of_charge(self) -> list[PlannedRun]:
        """Pending runs that only record a refusal."""
        closed = self.closed_targets()
        refused = []
        for run in self.pending:
            if run.refusal:
                refused.append(run)
            elif run.target in closed:
                refused.append(replace(run, refusal=closed[run.target]))
        return refused

    def new_runs(self) -> tuple[Action, ...]:
        """Runs to create now: refusals at once, others as slots are free, spread over the targets."""
        if self.spec.suspend:
            return ()
        refused = self.free_of_charge()
        free = {run.name for run in refused}
        waiting = [run for run in self.pending if run.name not in free]
        slots = 0 if self.budget_spent else self.spec.limits.parallelism - len(self.active) - self.held
        per_target = Counter(run.spec.target.name for run in self.active)
        chosen: list[PlannedRun] = []
        while waiting and len(chosen) < min(slots, CREATED_AT_ONCE):
            nearest = min(waiting, key=lambda run: per_target[run.target])
            waiting.remove(nearest)
            per_target[nearest.target] += 1
            chosen.append(nearest)
        return tuple(self.create(run) for run in (*refused[:CREATED_AT_ONCE], *chosen))

    def create(self, planned: PlannedRun) -> Apply:
        """The object of a planned run."""
        benchmark = self.benchmark
        spec = run_spec(benchmark.name, self.spec, self.plan, planned)
        return Apply(run_object(planned.name, benchmark.namespace, benchmark.uid, spec))

    def expire(self, decision: Decision) -> Decision:
        """Delete a finished study whose time to live has passed."""
        ttl, finished = self.spec.ttl_seconds_after_finished, self.benchmark.status.finished_at
        if ttl is None:
            return replace(decision, requeue_after=None)
        left = ttl - ((self.now - times.parse(finished)) / timedelta(seconds=1) if finished else 0.0)
        if left > 0:
            return replace(decision, requeue_after=left + 0.1)
        delete = Delete("QuantBenchmark", self.benchmark.name, self.benchmark.uid)
        return replace(decision, actions=(*decision.actions, delete), requeue_after=None)

    # --- status ----------------------------------------------------------------------------------------------

    def status(self) -> QuantBenchmarkStatus:
        """The study's next status."""
        old = self.benchmark.status
        fields = plan_fields(self.plan, self.planned, self.runs, self.spec, self.comparisons, complete=self.complete)
        started = min((run.created_at for run in self.runs), default=None)
        finished = (old.finished_at or times.render(self.now)) if self.complete else None
        status = old.model_copy(
            update={
                **fields,
                "cells": bounded(self.spec, fields["cells"]),
                "observed_generation": self.benchmark.generation,
                "active_runs": len(self.active),
                "gpu_hours": float(f"{self.costs.ended:.6g}"),
                "started_at": old.started_at or started,
                "finished_at": finished,
            }
        )
        conditions = old.conditions
        odd = [f"this version cannot read run {run.name} ({run.why})" for run in self.unreadable]
        for kind, value, reason, message in (
            (ConditionType.ACCEPTED, "True", Reason.VALID, "; ".join([f"{len(self.planned)} runs planned", *odd])),
            (ConditionType.PROGRESSING, *self.progressing()),
            (ConditionType.COMPLETE, *self.completion()),
            (ConditionType.COMPARABLE, *comparability(self.spec, fields["cells"], complete=self.complete)),
        ):
            conditions = set_condition(
                conditions, kind, value, reason, message, generation=self.benchmark.generation, now=self.now
            )
        return status.model_copy(update={"conditions": conditions})

    def progressing(self) -> tuple[str, Reason, str]:
        """Whether work goes on, and on what."""
        if self.complete:
            return "False", Reason.FINISHED, "no run is left"
        if self.spec.suspend:
            return "False", Reason.SUSPENDED, f"{len(self.active)} runs are suspended"
        current = [f"{run.spec.variant.name}: {_stage(run)}" for run in self.active[:4]]
        return "True", Reason.RUNNING, "; ".join(current) or "starting the next run"

    def completion(self) -> tuple[str, Reason, str]:
        """Whether the study has ended."""
        if not self.complete:
            reason = Reason.RUNNING if self.runs else Reason.NOT_STARTED
            return "False", reason, f"{len(self.left_out) + len(self.active) + self.held} runs are left"
        if self.left_out:
            spent = f"{self.costs.total:.3g} of {self.spec.limits.gpu_hours} GPU-hours are spent"
            left = f"{len(self.left_out)} runs were not started: raise limits.gpuHours to go on"
            return "True", Reason.BUDGET_SPENT, f"{spent}; {left}"
        verdicts = Counter(str(run.status.verdict.name) for run in self.runs if run.status.verdict)
        return "True", Reason.ALL_RUNS_ENDED, ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items()))


def _stage(run: Run) -> str:
    condition = run.status.complete
    return f"{condition.reason}, {condition.message}" if condition else "Pending"
