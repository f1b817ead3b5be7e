"""The one builder of a QuantBenchmark's status from its plan and its runs. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

from quantbench import regimes, times
from quantbench.answer import is_duplicate, metric_of, of_target, standing, summary
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import CONTROL, QuantBenchmarkSpec
from quantbench.api.conditions import Condition, Reason
from quantbench.api.names import Verdict
from quantbench.api.run import Pass
from quantbench.api.status import (
    DETAILS,
    MAX_CELL_MESSAGE,
    MAX_CROSSOVERS,
    MAX_DETAILED_ROWS,
    RATIOS,
    Cell,
    Crossover,
)
from quantbench.comparisons import Comparisons, starts_of
from quantbench.effective import MEASURED, disagreement, effective, unquantized
from quantbench.findings import findings
from quantbench.observe import Run
from quantbench.plan import Plan, PlannedRun, measured_variants
from quantbench.statistics import Metric


@dataclass(frozen=True)
class Costs:
    """What servers have cost so far [GPU-hours]."""

    ended: float
    running: float

    @property
    def total(self) -> float:
        return self.ended + self.running


def gpu_hours(runs: Iterable[Run], now: str) -> Costs:
    """GPUs × the time that server pods had a node: pending ones hold no GPU. Servers on the CPU cost nothing."""
    ended = running = 0.0
    for run in runs:
        gpus, status = run.spec.target.gpus, run.status
        ended += gpus * status.server_seconds
        # The scheduler's clock is another one: a server that fails at once must not cost less than nothing.
        current = max(0.0, times.seconds_between(status.times.scheduled, status.times.released or now) or 0.0)
        if status.times.released:
            ended += gpus * current
        else:
            running += gpus * current
    return Costs(ended / 3600, running / 3600)


def cells(
    spec: QuantBenchmarkSpec,
    planned: Sequence[PlannedRun],
    runs: Sequence[Run],
    comparisons: Comparisons,
    *,
    complete: bool,
) -> tuple[Cell, ...]:
    """One entry per variant and target, with its figures per load; ``complete``: no run of the study follows."""
    of_cell: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        of_cell.setdefault(run.cell, []).append(run)
    planned_runs = Counter(run.cell for run in planned)
    unlike = unquantized(spec, runs)
    built = []
    for target in spec.targets:
        for variant in measured_variants(spec):
            key = (variant.name, target.name)
            own = of_cell.get(key, [])
            verdict, message = _verdict(own)
            cell = Cell(
                variant=variant.name,
                target=target.name,
                verdict=verdict,
                message=message[:MAX_CELL_MESSAGE] if message else None,
                finished=sum(run.ended for run in own),
                planned=planned_runs[key],
                loads=comparisons.rows(*key, complete=complete),
            )
            built.append(_attested(cell, own, comparisons.same_as.get(key), unlike.get(key)))
    return tuple(built)


def _attested(cell: Cell, runs: Sequence[Run], original: str | None, unlike: str | None) -> Cell:
    """The cell with what its servers really ran, and what follows from it for its verdict.

    Args:
        cell: by its runs alone.
        runs: its runs.
        original: variant that ran the same configuration.
        unlike: why nothing of it can be quantized.
    """
    words, fingerprint = effective(runs)
    update: JsonObject = {"effective": words[:MAX_CELL_MESSAGE] if words else None, "fingerprint": fingerprint}
    differing = disagreement(runs)
    if differing or unlike:
        verdict = Verdict.CONFIGURATION_MISMATCH if differing else Verdict.NOT_QUANTIZED
        update |= {"verdict": verdict, "message": str(differing or unlike)[:MAX_CELL_MESSAGE]}
    elif original:
        message = f"same effective configuration as {original}"
        update |= {"verdict": Verdict.DUPLICATE, "message": message, "same_as": original}
    return cell.model_copy(update=update)


def _verdict(runs: Sequence[Run]) -> tuple[Verdict | None, str | None]:
    ended = [run.status.verdict for run in sorted(runs, key=lambda run: run.spec.block) if run.status.verdict]
    if not ended:
        return None, None
    measured = [outcome for outcome in ended if outcome.name is Verdict.MEASURED]
    others = [outcome for outcome in ended if outcome.name is not Verdict.MEASURED]
    if not others:
        return Verdict.MEASURED, measured[-1].message
    last = others[-1]
    if measured:
        return Verdict.MEASURED, f"{len(others)} of {len(ended)} starts ended otherwise: {last.name}: {last.message}"
    counted = [outcome for outcome in ended if outcome.name in MEASURED]
    if counted and last.name not in MEASURED:
        # Its valid passes count, so that it has figures.
        rest = len(ended) - len(counted)
        return counted[-1].name, f"{rest} of {len(ended)} starts ended otherwise: {last.name}: {last.message}"
    return last.name, last.message


def bounded(spec: QuantBenchmarkSpec, rows: Sequence[Cell]) -> tuple[Cell, ...]:
    """The same cells for the API server, without details where they are so many that the status would be too large."""
    if sum(len(cell.loads) for cell in rows) <= MAX_DETAILED_ROWS:
        return tuple(rows)
    load_of = {load.name: load for load in spec.loads}
    built = []
    for cell in rows:
        loads = []
        for row in cell.loads:
            kept = metric_of(load_of[row.load], row)
            others = [field for metric, fields in RATIOS.items() if metric is not kept for field in fields]
            loads.append(row.model_copy(update=dict.fromkeys((*DETAILS, *others), None)))
        said = None if cell.verdict in (Verdict.MEASURED, Verdict.DUPLICATE) else cell.message
        brief = {"loads": tuple(loads), "message": said, "effective": None, "fingerprint": None}
        built.append(cell.model_copy(update=brief))
    return tuple(built)


def with_regimes(spec: QuantBenchmarkSpec, rows: Sequence[Cell], runs: Sequence[Run]) -> tuple[Cell, ...]:
    """The same cells, with what is known of saturation in each row."""
    passes: dict[tuple[str, str, str], list[Pass]] = {}
    for run in runs:
        for start in starts_of([run]):
            for measured in start.passes:
                passes.setdefault((*run.cell, measured.load), []).append(measured)
    built = []
    for cell in rows:
        key = (cell.variant, cell.target)
        under = {row.load: regimes.pressure(row, passes.get((*key, row.load), ())) for row in cell.loads}
        full = regimes.saturated(spec, under)
        loads = tuple(row.model_copy(update={"saturated": full[row.load]}) for row in cell.loads)
        built.append(cell.model_copy(update={"loads": loads}))
    return tuple(built)


def all_crossovers(spec: QuantBenchmarkSpec, rows: Sequence[Cell], comparisons: Comparisons) -> tuple[Crossover, ...]:
    """Where variants overtake each other, on every target; duplicates and the control take no part."""
    along = regimes.series(spec)
    if not along:
        return ()
    found: list[tuple[Crossover, ...]] = []
    for target in spec.targets:
        measured = [cell for cell in of_target(rows, target.name) if cell.loads and cell.variant != CONTROL]
        others = [cell.variant for cell in measured if cell.variant != spec.baseline and not is_duplicate(cell)]
        if any(cell.variant == spec.baseline for cell in measured):
            contrasts = _contrasts(comparisons, target.name)
            found.append(regimes.crossovers(target.name, along, [spec.baseline, *others], contrasts))
    # The most useful ones of every target before the others of any.
    in_turn = [crossover for ranked in zip_longest(*found) for crossover in ranked if crossover]
    return tuple(in_turn[:MAX_CROSSOVERS])


def _contrasts(comparisons: Comparisons, target: str) -> regimes.Contrasts:
    """Contrasts of speed between the variants of one target, within blocks."""
    samples = comparisons.samples[target]

    def contrast(variant: str, other: str, load: str) -> regimes.Contrast | None:
        metric = comparisons.decisive(target, load)
        ratio = samples.ratio(load, variant, other, metric)
        if ratio is None:
            return None
        speed = ratio if metric is Metric.THROUGHPUT else ratio.inverse
        return regimes.Contrast(speed.value, speed.low, speed.high, speed.p)

    return contrast


def progress(planned: Sequence[PlannedRun], runs: Sequence[Run]) -> str:
    """Ended / planned runs."""
    return f"{sum(run.ended for run in runs)}/{len(planned)}"


def plan_fields(
    plan: Plan,
    planned: Sequence[PlannedRun],
    runs: Sequence[Run],
    spec: QuantBenchmarkSpec,
    comparisons: Comparisons,
    *,
    complete: bool,
) -> JsonObject:
    """The parts of the status that follow from plan and runs alone."""
    rows = with_regimes(spec, cells(spec, planned, runs, comparisons, complete=complete), runs)
    found = all_crossovers(spec, rows, comparisons)
    return {
        "plan_hash": plan.hash,
        "progress": progress(planned, runs),
        "summary": summary(spec, rows, found),
        "cells": rows,
        "findings": findings(spec, rows, runs, found),
        "crossovers": found,
    }


def comparability(spec: QuantBenchmarkSpec, rows: Sequence[Cell], *, complete: bool) -> tuple[str, Reason, str]:
    """Whether the figures may be compared with the baseline's: status, reason and message of that condition."""
    baseline = [cell for cell in rows if cell.variant == spec.baseline]
    if not any(cell.loads for cell in baseline):
        if complete or all(cell.finished >= max(1, cell.planned) for cell in baseline):
            return "False", Reason.BASELINE_MISSING, f"baseline {spec.baseline} has no valid result"
        return "Unknown", Reason.RUNNING, f"baseline {spec.baseline} is not measured yet"
    others = (cell for cell in rows if cell.variant != CONTROL and not is_duplicate(cell))
    starts = [row.ratio_starts for cell in others for row in cell.loads if row.ratio is not None]
    if not starts:
        missing = "has a valid result" if complete else "is measured yet"
        return "Unknown", Reason.NOTHING_TO_COMPARE, f"no other variant {missing}"
    if max(starts) == 1:
        return "False", Reason.SINGLE_START, "one run each: ratios are shown, but say nothing of better or worse"
    rest = f"{max(starts)}" if min(starts) == max(starts) else f"{min(starts)} to {max(starts)}"
    said = standing(spec, rows)
    return "True", Reason.BASELINE_MEASURED, f"ratios rest on {rest} starts" + (f"; {said}" if said else "")


def set_condition(
    conditions: Iterable[Condition],
    kind: str,
    status: str,
    reason: str,
    message: str,
    *,
    generation: int | None,
    now: datetime,
) -> tuple[Condition, ...]:
    """The conditions with one replaced; its transition time moves only when its status changes."""
    kept = tuple(conditions)
    previous = next((condition for condition in kept if condition.type == kind), None)
    moved = previous is None or previous.status != status
    since = times.render(now) if moved or previous is None else previous.last_transition_time
    new = Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:1024],
        observed_generation=generation,
        last_transition_time=since,
    )
    if previous is None:
        return (*kept, new)
    return tuple(new if condition.type == kind else condition for condition in kept)
