"""The one builder of a QuantBenchmark's status from its plan and its runs. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from quantbench import regimes, times
from quantbench.answer import is_duplicate, of_target, summary
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import CONTROL, Load, QuantBenchmarkSpec
from quantbench.api.names import Verdict
from quantbench.api.run import Pass
from quantbench.api.status import MAX_CELL_MESSAGE, MAX_CROSSOVERS, Cell, Crossover
from quantbench.effective import disagreement, duplicates, effective, same_configuration, unquantized
from quantbench.findings import findings
from quantbench.observe import Run
from quantbench.plan import Plan, PlannedRun, measured_variants
from quantbench.statistics import Start, geometric_mean, load_result, mean

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
        room: characters for what they ran; in a study that leaves little, a duplicate's is said at its original only.
    """
    words, fingerprint = effective(runs)
    if original and room < MAX_CELL_MESSAGE:
        words = fingerprint = None
    update: JsonObject = {"effective": words[:room] if words else None, "fingerprint": fingerprint}
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


def all_crossovers(spec: QuantBenchmarkSpec, rows: Sequence[Cell], runs: Sequence[Run]) -> tuple[Crossover, ...]:
    """Where variants overtake each other, on every target; duplicates and the control take no part."""
    along = regimes.series(spec)
    if not along:
        return ()
    found: list[tuple[Crossover, ...]] = []
    for target in spec.targets:
        measured = [cell for cell in of_target(rows, target.name) if cell.loads and cell.variant != CONTROL]
        others = [cell.variant for cell in measured if cell.variant != spec.baseline and not is_duplicate(cell)]
        if any(cell.variant == spec.baseline for cell in measured):
            contrasts = _contrasts(spec, [run for run in runs if run.spec.target.name == target.name])
            found.append(regimes.crossovers(target.name, along, [spec.baseline, *others], contrasts))
    # The most useful ones of every target before the others of any.
    in_turn = [crossover for ranked in zip_longest(*found) for crossover in ranked if crossover]
    return tuple(in_turn[:MAX_CROSSOVERS])


def _contrasts(spec: QuantBenchmarkSpec, runs: Sequence[Run]) -> regimes.Contrasts:
    """Contrasts of speed between the variants of one target, within blocks."""
    of_variant: dict[str, list[Run]] = {}
    for run in runs:
        of_variant.setdefault(run.spec.variant.name, []).append(run)
    speeds: dict[tuple[str, str], dict[int, float]] = {}
    for variant, own in of_variant.items():
        for start in starts_of(own):
            for load in spec.loads:
                speed = _speed(load, start.of(load.name))
                if speed:
                    speeds.setdefault((variant, load.name), {})[start.block] = speed

    def contrast(variant: str, other: str, load: str) -> regimes.Contrast | None:
        one, against = speeds.get((variant, load), {}), speeds.get((other, load), {})
        ratios = [one[block] / against[block] for block in sorted(one.keys() & against.keys())]
        return regimes.Contrast(geometric_mean(ratios)) if ratios else None

    return contrast


def _speed(load: Load, passes: Sequence[Pass]) -> float | None:
    """Throughput of one start; under a fixed request rate, which sets the throughput itself, the inverse of TPOT."""
    if math.isinf(float(load.request_rate)):
        return mean(measured.total_tokens_per_second for measured in passes) if passes else None
    known = [measured.tpot_milliseconds.mean for measured in passes if measured.tpot_milliseconds.mean]
    return 1 / mean(known) if known else None


def progress(planned: Sequence[PlannedRun], runs: Sequence[Run]) -> str:
    """Ended / planned runs."""
    return f"{sum(1 for run in runs if run.status.verdict)}/{len(planned)}"


def plan_fields(plan: Plan, planned: Sequence[PlannedRun], runs: Sequence[Run], spec: QuantBenchmarkSpec) -> JsonObject:
    """The parts of the status that follow from plan and runs alone."""
    rows = with_regimes(spec, cells(spec, planned, runs), runs)
    found = all_crossovers(spec, rows, runs)
    return {
        "plan_hash": plan.hash,
        "progress": progress(planned, runs),
        "summary": summary(spec, rows, found),
        "cells": rows,
        "findings": findings(spec, rows, runs, found),
        "crossovers": found,
    }
