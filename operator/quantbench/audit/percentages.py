"""Rule 1: a printed change is what the table's own numbers give."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from quantbench.audit.prose import Clause, Stated, asked_loads, matching, stated_changes, under_load
from quantbench.audit.report import Claim, Finding, Kind, Outcome, Place, Severity
from quantbench.audit.tables import Row, Table, relative
from quantbench.audit.values import Change, Number, agrees
from quantbench.audit.vocabulary import Family


@dataclass(frozen=True)
class _Operands:
    """The two figures that a printed change is about."""

    table: Table
    row: Row
    base: Row
    index: int

    @property
    def new(self) -> Number:
        number = self.row.number(self.index)
        assert number is not None
        return number

    @property
    def old(self) -> Number:
        number = self.base.number(self.index)
        assert number is not None
        return number

    @property
    def computed(self) -> float:
        return (self.new.value / self.old.value - 1) * 100

    @property
    def arithmetic(self) -> str:
        column = self.table.columns[self.index].name
        left = f"{column}: {self.row.name} {self.new.value:.10g} / {self.base.name} {self.old.value:.10g}"
        return f"{left} = {self.new.value / self.old.value:.4f}, that is {self.computed:+.2f} %"

    def agrees(self, printed: Change, improvement: bool) -> bool:
        better = self.table.columns[self.index].metric.family.higher_is_better
        return agrees(printed, self.new, self.old, improvement, lower_is_better=not better)


@dataclass
class _Wrong:
    operands: _Operands
    printed: Change
    places: list[Place]


def check_percentages(
    tables: Sequence[Table], text: Sequence[Clause], known: frozenset[str]
) -> tuple[list[Finding], list[Claim]]:
    """Every change that is printed in a cell or stated in prose, against its operands; one figure, one finding."""
    wrong: list[_Wrong] = []
    for cell, printed, place, improvement in _printed(tables):
        if not cell.agrees(printed, improvement):
            wrong.append(_Wrong(cell, printed, [place]))
    claims = []
    for clause in text:
        for stated in stated_changes(clause, known):
            outcome, reason, operands = _judge(stated, tables)
            claims.append(Claim(line=clause.line, text=_quote(stated), outcome=outcome, reason=reason))
            if outcome is Outcome.CONTRADICTED and operands is not None:
                _add(wrong, _Wrong(operands, stated.change, [Place(line=clause.line, text=clause.text)]))
    return [_finding(found) for found in wrong], claims


def _quote(stated: Stated) -> str:
    metric = f" {stated.metric}" if stated.metric else ""
    return f"{stated.change.text}{metric}: {stated.clause.text}"


def _add(wrong: list[_Wrong], new: _Wrong) -> None:
    for found in wrong:
        same = (found.operands.row, found.operands.index) == (new.operands.row, new.operands.index)
        if same and abs(found.printed.value) == abs(new.printed.value):
            found.places.extend(new.places)
            return
    wrong.append(new)


def _printed(tables: Iterable[Table]) -> Iterator[tuple[_Operands, Change, Place, bool]]:
    """Changes in cells whose operands are there."""
    for table in tables:
        for row in table.rows:
            for index, cell in enumerate(row.cells):
                column, printed = table.columns[index], cell.value.change
                base = table.reference(row, column)
                if base is None or printed is None:
                    continue
                figures = _figures_of(table, index) if column.change_only else [index]
                meant = [_Operands(table, row, base, i) for i in figures if relative(row, base, i) is not None]
                if meant:
                    agreeing = (operands for operands in meant if operands.agrees(printed, column.improvement))
                    yield next(agreeing, meant[0]), printed, table.place(row, index), column.improvement


def _figures_of(table: Table, index: int) -> list[int]:
    """The columns that a column of changes may speak of, the likeliest first."""
    column = table.columns[index]
    if not column.names_metric:
        return [i for i, _ in table.metrics() if i < index][::-1]
    same = [i for i, other in table.metrics() if other.metric == column.metric]
    return same or [i for i, other in table.metrics() if other.metric.family is column.metric.family]


def _judge(stated: Stated, tables: Sequence[Table]) -> tuple[Outcome, str, _Operands | None]:
    if stated.unclear:
        return Outcome.NOT_CHECKED, stated.unclear, None
    if stated.metric is None:
        return Outcome.NOT_CHECKED, "it names no metric", None
    if stated.subject is None and not stated.up_to:
        return Outcome.NOT_CHECKED, "it names no row", None
    candidates, exact = _candidates(stated, stated.metric, tables)
    if not candidates:
        return Outcome.NOT_CHECKED, "no row of a table has these words and this metric", None
    asked = asked_loads(stated.clause.text)
    meant = under_load(candidates, asked or frozenset())
    candidates = meant or candidates
    for operands in candidates:
        if operands.agrees(stated.change, improvement=True):
            return Outcome.CONFIRMED, operands.arithmetic, None
    if stated.up_to:
        best = max(candidates, key=_gain)
        if _gain(best) < abs(stated.change.value) and not stated.change.factor:
            return Outcome.CONTRADICTED, f"the most is {best.arithmetic}", best
        return Outcome.NOT_CHECKED, "which rows are meant is not said", None
    if (exact or len(candidates) == 1) and (meant or asked is None):
        return Outcome.CONTRADICTED, candidates[0].arithmetic, candidates[0]
    if asked and not meant:
        return Outcome.NOT_CHECKED, "no row is of the load that it names", None
    return Outcome.NOT_CHECKED, f"{len(candidates)} figures could be meant, and none of them is this one", None


def _gain(operands: _Operands) -> float:
    """How much better the row is, percent."""
    better = operands.table.columns[operands.index].metric.family.higher_is_better
    return operands.computed if better else -operands.computed


def _candidates(stated: Stated, family: Family, tables: Sequence[Table]) -> tuple[list[_Operands], bool]:
    found, exact = [], True
    for table in tables:
        rows, named = matching(table, stated.subject) if stated.subject else (list(table.rows), False)
        others = matching(table, stated.object)[0] if stated.object else []
        for row in rows:
            bases = [other for other in others if other.condition == row.condition and other is not row]
            base = bases[0] if bases else None if stated.object else table.baseline(row)
            for index, column in table.metrics():
                if base and column.metric.family is family and relative(row, base, index) is not None:
                    found.append(_Operands(table, row, base, index))
                    exact = exact and named
    return found, exact


def _finding(wrong: _Wrong) -> Finding:
    operands, printed = wrong.operands, wrong.printed
    column = operands.table.columns[operands.index]
    computed = f"{operands.new.value / operands.old.value:.3f}x" if printed.factor else f"{operands.computed:+.1f} %"
    sentence = (
        f"{operands.row.name}, {column.name}: {printed.text} is printed, but the table's own numbers give {computed}"
    )
    twin = _owner(wrong)
    hint = None
    if twin is not None:
        hint = f"{abs(printed.value):g} % is the change of {twin.row.name} in the same column ({twin.computed:+.2f} %)"
    arithmetic = (operands.arithmetic, *((twin.arithmetic,) if twin else ()))
    return Finding(
        kind=Kind.WRONG_PERCENTAGE,
        severity=Severity.ERROR,
        sentence=sentence,
        places=tuple(wrong.places),
        arithmetic=arithmetic,
        hint=hint,
    )


def _owner(wrong: _Wrong) -> _Operands | None:
    """Another row of the column whose change has the printed size."""
    own, printed = wrong.operands, wrong.printed
    for row in own.table.rows:
        base = own.table.baseline(row)
        if row is own.row or base is None or relative(row, base, own.index) is None:
            continue
        other = _Operands(own.table, row, base, own.index)
        if not printed.factor and abs(abs(other.computed) - abs(printed.value)) <= printed.step / 2:
            return other
    return None
