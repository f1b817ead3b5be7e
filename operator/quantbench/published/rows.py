"""The rows of a published table beside the measured ratios, and what may explain a difference."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from quantbench.api.benchmark import Load, Variant
from quantbench.api.names import Verdict
from quantbench.audit.noise import floor
from quantbench.audit.repeats import is_repeated
from quantbench.audit.tables import Row as PublishedRow
from quantbench.audit.tables import Table as PublishedTable
from quantbench.audit.vocabulary import Family
from quantbench.engine.capability import capability
from quantbench.engine.version import OLDEST, EngineVersion
from quantbench.fates import engine_request
from quantbench.published.claims import Figure
from quantbench.published.document import Agreement, AtLoad, Ratio, Row, Table
from quantbench.published.matching import variant_of
from quantbench.published.measured import Measured

_FIGURES = {Family.THROUGHPUT: Figure.THROUGHPUT, Family.TTFT: Figure.TTFT, Family.TPOT: Figure.TPOT}
_FAMILIES = {figure: family for family, figure in _FIGURES.items()}


@dataclass(frozen=True)
class Published:
    """What the text says beside its tables.

    Attributes:
        version: vLLM's; None where it is not stated.
        ends_at_eos: whether the load's command lets each answer end where its own text ends.
    """

    version: EngineVersion | None
    ends_at_eos: bool


def table_of(table: PublishedTable, measured: Measured, like: Load | None, published: Published) -> Table:
    """A published table, held against one target."""
    rows = [_row(table, row, measured, like, published) for row in table.rows if table.baseline(row)]
    return Table(title=table.title, target=measured.target.name, rows=tuple(rows))


def _columns(table: PublishedTable) -> dict[Figure, int]:
    """The columns that can be measured, the first of each, throughput before times: means, and throughput of tokens."""
    found: dict[Figure, int] = {}
    for index, column in table.metrics():
        figure = _FIGURES.get(column.metric.family)
        if figure and column.metric.what != "request" and column.metric.statistic in ("", "mean", "average", "avg"):
            found.setdefault(figure, index)
    return {figure: found[figure] for figure in Figure if figure in found}


def _row(table: PublishedTable, row: PublishedRow, measured: Measured, like: Load | None, published: Published) -> Row:
    ratios = {figure: _published(table, row, index) for figure, index in _columns(table).items()}
    variant = variant_of(row, measured.variants)
    loads = tuple(_at(variant.name, load, ratios, measured) for load in measured.loads) if variant else ()
    own = next((at for at in loads if like and at.load == like.name), None)
    # Throughput decides; a table without it is judged by what it has.
    decisive = own.ratios[0] if own and own.ratios else None
    shown = tuple(at for at in loads if any(ratio.ratio is not None for ratio in at.ratios))
    reasons: tuple[str, ...] = ()
    if decisive and own and variant and any(ratio.agreement is Agreement.DIFFERS for ratio in own.ratios):
        reasons = tuple(_reasons(table, own, variant, measured, published))
    return Row(
        name=row.name,
        line=row.line,
        variant=variant.name if variant else None,
        agreement=decisive.agreement if decisive else Agreement.NOT_MEASURED,
        message=_message(row, variant, measured, like, measured_there=bool(shown)),
        reasons=reasons,
        loads=shown,
    )


def _published(table: PublishedTable, row: PublishedRow, index: int) -> float | None:
    """The ratio to the baseline from the table's own numbers, not from what it prints beside them."""
    base = table.baseline(row)
    new, old = row.number(index), base.number(index) if base else None
    return new.value / old.value if new and old else None


def _at(variant: str, load: Load, published: dict[Figure, float | None], measured: Measured) -> AtLoad:
    baseline = measured.study.benchmark.spec.baseline
    ratios = []
    for figure, said in published.items():
        found = measured.ratio(load.name, variant, baseline, figure.metric)
        ratios.append(
            Ratio(
                figure=figure,
                published=said,
                ratio=found.value if found else None,
                low=found.low if found else None,
                high=found.high if found else None,
                starts=found.blocks if found else 0,
                agreement=_agreement(said, found.low if found else None, found.high if found else None, bool(found)),
            )
        )
    return AtLoad(load=load.name, ratios=tuple(ratios))


def _agreement(published: float | None, low: float | None, high: float | None, found: bool) -> Agreement:
    if not found:
        return Agreement.NOT_MEASURED
    if published is None:
        return Agreement.NOT_PUBLISHED
    if low is None or high is None:
        return Agreement.ONE_RUN
    return Agreement.AGREES if low <= published <= high else Agreement.DIFFERS


def _message(
    row: PublishedRow, variant: Variant | None, measured: Measured, like: Load | None, *, measured_there: bool
) -> str | None:
    """Why a row has no ratio, or what its ratio is of."""
    if variant is None:
        return "no variant of the study is this one"
    cell = measured.cells.get(variant.name)
    if not measured_there:
        if cell is None or cell.verdict is None:
            return "none of its runs has ended"
        return f"{cell.verdict}: {cell.message}" if cell.message else str(cell.verdict)
    if like is None:
        return "no load of the study sends all requests at once"
    if cell and cell.verdict is Verdict.DUPLICATE and cell.same_as:
        return f"ran the same configuration as {cell.same_as}"
    return None


def _reasons(
    table: PublishedTable, own: AtLoad, variant: Variant, measured: Measured, published: Published
) -> Iterator[str]:
    """What is known to differ between the two beside the figures."""
    versions = measured.study.engine_versions()
    if published.version and versions and versions != [str(published.version)]:
        yield f"version: vLLM {published.version} there, {', '.join(versions)} here"
    ran = measured.kernels(variant.name)
    expected = _expected(variant, measured, published.version)
    if ran and expected and not set(ran) & set(expected):
        asked_for = "".join(_with_kernel(own, variant, expected, measured, published.version))
        yield f"kernel: {' or '.join(expected)} in vLLM {published.version}, {', '.join(ran)} attested here{asked_for}"
    tokens = measured.tokens(own.load)
    if published.ends_at_eos and tokens and measured.study.benchmark.spec.workload.ignore_eos:
        yield (
            "lengths: answers ended where their own text did there (no --ignore-eos);"
            f" {tokens[0]:.0f} input and {tokens[1]:.0f} output tokens a request here"
        )
    if not is_repeated(table):
        yield from (f"single run: {said}" for ratio in own.ratios if (said := _single(ratio)))


def _with_kernel(
    own: AtLoad, variant: Variant, expected: tuple[str, ...], measured: Measured, version: EngineVersion | None
) -> Iterator[str]:
    """What the same checkpoint gave where the study asked for the kernel that the published version took by itself."""
    baseline = measured.study.benchmark.spec.baseline
    differing = [ratio.figure for ratio in own.ratios if ratio.agreement is Agreement.DIFFERS]
    for other in measured.variants:
        ran = measured.kernels(other.name)
        same_work = variant.model_copy(update={"name": other.name, "kernel": other.kernel}) == other
        if not same_work or not set(_expected(other, measured, version)) & set(expected):
            continue
        if not ran or set(ran) & set(measured.kernels(variant.name)):
            continue
        ratios = [(figure, measured.ratio(own.load, other.name, baseline, figure.metric)) for figure in differing]
        said = [f"{found.value:.3f} in {_FAMILIES[figure]} ({found.blocks})" for figure, found in ratios if found]
        if said:
            yield f"; {other.name}, on {', '.join(ran)}, is at {', '.join(said)}"


def _single(ratio: Ratio) -> str | None:
    """What one start of each may have to do with a difference: by the noise seen here, else by that of another H100.

    A mean over *n* blocks has an *n*-th of the variance of a single block's ratio, and their difference has both.
    """
    if ratio.agreement is not Agreement.DIFFERS or not (ratio.published and ratio.ratio and ratio.high):
        return None
    family = _FAMILIES[ratio.figure]
    width = (ratio.high / ratio.ratio) ** math.sqrt(1 + ratio.starts)
    low, high = ratio.ratio / width, ratio.ratio * width
    if low <= ratio.published <= high:
        return f"one start of each, as published, would give a ratio of {family} from {low:.3f} to {high:.3f} here"
    apart = _apart(ratio.published, ratio.ratio)
    if apart > floor(family, None):
        return None
    return (
        f"in {family} the two are {apart:.1f} % apart, and two starts of one server differ by up to"
        f" {floor(family, None):g} %"
    )


def _apart(one: float, other: float) -> float:
    return (max(one, other) / min(one, other) - 1) * 100


def _expected(variant: Variant, measured: Measured, version: EngineVersion | None) -> tuple[str, ...]:
    """The kernel that the published version takes for this variant on this GPU, by the engine's tables."""
    if version is None or version < OLDEST:
        return ()
    return capability(engine_request(variant, measured.target), version, variant.args).kernels
