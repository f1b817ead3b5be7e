"""Which charts a study has, and the points in them. Nothing is drawn here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtrit

from quantbench.answer import DIFFERENCE_WORDS, ratio_of, ratio_text
from quantbench.api.benchmark import CONTROL, Load, QuantBenchmarkSpec
from quantbench.api.names import Axis, Metric
from quantbench.api.run import Pass
from quantbench.api.status import Cell, LoadResult
from quantbench.comparisons import starts_of
from quantbench.exports import Study
from quantbench.regimes import Series, series
from quantbench.report.document import Bar, Chart, Charts, Forest, Line, Lines, Paragraph, Point, Stack, Stacks, Tone
from quantbench.report.evidence import PARTS, by_compilation, cells_of, middle
from quantbench.report.figures import LIMIT, NONE, TONES, loads_of, significant, starts, targets_of
from quantbench.statistics import Start

MOST_CHARTS = 12
MOST_SERIES = 150
"""Charts of one kind and lines in them all together that are drawn; the tables hold all figures."""
LEVEL = 0.95
Figure = Callable[[Pass], float | None]


@dataclass(frozen=True)
class Measured:
    """What the charts of one target are made of."""

    spec: QuantBenchmarkSpec
    target: str
    cells: tuple[Cell, ...]
    starts: Mapping[str, Sequence[Start]]

    @property
    def gpus(self) -> int:
        """GPUs of one server."""
        return next((target.gpus for target in self.spec.targets if target.name == self.target), 0)

    def spread(self, variant: str, load: str, of: Figure) -> tuple[float, float] | None:
        """95 % interval of a mean over starts by Student's t; None with fewer than two."""
        means = []
        for start in self.starts.get(variant, ()):
            known = [value for value in map(of, start.of(load)) if value is not None]
            if known:
                means.append(math.fsum(known) / len(known))
        if len(means) < 2:
            return None
        mean = math.fsum(means) / len(means)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in means) / (len(means) - 1))
        half = float(stdtrit(len(means) - 1, (1 + LEVEL) / 2)) * deviation / math.sqrt(len(means))
        return max(0.0, mean - half), mean + half


def measured(study: Study) -> list[Measured]:
    """One per target with figures."""
    runs = cells_of(study)
    found = []
    for target in targets_of(study):
        cells = tuple(cell for cell in study.benchmark.status.cells if cell.target == target and cell.loads)
        if cells:
            of = {cell.variant: starts_of(runs[cell.variant, target]) for cell in cells}
            found.append(Measured(study.benchmark.spec, target, cells, of))
    return found


def _limited(charts: list[Chart]) -> tuple[Charts | Paragraph, ...]:
    """The first ones, and a word about the others: reading and drawing hundreds of them takes too long."""
    shown: list[Chart] = []
    series = 0
    for chart in charts[:MOST_CHARTS]:
        series += len(chart.shown)
        if shown and series > MOST_SERIES:
            break
        shown.append(chart)
    more = len(charts) - len(shown)
    note = f"{more} more charts of this kind are left out; the tables hold all figures."
    return (*((Charts(tuple(shown)),) if shown else ()), *((Paragraph(note),) if more else ()))


# --- against the baseline ----------------------------------------------------------------------------------------


def against_baseline(study: Study, of: Sequence[Measured]) -> tuple[Charts | Paragraph, ...]:
    """Ratios with their intervals, one chart per target and load."""
    charts: list[Chart] = []
    for one in of:
        found = [(load, forest) for load in loads_of(study) if (forest := _forest(one, load))]
        values = [value for _, forest in found for bar in forest.bars for value in (bar.low, bar.value, bar.high)]
        known = [value for value in values if value]
        limits = (min(1.0, *known), max(1.0, *known)) if known else (1.0, 1.0)
        letters = max((len(bar.figure) for _, forest in found for bar in forest.bars), default=0)
        for load, forest in found:
            title = f"{load.name} on {one.target}, against {one.spec.baseline}"
            said = _said(title, [bar.said for bar in forest.bars])
            charts.append(Chart(title, said, replace(forest, limits=limits, letters=letters)))
    return _limited(charts)


def _forest(one: Measured, load: Load) -> Forest | None:
    baseline = one.spec.baseline
    bars = []
    metric = Metric.THROUGHPUT
    for cell in one.cells:
        row = _row(cell, load.name)
        ratio = ratio_of(load, row) if row and cell.variant != baseline else None
        if row and ratio:
            word = "noise floor" if cell.variant == CONTROL else DIFFERENCE_WORDS[ratio.difference]
            said = f"{cell.variant}: {ratio_text(load, row)}, {word}, {starts(ratio.starts)}"
            tone = Tone.PLAIN if cell.variant == CONTROL else TONES[ratio.difference]
            figure = ratio_text(load, row) + (" one run" if ratio.starts == 1 else "")
            bars.append(Bar(cell.variant, ratio.value, ratio.low, ratio.high, figure, said, tone))
            metric = ratio.metric
    if not bars:
        return None
    throughput = metric is Metric.THROUGHPUT
    axis = f"{'total tok/s' if throughput else metric} ÷ {baseline}'s ({'more' if throughput else 'less'} is better)"
    return Forest(tuple(bars), axis)


def _said(title: str, points: Sequence[str]) -> str:
    """The text alternative."""
    return f"{title}. {'; '.join(points)}."


def _row(cell: Cell, load: str) -> LoadResult | None:
    return next((row for row in cell.loads if row.load == load), None)


# --- throughput and latency --------------------------------------------------------------------------------------


def trade_off(of: Sequence[Measured]) -> tuple[Charts | Paragraph, ...]:
    """Throughput against the time per token: what a server gives all, and what each user waits."""
    return _limited([chart for one in of if (chart := _pareto(one))])


def _pareto(one: Measured) -> Chart | None:
    gpus = one.gpus or 1
    unit = "total tok/s per GPU" if one.gpus else "total tok/s"
    lines = []
    for cell in one.cells:
        points = [
            Point(
                row.mean_tpot_milliseconds,
                row.total_tokens_per_second / gpus,
                f"{cell.variant} at {row.load}: {significant(row.total_tokens_per_second / gpus)} {unit}, "
                f"TPOT {significant(row.mean_tpot_milliseconds)} ms, {starts(row.starts)}{_limit(row)}",
                hollow=bool(row.saturated),
            )
            for row in cell.loads
            if row.mean_tpot_milliseconds
        ]
        if points and cell.variant != CONTROL and not cell.same_as:
            lines.append(Line(cell.variant, tuple(sorted(points, key=lambda point: point.x))))
    if not lines:
        return None
    front = pareto([[(point.x, point.y) for point in line.points] for line in lines])
    title = f"Throughput against time per token on {one.target}"
    best = "Best trade-offs: " + "; ".join(lines[line].points[point].said for line, point in front)
    return Chart(title, f"{title}. {best}.", Lines(tuple(lines), "mean TPOT [ms], less is better", unit, front=front))


def pareto(lines: Sequence[Sequence[tuple[float, float]]]) -> tuple[tuple[int, int], ...]:
    """Places of the points that no other point beats: less in the first figure, or more in the second."""
    places = [(x, -y, line, point) for line, points in enumerate(lines) for point, (x, y) in enumerate(points)]
    front, best = [], -math.inf
    for _, negative, line, point in sorted(places):
        if -negative > best:
            best = -negative
            front.append((line, point))
    return tuple(front)


def _limit(row: LoadResult) -> str:
    return f", {LIMIT}" if row.saturated else ""


# --- along the loads ---------------------------------------------------------------------------------------------

_FIGURES: tuple[tuple[str, str, Callable[[LoadResult], float | None], Figure], ...] = (
    ("Throughput", "total tok/s", lambda row: row.total_tokens_per_second, lambda one: one.total_tokens_per_second),
    ("Time per token", "mean TPOT [ms]", lambda row: row.mean_tpot_milliseconds, lambda p: p.tpot_milliseconds.mean),
    ("Time to first token", "mean TTFT [ms]", lambda row: row.mean_ttft_milliseconds,
     lambda one: one.ttft_milliseconds.mean),
)  # fmt: skip


def along_loads(of: Sequence[Measured]) -> tuple[Charts | Paragraph, ...]:
    """Throughput, TPOT and TTFT along loads that differ in one thing."""
    charts = [
        chart
        for one in of
        for along in series(one.spec)
        for figure in _FIGURES
        if (chart := _along(one, along, *figure))
    ]
    return _limited(charts)


def _along(
    one: Measured, along: Series, what: str, unit: str, mean: Callable[[LoadResult], float | None], each: Figure
) -> Chart | None:
    axis = "requests in flight" if along.axis is Axis.MAX_CONCURRENCY else "requests per second"
    lines = []
    for cell in one.cells:
        points = []
        for at, load in along.loads:
            row = _row(cell, load)
            value = mean(row) if row else None
            if row and value:
                low, high = one.spread(cell.variant, load, each) or (None, None)
                interval = f" ({significant(low)}–{significant(high)})" if low is not None else ""
                words = f"{cell.variant} at {load}: {significant(value)}{interval} {unit}, {starts(row.starts)}"
                points.append(Point(at, value, words + _limit(row), low, high, bool(row.saturated)))
        if points and cell.variant != CONTROL and not cell.same_as:
            lines.append(Line(cell.variant, tuple(points)))
    if not any(len(line.points) > 1 for line in lines):
        return None
    title = f"{what} against {axis} on {one.target}"
    said = [point.said for line in lines for point in line.points]
    ticks = tuple(dict.fromkeys(at for at, _ in along.loads))
    return Chart(title, _said(title, said), Lines(tuple(lines), axis, unit, ticks))


# --- cold starts -------------------------------------------------------------------------------------------------


def cold_starts(study: Study) -> tuple[Charts | Paragraph, ...]:
    """What the starts were spent on, one chart per target."""
    by_target: dict[str, list[Stack]] = {}
    for (variant, target), runs in cells_of(study).items():
        told = [run for run in runs if run.status.verdict]
        for code, group in by_compilation(told):
            parts = [middle(of, group) for of in PARTS.values()]
            if any(parts):
                name = variant if code == NONE else f"{variant}, {code}"
                by_target.setdefault(target, []).append(Stack(name, tuple(part or 0.0 for part in parts)))
    charts = []
    for target, stacks in by_target.items():
        title = f"Cold start on {target}"
        said = [
            f"{stack.name}: " + ", ".join(f"{name} {part:.1f} s" for name, part in zip(PARTS, stack.parts, strict=True))
            for stack in stacks
        ]
        charts.append(
            Chart(title, _said(title, said), Stacks(tuple(PARTS), tuple(stacks), "seconds, median of starts"))
        )
    return _limited(charts)
