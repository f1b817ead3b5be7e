"""Rule 4: conclusions without a figure that arithmetic can still check.

The grammar: *subject* – *direction* – *metrics* – *object*. The subject is a variant, a group (weight-only …) or the
default kernels; without an object the baseline is meant. A clause that says *may* or *can*, that is negated or that
speaks of *most* or *some* is not checked: no row could contradict it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from quantbench.audit.kernels import kernel_pairs
from quantbench.audit.noise import floor
from quantbench.audit.prose import (
    Clause,
    Mention,
    asked_loads,
    matching,
    mentions,
    metrics_in,
    object_start,
    under_load,
)
from quantbench.audit.report import Claim, Finding, Kind, Outcome, Place, Severity
from quantbench.audit.tables import Row, Table, relative
from quantbench.audit.values import change
from quantbench.audit.vocabulary import KERNELS, OTHER, Family

_DIRECTIONS = re.compile(
    r"\b(?:(?P<best>best|fastest|highest throughput|highest tps)|"
    r"(?P<better>improv(?:e|es|ed|ing|ements?)|faster|better|outperform(?:s|ed|ing)?|beats?|gains?|speed-?ups?)|"
    r"(?P<worse>degrad(?:e|es|ed|ing|ation)|slower|worse|poor(?:er)?|underperform(?:s|ed)?|hurts?)|"
    r"(?P<up>higher|increas(?:e|es|ed|ing))|(?P<down>lower|reduc(?:e|es|ed|ing|tion)|decreas(?:e|es|ed)))\b",
    re.IGNORECASE,
)
_VERB = re.compile(r"\b(?:out|under)perform(?:s|ed|ing)?\b|\bbeats?\b", re.IGNORECASE)
_OPEN = re.compile(
    r"\b(?P<modal>may|might|can|could|should|would|often|typically)\b|\b(?P<no>not|no|never|neither|nor|cannot|without)\b"
    r"|\b(?P<part>most|some|many|several|few)\b|(?P<question>\?)",
    re.IGNORECASE,
)
_NOT_CHECKED = {
    "modal": "it says what may be, not what was measured",
    "no": "it is negated",
    "part": "it speaks of some rows without saying which",
    "question": "it is a question",
}
_CONDITION = re.compile(
    r"\b(?:when|if|unless|where|particularly|especially|under|in \S+ (?:scenarios?|settings?|cases))\b", re.IGNORECASE
)
_SPEED = re.compile(
    r"\bperformance\b|\bfaster\b|\bslower\b|\bfastest\b|\b(?:out|under)perform|\bbeats?\b|\bspeed", re.IGNORECASE
)
_DEFAULT_KERNEL = re.compile(
    r"\b(?:default|standard|classic|official|built-in)\b[\w\s-]{0,24}\bkernels?\b", re.IGNORECASE
)
_CUSTOM_KERNEL = re.compile(
    rf"\b(?:custom|optimi[sz]ed|alternative|special(?:i[sz]ed)?|{'|'.join(sorted(KERNELS))})\b[\w\s-]{{0,24}}\bkernels?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Test:
    """One comparison that a claim makes: it holds or it does not."""

    table: Table
    row: Row
    base: Row
    family: Family
    change: float
    holds: bool
    index: int

    def shown(self, stated_floor: float | None) -> str:
        noise = (
            "" if abs(self.change) >= floor(self.family, stated_floor) else " (below the noise floor of single runs)"
        )
        column = self.table.columns[self.index].name
        return f"{self.table.title}: {self.row.name} against {self.base.name}, {column} {self.change:+.1f} %{noise}"


def check_conclusions(
    tables: Sequence[Table], text: Sequence[Clause], known: frozenset[str], stated_floor: float | None
) -> tuple[list[Finding], list[Claim]]:
    """Claims of direction against every row that they are about."""
    findings, claims = [], []
    for clause in text:
        if "%" in clause.text or not _is_about_speed(clause.text):
            continue  # a clause's figures are checked by themselves
        direction = _direction(clause.text)
        if direction is None:
            continue
        tests, why = _tests(clause, direction, tables, known)
        outside: list[_Test] = []
        if _CONDITION.search(clause.text):
            tests, outside = _within_condition(tests)
        asked = asked_loads(clause.text)
        if asked is not None:
            meant = under_load(tests, asked)
            outside += [test for test in tests if not meant and not test.holds]
            tests = meant or [test for test in tests if test.holds]
        failed = [test for test in tests if not test.holds]
        shown = failed or tests
        if failed:
            outcome = Outcome.CONTRADICTED
            findings.append(_finding(clause, tests, failed, outside, stated_floor))
        elif outside:
            outcome, why = Outcome.NOT_CHECKED, f"its condition may exclude {_titles(outside)}"
        elif tests or why:
            outcome = Outcome.NOT_CHECKED if why else Outcome.CONFIRMED
        else:
            continue
        reason = why or "; ".join(test.shown(stated_floor) for test in shown)
        claims.append(Claim(line=clause.line, text=clause.text, outcome=outcome, reason=reason))
    return findings, claims


def _direction(text: str) -> re.Match[str] | None:
    """The word of direction nearest to the first metric, else the first one."""
    found = list(_DIRECTIONS.finditer(text))
    metrics = metrics_in(text)
    if not metrics:
        return next((match for match in found if match.lastgroup not in ("up", "down")), None)
    at = metrics[0][0]
    return min(found, key=lambda match: min(abs(match.start() - at), abs(match.end() - at)), default=None)


def _within_condition(tests: Sequence[_Test]) -> tuple[list[_Test], list[_Test]]:
    """A condition may exclude a whole table, but not one row of a table in which the claim holds for another.

    Returns the tests that count, and those of tables and metrics in which the claim holds for no row.
    """
    holding = {(test.table.title, test.family) for test in tests if test.holds}
    inside = [test for test in tests if (test.table.title, test.family) in holding]
    return inside, [test for test in tests if (test.table.title, test.family) not in holding]


def _titles(tests: Sequence[_Test]) -> str:
    return ", ".join(dict.fromkeys(test.table.title for test in tests))


def _is_about_speed(text: str) -> bool:
    if metrics_in(text):
        return True
    speed = _SPEED.search(text)
    other = OTHER.search(text)
    return speed is not None and (other is None or speed.start() < other.start())


def _tests(
    clause: Clause, direction: re.Match[str], tables: Sequence[Table], known: frozenset[str]
) -> tuple[list[_Test], str]:
    """The comparisons that a clause makes, or why it cannot be checked; neither where it makes no claim."""
    text = clause.text
    named = mentions(text, known)
    default, custom = _DEFAULT_KERNEL.search(text), _CUSTOM_KERNEL.search(text)
    if not named and not default:
        return [], ""
    unclear = _unclear(text, direction)
    if unclear:
        return [], unclear
    families = list(dict.fromkeys(family for _, family in metrics_in(text))) or [Family.THROUGHPUT]
    if default and custom:
        methods = [mention for mention in named if not mention.words & KERNELS]
        return list(_kernel_tests(tables, methods, direction, families, default.start() < custom.start())), ""
    if direction.lastgroup == "best":
        return list(_best_tests(tables, named, direction, families[0])), ""
    split = direction.end() if _VERB.fullmatch(direction[0]) else object_start(text)
    subjects = [mention for mention in named if mention.start < min(direction.start(), split)]
    objects = [mention for mention in named if mention.start >= split]
    if not subjects or (split < len(text) and not objects):
        return [], "it names no row that could be compared"
    if all(mention.words <= KERNELS for mention in subjects) and not objects:
        return [], "a kernel's name alone is no row"
    return list(_row_tests(tables, subjects, objects, direction, families)), ""


def _unclear(text: str, direction: re.Match[str]) -> str:
    """Why no row could contradict the clause; empty where one could. What stands in its condition does not count."""
    condition = _CONDITION.search(text)
    start, end = (condition.start(), text.find(",", condition.end())) if condition else (len(text), -1)
    for match in _OPEN.finditer(text):
        inside = start <= match.start() and (end < 0 or match.start() < end)
        of_subject = match.lastgroup in ("modal", "part")
        if match.lastgroup and not inside and (not of_subject or match.start() < direction.start()):
            return _NOT_CHECKED[match.lastgroup]
    return ""


def _holds(direction: re.Match[str], family: Family, value: float) -> bool:
    """Whether a change has the direction that the word says."""
    kind = direction.lastgroup
    better = value > 0 if family.higher_is_better else value < 0
    return {"better": better, "worse": not better, "up": value > 0, "down": value < 0}.get(kind or "", better)


def _row_tests(
    tables: Sequence[Table],
    subjects: Sequence[Mention],
    objects: Sequence[Mention],
    direction: re.Match[str],
    families: Sequence[Family],
) -> Iterator[_Test]:
    for table in tables:
        rows = _unique(row for mention in subjects for row in matching(table, mention)[0])
        others = _unique(row for mention in objects for row in matching(table, mention)[0])
        for row in rows:
            base = table.baseline(row)
            bases = (
                [other for other in others if other.condition == row.condition] if objects else [base] if base else []
            )
            for other in bases:
                for index, family, value in _changes(table, row, other, families):
                    if other is not row and value != 0:
                        yield _Test(table, row, other, family, value, _holds(direction, family, value), index)


def _unique(rows: Iterator[Row]) -> list[Row]:
    return list({id(row): row for row in rows}.values())


def _changes(table: Table, row: Row, base: Row, families: Sequence[Family]) -> Iterator[tuple[int, Family, float]]:
    for index, column in table.metrics():
        value = relative(row, base, index)
        if value is not None and column.metric.family in families:
            yield index, column.metric.family, value


def _kernel_tests(
    tables: Sequence[Table],
    methods: Sequence[Mention],
    direction: re.Match[str],
    families: Sequence[Family],
    default_first: bool,
) -> Iterator[_Test]:
    """Pairs of one method with and without a kernel's name."""
    for table in tables:
        for plain, forced in kernel_pairs(table):
            if methods and not any(mention.words <= plain.words for mention in methods):
                continue
            row, base = (plain, forced) if default_first else (forced, plain)
            for index, family, value in _changes(table, row, base, families):
                if value != 0:
                    yield _Test(table, row, base, family, value, _holds(direction, family, value), index)


def _best_tests(
    tables: Sequence[Table], named: Sequence[Mention], direction: re.Match[str], family: Family
) -> Iterator[_Test]:
    """The best of each table, among the group that the clause names, must be one of its other mentions."""
    groups = [mention for mention in named if mention.group]
    subjects = [mention for mention in named if not mention.group and mention.start < direction.start()]
    for table in tables:
        scope = matching(table, groups[0])[0] if groups else list(table.rows)
        chosen = [row for row in scope if any(mention.words <= row.words for mention in subjects)]
        for index, column in table.metrics():
            rest = [row for row in scope if row.number(index) is not None and row not in chosen]
            mine = [row for row in chosen if row.number(index) is not None]
            if column.metric.family is not family or not mine or not rest:
                continue
            row, other = (_best(rows, index, family.higher_is_better) for rows in (mine, rest))
            if row.condition == other.condition:
                left, right = row.number(index), other.number(index)
                assert left is not None
                assert right is not None
                value = change(left, right)
                yield _Test(table, row, other, family, value, (value > 0) is family.higher_is_better, index)


def _best(rows: Sequence[Row], index: int, highest: bool) -> Row:
    ranked = sorted(rows, key=lambda row: number.value if (number := row.number(index)) else 0.0)
    return ranked[-1] if highest else ranked[0]


def _finding(
    clause: Clause,
    tests: Sequence[_Test],
    failed: Sequence[_Test],
    outside: Sequence[_Test],
    stated_floor: float | None,
) -> Finding:
    held = len(tests) - len(failed)
    places = [Place(line=clause.line, text=clause.text), *(test.table.place(test.row, test.index) for test in failed)]
    noise = all(abs(test.change) < floor(test.family, stated_floor) for test in failed)
    hints = []
    if noise:
        hints.append(
            "what speaks against it is below the noise floor of single runs: neither it nor its opposite is shown"
        )
    if outside:
        hints.append(f"it does not hold at all for some metric of {_titles(outside)}, which its condition may exclude")
    return Finding(
        kind=Kind.CONTRADICTED_CLAIM,
        severity=Severity.WARNING if noise else Severity.ERROR,
        sentence=f"“{clause.text}” holds in {held} of the {len(tests)} comparisons that the tables allow",
        places=tuple(places),
        arithmetic=(
            *("against it: " + test.shown(stated_floor) for test in failed),
            *("for it: " + test.shown(stated_floor) for test in tests if test.holds),
        ),
        hint="; ".join(hints) or None,
    )
