"""The one builder of a QuantBenchmark's status from its plan and its runs. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import CONTROL, Load, QuantBenchmarkSpec
from quantbench.api.names import Difference, Verdict
from quantbench.api.status import MAX_CELL_MESSAGE, Cell, LoadResult
from quantbench.comparisons import Comparisons, paced
from quantbench.observe import Run
from quantbench.plan import Plan, PlannedRun, measured_variants


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
    built = []
    for target in spec.targets:
        for variant in measured_variants(spec):
            key = (variant.name, target.name)
            own = of_cell.get(key, [])
            verdict, message = _verdict(own)
            built.append(
                Cell(
                    variant=variant.name,
                    target=target.name,
                    verdict=verdict,
                    message=message[:MAX_CELL_MESSAGE] if message else None,
                    same_as=comparisons.same_as.get(key),
                    finished=sum(1 for run in own if run.status.verdict),
                    planned=planned_runs[key],
                    loads=comparisons.rows(*key, complete=complete),
                )
            )
    return tuple(built)


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
    """The fastest variant of those that are faster; without one, how far the others are from the baseline."""
    load = spec.loads[0]
    compared = [
        (row, cell.variant)
        for cell in rows
        if cell.variant not in (CONTROL, spec.baseline)
        for row in cell.loads
        if row.load == load.name and ratio_text(row, load) and row.difference is not Difference.SAME_CONFIGURATION
    ]
    if not compared:
        return None
    faster = [entry for entry in compared if entry[0].difference is Difference.FASTER]
    row, variant = max(faster or compared, key=lambda entry: _speed(entry[0], load))
    return f"{variant} {ratio_text(row, load)} {spec.baseline} at {load.name} ({_said(row)})"


def _speed(row: LoadResult, load: Load) -> float:
    return -(row.tpot_ratio or 0.0) if paced(load) else row.ratio or 0.0


def ratio_text(row: LoadResult, load: Load) -> str:
    """The ratio that decides under this load with its 95 % interval, e.g. ``1.24× (1.21–1.27)``; empty without one.

    More digits where the interval is narrow. Under a fixed request rate it is the ratio of mean TPOT, and says so.
    """
    if paced(load):
        ratio, low, high, suffix = row.tpot_ratio, row.tpot_ratio_low, row.tpot_ratio_high, " TPOT"
    else:
        ratio, low, high, suffix = row.ratio, row.ratio_low, row.ratio_high, ""
    if ratio is None:
        return ""
    if low is None or high is None:
        return f"{ratio:.2f}×{suffix}"
    digits = 2 if high - low >= 0.02 else 3
    return f"{ratio:.{digits}f}× ({low:.{digits}f}–{high:.{digits}f}){suffix}"


DIFFERENCE_WORDS = {
    Difference.FASTER: "faster",
    Difference.SLOWER: "slower",
    Difference.NOT_DISTINGUISHABLE: "not distinguishable",
    Difference.UNDECIDED: "not decided yet",
    Difference.ONE_RUN: "one run each, no verdict",
    Difference.SAME_CONFIGURATION: "same configuration",
}


def _said(row: LoadResult) -> str:
    words = DIFFERENCE_WORDS[row.difference] if row.difference else ""
    return words if row.ratio_starts < 2 else f"{words}, {row.ratio_starts} starts each"


def progress(planned: Sequence[PlannedRun], runs: Sequence[Run]) -> str:
    """Ended / planned runs."""
    return f"{sum(1 for run in runs if run.status.verdict)}/{len(planned)}"


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
    rows = cells(spec, planned, runs, comparisons, complete=complete)
    return {
        "plan_hash": plan.hash,
        "progress": progress(planned, runs),
        "summary": summary(spec, rows),
        "cells": rows,
    }
