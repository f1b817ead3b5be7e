"""Tables for people, from a study that has been read."""

import statistics
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from quantbench.answer import DIFFERENCE_WORDS, ratio_text
from quantbench.api.benchmark import Load, QuantBenchmarkSpec
from quantbench.api.conditions import ConditionType
from quantbench.api.names import FindingKind, Verdict
from quantbench.api.status import Cell, Finding, LoadResult
from quantbench.exports import Study
from quantbench.observe import Run
from quantbench.stages import gaps as stage_gaps
from quantbench.stages import usage as run_usage

WARNINGS = frozenset(
    {FindingKind.MISMATCH, FindingKind.DEGRADED, FindingKind.FAILED, FindingKind.EXCLUDED, FindingKind.DUPLICATE}
)
"""Findings that are shown with their evidence: log lines, hints, runs."""


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _stage(run: Run) -> tuple[str, str]:
    condition = next((c for c in run.status.conditions if c.type == ConditionType.COMPLETE), None)
    return (condition.reason, condition.message) if condition else ("Pending", "")


def progress(study: Study) -> Group:
    """The live view: what is under way, what ended."""
    status = study.benchmark.status
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("RUN", "VARIANT", "TARGET", "STAGE", "VERDICT", "TOK/S", ""):
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for run in study.runs:
        stage, message = _stage(run)
        outcome, head = run.status.verdict, run.status.headline
        table.add_row(
            run.name,
            run.spec.variant.name,
            run.spec.target.name,
            stage,
            str(outcome.name) if outcome else "",
            _number(head.total_tokens_per_second if head else None),
            message,
            style=None if outcome is None else "green" if outcome.name is Verdict.MEASURED else "yellow",
        )
    return Group(Text(f"{study.benchmark.name}: {status.progress or '0/?'} runs  {status.summary or ''}"), table)


def progress_lines(study: Study) -> list[str]:
    """One line for everything that has happened, for logs."""
    lines = []
    for run in study.runs:
        stage, message = _stage(run)
        outcome = run.status.verdict
        said = f"{outcome.name}: {outcome.message}" if outcome else f"{stage}: {message}"
        lines.append(f"{run.spec.variant.name} on {run.spec.target.name}, start {run.spec.block}: {said}"[:240])
    return lines


def results(study: Study) -> Group:
    """The answer: one row per variant, target and load, and below it what the data say."""
    status, spec = study.benchmark.status, study.benchmark.spec
    table = Table(header_style="bold")
    table.add_column("VARIANT")
    if len(spec.targets) > 1:
        table.add_column("TARGET")
    table.add_column("LOAD")
    for column in ("TOTAL TOK/S", "OUTPUT TOK/S", "TTFT ms", "TPOT ms", f"RATIO TO {spec.baseline}", "", "STARTS"):
        table.add_column(column, justify="left" if column == "" else "right")
    loads = {load.name: load for load in spec.loads}
    for cell in status.cells:
        for row in cell.loads:
            table.add_row(*_cells(cell, row, loads.get(row.load, Load(name=row.load)), spec))
    notes = [_finding(found) for found in status.findings]
    lines = [Text(status.summary or "")] if status.summary else []
    refused = study.condition(ConditionType.ACCEPTED)
    if study.refused:
        notes.append(Text(f"not accepted: {refused[2]}", style="red"))
    return Group(*lines, table, *notes)


def _cells(cell: Cell, row: LoadResult, load: Load, spec: QuantBenchmarkSpec) -> list[str]:
    said = "baseline" if cell.variant == spec.baseline else DIFFERENCE_WORDS[row.difference] if row.difference else ""
    return [
        cell.variant,
        *([cell.target] if len(spec.targets) > 1 else []),
        row.load,
        _number(row.total_tokens_per_second),
        _number(row.output_tokens_per_second),
        _number(row.mean_ttft_milliseconds) + (" (at limit)" if row.saturated else ""),
        _number(row.mean_tpot_milliseconds, 2),
        ratio_text(load, row),
        said,
        str(row.starts),
    ]


def _finding(found: Finding) -> Text:
    """One line, and below it what has to be read in full to mend something."""
    warns = found.kind in WARNINGS
    text = Text(f"• {found.message}", style="yellow" if warns else "")
    if warns:
        for line in found.evidence:
            text.append(f"\n  {line}", style="dim")
    return text


def usage(runs: Sequence[Run]) -> Table:
    """What each server's time was spent on."""
    table = Table(title="What the servers' time went into", header_style="bold")
    table.add_column("RUN")
    for column in ("EXISTED s", "LOADING s", "MEASURING s", "LOADING + MEASURING"):
        table.add_column(column, justify="right")
    for run in runs:
        used = run_usage(run)
        if used:
            table.add_row(
                used.run, _number(used.existed), _number(used.loading), _number(used.measuring), f"{used.share:.1%}"
            )
    return table


def gaps(runs: Sequence[Run]) -> Table:
    """How long the operator took between stages."""
    found = stage_gaps(runs)
    table = Table(title="Between stages (the operator's share)", header_style="bold")
    table.add_column("BETWEEN")
    for column in ("COUNT", "MEDIAN s", "MAX s"):
        table.add_column(column, justify="right")
    for between in dict.fromkeys(gap.between for gap in found):
        table.add_row(between, *_summary([gap.seconds for gap in found if gap.between == between]))
    if found:
        table.add_section()
        table.add_row("all", *_summary([gap.seconds for gap in found]))
    return table


def _summary(seconds: Sequence[float]) -> tuple[str, str, str]:
    return str(len(seconds)), _number(statistics.median(seconds), 2), _number(max(seconds), 2)
