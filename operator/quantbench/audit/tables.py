"""Grids → tables of variants and metrics, each with its baseline."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from quantbench.audit.document import Grid, Text
from quantbench.audit.report import Place
from quantbench.audit.values import Number, Value, change, parse_cell
from quantbench.audit.vocabulary import (
    BASELINE,
    CHANGE,
    COUNT,
    IMPROVEMENT,
    OTHER,
    SPREAD,
    UNQUANTIZED,
    VOCABULARY,
    Metric,
    header_text,
    metric_of,
    words,
)

_VARIANT = re.compile(r"\b(?:quantization|quant|method|variant|config(?:uration)?|scheme|precision|kernel|format)\b")
_CONDITION = re.compile(
    r"\b(?:concurrency|batch|rate|load|gpus?|hardware|device|model|input|output|prompt|isl|osl|tp|dataset|workload|"
    r"scenario|users|version|context|length)\b"
)


@dataclass(frozen=True)
class Column:
    """A metric's column."""

    name: str
    metric: Metric
    change_only: bool = False
    """It holds changes of the metric to its left, or of the one that it names."""
    improvement: bool = False
    """Its header counts what is better as positive."""


@dataclass(frozen=True)
class Cell:
    """What stands in one metric's column."""

    text: Text
    value: Value


@dataclass(frozen=True)
class Row:
    """One variant under one condition."""

    name: str
    words: frozenset[str]
    condition: tuple[str, ...]
    line: int
    cells: tuple[Cell, ...]
    """In the order of the table's columns."""

    def number(self, index: int) -> Number | None:
        """A positive figure; None where there is none."""
        found = self.cells[index].value.number
        return found if found is not None and found.value > 0 else None


@dataclass(frozen=True)
class Table:
    """A grid that holds metrics."""

    title: str
    section: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    repeated: bool
    """A column of spreads or of a number of runs stands beside the metrics."""
    baselines: tuple[Row, ...] = field(default=())
    """At most one per condition, from this table or from one that shares its figures."""
    borrowed_from: str = ""

    def baseline(self, row: Row) -> Row | None:
        """What ``row`` is compared with; None for a baseline itself."""
        found = next((base for base in self.baselines if base.condition == row.condition), None)
        return None if found is None or found.name == row.name else found

    def metrics(self) -> Iterator[tuple[int, Column]]:
        """The columns that hold figures, with their indices."""
        return ((index, column) for index, column in enumerate(self.columns) if not column.change_only)

    def place(self, row: Row, index: int | None = None) -> Place:
        """Where a row, or one of its cells, stands."""
        if index is None:
            return Place(line=row.line, table=self.title, row=row.name)
        cell = row.cells[index].text
        return Place(line=cell.line, table=self.title, row=row.name, column=self.columns[index].name, text=cell.text)


def relative(row: Row, base: Row, index: int) -> float | None:
    """The change in percent from ``base`` to ``row`` in a column; None where a figure is missing."""
    new, old = row.number(index), base.number(index)
    return None if new is None or old is None else change(new, old)


def read_tables(grids: Sequence[Grid], baseline: str | None) -> tuple[Table, ...]:
    """The grids that hold metrics, with their baselines; ``baseline`` names one where the user knows better."""
    found = [table for grid in grids if (table := _read(grid) or _read(_turned(grid))) is not None]
    tables = [replace(table, baselines=_baselines(table, baseline)) for table in found]
    return tuple(table if table.baselines else _borrow(table, tables) for table in tables)


def _turned(grid: Grid) -> Grid:
    """A grid whose rows are its columns: metrics down the side, variants along the top."""
    lines = [grid.header, *grid.rows]
    header, *rows = zip(*lines, strict=True)
    return replace(grid, header=tuple(header), rows=tuple(tuple(row) for row in rows))


def _read(grid: Grid) -> Table | None:
    columns: dict[int, Column] = {}
    repeated = False
    last: Metric | None = None
    for index, head in enumerate(grid.header):
        text = header_text(head.text)
        metric = metric_of(text)
        if SPREAD.search(text) or COUNT.fullmatch(text):
            repeated = repeated or any(cell[index].text.strip() not in ("", "1") for cell in grid.rows)
        elif CHANGE.search(text):
            of = metric or last
            if of is not None:
                columns[index] = Column(head.text, of, True, bool(IMPROVEMENT.search(text)))
        elif metric is not None:
            columns[index], last = Column(head.text, metric), metric
    if not any(not column.change_only for column in columns.values()):
        return None
    labels = _labels(grid, columns)
    conditions = [i for i in range(len(grid.header)) if i not in columns and i not in labels and _is_condition(grid, i)]
    rows = tuple(_row(grid, row, labels, conditions, columns) for row in grid.rows)
    if not labels or not any(cell.value.number for row in rows for cell in row.cells):
        return None
    return Table(grid.title, grid.section, tuple(columns.values()), rows, repeated)


def _is_condition(grid: Grid, index: int) -> bool:
    text = header_text(grid.header[index].text)
    return bool(_CONDITION.search(text)) and not OTHER.search(text)


def _labels(grid: Grid, columns: dict[int, Column]) -> list[int]:
    """The columns that name the variant: by their headers, else by the words in them, else the first."""
    free = [index for index in range(len(grid.header)) if index not in columns]
    named = [index for index in free if _VARIANT.search(header_text(grid.header[index].text))]
    if named:
        return named
    known = [sum(bool(words(row[index].text) & VOCABULARY) for row in grid.rows) for index in free]
    if known and max(known) > 0:
        return [free[known.index(max(known))]]
    plain = [index for index in free if not _is_condition(grid, index)]
    return plain[:1] or free[:1]


def _row(
    grid: Grid, cells: Sequence[Text], labels: Sequence[int], conditions: Sequence[int], columns: dict[int, Column]
) -> Row:
    name = " ".join(cells[index].text for index in labels if cells[index].text)
    read = tuple(Cell(cells[index], parse_cell(cells[index].text, grid.decimal_comma)) for index in columns)
    return Row(name, words(name), tuple(cells[index].text for index in conditions), read[0].text.line, read)


def _baselines(table: Table, wanted: str | None) -> tuple[Row, ...]:
    """One per condition: the row that the user names, that calls itself so, or that is not quantized at all."""
    chosen: dict[tuple[str, ...], Row] = {}
    for is_baseline in (partial(_is_named, wanted),) if wanted is not None else (_says_so, _is_unquantized):
        for row in table.rows:
            if row.condition not in chosen and is_baseline(row):
                chosen[row.condition] = row
    return tuple(chosen.values())


def _is_named(wanted: str, row: Row) -> bool:
    return row.name.lower() == wanted.lower() or (bool(row.words) and row.words == words(wanted))


def _says_so(row: Row) -> bool:
    return bool(BASELINE.search(row.name))


def _is_unquantized(row: Row) -> bool:
    return bool(row.words & UNQUANTIZED) and not row.words & (VOCABULARY - UNQUANTIZED)


def _borrow(table: Table, others: Sequence[Table]) -> Table:
    """Take the baseline of a table that holds one of this table's rows with the same figures."""
    for other in others:
        same_columns = [column.name for column in other.columns] == [column.name for column in table.columns]
        if other.baselines and same_columns and any(_same(row, twin) for row in table.rows for twin in other.rows):
            return replace(table, baselines=other.baselines, borrowed_from=other.title)
    return table


def _same(row: Row, other: Row) -> bool:
    """The same name and the same figures, of which there must be some."""
    figures = [cell.value.number for cell in row.cells]
    return (
        row.name.lower() == other.name.lower()
        and row.condition == other.condition
        and any(figures)
        and figures == [cell.value.number for cell in other.cells]
    )
