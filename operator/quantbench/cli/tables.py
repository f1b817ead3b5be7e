"""Tables for people, from a study that has been read."""

import statistics
from collections.abc import Sequence

from rich.console import Console, Group, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from quantbench.answer import DIFFERENCE_WORDS, metric_of, ratio_text
from quantbench.api.benchmark import Load
from quantbench.api.conditions import ConditionType, Stage
from quantbench.api.names import Difference, FindingKind, Metric, Verdict
from quantbench.api.status import Cell, Finding, LoadResult
from quantbench.exports import Study
from quantbench.observe import Run
from quantbench.stages import gaps as stage_gaps
from quantbench.stages import usage as run_usage

WARNINGS = frozenset(
    {FindingKind.MISMATCH, FindingKind.DEGRADED, FindingKind.FAILED, FindingKind.EXCLUDED, FindingKind.DUPLICATE}
)
"""Findings that are shown with their evidence: log lines, hints, runs."""
GAP = (0, 2, 0, 0)
"""Between columns: what stands right of a cell."""
_STYLES = {Difference.FASTER: "green", Difference.SLOWER: "red"}
_COLUMNS = {
    "variant": "VARIANT",
    "total": "TOK/S",
    "output": "OUTPUT TOK/S",
    "ttft": "TTFT ms",
    "tpot": "TPOT ms",
    "ratio": "",
    "word": "",
    "starts": "STARTS",
}
_RUN_COLUMNS = ("RUN", "VARIANT", "TARGET", "STAGE", "VERDICT", "TOK/S", "")
LEAST_MESSAGE = 24
"""A message that would be cut to fewer characters is left out."""
_CUT = ("variant", "word")
_OPTIONAL = ("output", "starts", "tpot")
"""Columns that a narrow terminal goes without, the first one first; `--output json` and `csv` hold everything."""


def number(value: float | None, digits: int = 1) -> str:
    """A figure with so many decimals; empty where there is none."""
    return "" if value is None else f"{value:,.{digits}f}"


def significant(value: float | None) -> str:
    """A figure with at least four digits, and no more decimals than they take."""
    if value is None:
        return ""
    return f"{value:,.{0 if value >= 1000 else 1 if value >= 100 else 2}f}"


def _stage(run: Run) -> tuple[str, str]:
    condition = run.status.complete
    return (condition.reason, condition.message) if condition else ("Pending", "")


def progress(study: Study, width: int | None = None, height: int | None = None) -> Group:
    """The live view: what is under way, what waits, what ended last.

    Args:
        study: what to show.
        width: columns of the terminal; RUN and the message are left out where they do not fit. None: all.
        height: lines of the terminal; runs that do not fit are counted. None: all.
    """
    status = study.benchmark.status
    head = Text(f"{study.benchmark.name}: {status.progress or '0/?'} runs  {status.summary or ''}")
    groups = [[run for run in study.runs if _place(run) == place] for place in range(len(_PLACES))]
    runs = [*groups[0], *groups[1], *reversed(groups[2])]
    shown = len(runs)
    if height is not None:
        above = 1 if width is None else len(head.wrap(Console(width=width), width))
        if above + 1 + shown > height:
            shown = max(1, height - above - 2)
    parts: list[Text | Table] = [head, _runs(runs[:shown], width)]
    if rest := [_place(run) for run in runs[shown:]]:
        counts = ((rest.count(place), word) for place, word in enumerate(_PLACES))
        parts.append(Text(f"and {', '.join(f'{count} {word}' for count, word in counts if count)}", style="dim"))
    return Group(*parts)


_PLACES = ("under way", "waiting", "ended")


def _place(run: Run) -> int:
    """Where a run stands in the live view, as an index of `_PLACES`."""
    stage = _stage(run)[0]
    if stage == Stage.ENDED or (run.status.verdict and stage != Stage.RELEASING):
        return 2
    return int(stage in (Stage.PENDING, Stage.SUSPENDED, Stage.BUDGET_SPENT))


def _runs(runs: Sequence[Run], width: int | None) -> Table:
    """A row per run, without RUN and then without the message where they do not fit."""
    rows = [_run_texts(run) for run in runs]
    widths = {column: max(map(len, (column, *(row[column] for row in rows)))) for column in _RUN_COLUMNS}
    least = widths | {"": min(widths[""], LEAST_MESSAGE)}
    wanted = list(_RUN_COLUMNS)
    for dropped in ("RUN", ""):
        if width is not None and sum(least[column] + GAP[1] for column in wanted) > width + GAP[1]:
            wanted.remove(dropped)
    table = Table(box=None, padding=GAP, pad_edge=False, header_style="bold")
    for column in wanted:
        # Names may be cut, and the message to what the others leave; what happens never.
        name = column in ("VARIANT", "TARGET")
        most = None
        if column == "" and width is not None:
            most = width - sum(widths[other] + GAP[1] for other in wanted if other)
        table.add_column(column, no_wrap=not name, min_width=None if name else least[column], max_width=most)
    for run, row in zip(runs, rows, strict=True):
        outcome = run.status.verdict
        style = None if outcome is None else "green" if outcome.name is Verdict.MEASURED else "yellow"
        table.add_row(*(Text(row[column], no_wrap=True, overflow="ellipsis") for column in wanted), style=style)
    return table


def _run_texts(run: Run) -> dict[str, str]:
    stage, message = _stage(run)
    outcome, figures = run.status.verdict, run.status.headline
    texts = (
        run.name,
        run.spec.variant.name,
        run.spec.target.name,
        stage,
        str(outcome.name) if outcome else "",
        number(figures.total_tokens_per_second if figures else None),
        message,
    )
    return dict(zip(_RUN_COLUMNS, texts, strict=True))


def progress_lines(study: Study) -> list[str]:
    """One line for everything that has happened, for logs."""
    lines = []
    for run in study.runs:
        stage, message = _stage(run)
        outcome = run.status.verdict
        said = f"{outcome.name}: {outcome.message}" if outcome else f"{stage}: {message}"
        lines.append(f"{run.spec.variant.name} on {run.spec.target.name}, start {run.spec.block}: {said}"[:240])
    return lines


def results(study: Study, width: int | None = 80) -> Group:
    """The answer: a table per target and load, and below it what the data say.

    Args:
        study: what to show.
        width: columns of the terminal; columns that can be missed are left out until the tables fit. None: all.
    """
    status, spec = study.benchmark.status, study.benchmark.spec
    parts: list[Text | Table] = [Text(status.summary)] if status.summary else []
    if study.cut_off:
        parts.append(Text(study.condition(ConditionType.COMPLETE)[2], style="yellow"))
    loads = {load.name: load for load in spec.loads}
    for target in spec.targets:
        for name in dict.fromkeys(row.load for cell in status.cells for row in cell.loads):
            of_load = [
                (cell, row)
                for cell in status.cells
                if cell.target == target.name
                for row in cell.loads
                if row.load == name
            ]
            if of_load:
                where = f" on {target.name}" if len(spec.targets) > 1 else ""
                parts.append(Text(f"\n{name}{where}", style="bold"))
                parts.append(_table(of_load, loads.get(name, Load(name=name)), spec.baseline, width))
    if study.refused:
        parts.append(Text(f"not accepted: {study.condition(ConditionType.ACCEPTED)[2]}", style="red"))
    elif not study.measured:
        parts.append(Text(f"nothing measured yet: {status.progress or '0/?'} runs", style="yellow"))
    if any(row.saturated for cell in status.cells for row in cell.loads):
        parts.append(Text("* at limit: TTFT is the length of a queue", style="dim"))
    parts += [_finding(found) for found in status.findings]
    parts += [Text(f"run {run.name} cannot be read: {run.why}", style="red") for run in study.unreadable]
    return Group(*parts)


def _table(rows: Sequence[tuple[Cell, LoadResult]], load: Load, baseline: str, width: int | None) -> Table:
    """The rows of one load, without the columns that do not fit."""
    metric = metric_of(load, rows[0][1])
    headings = _COLUMNS | {"ratio": f"{'' if metric is Metric.THROUGHPUT else f'{metric} '}RATIO TO {baseline}"}
    texts = [_texts(cell, row, load, baseline) for cell, row in rows]
    styles = [_STYLES.get(row.difference, "") if row.difference else "" for _, row in rows]
    wanted = list(_COLUMNS)
    while True:
        table = Table(box=None, padding=GAP, pad_edge=False, header_style="bold")
        for column in wanted:
            # Names may be cut, figures never.
            cut = column in _CUT
            least = None if cut else max(len(headings[column]), *(len(text[column]) for text in texts))
            justify: JustifyMethod = "left" if cut else "right"
            table.add_column(headings[column], justify=justify, no_wrap=not cut, overflow="ellipsis", min_width=least)
        for text, style in zip(texts, styles, strict=True):
            table.add_row(*(Text(text[column], style=style if column == "word" else "") for column in wanted))
        dropped = next((column for column in _OPTIONAL if column in wanted), None)
        if width is None or dropped is None or _width(table) <= width:
            return table
        wanted.remove(dropped)


def _width(table: Table) -> int:
    wide = Console(width=10_000, color_system=None, force_terminal=False)
    return Measurement.get(wide, wide.options, table).maximum


def _texts(cell: Cell, row: LoadResult, load: Load, baseline: str) -> dict[str, str]:
    word = "baseline" if cell.variant == baseline else DIFFERENCE_WORDS[row.difference] if row.difference else ""
    if cell.same_as:
        word = f"same as {cell.same_as}"
    return {
        "variant": cell.variant,
        "total": significant(row.total_tokens_per_second),
        "output": significant(row.output_tokens_per_second),
        "ttft": significant(row.mean_ttft_milliseconds) + ("*" if row.saturated else ""),
        "tpot": number(row.mean_tpot_milliseconds, 2),
        "ratio": ratio_text(load, row).removesuffix(f" {metric_of(load, row)}"),
        "word": word,
        "starts": str(row.starts),
    }


def fitting(console: Console, shown: Group, *, plain: bool) -> None:
    """Print; where nothing has a width (a pipe, a file), each row stays one line."""
    if plain:
        type(console)(width=max(80, _group_width(shown)), highlight=False).print(shown)
    else:
        console.print(shown, highlight=False)


def _group_width(shown: Group) -> int:
    tables = [part for part in shown.renderables if isinstance(part, Table)]
    texts = [part.cell_len for part in shown.renderables if isinstance(part, Text)]
    return max([*(_width(table) for table in tables), *texts], default=80)


def _finding(found: Finding) -> Text:
    """One line, and below it what has to be read in full to mend something."""
    warns = found.kind in WARNINGS
    text = Text(f"• {found.message}", style="yellow" if warns else "")
    if warns:
        for line in found.evidence:
            text.append(f"\n  {line}", style="dim")
    return text


def _plain_table(title: str) -> Table:
    heading = Text(f"\n{title}", style="bold")
    return Table(title=heading, title_justify="left", box=None, padding=GAP, pad_edge=False, header_style="bold")


def usage(runs: Sequence[Run]) -> Table:
    """What each server's time was spent on."""
    table = _plain_table("What the servers' time went into; used: loading and measuring")
    table.add_column("RUN", no_wrap=True, overflow="ellipsis")
    for column in ("EXISTED s", "LOADING s", "MEASURING s", "USED"):
        table.add_column(column, justify="right", no_wrap=True)
    for run in runs:
        used = run_usage(run)
        if used:
            table.add_row(
                used.run, number(used.existed), number(used.loading), number(used.measuring), f"{used.share:.1%}"
            )
    return table


def gaps(runs: Sequence[Run]) -> Table:
    """How long the operator took between stages."""
    found = stage_gaps(runs)
    table = _plain_table("Between stages (the operator's share)")
    table.add_column("BETWEEN", no_wrap=True, overflow="ellipsis")
    for column in ("COUNT", "MEDIAN s", "MAX s"):
        table.add_column(column, justify="right", no_wrap=True)
    for between in dict.fromkeys(gap.between for gap in found):
        table.add_row(between, *_summary([gap.seconds for gap in found if gap.between == between]))
    if found:
        table.add_section()
        table.add_row("all", *_summary([gap.seconds for gap in found]))
    return table


def _summary(seconds: Sequence[float]) -> tuple[str, str, str]:
    return str(len(seconds)), number(statistics.median(seconds), 2), number(max(seconds), 2)
