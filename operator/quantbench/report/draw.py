"""Charts as SVG that takes its colours from the page: readable in light, dark and print, without a script.

Matplotlib draws; what it writes is then adapted: colours become CSS variables, texts take the page's font, ids become
unique within the page, and every point gets a tooltip.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from quantbench.report.document import Chart, Forest, Lines, Point, Stacks, Tone

COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--soft)",
    "#030303": "var(--grid)",
    "#040404": "var(--card)",
    **{f"#0a0a{number:02d}": f"var(--s{number})" for number in range(1, 9)},
    "#0b0b01": "var(--better)",
    "#0b0b02": "var(--worse)",
    "#0b0b03": "var(--equal)",
    "#0b0b04": "var(--open)",
}
"""Colours that Matplotlib is given, and the variables of the page that they stand for."""
INK, SOFT, GRID, CARD = list(COLOURS)[:4]
SERIES = tuple(colour for colour in COLOURS if colour.startswith("#0a"))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h")
"""As many as have no common factor with the number of colours: pairs repeat after 72 variants."""
HATCHES = ("", "//", "..", "xx", "\\\\")
TONES = {Tone.BETTER: ("#0b0b01", "^"), Tone.WORSE: ("#0b0b02", "v"), Tone.EQUAL: ("#0b0b03", "o"),
         Tone.OPEN: ("#0b0b04", "D")}  # fmt: skip
OTHER = ("#020202", "o")
FAINT = 0.35
WIDTH = 6.0
"""Of a chart [inch]; the page scales it."""
TALLEST = 40.0
LETTER = 0.089
"""Mean width of a letter [inch]."""
LONGEST_NAME = 26
"""Letters of a name beside an axis; its tooltip holds the whole one."""
LINE = 0.36
"""Height of one line of a chart of lines [inch]."""
_WIDE_RANGE = 30.0
"""Ratio of largest to smallest value from which on an axis is logarithmic."""
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "quantbench",
    "text.parse_math": False,
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "hatch.color": CARD,
    "hatch.linewidth": 1.0,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font: (?:[a-z]+ |\d+ )*([\d.]+px) [^;]*")
"""What Matplotlib says of the letters of a text; their size stays, their family is the page's."""


class Drawing:
    """Draws the charts of one page; counts them, because ids must differ within it."""

    def __init__(self) -> None:
        self._count = 0

    def svg(self, chart: Chart) -> str:
        """One chart as an ``svg`` element with a title, a text alternative and tooltips."""
        self._count += 1
        with mpl.rc_context(cast(Any, _STYLE)):  # its type lists every name there is
            figure, said = _drawn(chart.shown)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg")
        return _adapted(buffer.getvalue(), f"c{self._count}-", chart, said)


Said = dict[str, list[str]]
"""Id of drawn things → their tooltips, in order."""


def _drawn(shown: Forest | Lines | Stacks) -> tuple[Figure, Said]:
    match shown:
        case Forest():
            return _forest(shown)
        case Lines():
            return _lines(shown)
        case Stacks():
            return _stacks(shown)


def _axes(height: float, *, left: float, right: float = 0.15, below: float = 0.55) -> tuple[Figure, Axes]:
    """Axes of so much height with margins around them [inch]: all charts have one width, hence one size of letters."""
    height = min(height, TALLEST)
    whole = height + below + 0.12
    figure = Figure(figsize=(WIDTH, whole))
    return figure, figure.add_axes((left / WIDTH, below / whole, (WIDTH - left - right) / WIDTH, height / whole))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _margin(names: Sequence[str]) -> float:
    """Width of the longest of some names [inch]."""
    return 0.25 + LETTER * max(len(_short(name)) for name in names)


def _forest(shown: Forest) -> tuple[Figure, Said]:
    names = [bar.name for bar in shown.bars]
    figure, axes = _axes(0.1 + LINE * len(names), left=_margin(names), right=0.1 + LETTER * shown.letters)
    said: Said = {}
    axes.axvline(1.0, color=INK, linewidth=1.2, zorder=1)
    for place, bar in enumerate(shown.bars):
        colour, marker = TONES.get(bar.tone, OTHER)
        if bar.low is not None and bar.high is not None:
            axes.plot([bar.low, bar.high], [place, place], color=colour, linewidth=2.2, marker="|", markersize=7)
        key = f"said{place}"
        said[key] = [bar.said]
        face = CARD if bar.tone in (Tone.OPEN, Tone.PLAIN) else colour
        axes.plot([bar.value], [place], marker, color=colour, markerfacecolor=face, markersize=8, gid=key, zorder=3)
        axes.text(1.03, place, bar.figure, transform=axes.get_yaxis_transform(), va="center")
    axes.set_yticks(range(len(names)), list(map(_short, names)))
    axes.set_ylim(len(shown.bars) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="both", length=0)
    low, high = shown.limits
    if high / low > _WIDE_RANGE:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.2, high * 1.2)
    else:
        axes.set_xlim(low - 0.06 * (high - low or 1.0), high + 0.06 * (high - low or 1.0))
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(shown.axis)
    return figure, said


def _lines(shown: Lines) -> tuple[Figure, Said]:
    keys = list(_keys(shown))
    rows, columns = _shape(keys)
    figure, axes = _axes(2.9, left=0.85, below=0.62 + 0.24 * rows)
    said: Said = {}
    if shown.front:
        front = [shown.lines[line].points[point] for line, point in shown.front]
        xs, ys = [point.x for point in front], [point.y for point in front]
        axes.plot(xs, ys, color=SOFT, alpha=FAINT, linewidth=9, solid_capstyle="round", zorder=1)
    for number, line in enumerate(shown.lines):
        colour, marker = _look(number)
        axes.plot([p.x for p in line.points], [p.y for p in line.points], color=colour, linewidth=1.7, zorder=2)
        _whiskers(axes, line.points, colour)
        for hollow in (False, True):
            points = [point for point in line.points if point.hollow is hollow]
            if points:
                key = f"said{number}-{hollow}"
                said[key] = [point.said for point in points]
                axes.plot(
                    [point.x for point in points],
                    [point.y for point in points],
                    marker,
                    color=colour,
                    markerfacecolor=CARD if hollow else colour,
                    markersize=6.5,
                    gid=key,
                    zorder=3,
                )
    _scales(axes, shown)
    axes.set_xlabel(shown.x)
    axes.set_ylabel(shown.y)
    _legend(axes, keys, columns, 2.9)
    return figure, said


def _whiskers(axes: Axes, points: Sequence[Point], colour: str) -> None:
    """The intervals of a line; one drawn thing with gaps, because many small ones take most of the time."""
    known = [(point.x, point.low, point.high) for point in points if point.low is not None and point.high is not None]
    xs = [place for x, _, _ in known for place in (x, x, math.nan)]
    ys = [end for _, low, high in known for end in (low, high, math.nan)]
    axes.plot(xs, ys, color=colour, linewidth=1.2, marker="_", markersize=6)


def _look(number: int) -> tuple[str, str]:
    return SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]


def _keys(shown: Lines) -> Iterator[Line2D]:
    for number, line in enumerate(shown.lines):
        colour, marker = _look(number)
        yield Line2D([], [], color=colour, marker=marker, linewidth=1.7, label=line.name)
    if any(point.hollow for line in shown.lines for point in line.points):
        yield Line2D([], [], color=INK, marker="o", markerfacecolor=CARD, linewidth=0, label="hollow: at limit")
    if shown.front:
        yield Line2D([], [], color=SOFT, alpha=FAINT, linewidth=9, label="best trade-offs")


def _shape(keys: Sequence[Artist]) -> tuple[int, int]:
    """Rows and columns of a legend below the axes."""
    longest = max(len(str(key.get_label())) for key in keys)
    columns = max(1, min(len(keys), int((WIDTH - 0.9) / (LETTER * longest + 0.55))))
    return -(-len(keys) // columns), columns


def _legend(axes: Axes, keys: Sequence[Artist], columns: int, height: float) -> None:
    axes.legend(
        handles=list(keys),
        loc="upper left",
        bbox_to_anchor=(0.0, -0.55 / height),
        ncols=columns,
        borderaxespad=0.0,
        borderpad=0.0,
        handlelength=1.6,
        columnspacing=1.2,
    )


def _scales(axes: Axes, shown: Lines) -> None:
    points = [point for line in shown.lines for point in line.points]
    if shown.ticks and len(shown.ticks) > 1 and min(shown.ticks) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_apart(shown.ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    tops = [point.high or point.y for point in points]
    if max(tops) / min(point.y for point in points) > _WIDE_RANGE and shown.ticks:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0.0, max(tops) * 1.08)
    if not shown.ticks:
        axes.set_xlim(0.0, max(point.x for point in points) * 1.08)
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.tick_params(axis="both", length=0)


def _apart(ticks: Sequence[float]) -> list[float]:
    """Those that leave room for their labels."""
    step = math.log(max(ticks) / min(ticks)) / 14
    kept: list[float] = []
    for tick in sorted(ticks):
        if not kept or math.log(tick / kept[-1]) > step:
            kept.append(tick)
    return kept


def _plain(value: float, _place: int) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def _stacks(shown: Stacks) -> tuple[Figure, Said]:
    names = [stack.name for stack in shown.stacks]
    height = 0.1 + LINE * len(names)
    handles = [
        Patch(facecolor=SERIES[number], hatch=HATCHES[number], edgecolor=CARD, label=name)
        for number, name in enumerate(shown.parts)
    ]
    rows, columns = _shape(handles)
    figure, axes = _axes(height, left=_margin(names), below=0.62 + 0.24 * rows)
    said: Said = {}
    left = [0.0] * len(names)
    for number, part in enumerate(shown.parts):
        seconds = [stack.parts[number] for stack in shown.stacks]
        bars = axes.barh(range(len(names)), seconds, left=left, height=0.62, color=SERIES[number],
                         hatch=HATCHES[number], edgecolor=CARD, linewidth=0.8)  # fmt: skip
        for place, bar in enumerate(bars):
            bar.set_gid(f"said{place}-{number}")
            said[f"said{place}-{number}"] = [f"{names[place]}: {part} {seconds[place]:.1f} s"]
        left = [before + more for before, more in zip(left, seconds, strict=True)]
    for place, end in enumerate(left):
        axes.text(end, place, f" {end:.1f} s", va="center")
    axes.set_yticks(range(len(names)), list(map(_short, names)))
    axes.set_ylim(len(shown.stacks) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="both", length=0)
    axes.margins(x=0.12)
    axes.set_xlabel(shown.axis)
    _legend(axes, handles, columns, min(height, TALLEST))
    return figure, said


# --- from Matplotlib's SVG to the page's -------------------------------------------------------------------------


def _adapted(svg: bytes, prefix: str, chart: Chart, said: Said) -> str:
    root = ElementTree.fromstring(svg)  # noqa: S314  (written by Matplotlib a moment ago)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        tips = said.get(element.get("id", ""), [])
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            element.set(name.rpartition("}")[2], _attribute(name.rpartition("}")[2], value, prefix))
        if tips:
            # A bar is one path; points are uses of one marker, in their order.
            marks = [mark for mark in element.iter() if mark.tag.endswith("use")] or [element]
            for mark, tip in zip(marks, tips, strict=True):
                ElementTree.SubElement(mark, "title").text = tip
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}title {prefix}text")
    for place, (tag, text) in enumerate((("title", chart.title), ("desc", chart.description))):
        head = ElementTree.Element(tag, id=f"{prefix}{'title' if tag == 'title' else 'text'}")
        head.text = text
        root.insert(place, head)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _attribute(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return prefix + value
    if name == "href":
        return f"#{prefix}{value.removeprefix('#')}"
    value = _REFERENCE.sub(rf"url(#{prefix}\1)", value)
    if name in ("style", "fill", "stroke"):
        for colour, variable in COLOURS.items():
            value = value.replace(colour, variable)
    if name == "style":
        value = _FONT.sub(r"font-size: \1", value)
    return value
