"""The one builder of a QuantBenchmark's status from its plan and its runs. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import CONTROL, QuantBenchmarkSpec
from quantbench.api.names import Verdict
from quantbench.api.status import MAX_CELL_MESSAGE, Cell
from quantbench.effective import disagreement, duplicates, effective, same_configuration, unquantized
from quantbench.observe import Run
from quantbench.plan import Plan, PlannedRun, measured_variants
from quantbench.statistics import Start, load_result

COUNTED = frozenset({Verdict.MEASURED, Verdict.UNSTABLE})
"""Verdicts whose valid passes count. Any other verdict keeps its passes in the run, out of the figures."""

EFFECTIVE_CHARACTERS = 24_000
"""Of ``Cell.effective`` in all cells: the largest study has 400, and its status must stay below 256 KiB."""


@dataclass(frozen=True)
class Costs:
    """What servers have cost so far [GPU-hours]."""

    ended: float
    running: float

    @property
    def total(self) -> float:
        return self.ended + self.running


def gpu_hours(runs: Iterable[Run], now: str) -> Costs:
    """GPUs × the time that server pods existed. Servers on the CPU cost nothing."""
    ended = running = 0.0
    for run in runs:
        gpus, status = run.spec.target.gpus, run.status
        ended += gpus * status.server_seconds
        current = times.seconds_between(status.times.server_created, status.times.released or now) or 0.0
        if status.times.released:
            ended += gpus * current
        else:
            running += gpus * current
    return Costs(ended / 3600, running / 3600)


def starts_of(runs: Iterable[Run]) -> list[Start]:
    """The countable server starts among the runs of one cell."""
    return [
        Start(run.spec.block, tuple(p for p in run.status.passes if p.attempt == run.status.attempt))
        for run in runs
        if run.status.verdict and run.status.verdict.name in COUNTED
    ]


def comparable_starts(runs: Sequence[Run]) -> list[Start]:
    """The countable starts of one cell; none where they ran different configurations, which have no mean."""
    return [] if disagreement(runs) else starts_of(runs)


def cells(spec: QuantBenchmarkSpec, planned: Sequence[PlannedRun], runs: Sequence[Run]) -> tuple[Cell, ...]:
    """One entry per variant and target, with its figures per load."""
    of_cell: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        of_cell.setdefault(run.cell, []).append(run)
    planned_runs = Counter(run.cell for run in planned)
    same, unlike = duplicates(spec, runs), unquantized(spec, runs)
    built = []
    for target in spec.targets:
        baseline = comparable_starts(of_cell.get((spec.baseline, target.name), ()))
        for variant in measured_variants(spec):
            key = (variant.name, target.name)
            own = of_cell.get(key, [])
            starts = comparable_starts(own)
            against = [] if variant.name == spec.baseline else baseline
            rows = (load_result(load.name, starts, against) for load in spec.loads)
            verdict, message = _verdict(own)
            cell = Cell(
                variant=variant.name,
                target=target.name,
                verdict=verdict,
                message=message[:MAX_CELL_MESSAGE] if message else None,
                finished=sum(1 for run in own if run.status.verdict),
                planned=planned_runs[key],
                loads=tuple(row for row in rows if row),
            )
            room = EFFECTIVE_CHARACTERS // (len(spec.targets) * len(measured_variants(spec)))
            built.append(_attested(cell, own, same.get(key), unlike.get(key), min(room, MAX_CELL_MESSAGE)))
    return tuple(built)


def _attested(cell: Cell, runs: Sequence[Run], original: str | None, unlike: str | None, room: int) -> Cell:
    """The cell with what its servers really ran, and what follows from it for its verdict and its rows.

    Args:
        cell: by its runs alone.
        runs: its runs.
        original: variant that ran the same configuration.
        unlike: why nothing of it can be quantized.
        room: characters for what they ran; a duplicate needs none, because its original says it.
    """
    words, fingerprint = effective(runs)
    shown = words[:room] if words and not original else None
    update: JsonObject = {"effective": shown, "fingerprint": fingerprint}
    differing = disagreement(runs)
    if differing or unlike:
        verdict = Verdict.CONFIGURATION_MISMATCH if differing else Verdict.NOT_QUANTIZED
        update |= {"verdict": verdict, "message": str(differing or unlike)[:MAX_CELL_MESSAGE], "loads": ()}
    elif original:
        message = f"same effective configuration as {original}"
        rows = tuple(same_configuration(row) for row in cell.loads)
        update |= {"verdict": Verdict.DUPLICATE, "message": message, "same_as": original, "loads": rows}
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
    return last.name, last.message


def summary(spec: QuantBenchmarkSpec, rows: Sequence[Cell]) -> str | None:
    """The answer so far in one sentence, or None while there is none."""
    sentences = []
    for target in spec.targets:
        sentence = _target_summary(spec, [cell for cell in rows if cell.target == target.name])
        if sentence:
            sentences.append(f"{target.name}: {sentence}" if len(spec.targets) > 1 else sentence)
    return "; ".join(sentences)[:512] or None


def _target_summary(spec: QuantBenchmarkSpec, rows: Sequence[Cell]) -> str | None:
    load = spec.loads[0].name
    compared = [
        (row.ratio, row.ratio_starts, cell.variant)
        for cell in rows
        if cell.variant != CONTROL and cell.verdict is not Verdict.DUPLICATE
        for row in cell.loads
        if row.load == load and row.ratio is not None
    ]
    if not compared:
        return None
    ratio, starts, variant = max(compared)
    sample = "one run each, no verdict" if starts == 1 else f"{starts} starts each"
    return f"{variant} {ratio:.2f}x {spec.baseline} at {load} ({sample})"


def progress(planned: Sequence[PlannedRun], runs: Sequence[Run]) -> str:
    """Ended / planned runs."""
    return f"{sum(1 for run in runs if run.status.verdict)}/{len(planned)}"


def plan_fields(plan: Plan, planned: Sequence[PlannedRun], runs: Sequence[Run], spec: QuantBenchmarkSpec) -> JsonObject:
    """The parts of the status that follow from plan and runs alone."""
    rows = cells(spec, planned, runs)
    return {
        "plan_hash": plan.hash,
        "progress": progress(planned, runs),
        "summary": summary(spec, rows),
        "cells": rows,
    }
