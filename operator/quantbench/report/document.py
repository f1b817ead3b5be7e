"""What a report consists of, whatever it is written in: sections of paragraphs, tables, charts and texts."""

from dataclasses import dataclass
from enum import StrEnum


class Tone(StrEnum):
    """What a cell says at a glance; each tone is shown by a sign and words, colour only repeats them."""

    PLAIN = "plain"
    BASELINE = "baseline"
    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"
    OPEN = "open"
    FAILED = "failed"


SIGNS = {
    Tone.PLAIN: "",
    Tone.BASELINE: "◆",
    Tone.BETTER: "▲",
    Tone.WORSE: "▼",
    Tone.EQUAL: "≈",
    Tone.OPEN: "?",
    Tone.FAILED: "✕",
}


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        text: its first line.
        more: further, smaller lines.
        tone: what it says at a glance.
        code: text to be read letter by letter: arguments, log lines, digests.
    """

    text: str
    more: tuple[str, ...] = ()
    tone: Tone = Tone.PLAIN
    code: bool = False


@dataclass(frozen=True)
class Column:
    """Heading of a column; numbers stand at the right."""

    name: str
    number: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    wide: bool = False


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Item:
    """One entry of a list: what it is about, the sentence, what it rests on."""

    label: str
    text: str
    evidence: tuple[str, ...] = ()
    warning: bool = False


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple[Item, ...]


@dataclass(frozen=True)
class Code:
    """A text to be copied."""

    title: str
    text: str
    language: str = ""


@dataclass(frozen=True)
class Bar:
    """One ratio of a `Forest` with its 95 % interval, None with a single start; ``figure``: the same in letters."""

    name: str
    value: float
    low: float | None
    high: float | None
    figure: str
    said: str
    tone: Tone


@dataclass(frozen=True)
class Forest:
    """Ratios to the baseline, one line each.

    ``limits`` of the axis and the ``letters`` of the longest figure beside it are equal in charts to be compared.
    """

    bars: tuple[Bar, ...]
    axis: str
    limits: tuple[float, float] = (1.0, 1.0)
    letters: int = 0

    def __len__(self) -> int:
        return len(self.bars)


@dataclass(frozen=True)
class Point:
    """A measured pair of figures; ``hollow``: the server was at its limit."""

    x: float
    y: float
    said: str
    low: float | None = None
    high: float | None = None
    hollow: bool = False


@dataclass(frozen=True)
class Line:
    """The points of one variant, in order."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Lines:
    """One line per variant.

    Attributes:
        x, y: what the axes show, with units.
        ticks: places of the loads on a logarithmic x axis; empty for an ordinary one.
        front: indices of points that no other point beats, as (line, point), in order of x.
    """

    lines: tuple[Line, ...]
    x: str
    y: str
    ticks: tuple[float, ...] = ()
    front: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True)
class Stack:
    """The parts of one variant's time [s]."""

    name: str
    parts: tuple[float, ...]


@dataclass(frozen=True)
class Stacks:
    """Times made of parts."""

    parts: tuple[str, ...]
    stacks: tuple[Stack, ...]
    axis: str

    def __len__(self) -> int:
        return len(self.stacks)


@dataclass(frozen=True)
class Chart:
    """A picture of figures that a table of the report holds too."""

    title: str
    description: str
    shown: Forest | Lines | Stacks


@dataclass(frozen=True)
class Charts:
    """Charts side by side, where there is room."""

    charts: tuple[Chart, ...]


Block = Paragraph | Table | Items | Code | Charts


@dataclass(frozen=True)
class Section:
    """A part with a heading; ``key`` is its anchor."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """All of it.

    Attributes:
        title: name of the study.
        state: in a word or two; ``done`` whether nothing is left to run.
        answer: the sentence that people came for.
        facts: label and value of what was measured, with what, when.
        sections: the rest.
        colophon: what wrote it.
    """

    title: str
    subtitle: str
    state: str
    done: bool
    answer: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    colophon: str
