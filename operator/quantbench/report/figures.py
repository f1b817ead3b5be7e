"""The figures of a study as tables: the matrix of ratios, and everything that was measured."""

from collections.abc import Sequence

from quantbench.answer import DIFFERENCE_WORDS, ratio_of, ratio_text
from quantbench.api.benchmark import CONTROL, Load
from quantbench.api.names import Difference, Verdict
from quantbench.api.status import Cell, LoadResult
from quantbench.exports import Study
from quantbench.report.document import Block, Column, Entry, Paragraph, Table, Tone

TONES = {
    Difference.FASTER: Tone.BETTER,
    Difference.SLOWER: Tone.WORSE,
    Difference.NOT_DISTINGUISHABLE: Tone.EQUAL,
    Difference.UNDECIDED: Tone.OPEN,
    Difference.ONE_RUN: Tone.OPEN,
    Difference.SAME_CONFIGURATION: Tone.EQUAL,
}
LIMIT = "at limit"
"""Marks a row whose server could take no more: its TTFT is the length of a queue."""
NONE = "–"


def significant(value: float | None) -> str:
    """A figure with four digits, and no more decimals than they take."""
    if value is None:
        return NONE
    return f"{value:,.{0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 10 else 3}f}"


def share(value: float | None) -> str:
    """``1.3 %``."""
    return NONE if value is None else f"{value:.1%}".replace("%", " %")


def starts(count: int) -> str:
    """``one run``, which is no sample, or ``3 starts``."""
    return "one run" if count == 1 else f"{count} starts"


def loads_of(study: Study) -> list[Load]:
    """The loads of the study, and those that only its figures name."""
    known = {load.name: load for load in study.benchmark.spec.loads}
    named = dict.fromkeys(row.load for cell in study.benchmark.status.cells for row in cell.loads)
    return [*known.values(), *(Load(name=name) for name in named if name not in known)]


def variants_of(study: Study) -> list[str]:
    """Names in the order of the study; the control last."""
    return list(dict.fromkeys(cell.variant for cell in study.benchmark.status.cells))


def targets_of(study: Study) -> list[str]:
    """Targets that the status speaks of, in the order of the study."""
    return list(dict.fromkeys(cell.target for cell in study.benchmark.status.cells))


def matrix(study: Study) -> tuple[Block, ...]:
    """Variant × target, one table per load; with a single target variant × load."""
    cells = {(cell.variant, cell.target): cell for cell in study.benchmark.status.cells}
    loads, targets, variants = loads_of(study), targets_of(study), variants_of(study)
    baseline = study.benchmark.spec.baseline
    if not cells:
        return ()
    if len(targets) == 1:
        columns = [(load.name, targets[0], load) for load in loads]
        tables = [_matrix(f"Ratio to {baseline} on {targets[0]}", variants, columns, cells, study)]
    else:
        tables = [
            _matrix(f"Ratio to {baseline} at {load.name}", variants, [(t, t, load) for t in targets], cells, study)
            for load in loads
        ]
    return (Paragraph(_legend(study)), *tables)


def _legend(study: Study) -> str:
    said = (
        "Total throughput over the baseline's, taken within blocks, with its 95 % interval in brackets; under a fixed"
        " request rate that all servers kept up with the time per output token (TPOT; TTFT if answers have one token),"
        " of which less is better. Below it: the verdict of the"
        " statistics, which is stricter than a single interval because it allows for all comparisons of the study;"
        " total tokens per second (input and output); the number of server starts."
    )
    if any(row.starts == 1 for cell in study.benchmark.status.cells for row in cell.loads):
        said += " n = 1 is called one run: a figure without a verdict of better or worse."
    return said


def _matrix(
    caption: str,
    variants: Sequence[str],
    columns: Sequence[tuple[str, str, Load]],
    cells: dict[tuple[str, str], Cell],
    study: Study,
) -> Table:
    rows = []
    for variant in variants:
        shown = [_verdict(cells.get((variant, target)), load, study) for _, target, load in columns]
        rows.append((Entry(variant), *shown))
    return Table(caption, (Column("variant"), *(Column(name) for name, _, _ in columns)), tuple(rows))


def _verdict(cell: Cell | None, load: Load, study: Study) -> Entry:
    if cell is None:
        return Entry(NONE)
    row = next((row for row in cell.loads if row.load == load.name), None)
    if row is None:
        if cell.verdict is Verdict.CUT_OFF:
            return Entry("not reached", tone=Tone.OPEN)
        if cell.verdict is None:
            said = "not measured" if study.ended else "not measured yet"
            return Entry(said, (f"{cell.finished} of {cell.planned} starts",), Tone.OPEN)
        more = (f"same as {cell.same_as}",) if cell.same_as else ()
        return Entry(str(cell.verdict), more, Tone.FAILED)
    figure = f"{significant(row.total_tokens_per_second)} tok/s"
    limit = (LIMIT,) if row.saturated else ()
    if cell.variant == study.benchmark.spec.baseline:
        return Entry(figure, (" · ".join(("baseline", starts(row.starts), *limit)),), Tone.BASELINE)
    ratio = ratio_of(load, row)
    if cell.same_as:
        details = " · ".join((figure, starts(row.starts), *limit))
        same = f"same configuration as {cell.same_as}"
        return Entry(ratio_text(load, row) or figure, (same, details), Tone.EQUAL)
    if ratio is None:
        return Entry(figure, (" · ".join(("no ratio", starts(row.starts), *limit)),), Tone.OPEN)
    rests = starts(ratio.starts) if ratio.difference is not Difference.ONE_RUN else ""
    details = " · ".join(part for part in (figure, rests, *limit) if part)
    if cell.variant == CONTROL:
        details = " · ".join((figure, starts(ratio.starts), *limit))
        return Entry(ratio_text(load, row), ("baseline again: the noise floor", details))
    return Entry(ratio_text(load, row), (DIFFERENCE_WORDS[ratio.difference], details), TONES[ratio.difference])


# --- everything --------------------------------------------------------------------------------------------------

_COLUMNS = (
    "total tok/s", "output tok/s", "requests/s", "TTFT mean", "TTFT median", "TTFT p99", "TPOT mean", "TPOT median",
    "TPOT p99", "starts", "passes", "start CV", "repeat CV",
)  # fmt: skip


def everything(study: Study) -> tuple[Block, ...]:
    """Every figure, one table per target."""
    tables = []
    for target in targets_of(study):
        rows = [
            _figures(cell, row)
            for load in loads_of(study)
            for cell in study.benchmark.status.cells
            if cell.target == target
            for row in cell.loads
            if row.load == load.name
        ]
        if rows:
            columns = (Column("variant"), Column("load"), *(Column(name, number=True) for name in _COLUMNS))
            tables.append(Table(f"On {target}; latencies in milliseconds", columns, tuple(rows), wide=True))
    if not tables:
        return ()
    note = (
        "Means over server starts; passes of one start are averaged first. CV is the coefficient of variation of"
        " throughput from start to start and from repeat to repeat. A percentile is withheld (–) where fewer than ten"
        " requests of a pass lie beyond it."
    )
    if any(row.saturated for cell in study.benchmark.status.cells for row in cell.loads):
        note += f" {LIMIT.capitalize()}: the server could take no more, so that TTFT there is the length of a queue."
    return (Paragraph(note), *tables)


def _figures(cell: Cell, row: LoadResult) -> tuple[Entry, ...]:
    mark = (LIMIT,) if row.saturated else ()
    passes = (f"same as {cell.same_as}",) if cell.same_as else ()
    return (
        Entry(cell.variant, passes),
        Entry(row.load),
        Entry(significant(row.total_tokens_per_second)),
        Entry(significant(row.output_tokens_per_second)),
        Entry(significant(row.requests_per_second)),
        Entry(significant(row.mean_ttft_milliseconds), mark),
        Entry(significant(row.median_ttft_milliseconds)),
        Entry(significant(row.p99_ttft_milliseconds)),
        Entry(significant(row.mean_tpot_milliseconds)),
        Entry(significant(row.median_tpot_milliseconds)),
        Entry(significant(row.p99_tpot_milliseconds)),
        Entry("one run" if row.starts == 1 else str(row.starts)),
        Entry(str(row.passes)),
        Entry(share(row.start_variation)),
        Entry(share(row.repeat_variation)),
    )
