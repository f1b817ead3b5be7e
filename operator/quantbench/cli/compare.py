"""Two studies side by side, for people."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from quantbench.api.names import Metric
from quantbench.cli.tables import GAP, number, significant
from quantbench.exports.comparison import Comparison, Row, Word

_STYLES = {Word.FASTER: "green", Word.SLOWER: "red"}


def view(found: Comparison, first: str, second: str) -> Group:
    """Warnings first, because they decide whether the table means anything."""
    parts: list[Text | Table] = [Text(f"A = {first}\nB = {second}")]
    parts += [Text(f"! {warning}", style="yellow") for warning in found.warnings]
    for target, load in dict.fromkeys((row.target, row.load) for row in found.rows):
        table = Table(box=None, padding=GAP, pad_edge=False, header_style="bold", title_justify="left")
        table.title = Text(f"\n{load} on {target}", style="bold")
        table.add_column("VARIANT", no_wrap=True, overflow="ellipsis", min_width=8)
        for column in ("TOK/S A", "TOK/S B", "B/A", "TTFT B/A", "TPOT B/A"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for row in found.rows:
            if (row.target, row.load) == (target, load):
                table.add_row(
                    row.variant,
                    significant(row.first.total_tokens_per_second),
                    significant(row.second.total_tokens_per_second),
                    f"{number(row.ratio, 3)}{_interval(row, Metric.THROUGHPUT)}",
                    f"{number(row.ttft_ratio, 2)}{_interval(row, Metric.TTFT)}",
                    f"{number(row.tpot_ratio, 2)}{_interval(row, Metric.TPOT)}",
                    Text(row.word, style=_STYLES.get(row.word, "")),
                )
        parts.append(table)
    if not found.rows:
        parts.append(Text("No variant on the same target under the same load has figures in both."))
    parts += [Text(f"only in A: {name}", style="dim") for name in found.only_first]
    parts += [Text(f"only in B: {name}", style="dim") for name in found.only_second]
    return Group(*parts)


def _interval(row: Row, metric: Metric) -> str:
    low, high = row.ends(metric)
    return "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
