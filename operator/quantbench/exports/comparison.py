"""Two studies side by side: the same cells, the ratios of their figures, and what stands against comparing them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from scipy.special import stdtrit

from quantbench.api.base import JsonObject
from quantbench.api.status import Cell, LoadResult
from quantbench.exports.study import Study

CONFIDENCE = 0.95


class Word(StrEnum):
    """What a ratio says about the second study against the first."""

    FASTER = "faster"
    SLOWER = "slower"
    WITHIN_NOISE = "within noise"
    ONE_RUN = "one run"


@dataclass(frozen=True)
class Row:
    """One variant on one target under one load, in both studies.

    Attributes:
        ratio: total throughput of the second over the first.
        low, high: its 95 % interval from the start-to-start variation of each; None with a single start in either.
        ttft_ratio, tpot_ratio: likewise of the latencies, without an interval.
    """

    variant: str
    target: str
    load: str
    first: LoadResult
    second: LoadResult
    ratio: float | None
    low: float | None
    high: float | None
    ttft_ratio: float | None
    tpot_ratio: float | None
    word: Word


@dataclass(frozen=True)
class Comparison:
    """What two studies have in common, and what they differ in beside their figures."""

    rows: tuple[Row, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """For scripts."""
        return {
            "rows": [
                {
                    "variant": row.variant,
                    "target": row.target,
                    "load": row.load,
                    "first": row.first.to_json(),
                    "second": row.second.to_json(),
                    "ratio": row.ratio,
                    "ratioLow": row.low,
                    "ratioHigh": row.high,
                    "ttftRatio": row.ttft_ratio,
                    "tpotRatio": row.tpot_ratio,
                    "word": row.word,
                }
                for row in self.rows
            ],
            "onlyFirst": list(self.only_first),
            "onlySecond": list(self.only_second),
            "warnings": list(self.warnings),
        }


def compare(first: Study, second: Study) -> Comparison:
    """Put the figures of the same cells side by side."""
    one, other = _cells(first), _cells(second)
    shared = [key for key in one if key in other]
    rows = []
    for key in shared:
        loads = {row.load: row for row in other[key].loads}
        rows += [_row(key, row, loads[row.load]) for row in one[key].loads if row.load in loads]
    compared = {(row.variant, row.target, row.load) for row in rows}
    return Comparison(
        rows=tuple(rows),
        only_first=_left(first, compared),
        only_second=_left(second, compared),
        warnings=tuple(_warnings(first, second, [(one[key], other[key]) for key in shared])),
    )


def _cells(study: Study) -> dict[tuple[str, str], Cell]:
    return {(cell.variant, cell.target): cell for cell in study.benchmark.status.cells}


def _left(study: Study, compared: set[tuple[str, str, str]]) -> tuple[str, ...]:
    return tuple(
        f"{cell.variant} on {cell.target} at {row.load}"
        for cell in study.benchmark.status.cells
        for row in cell.loads
        if (cell.variant, cell.target, row.load) not in compared
    )


def _row(key: tuple[str, str], first: LoadResult, second: LoadResult) -> Row:
    ratio = _over(second.total_tokens_per_second, first.total_tokens_per_second)
    low, high = _interval(ratio, first, second)
    if low is None or high is None:
        word = Word.ONE_RUN
    else:
        word = Word.FASTER if low > 1 else Word.SLOWER if high < 1 else Word.WITHIN_NOISE
    return Row(
        variant=key[0],
        target=key[1],
        load=first.load,
        first=first,
        second=second,
        ratio=ratio,
        low=low,
        high=high,
        ttft_ratio=_over(second.mean_ttft_milliseconds, first.mean_ttft_milliseconds),
        tpot_ratio=_over(second.mean_tpot_milliseconds, first.mean_tpot_milliseconds),
        word=word,
    )


def _over(second: float | None, first: float | None) -> float | None:
    return second / first if first and second else None


def _interval(ratio: float | None, first: LoadResult, second: LoadResult) -> tuple[float, float] | tuple[None, None]:
    """Of the ratio of two independent means: Student's t with the fewest degrees of freedom that Welch's can have."""
    starts = min(first.starts, second.starts)
    if not ratio or starts < 2 or first.start_variation is None or second.start_variation is None:
        return None, None
    error = math.hypot(
        first.start_variation / math.sqrt(first.starts), second.start_variation / math.sqrt(second.starts)
    )
    quantile = float(stdtrit(starts - 1, (1 + CONFIDENCE) / 2))
    return ratio * math.exp(-quantile * error), ratio * math.exp(quantile * error)


def _warnings(first: Study, second: Study, cells: list[tuple[Cell, Cell]]) -> Iterator[str]:
    one, other = first.benchmark.spec, second.benchmark.spec
    versions = [", ".join(study.engine_versions()) or "unknown" for study in (first, second)]
    if versions[0] != versions[1]:
        yield f"vLLM's version differs: {versions[0]} and {versions[1]}"
    if "unknown" in versions:
        yield "vLLM's version of imported results is not known"
    if one.model != other.model:
        yield f"the model differs: {one.model} and {other.model}"
    for field in type(one.workload).model_fields:
        values = getattr(one.workload, field), getattr(other.workload, field)
        if values[0] != values[1] and field != "raw_output_dir":
            yield f"workload.{type(one.workload).model_fields[field].alias} differs: {values[0]} and {values[1]}"
    loads = {load.name: load for load in other.loads}
    for load in one.loads:
        if load.name in loads and loads[load.name] != load:
            yield f"load {load.name} differs: {_load(load.to_json())} and {_load(loads[load.name].to_json())}"
    lengths = _lengths(first), _lengths(second)
    for load_name in lengths[0].keys() & lengths[1].keys():
        pair = lengths[0][load_name], lengths[1][load_name]
        if any(abs(a - b) > 0.02 * max(a, b) for a, b in zip(*pair, strict=True)):
            said = [f"{sent:.0f}+{made:.0f}" for sent, made in pair]
            yield f"tokens per request (input+output) at {load_name} differ: {said[0]} and {said[1]}"
    for before, after in cells:
        if before.fingerprint and after.fingerprint and before.fingerprint != after.fingerprint:
            yield (
                f"{before.variant} on {before.target} ran another configuration:"
                f" {before.effective or before.fingerprint}; then {after.effective or after.fingerprint}"
            )
    yield "the two were measured at different times: what else changed in between is part of these ratios"


def _load(fields: JsonObject) -> str:
    return ", ".join(f"{key} {value}" for key, value in fields.items() if key != "name")


def _lengths(study: Study) -> dict[str, tuple[float, float]]:
    """Load → mean input and output tokens of one completed request."""
    sums: dict[str, list[int]] = {}
    for run in study.runs:
        for measured in run.status.passes:
            if measured.valid:
                total = sums.setdefault(measured.load, [0, 0, 0])
                total[0] += measured.total_input_tokens
                total[1] += measured.total_output_tokens
                total[2] += measured.completed
    return {load: (sent / count, made / count) for load, (sent, made, count) in sums.items() if count}
