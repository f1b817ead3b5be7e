"""What the documentation shows: its YAML and its commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
SHELL = frozenset({"console", "bash", "sh", "shell"})
PROGRAMS = frozenset({"kubectl", "helm", "quantbench", "make"})
"""Programs whose command lines are checked wherever they stand, in the middle of a sentence, too."""
HELM_VALUES = "values.yaml"
CONCLUSIONS = "conclusions.yaml"

JsonObject = dict[str, Any]

FIRST_STUDY: JsonObject = {
    "apiVersion": "quantbench.dev/v1alpha1",
    "kind": "QuantBenchmark",
    "metadata": {"name": "fragment"},
    "spec": {
        "model": "Qwen/Qwen3-8B",
        "engine": {"image": "vllm/vllm-openai:v0.24.0"},
        "variants": [{"name": "bf16", "method": "BF16"}],
        "baseline": "bf16",
        "targets": [{"name": "gpu"}],
        "workload": {"dataset": {"random": {}}},
    },
}
"""What a fragment of a study is put into."""


@dataclass(frozen=True)
class Place:
    """Where something stands."""

    page: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Fence:
    """A block of code."""

    place: Place
    language: str
    title: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command line; ``mentioned``: in a sentence, where arguments may be left out."""

    place: Place
    words: tuple[str, ...]
    mentioned: bool = False

    def __str__(self) -> str:
        return f"{self.place} {shlex.join(self.words)}"


@dataclass(frozen=True)
class Document:
    """A YAML document."""

    place: Place
    title: str
    content: Any

    def __str__(self) -> str:
        return str(self.place)


@cache
def pages() -> tuple[Path, ...]:
    """Every page for users and contributors."""
    own = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "charts/quantbench/README.md"]
    return (*own, *sorted((ROOT / "docs").rglob("*.md")))


@cache
def _tokens(page: Path) -> Any:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def fences(page: Path) -> Iterator[Fence]:
    for token in _tokens(page):
        if token.type == "fence":
            language, _, rest = token.info.strip().partition(" ")
            title = re.search(r'title="([^"]*)"', rest)
            place = Place(str(page.relative_to(ROOT)), token.map[0] + 1)
            yield Fence(place, language, title.group(1) if title else "", token.content)


def documents() -> list[Document]:
    """Every YAML document that a page shows."""
    return [
        Document(fence.place, fence.title, content)
        for page in pages()
        for fence in fences(page)
        if fence.language in ("yaml", "yml")
        for content in yaml.safe_load_all(fence.text)
    ]


def studies() -> list[tuple[Document, JsonObject]]:
    """The studies: whole ones, and fragments of one (a document of nothing but ``spec``) put into a small one."""
    found = []
    for document in documents():
        content = document.content
        if not isinstance(content, dict):
            continue
        if content.get("kind") == "QuantBenchmark":
            found.append((document, content))
        elif set(content) == {"spec"}:
            found.append((document, merged(FIRST_STUDY, content)))
    return found


def others() -> list[Document]:
    """Objects of other kinds."""
    return [
        document
        for document in documents()
        if isinstance(document.content, dict)
        and document.content.get("kind") != "QuantBenchmark"
        and set(document.content) != {"spec"}
        and document.title not in (HELM_VALUES, CONCLUSIONS)
    ]


def merged(old: Any, new: Any) -> Any:
    """``new`` over ``old``; lists, and a dataset, of which there is one kind, are replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        below = {key: value if key == "dataset" else merged(old.get(key), value) for key, value in new.items()}
        return {**old, **below}
    return new


def commands() -> list[Command]:
    """Every command line that a page shows."""
    return [command for page in pages() for command in (*_shown(page), *_mentioned(page))]


def _shown(page: Path) -> Iterator[Command]:
    for fence in fences(page):
        if fence.language not in SHELL:
            continue
        lines = fence.text.replace("\\\n", " ").splitlines()
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in prompted or lines:
            for words in _simple(shlex.split(line, comments=True)):
                yield Command(fence.place, words)


def _mentioned(page: Path) -> Iterator[Command]:
    for token in _tokens(page):
        if token.type != "inline":
            continue
        for child in token.children:
            if child.type != "code_inline":
                continue
            first, _, rest = child.content.partition(" ")
            if first in PROGRAMS and rest and "…" not in rest:
                place = Place(str(page.relative_to(ROOT)), token.map[0] + 1)
                for words in _simple(shlex.split(child.content)):
                    yield Command(place, words, mentioned=True)


def _simple(words: list[str]) -> Iterator[tuple[str, ...]]:
    """A line's simple commands."""
    part: list[str] = []
    for word in (*words, ";"):
        if word in ("|", "&&", "||", ";", "&"):
            if part:
                yield tuple(part)
            part = []
        else:
            part.append(word)
