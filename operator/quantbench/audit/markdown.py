"""Markdown → document, by markdown-it: tables, headings, paragraphs, code."""

from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from quantbench.audit.document import Document, Grid, Passage, Text


def read_markdown(text: str) -> Document:
    """Read CommonMark with tables. Any text is Markdown, so this never fails."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    grids: list[Grid] = []
    passages: list[Passage] = []
    code: list[Text] = []
    title, section, index = "", 0, 0
    while index < len(tokens):
        token = tokens[index]
        if token.type == "heading_open":
            title, section = _plain(tokens[index + 1]).strip(), section + 1
        elif token.type == "table_open":
            end = next(i for i in range(index, len(tokens)) if tokens[i].type == "table_close")
            grids.append(_grid(tokens[index:end], title or f"table {len(grids) + 1}", section))
            index = end
        elif token.type == "inline":
            passages.append(Passage(_plain(token), _line(token), section))
        elif token.type in ("fence", "code_block"):
            code.append(Text(token.content, _line(token) + (token.type == "fence")))
        index += 1
    return Document(tuple(grids), tuple(passages), tuple(code))


def _line(token: Token) -> int:
    return (token.map[0] if token.map else 0) + 1


def _plain(token: Token) -> str:
    """Inline text without its marks; each line break of the file stays one."""
    parts = []
    for child in token.children or ():
        if child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "html_inline":
            parts.append(" ")
        else:
            parts.append(child.content)
    return "".join(parts)


def _grid(tokens: Sequence[Token], title: str, section: int) -> Grid:
    rows = list(_rows(tokens))
    width = len(rows[0])
    return Grid(title, section, rows[0], tuple(row for row in rows[1:] if len(row) == width))


def _rows(tokens: Sequence[Token]) -> Iterator[tuple[Text, ...]]:
    row: list[Text] = []
    line = 1
    for token in tokens:
        if token.type == "tr_open":
            row, line = [], _line(token)
        elif token.type == "inline":
            row.append(Text(" ".join(_plain(token).split()), line))
        elif token.type == "tr_close":
            yield tuple(row)
