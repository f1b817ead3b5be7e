"""A report as Markdown (CommonMark with GitHub's tables). Charts are left out: tables hold their figures."""

import re
from collections.abc import Iterable, Iterator

from quantbench.report.document import SIGNS, Block, Charts, Code, Entry, Item, Items, Paragraph, Report, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&$@:])")
_AT_START = "#+-.!"
"""Of those the ones that mean something at the start of a line, or beside brackets, only."""


def to_markdown(report: Report) -> str:
    """The report as a text."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# {escaped(report.title)}"
    yield from ("", escaped(report.subtitle), "", f"**{escaped(report.answer)}**", "")
    yield f"- State: {escaped(report.state)}"
    for label, value in report.facts:
        yield f"- {escaped(label)}: {escaped(value)}"
    for section in report.sections:
        yield from ("", f"## {escaped(section.title)}")
        for block in section.blocks:
            yield from _block(block)
    yield from ("", "---", "", escaped(report.colophon))


def escaped(text: str) -> str:
    """Text that shows as it is: names, messages and log lines come from elsewhere."""
    flat = " ".join(text.split())
    return _SPECIAL.sub(_one, flat)


def _one(match: re.Match[str]) -> str:
    mark, at = match[1], match.start()
    # A point within a number or a dash within a name means nothing; escaping them would make tables hard to read raw.
    plain = mark in "-.:+!()@$#" and at > 0
    return mark if plain else f"\\{mark}"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph(text):
            yield from ("", escaped(text))
        case Table():
            yield from _table(block)
        case Items(items):
            yield ""
            for item in items:
                yield from _item(item)
        case Code(title, text, language):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
            yield from ("", f"### {escaped(title)}", "", f"{fence}{language}", *text.rstrip("\n").split("\n"), fence)
        case Charts():
            return


def _item(item: Item) -> Iterator[str]:
    yield f"- **{escaped(item.label)}**: {escaped(item.text)}"
    for line in item.evidence:
        yield f"  - {escaped(line)}"


def _table(table: Table) -> Iterator[str]:
    yield from ("", f"### {escaped(table.caption)}", "")
    yield _row(escaped(column.name) for column in table.columns)
    yield _row("---:" if column.number else "---" for column in table.columns)
    for row in table.rows:
        yield _row(map(_entry, row))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _entry(entry: Entry) -> str:
    sign = f"{SIGNS[entry.tone]} " if SIGNS[entry.tone] else ""
    return sign + " <br> ".join(map(escaped, (entry.text, *entry.more)))
