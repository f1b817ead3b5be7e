"""All rules over one text."""

from quantbench.audit.conclusions import check_conclusions
from quantbench.audit.context import check_context, stated_version
from quantbench.audit.document import Document, Unreadable
from quantbench.audit.kernels import check_kernels
from quantbench.audit.markdown import read_markdown
from quantbench.audit.percentages import check_percentages
from quantbench.audit.prose import clauses, known_words
from quantbench.audit.repeats import check_repeats
from quantbench.audit.report import Place, Report, Severity
from quantbench.audit.separated import read_csv
from quantbench.audit.tables import Table, read_tables

_ORDER = tuple(Severity)
_CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {9, 10, 13}, " ")
"""Control characters: no study needs them, and a terminal would obey them."""
_MOST_ROWS = 2000
"""Rows of one table; every pair of rows is compared."""


def audit(text: str, source: str, baseline: str | None = None, noise_floor: float | None = None) -> Report:
    """Audit a study: CSV where ``source`` ends in .csv or .tsv, else Markdown.

    Args:
        text: the whole file.
        source: its name, for the report.
        baseline: the variant that others are compared with, where its name does not say so.
        noise_floor: differences of throughput that single runs cannot show, percent; None for the measured default.

    Raises:
        Unreadable: no table holds a metric, a table is far too long, or no row has the baseline's name.
    """
    document, tables = read(text, source, baseline)
    version = stated_version(document)
    statements = tuple(clauses(document.passages))
    known = known_words(tables)
    wrong, figures = check_percentages(tables, statements, known)
    contradicted, directions = check_conclusions(tables, statements, known, noise_floor)
    findings = [
        *wrong,
        *contradicted,
        *check_kernels(tables, version, noise_floor),
        *check_repeats(document, tables, noise_floor),
        *check_context(document, tables, version),
    ]
    return Report(
        source=source,
        tables=len(tables),
        findings=tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.severity))),
        claims=tuple(sorted((*figures, *directions), key=lambda claim: claim.line)),
        unread=tuple(place for table in tables for place in _unread(table)),
    )


def read(text: str, source: str, baseline: str | None = None) -> tuple[Document, tuple[Table, ...]]:
    """A text and its tables of figures; arguments and errors as those of `audit`."""
    text = text.translate(_CONTROLS)
    document = read_csv(text) if source.lower().endswith((".csv", ".tsv")) else read_markdown(text)
    tables = read_tables(document.grids, baseline)
    _refuse_emptiness(document, tables, baseline)
    return document, tables


def _refuse_emptiness(document: Document, tables: tuple[Table, ...], baseline: str | None) -> None:
    if not tables:
        line = document.grids[0].header[0].line if document.grids else 1
        raise Unreadable(
            line,
            "no table with a metric in its header (throughput, tok/s, TTFT, TPOT, ITL, latency or requests/s) and "
            "at least one row",
        )
    for table in tables:
        if len(table.rows) > _MOST_ROWS:
            raise Unreadable(table.rows[0].line, f"more than {_MOST_ROWS} rows in one table")
    if baseline is not None and not any(table.baselines for table in tables):
        raise Unreadable(tables[0].rows[0].line, f"no row of a table with metrics is called {baseline!r}")


def _unread(table: Table) -> list[Place]:
    return [
        table.place(row, index)
        for row in table.rows
        for index, _ in table.metrics()
        if row.cells[index].value.number is None and not row.cells[index].value.missing
    ]
