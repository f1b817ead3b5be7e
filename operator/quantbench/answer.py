"""How ratios are written, and the answer of a study in a sentence."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from quantbench.api.benchmark import CONTROL, Load, QuantBenchmarkSpec
from quantbench.api.names import Axis, Difference, Metric, Verdict
from quantbench.api.status import Cell, Crossover, LoadResult

LONGEST_SUMMARY = 512
MAX_DECIMALS = 6
FINE = 4
"""Decimals beyond which an interval is not shown only to have a width."""
NOT_COMPARABLE = frozenset(
    {Verdict.NOT_QUANTIZED, Verdict.CONFIGURATION_MISMATCH, Verdict.INCONSISTENT, Verdict.CLIENT_BOUND}
)
"""Verdicts of cells whose figures, were there any, would not be those of the variant."""


@dataclass(frozen=True)
class Ratio:
    """The figure by which a variant is judged against the baseline under one load.

    Attributes:
        value: the figure over the baseline's.
        low, high: its 95 % interval; None with too few starts.
        starts: blocks that it rests on.
        metric: which figure.
        difference: what it says.
    """

    value: float
    low: float | None
    high: float | None
    starts: int
    metric: Metric
    difference: Difference

    @property
    def latency(self) -> bool:
        """Whether the smaller one is the better one."""
        return self.metric is not Metric.THROUGHPUT

    @property
    def speed(self) -> float:
        """The larger, the better."""
        return 1 / self.value if self.latency and self.value else self.value


def metric_of(load: Load, row: LoadResult) -> Metric:
    """The figure that decides in a row."""
    if row.decided_by is not None:
        return row.decided_by
    # Rows written before they said so were judged by TPOT at every fixed rate.
    judged_by_time = load.paced and row.mean_tpot_milliseconds is not None
    return Metric.TPOT if judged_by_time else Metric.THROUGHPUT


def ratio_of(load: Load, row: LoadResult) -> Ratio | None:
    """The ratio of the deciding figure of a row."""
    metric = metric_of(load, row)
    value, low, high = {
        Metric.THROUGHPUT: (row.ratio, row.ratio_low, row.ratio_high),
        Metric.TTFT: (row.ttft_ratio, row.ttft_ratio_low, row.ttft_ratio_high),
        Metric.TPOT: (row.tpot_ratio, row.tpot_ratio_low, row.tpot_ratio_high),
    }[metric]
    if value is None or not row.ratio_starts:
        return None
    # Without a judgement nothing is decided.
    unjudged = Difference.ONE_RUN if row.ratio_starts == 1 else Difference.UNDECIDED
    return Ratio(value, low, high, row.ratio_starts, metric, row.difference or unjudged)


def is_duplicate(cell: Cell) -> bool:
    """Whether a cell ran what another variant's ran; its differences from that one would be noise."""
    same = Difference.SAME_CONFIGURATION
    ran_the_same = cell.same_as is not None or cell.verdict is Verdict.DUPLICATE
    return ran_the_same or any(row.difference is same for row in cell.loads)


def judged(spec: QuantBenchmarkSpec, cells: Iterable[Cell], load: Load) -> Iterator[tuple[Cell, LoadResult, Ratio]]:
    """The rows under a load that may be held against the baseline's, the control's among them, in the study's order."""
    for cell in cells:
        if cell.variant == CONTROL or not (cell.variant == spec.baseline or is_duplicate(cell)):
            for row in cell.loads:
                if row.load == load.name and cell.verdict not in NOT_COMPARABLE and (ratio := ratio_of(load, row)):
                    yield cell, row, ratio


def compared(spec: QuantBenchmarkSpec, cells: Iterable[Cell], load: Load) -> list[tuple[Cell, Ratio]]:
    """The other variants with their ratios under a load, in the study's order."""
    return [(cell, ratio) for cell, _, ratio in judged(spec, cells, load) if cell.variant != CONTROL]


# --- words -------------------------------------------------------------------------------------------------------


def _decimals(ratio: Ratio) -> int:
    """Two, or as many as it takes for the interval to have a width and to stay on its side of 1."""

    def shown(figure: float, decimals: int) -> float:
        return float(f"{figure:.{decimals}f}")

    for decimals in range(2, MAX_DECIMALS):
        value = shown(ratio.value, decimals)
        if ratio.low is None or ratio.high is None:
            clear = True
        else:
            low, high = shown(ratio.low, decimals), shown(ratio.high, decimals)
            clear = (
                (low < high or ratio.low == ratio.high or decimals >= FINE)
                and (low > 1) >= (ratio.low > 1)
                and (high < 1) >= (ratio.high < 1)
            )
        if clear and (value > 0 or ratio.value == 0):
            return decimals
    return MAX_DECIMALS


def times(ratio: Ratio) -> str:
    """``1.24×``."""
    return f"{ratio.value:.{_decimals(ratio)}f}×"


def interval(ratio: Ratio) -> str:
    """``95 % CI 1.21 to 1.27, 3 starts``."""
    starts = "1 start" if ratio.starts == 1 else f"{ratio.starts} starts"
    if ratio.low is None or ratio.high is None:
        return starts
    decimals = _decimals(ratio)
    return f"95 % CI {ratio.low:.{decimals}f} to {ratio.high:.{decimals}f}, {starts}"


def ratio_text(load: Load, row: LoadResult) -> str:
    """``1.24× (1.21–1.27)`` for tables; empty without a ratio. A ratio of latencies says so."""
    ratio = ratio_of(load, row)
    if ratio is None:
        return ""
    suffix = f" {ratio.metric}" if ratio.latency else ""
    if ratio.low is None or ratio.high is None:
        return f"{times(ratio)}{suffix}"
    decimals = _decimals(ratio)
    return f"{times(ratio)} ({ratio.low:.{decimals}f}–{ratio.high:.{decimals}f}){suffix}"


DIFFERENCE_WORDS = {
    Difference.FASTER: "faster",
    Difference.SLOWER: "slower",
    Difference.NOT_DISTINGUISHABLE: "not distinguishable",
    Difference.UNDECIDED: "not decided yet",
    Difference.ONE_RUN: "one run",
    Difference.SAME_CONFIGURATION: "same configuration",
}


def comparison(variant: str, baseline: str, ratio: Ratio) -> str:
    """``fp8 is 1.24× bf16``; of latencies it says which."""
    if ratio.latency:
        what = "time per output token" if ratio.metric is Metric.TPOT else "time to first token"
        return f"{variant} takes {times(ratio)} the {what} of {baseline}"
    return f"{variant} is {times(ratio)} {baseline}"


def place(crossover: Crossover) -> str:
    """``20 requests in flight (95 % CI 14 to 29)``."""
    unit = "requests in flight" if crossover.axis is Axis.MAX_CONCURRENCY else "requests per second"
    low, high = crossover.low, crossover.high
    if low is None or high is None:
        return f"{_significant(crossover.at, 2)} {unit} (no interval: too few starts)"
    digits = next((d for d in range(2, 4) if _significant(low, d) != _significant(high, d)), 2)
    at, low_text, high_text = (_significant(figure, digits) for figure in (crossover.at, low, high))
    return f"{at} {unit} (95 % CI {low_text} to {high_text})"


def _significant(value: float, digits: int) -> str:
    return f"{float(f'{value:.{digits}g}'):,.10g}"


# --- the answer --------------------------------------------------------------------------------------------------


def summary(spec: QuantBenchmarkSpec, cells: Sequence[Cell], crossovers: Sequence[Crossover] = ()) -> str | None:
    """The answer so far under the first load, a part for each target; None while there is none."""
    parts = []
    for target in spec.targets:
        part = _of_target(
            spec,
            [cell for cell in cells if cell.target == target.name],
            [crossover for crossover in crossovers if crossover.target == target.name],
        )
        if part:
            parts.append(f"{target.name}: {part}" if len(spec.targets) > 1 else part)
    return _joined(parts)


def _joined(parts: Sequence[str]) -> str | None:
    """As many whole parts as fit; the last words count the others."""
    for kept in range(len(parts), 0, -1):
        left = len(parts) - kept
        line = "; ".join(parts[:kept]) + (f"; and {left} more targets" if left else "")
        if len(line) <= LONGEST_SUMMARY:
            return line
    return f"{parts[0][: LONGEST_SUMMARY - 1]}…" if parts else None


def _of_target(spec: QuantBenchmarkSpec, cells: Sequence[Cell], crossovers: Sequence[Crossover]) -> str | None:
    load, baseline = spec.loads[0], spec.baseline
    found = _ranked(spec, cells, load)
    said = {difference: [item for item in found if item[1].difference is difference] for difference in Difference}
    if faster := said[Difference.FASTER]:
        return _best(spec, load, faster, bool(said[Difference.UNDECIDED]), crossovers)
    if undecided := said[Difference.UNDECIDED]:
        cell, ratio = undecided[0]
        return f"undecided so far: {comparison(cell.variant, baseline, ratio)} at {load.name} ({interval(ratio)})"
    slower, alike = said[Difference.SLOWER], said[Difference.NOT_DISTINGUISHABLE]
    single = said[Difference.ONE_RUN]
    if slower or alike:
        return _none_better(load, baseline, slower, alike, all_judged=not single) + _elsewhere(spec, cells)
    if single:
        cell, ratio = single[0]
        return f"one run each, no verdict: {comparison(cell.variant, baseline, ratio)} at {load.name}"
    return _elsewhere(spec, cells).removeprefix("; ") or None


def _ranked(spec: QuantBenchmarkSpec, cells: Sequence[Cell], load: Load) -> list[tuple[Cell, Ratio]]:
    return sorted(compared(spec, cells, load), key=lambda item: -item[1].speed)


def _none_better(
    load: Load,
    baseline: str,
    slower: Sequence[tuple[Cell, Ratio]],
    alike: Sequence[tuple[Cell, Ratio]],
    *,
    all_judged: bool,
) -> str:
    """``all_judged``: there is no variant of one start, which may be anything."""
    none = "no variant" if all_judged else "no variant with several starts"
    cell, ratio = (alike or slower)[0]
    if slower and alike:
        names = _names([cell.variant for cell, _ in alike])
        return f"{none} is faster than {baseline} at {load.name}; {names} cannot be told from it"
    if slower:
        nearest = f"{comparison(cell.variant, baseline, ratio)} ({interval(ratio)})"
        head = f"{baseline} is the fastest" if all_judged else f"{none} is as fast as {baseline}"
        return f"{head} at {load.name}; {nearest}"
    shown = f"the highest, {cell.variant}, lies at {times(ratio)} ({interval(ratio)})"
    return f"{none} can be told from {baseline} at {load.name}: {shown}"


def _elsewhere(spec: QuantBenchmarkSpec, cells: Sequence[Cell]) -> str:
    """The best under the next load where some variant is faster, and where else none measured faster than that one."""
    found: list[tuple[str, list[tuple[Cell, Ratio]], Cell]] = []
    for load in spec.loads[1:]:
        rated = _ranked(spec, cells, load)
        faster = [item for item in rated if item[1].difference is Difference.FASTER]
        if faster:
            found.append((load.name, faster, rated[0][0]))
    if not found:
        return ""
    name, faster, _ = found[0]
    cell, best = faster[0]
    others = [load for load, (first, *_), highest in found[1:] if first[0] is cell is highest]
    too = f"; {cell.variant} measured fastest at {_names(others)}, too" if others else ""
    return f"; at {name} {comparison(cell.variant, spec.baseline, best)} ({interval(best)}){_close(faster)}{too}"


def _best(
    spec: QuantBenchmarkSpec,
    load: Load,
    faster: Sequence[tuple[Cell, Ratio]],
    undecided: bool,
    crossovers: Sequence[Crossover],
) -> str:
    cell, best = faster[0]
    so_far = " so far" if undecided else ""
    line = f"{comparison(cell.variant, spec.baseline, best)} at {load.name}{so_far} ({interval(best)})"
    line += _close(faster)
    for crossover in crossovers:
        if cell.variant == crossover.variant:
            return f"{line}; below about {place(crossover)} {crossover.other} is faster"
        if cell.variant == crossover.other:
            return f"{line}; above about {place(crossover)} {crossover.variant} is faster"
    return line


def _close(faster: Sequence[tuple[Cell, Ratio]]) -> str:
    """The others whose intervals overlap with the first one's: nobody tested whether they differ from it."""
    (_, best), *others = faster
    close = [f"{other.variant} {times(ratio)}" for other, ratio in others if _overlap(best, ratio)]
    return f"; close to it: {_names(close)}" if close else ""


def _overlap(one: Ratio, other: Ratio) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def _names(names: Sequence[str], most: int = 3) -> str:
    """``a, b and c``; many are cut short with their number."""
    if len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def standing(spec: QuantBenchmarkSpec, cells: Sequence[Cell]) -> str:
    """What the comparisons under the first load say, counted: ``at saturated 2 are faster, 1 cannot be told apart``."""
    load = spec.loads[0]
    words = {
        Difference.FASTER: "faster",
        Difference.SLOWER: "slower",
        Difference.NOT_DISTINGUISHABLE: f"not told from {spec.baseline}",
        Difference.UNDECIDED: "undecided",
        Difference.ONE_RUN: "one run",
    }
    ratios = [ratio for target in spec.targets for _, ratio in compared(spec, of_target(cells, target.name), load)]
    counted = [(sum(ratio.difference is name for ratio in ratios), text) for name, text in words.items()]
    parts = [f"{count} {text}" for count, text in counted if count]
    same = sum(is_duplicate(cell) for cell in cells if cell.variant != CONTROL)
    if same:
        parts.append(f"{same} left out as duplicates")
    return f"at {load.name}: {', '.join(parts)}" if parts else ""


def of_target(cells: Iterable[Cell], target: str) -> list[Cell]:
    """The cells of one target."""
    return [cell for cell in cells if cell.target == target]
