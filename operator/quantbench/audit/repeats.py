"""Rule 3: differences between single runs, against the noise floor."""

import re
from collections.abc import Sequence

from quantbench.audit.document import Document
from quantbench.audit.noise import SOURCE, START_TO_START, floor
from quantbench.audit.report import Finding, Kind, Place, Severity
from quantbench.audit.tables import Table, relative

_REPEATED = re.compile(
    r"±|\+/-|\b(?:9[05]|99)\s?%\s?(?:ci\b|confidence)|\bconfidence intervals?\b|\bstandard (?:deviation|error)s?\b|"
    r"\bbootstrap|\bn\s?=\s?(?:[2-9]|[1-9]\d)\b|"
    r"\b(?:[2-9]|[1-9]\d|two|three|four|five|six|seven|eight|nine|ten|several|multiple)\s(?:\w+\s){0,2}"
    r"(?:runs|repeats|repetitions|trials|seeds|(?:server )?starts)\b|\brepeated\s(?:[2-9]|two|three|five|ten)\b",
    re.IGNORECASE,
)


def is_repeated(table: Table) -> bool:
    """Spreads, a number of runs, or several rows of one variant under one condition."""
    names = [(row.name, row.condition) for row in table.rows]
    spread = any(cell.value.spread for row in table.rows for cell in row.cells)
    return table.repeated or spread or len(set(names)) < len(names)


def check_repeats(document: Document, tables: Sequence[Table], stated_floor: float | None) -> list[Finding]:
    """One finding for all tables that show no sign of a second run, with the changes that noise alone can make."""
    if _REPEATED.search(document.prose):
        return []
    single = [table for table in tables if not is_repeated(table)]
    if not single:
        return []
    places: list[Place] = []
    arithmetic: list[str] = []
    for table in single:
        for row in table.rows:
            base = table.baseline(row)
            for index, column in table.metrics():
                change = relative(row, base, index) if base else None
                limit = floor(column.metric.family, stated_floor)
                if change is not None and base is not None and abs(change) < limit:
                    places.append(table.place(row, index))
                    against = f"{row.name} against {base.name} {change:+.1f} %"
                    arithmetic.append(f"{table.title}, {column.name}: {against}, below {limit:.3g} %")
    printed = [place for place in places if "%" in place.text]
    claimed = f", {len(printed)} of them printed as a result" if printed else ""
    below = f"; {len(places)} differences from the baseline are below the noise floor{claimed}" if places else ""
    where = "no table" if len(single) == len(tables) else f"{len(single)} of {len(tables)} tables: none"
    return [
        Finding(
            kind=Kind.SINGLE_RUNS,
            severity=Severity.WARNING,
            sentence=f"Single runs: {where} shows repeats, a spread, an interval or a number of runs{below}",
            places=tuple(places) or tuple(table.place(table.rows[0]) for table in single),
            arithmetic=tuple(arithmetic),
            hint=_hint(stated_floor),
        )
    ]


def _hint(stated_floor: float | None) -> str:
    if stated_floor is not None:
        return f"noise floor: {stated_floor:g} % in throughput, as given; other metrics in proportion"
    floors = ", ".join(f"{family} {value:g} %" for family, value in START_TO_START.items())
    return f"noise floor: {floors}, the largest differences of {SOURCE}; --noise-floor states another"
