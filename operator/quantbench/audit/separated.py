"""CSV → document: one table, its delimiter sniffed."""

import csv
import re
from io import StringIO

from quantbench.audit.document import Document, Grid, Text, Unreadable

_SNIFFED = 8192
"""Characters that the delimiter is read from."""
_DECIMAL_COMMA = re.compile(r"\d,\d{1,2}(?!\d)|\d,\d{4}|(?<!\d)0,\d|(?<![\d,])\d{4,},\d")
"""A comma that cannot set thousands apart."""


def read_csv(text: str) -> Document:
    """Read a table with a header.

    Raises:
        Unreadable: there is no header, no row, or a row of another width; the line says where.
    """
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:_SNIFFED], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    reader = csv.reader(StringIO(text, newline=""), dialect)
    rows: list[tuple[Text, ...]] = []
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(tuple(Text(cell.strip(), start) for cell in cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise Unreadable(reader.line_num, f"not CSV: {error}") from error
    if len(rows) < 2:
        raise Unreadable(1, "a header and at least one row are expected")
    for row in rows[1:]:
        if len(row) != len(rows[0]):
            raise Unreadable(row[0].line, f"{len(row)} cells, but the header has {len(rows[0])}")
    decimal_comma = dialect.delimiter == ";" and any(
        _DECIMAL_COMMA.search(cell.text) for row in rows[1:] for cell in row
    )
    grid = Grid("the table", 0, rows[0], tuple(rows[1:]), decimal_comma)
    return Document((grid,), tells=False)
