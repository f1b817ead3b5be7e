"""Grids → tables of variants and metrics, each with its baseline."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from quantbench.audit.document import Grid, Text
from quantbench.audit.report import Place
from quantbench.audit.values import MILLISECONDS, Number, Value, change, parse_cell
from quantbench.audit.vocabulary import (
    BASELINE,
    CHANGE,
    COUNT,
    IMPROVEMENT,
    METRIC_WORD,
    OTHER,
    SPREAD,
    STATISTIC,
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
_AGAINST = re.compile(r"\b(?:vs|versus|over|to|against|than|from)\b")
_OF_CHANGES = frozenset(
    {"percent", "pct", "x", "factor", "perf", "performance", "speed", "rel", "abs", "absolute", "compared", "base"}
)
"""Words in the header of a column of changes that name no quantity."""
_INTEGER = re.compile(r"\d[\d,]*")


@dataclass(frozen=True)
class Column:
    """A metric's column."""

    name: str
    metric: Metric
    change_only: bool = False
    """It holds changes of the metric that it names, or of one to its left."""
    names_metric: bool = True
    against: frozenset[str] = frozenset()
    """Words of the row that its changes are against; none: the baseline."""
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

    @property
    def loads(self) -> frozenset[int]:
        """The numbers in its condition: concurrency, batch size, lengths."""
        return integers(" ".join(self.condition))


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

    def reference(self, row: Row, column: Column) -> Row | None:
        """What a change in ``column`` is against; None where that is no row, or ``row`` itself."""
        base = self.baseline(row)
        if not column.against:
            return base
        others = [other for other in self.rows if other.condition == row.condition and column.against <= other.words]
        exact = [other for other in others if other.words == column.against] or others
        if len(exact) == 1:
            return None if exact[0] is row else exact[0]
        unquantized = base is not None and not base.words & (VOCABULARY - UNQUANTIZED)
        return base if unquantized and column.against <= UNQUANTIZED else None

    def metrics(self) -> Iterator[tuple[int, Column]]:
        """The columns that hold figures, with their indices."""
        return ((index, column) for index, column in enumerate(self.columns) if not column.change_only)

    def place(self, row: Row, index: int | None = None) -> Place:
        """Where a row, or one of its cells, stands."""
        if index is None:
            return Place(line=row.line, table=self.title, row=row.name)
        cell = row.cells[index].text
        return Place(line=cell.line, table=self.title, row=row.name, column=self.columns[index].name, text=cell.text)


def integers(text: str) -> frozenset[int]:
    """The whole numbers in a text."""
    return frozenset(int(found.replace(",", "")[:18]) for found in _INTEGER.findall(text))


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
    apart: set[int] = set()
    repeated = False
    last: Metric | None = None
    for index, head in enumerate(grid.header):
        text = header_text(head.text)
        metric = metric_of(text)
        if SPREAD.search(text) or COUNT.fullmatch(text):
            repeated = repeated or any(cell[index].text.strip() not in ("", "1") for cell in grid.rows)
        elif CHANGE.search(text):
            column = _change_column(head.text, metric, last)
            if column is not None:
                columns[index] = column
            elif any(parse_cell(row[index].text, grid.decimal_comma).change for row in grid.rows):
                apart.add(index)
        else:
            last = metric
            if metric is not None:
                columns[index] = Column(head.text, metric)
    if not any(not column.change_only for column in columns.values()):
        return None
    free = [index for index in range(len(grid.header)) if index not in columns and index not in apart]
    labels = _labels(grid, free)
    conditions = [index for index in free if index not in labels and _is_condition(grid, index)]
    rows = _in_one_unit([_row(grid, row, labels, conditions, columns) for row in grid.rows], tuple(columns.values()))
    if not labels or not any(cell.value.number for row in rows for cell in row.cells):
        return None
    return Table(grid.title, grid.section, tuple(columns.values()), rows, repeated)


def _change_column(name: str, metric: Metric | None, last: Metric | None) -> Column | None:
    """A column of changes of a metric; None where they are of another quantity.

    Args:
        name: the header.
        metric: that it names.
        last: the metric of the column to its left, changes and spreads left out.
    """
    text = header_text(name)
    rest = STATISTIC.sub(" ", METRIC_WORD.sub(" ", text))
    of, against = (*_AGAINST.split(rest, maxsplit=1), "")[:2]
    if metric is None and (last is None or _content(of)):
        return None
    wanted = metric or last
    assert wanted is not None
    return Column(name, wanted, True, metric is not None, _content(against), bool(IMPROVEMENT.search(text)))


def _content(text: str) -> frozenset[str]:
    """What a part of such a header names."""
    return words(CHANGE.sub(" ", text)) - _OF_CHANGES - MILLISECONDS.keys()


def _in_one_unit(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """The rows with the figures of each column in one unit; what tells none, or one of an unknown size, is unread."""
    scales: dict[int, Mapping[str, float]] = {}
    for index, column in enumerate(columns):
        told = {row.cells[index].value.unit for row in rows if row.cells[index].value.unit}
        last = header_text(column.name).rstrip(")] ").rpartition(" ")[2].lstrip("([")
        own = last if last in MILLISECONDS else ""
        if told and len(told | {own} - {""}) > 1:
            known = told <= MILLISECONDS.keys()
            scales[index] = {**MILLISECONDS, **({"": MILLISECONDS[own]} if own else {})} if known else {}
    return tuple(
        replace(row, cells=tuple(_scaled(cell, scales.get(index)) for index, cell in enumerate(row.cells)))
        for row in rows
    )


def _scaled(cell: Cell, scale: Mapping[str, float] | None) -> Cell:
    number = cell.value.number
    if scale is None or number is None:
        return cell
    factor = scale.get(cell.value.unit)
    return replace(cell, value=replace(cell.value, number=None if factor is None else number.times(factor)))


def _is_condition(grid: Grid, index: int) -> bool:
    text = header_text(grid.header[index].text)
    return bool(_CONDITION.search(text)) and not OTHER.search(text)


def _labels(grid: Grid, free: Sequence[int]) -> list[int]:
    """The columns that name the variant: by their headers, else by the words in them, else the first."""
    named = [index for index in free if _VARIANT.search(header_text(grid.header[index].text))]
    if named:
        return named
    known = [sum(bool(words(row[index].text) & VOCABULARY) for row in grid.rows) for index in free]
    if known and max(known) > 0:
        return [free[known.index(max(known))]]
    plain = [index for index in free if not _is_condition(grid, index)]
    return plain[:1] or list(free[:1])


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
