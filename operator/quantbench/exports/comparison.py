"""Two studies side by side: the same cells, the ratios of their figures, and what stands against comparing them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from scipy.special import stdtrit

from quantbench.answer import metric_of
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import Load
from quantbench.api.names import Metric
from quantbench.api.status import Cell, LoadResult
from quantbench.comparisons import starts_of
from quantbench.effective import CellKey, counts
from quantbench.exports.secrets import without_secrets
from quantbench.exports.study import Study
from quantbench.statistics import Start, figure_of, mean
from quantbench.statistics.figures import variation

CONFIDENCE = 0.95
LONGEST_VALUE = 80
"""Characters of a differing value that a warning shows."""


class Word(StrEnum):
    """What a ratio says about the second study against the first."""

    FASTER = "faster"
    SLOWER = "slower"
    WITHIN_NOISE = "within noise"
    ONE_RUN = "one run"
    NO_INTERVAL = "no interval"


@dataclass(frozen=True)
class Row:
    """One variant on one target under one load, in both studies.

    Attributes:
        ratio: total throughput of the second over the first.
        ttft_ratio, tpot_ratio: likewise of the latencies.
        metric: the figure that decides.
        low, high: 95 % interval of its ratio, from the start-to-start variation of each; None with a single start in
            either.
    """

    variant: str
    target: str
    load: str
    first: LoadResult
    second: LoadResult
    ratio: float | None
    ttft_ratio: float | None
    tpot_ratio: float | None
    metric: Metric
    low: float | None
    high: float | None
    word: Word

    def ends(self, metric: Metric) -> tuple[float | None, float | None]:
        """The interval of a ratio: only the one that decides has one."""
        return (self.low, self.high) if metric is self.metric else (None, None)


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
                    "ratioLow": row.ends(Metric.THROUGHPUT)[0],
                    "ratioHigh": row.ends(Metric.THROUGHPUT)[1],
                    "ttftRatio": row.ttft_ratio,
                    "ttftRatioLow": row.ends(Metric.TTFT)[0],
                    "ttftRatioHigh": row.ends(Metric.TTFT)[1],
                    "tpotRatio": row.tpot_ratio,
                    "tpotRatioLow": row.ends(Metric.TPOT)[0],
                    "tpotRatioHigh": row.ends(Metric.TPOT)[1],
                    "decidedBy": row.metric,
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
    starts = _starts(first), _starts(second)
    load_of = {load.name: load for load in (*second.benchmark.spec.loads, *first.benchmark.spec.loads)}
    shared = [key for key in one if key in other]
    rows = []
    for key in shared:
        loads = {row.load: row for row in other[key].loads}
        for row in one[key].loads:
            if row.load in loads:
                sides = tuple(
                    _Side(figures, of.get(key, ())) for figures, of in zip((row, loads[row.load]), starts, strict=True)
                )
                rows.append(_row(key, load_of.get(row.load, Load(name=row.load)), *sides))
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


def _starts(study: Study) -> dict[CellKey, list[Start]]:
    found: dict[CellKey, list[Start]] = {}
    for run in study.runs:
        found.setdefault(run.cell, []).extend(starts_of([run]))
    return found


@dataclass(frozen=True)
class _Side:
    """One study's part of a row."""

    row: LoadResult
    starts: Sequence[Start]

    def figure(self, metric: Metric) -> float | None:
        """The mean over starts."""
        return {
            Metric.THROUGHPUT: self.row.total_tokens_per_second,
            Metric.TTFT: self.row.mean_ttft_milliseconds,
            Metric.TPOT: self.row.mean_tpot_milliseconds,
        }[metric]

    def spread(self, metric: Metric) -> tuple[float, int] | None:
        """Variation from start to start and the starts that it rests on: a status holds that of throughput at most."""
        passes = [[figure_of(metric, one) for one in start.of(self.row.load)] for start in self.starts]
        known = [[value for value in values if value is not None] for values in passes]
        means = [mean(values) for values in known if values]
        found = variation([means])
        if found is not None:
            return found, len(means)
        if metric is not Metric.THROUGHPUT or self.row.start_variation is None:
            return None
        return self.row.start_variation, self.row.starts


def _row(key: CellKey, load: Load, first: _Side, second: _Side) -> Row:
    metrics = [metric_of(load, side.row) for side in (first, second)]
    # Where one of the two fell behind its rate, a latency says how many requests it ran at once.
    metric = Metric.THROUGHPUT if Metric.THROUGHPUT in metrics else metrics[0]
    ratios = {one: _over(second.figure(one), first.figure(one)) for one in Metric}
    low, high = _interval(ratios[metric], first.spread(metric), second.spread(metric))
    if low is not None and high is not None:
        better, worse = (low > 1, high < 1) if metric is Metric.THROUGHPUT else (high < 1, low > 1)
        word = Word.FASTER if better else Word.SLOWER if worse else Word.WITHIN_NOISE
    else:
        word = Word.ONE_RUN if min(first.row.starts, second.row.starts) < 2 else Word.NO_INTERVAL
    return Row(
        variant=key[0],
        target=key[1],
        load=load.name,
        first=first.row,
        second=second.row,
        ratio=ratios[Metric.THROUGHPUT],
        ttft_ratio=ratios[Metric.TTFT],
        tpot_ratio=ratios[Metric.TPOT],
        metric=metric,
        low=low,
        high=high,
        word=word,
    )


def _over(second: float | None, first: float | None) -> float | None:
    return second / first if first and second else None


def _interval(
    ratio: float | None, first: tuple[float, int] | None, second: tuple[float, int] | None
) -> tuple[float, float] | tuple[None, None]:
    """Of the ratio of two independent means: Student's t with the fewest degrees of freedom that Welch's can have."""
    if not ratio or first is None or second is None:
        return None, None
    starts = min(first[1], second[1])
    if starts < 2:
        return None, None
    error = math.hypot(*(spread / math.sqrt(number) for spread, number in (first, second)))
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
    yield from _hardware(first, second)
    yield from _settings(first, second)
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


def _hardware(first: Study, second: Study) -> Iterator[str]:
    one, other = _gpus(first), _gpus(second)
    for target in one:
        if target in other and one[target] != other[target]:
            names = [", ".join(sorted(found[target])) for found in (one, other)]
            yield f"the GPU on {target} differs: {names[0]} and {names[1]}"


def _gpus(study: Study) -> dict[str, set[str]]:
    """Target → names of the GPUs that its servers attested."""
    found: dict[str, set[str]] = {}
    for run in study.runs:
        attested = run.status.attestation
        if attested and attested.gpus and counts(run):
            found.setdefault(run.spec.target.name, set()).update(gpu.name for gpu in attested.gpus)
    return found


def _settings(first: Study, second: Study) -> Iterator[str]:
    """What was asked for under one name and is not the same; results of another tool do not say."""
    if first.of_another_tool or second.of_another_tool:
        return
    one, other = (_asked(study) for study in (first, second))
    for path in one:
        if path in other:
            for field in dict.fromkeys([*one[path], *other[path]]):
                values = one[path].get(field), other[path].get(field)
                if values[0] != values[1]:
                    yield f"{path}.{field} differs: {_short(*values)} and {_short(*reversed(values))}"


def _asked(study: Study) -> dict[str, JsonObject]:
    """Part of the specification → its fields."""
    spec = without_secrets(study.benchmark.spec.to_json())
    engine = {field: spec["engine"].get(field) for field in ("args", "maxNumSeqs", "maxNumBatchedTokens")}
    return {"engine": engine} | {
        f"{kind} {part['name']}": {field: value for field, value in part.items() if field != "name"}
        for kind, parts in (("target", spec["targets"]), ("variant", spec["variants"]))
        for part in parts
    }


def _short(value: Any, beside: Any) -> str:
    """A value in words; of arguments those that the other side lacks."""
    if isinstance(value, list):
        own, theirs = _options(value), _options(beside or [])
        # In another order the last one of a flag may be another one.
        value = " ".join(own if set(own) == set(theirs) else [one for one in own if one not in theirs])
    elif isinstance(value, dict):
        value = ", ".join(f"{key}={one}" for key, one in value.items())
    text = "none" if value in (None, "") else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _options(arguments: Sequence[str]) -> list[str]:
    """Arguments with their values: ``--flag value`` may stand in two."""
    found: list[str] = []
    for argument in arguments:
        if argument.startswith("-") or not found:
            found.append(argument)
        else:
            found[-1] += f" {argument}"
    return found


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
