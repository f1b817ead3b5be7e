"""Rule 2: rows that are one kernel under two names."""

from collections.abc import Iterator, Sequence
from itertools import combinations, product

from quantbench.api.names import Kernel, Method
from quantbench.audit.noise import PASS_TO_PASS, SOURCE, floor
from quantbench.audit.repeats import is_repeated
from quantbench.audit.report import Finding, Kind, Severity
from quantbench.audit.tables import Row, Table
from quantbench.audit.vocabulary import KERNELS, WIDTHS, Family
from quantbench.engine.methods import EngineRequest, server_settings
from quantbench.engine.rows import Refusal
from quantbench.engine.version import OLDEST, EngineVersion


def kernel_pairs(table: Table) -> Iterator[tuple[Row, Row]]:
    """Rows of one condition whose names differ by kernel words alone: without such a word first.

    One of the names may leave the width of the weights out, unless another row fits better.
    """
    stripped = {id(row): row.words - KERNELS for row in table.rows}
    plain_rows = [row for row in table.rows if not row.words & KERNELS]
    forced_rows = [row for row in table.rows if row.words & KERNELS]
    for plain, forced in product(plain_rows, forced_rows):
        if plain.condition != forced.condition or not stripped[id(forced)]:
            continue
        if stripped[id(plain)] == stripped[id(forced)]:
            yield plain, forced
        elif stripped[id(plain)] ^ stripped[id(forced)] <= WIDTHS and _one_sided(plain.words, stripped[id(forced)]):
            taken = [stripped[id(row)] for row in plain_rows if row.condition == plain.condition]
            other = [stripped[id(row)] for row in forced_rows if row.condition == plain.condition]
            if stripped[id(forced)] not in taken and stripped[id(plain)] not in other:
                yield plain, forced


def _one_sided(left: frozenset[str], right: frozenset[str]) -> bool:
    return left < right or right < left


def distances(table: Table, left: Row, right: Row) -> list[tuple[int, Family, float]]:
    """How far two rows lie apart in each column that both have figures in: percent of the smaller figure."""
    found = []
    for index, column in table.metrics():
        one, two = left.number(index), right.number(index)
        if one is not None and two is not None:
            low, high = sorted((one.value, two.value))
            found.append((index, column.metric.family, (high / low - 1) * 100))
    return found


def check_kernels(tables: Sequence[Table], version: EngineVersion | None, stated_floor: float | None) -> list[Finding]:
    """Pairs as close as two passes of one server, and kernel pairs within the noise of single runs."""
    findings = []
    pairs = [(table, plain, forced) for table in tables for plain, forced in kernel_pairs(table)]
    ids = {frozenset((id(plain), id(forced))) for _, plain, forced in pairs}
    apart_elsewhere = _apart(pairs, stated_floor)
    for table in tables:
        repeated = is_repeated(table)
        for left, right in combinations(table.rows, 2):
            if left.condition != right.condition or left.name == right.name:
                continue
            apart = distances(table, left, right)
            is_pair = frozenset((id(left), id(right))) in ids
            if _equal(apart) and (is_pair or not repeated):
                findings.append(_equal_rows(table, left, right, apart, version, is_pair))
            elif is_pair and apart and not repeated and _within(apart, stated_floor):
                elsewhere = apart_elsewhere.get(frozenset((left.words, right.words)), "")
                findings.append(_indistinguishable(table, left, right, apart, version, elsewhere))
    return findings


def _equal(apart: Sequence[tuple[int, Family, float]]) -> bool:
    """At least two metrics, one of them steadier than TTFT, all within the noise of two passes of one server."""
    families = {family for _, family, _ in apart}
    return (
        len(apart) > 1
        and bool(families - {Family.TTFT})
        and all(distance <= PASS_TO_PASS.get(family, PASS_TO_PASS[Family.TPOT]) for _, family, distance in apart)
    )


def _within(apart: Sequence[tuple[int, Family, float]], stated_floor: float | None) -> bool:
    return all(distance <= floor(family, stated_floor) for _, family, distance in apart)


def _apart(pairs: Sequence[tuple[Table, Row, Row]], stated_floor: float | None) -> dict[frozenset[frozenset[str]], str]:
    """By their names, the kernel pairs that differ by more than noise somewhere: there they were two kernels."""
    found = {}
    for table, plain, forced in pairs:
        beyond = [
            (index, distance)
            for index, family, distance in distances(table, plain, forced)
            if distance > floor(family, stated_floor)
        ]
        if beyond:
            index, distance = beyond[0]
            found[frozenset((plain.words, forced.words))] = (
                f"in {table.title} the same two differ by {distance:.1f} % in {table.columns[index].name}"
            )
    return found


def _lines(table: Table, left: Row, right: Row, apart: Sequence[tuple[int, Family, float]]) -> tuple[str, ...]:
    return tuple(
        f"{table.columns[index].name}: {left.cells[index].text.text} and {right.cells[index].text.text} are "
        f"{distance:.2f} % apart"
        for index, _, distance in apart
    )


def _equal_rows(
    table: Table,
    left: Row,
    right: Row,
    apart: Sequence[tuple[int, Family, float]],
    version: EngineVersion | None,
    is_pair: bool,
) -> Finding:
    verdict = "very likely the same kernel" if is_pair else "the table shows no difference between them"
    pair = f"{table.title}: {left.name} and {right.name}"
    sentence = f"{pair} are as close as two passes of one server in every metric: {verdict}"
    return Finding(
        kind=Kind.EQUAL_ROWS,
        severity=Severity.WARNING,
        sentence=sentence,
        places=(table.place(left), table.place(right)),
        arithmetic=_lines(table, left, right, apart),
        hint=_reason(left, right, version),
    )


def _indistinguishable(
    table: Table,
    left: Row,
    right: Row,
    apart: Sequence[tuple[int, Family, float]],
    version: EngineVersion | None,
    elsewhere: str,
) -> Finding:
    end = f"; {elsewhere}" if elsewhere else ", and may be the same kernel"
    return Finding(
        kind=Kind.INDISTINGUISHABLE_ROWS,
        severity=Severity.WARNING,
        sentence=f"{table.title}: {left.name} and {right.name} cannot be told apart by single runs{end}",
        places=(table.place(left), table.place(right)),
        arithmetic=(*_lines(table, left, right, apart), f"noise of single runs: {SOURCE}"),
        hint=None if elsewhere else _reason(left, right, version),
    )


def _reason(left: Row, right: Row, version: EngineVersion | None) -> str | None:
    """What vLLM of this version does with such a checkpoint by itself, from the engine's tables."""
    if version is None or version < OLDEST or not (left.words | right.words) & KERNELS:
        return None
    shared = left.words & right.words
    method, name, kernel = (
        (Method.AWQ, "awq", Kernel.CLASSIC)
        if "awq" in shared
        else (Method.GPTQ_INT4, "gptq", Kernel.EXLLAMA_V2)
        if "gptq" in shared
        else (None, "", Kernel.AUTO)
    )
    if method is None:
        return None
    chosen = server_settings(EngineRequest(method), version)
    if isinstance(chosen, Refusal):
        return None
    if f"{name}_marlin" not in chosen.quantization:
        return f"in vLLM {version} {name} and {name}_marlin are one class, which picks its kernel by itself"
    only = server_settings(EngineRequest(method, kernel), version)
    flags = "" if isinstance(only, Refusal) else f" unless {' '.join(only.args)} is given"
    return (
        f"vLLM {version} turns {method.value.removesuffix('Int4')} checkpoints into {name}_marlin by itself{flags}; "
        "the server's log says which kernel ran"
    )
