"""What a reader makes of a file, before anything is understood."""

from dataclasses import dataclass


class Unreadable(Exception):
    """The text holds nothing that can be audited; ``line`` is where, counted from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Text:
    """A piece of text and its line, counted from 1."""

    text: str
    line: int


@dataclass(frozen=True)
class Grid:
    """A table as it stands. Every row has as many cells as the header."""

    title: str
    """The heading above it; ``table N`` where there is none."""
    section: int
    """Number of the heading that it stands under, to find the prose beside it."""
    header: tuple[Text, ...]
    rows: tuple[tuple[Text, ...], ...]
    decimal_comma: bool = False


@dataclass(frozen=True)
class Passage:
    """A paragraph, a list item or a heading: plain text whose line breaks are those of the file."""

    text: str
    line: int
    section: int


@dataclass(frozen=True)
class Document:
    """A file's tables, prose and code."""

    grids: tuple[Grid, ...]
    passages: tuple[Passage, ...] = ()
    code: tuple[Text, ...] = ()
    tells: bool = True
    """Whether such a file could state facts beside its tables; CSV cannot."""

    @property
    def prose(self) -> str:
        """All text outside tables, code included."""
        return "\n".join([*(part.text for part in self.passages), *(part.text for part in self.code)])
