"""Prose → clauses, the variants that they mention, and the percentages that they state."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from quantbench.audit.document import Passage
from quantbench.audit.tables import Row, Table, integers
from quantbench.audit.values import Change, normalise, parse_change
from quantbench.audit.vocabulary import (
    KERNELS,
    METRIC_WORD,
    OTHER,
    UNQUANTIZED,
    VOCABULARY,
    WEIGHT_ACTIVATION,
    WEIGHT_ONLY,
    WORD,
    Family,
    word,
)

_SENTENCE_END = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)(?<=[.!?])\s+")
_CLAUSE_END = re.compile(r";\s|,?\s(?:while|whereas|but|although)\s", re.IGNORECASE)
_LONGEST = 1000
"""Characters of a clause that are looked at: its parts are compared with each other."""
_BETWEEN = re.compile(r"[\s\-+()/]*(?:(?:cache|quantized|kernel)[\s\-+()/]*)?", re.IGNORECASE)
"""What may stand between two words of one variant's name."""
_GROUP = re.compile(r"\bweights?[- ](?P<name>only|(?:and[- ])?activations?)\b", re.IGNORECASE)
_PERCENT = re.compile(r"(?<![\w.])(?<!\d,)(?P<sign>[+-]?)\s?(?P<number>\d{1,6}(?:\.\d{1,6})?)\s?%")
_FACTOR = re.compile(r"(?<![\w.])(?<!\d,)(?P<number>\d{1,4}(?:\.\d{1,6})?)\s?[x×](?!\w)")
_RANGE = re.compile(r"\d\s?%?\s?(?:-|to|and)\s?\+?$")
_UP_TO = re.compile(r"\b(?:up to|as much as|at most)\s*$", re.IGNORECASE)
_HEDGE = re.compile(
    r"(?:\b(?:about|around|approximately|roughly|nearly|almost|over|more than|at least|some)|[~≈<>])\s*$", re.IGNORECASE
)
_NO_CHANGE = re.compile(r"^\s*(?:ci\b|confidence|of\b|utili[sz]ation|quantile|percentile)", re.IGNORECASE)
_OBJECT = re.compile(r"\b(?:than|over|versus|vs\.?|compared (?:to|with)|relative to|against)\b", re.IGNORECASE)
_LOAD = (
    r"(?:concurrenc(?:y|ies)|concurrent(?: (?:requests|users|clients))?|batch(?:es|[ -]sizes?)?|users|clients|qps|rps|"
    r"(?:request )?rates?|(?:input|output|prompt|context|sequence)s?(?: (?:lengths?|tokens))?|loads?)"
)
_AT_LOAD = re.compile(
    rf"\b(?:at|with|for|under|in|below|above|beyond|from|until|up to|when|if)\b[^,;]*?\b{_LOAD}\b", re.IGNORECASE
)
_LIST = r"\d[\d,]*(?:(?:,\s+(?:and\s+)?|\s+and\s+)\d[\d,]*)*"
_NUMBERED = re.compile(rf"\b{_LOAD}\s*(?:of|=)?\s*({_LIST})|\b({_LIST})\s+{_LOAD}\b", re.IGNORECASE)
_BOUND = re.compile(
    r"\b(?:below|above|beyond|from|until|up to|over|(?:less|more|lower|higher) than|at (?:least|most))\b|[<>≤≥]",
    re.IGNORECASE,
)
_SEGMENT_END = re.compile(r", | and |[()]")
_ASSUMED = re.compile(r"\b(?:faster|slower|speed-?up|performance|outperforms?|beats?)\b", re.IGNORECASE)


class _OfRow(Protocol):
    @property
    def row(self) -> Row: ...


_Compared = TypeVar("_Compared", bound=_OfRow)


@dataclass(frozen=True)
class Clause:
    """A part of a sentence that makes one statement, on one line of text."""

    text: str
    line: int


@dataclass(frozen=True)
class Mention:
    """A variant, or a group of them, in a clause."""

    words: frozenset[str]
    start: int
    end: int
    group: bool = False
    """``words`` lists methods, any of which is meant."""


@dataclass(frozen=True)
class Stated:
    """A percentage or a factor in prose."""

    clause: Clause
    change: Change
    metric: Family | None
    subject: Mention | None
    object: Mention | None
    up_to: bool
    unclear: str
    """Why it cannot be checked; empty where it can."""


def clauses(passages: Iterable[Passage]) -> Iterator[Clause]:
    """The statements of the text, in order."""
    for passage in passages:
        for start, sentence in _split(passage.text, _SENTENCE_END):
            for offset, clause in _split(sentence, _CLAUSE_END):
                line = passage.line + passage.text.count("\n", 0, start + offset)
                yield Clause(normalise(" ".join(clause[:_LONGEST].split())), line)


def _split(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    start = 0
    for match in pattern.finditer(text):
        yield start, text[start : match.start()]
        start = match.end()
    yield start, text[start:]


def known_words(tables: Sequence[Table]) -> frozenset[str]:
    """The words by which this document tells its variants apart."""
    own = {
        token
        for table in tables
        for row in table.rows
        for token in row.words
        if not row.words & VOCABULARY or any(letter.isdigit() for letter in token)
    }
    return VOCABULARY | {token for token in own if len(token) > 2}


def mentions(text: str, known: frozenset[str]) -> list[Mention]:
    """The variants and groups that a clause names, in order."""
    found = [
        Mention(WEIGHT_ONLY if match["name"].lower() == "only" else WEIGHT_ACTIVATION, *match.span(), group=True)
        for match in _GROUP.finditer(text)
    ]
    run: list[re.Match[str]] = []
    for token in WORD.finditer(text):
        if word(token[0]) not in known:
            continue
        if run and not _BETWEEN.fullmatch(text, run[-1].end(), token.start()):
            found.append(_mention(run))
            run = []
        run.append(token)
    if run:
        found.append(_mention(run))
    return sorted(found, key=lambda mention: mention.start)


def _mention(run: Sequence[re.Match[str]]) -> Mention:
    return Mention(frozenset(word(token[0]) for token in run), run[0].start(), run[-1].end())


def matching(table: Table, mention: Mention) -> tuple[list[Row], bool]:
    """The rows that a mention can mean, and whether they bear exactly its name.

    An FP8 KV cache is no FP8 checkpoint, and a method without a kernel's name means the row without one where there
    is such a row.
    """
    if mention.group:
        own = [row for row in table.rows if row.words & mention.words and "kv" not in row.words]
        return [row for row in own if mention.words is not WEIGHT_ACTIVATION or not row.words & WEIGHT_ONLY], False
    exact = [row for row in table.rows if row.words == mention.words]
    if exact:
        return exact, True
    rows = [row for row in table.rows if mention.words <= row.words]
    if "kv" not in mention.words and not mention.words <= UNQUANTIZED:
        rows = [row for row in rows if "kv" not in row.words]
    plain = [row for row in rows if not row.words & KERNELS]
    return (rows if mention.words & KERNELS or not plain else plain), False


def asked_loads(text: str) -> frozenset[int] | None:
    """The numbers of the loads that a clause is about, of which bounds are none; None where it names no load."""
    if not _AT_LOAD.search(text):
        return None
    found = [] if _BOUND.search(text) else [one or other for one, other in _NUMBERED.findall(text)]
    return integers(" ".join(found))


def under_load(compared: Iterable[_Compared], asked: frozenset[int]) -> list[_Compared]:
    """Those whose rows' conditions hold most of the numbers, and at least one."""
    by_hits: dict[int, list[_Compared]] = {}
    for one in compared:
        by_hits.setdefault(len(asked & one.row.loads), []).append(one)
    most = max(by_hits, default=0)
    return by_hits[most] if most else []


def metrics_in(text: str) -> list[tuple[int, Family]]:
    """The metrics that a clause names, with their positions."""
    return [(m.start(), Family(m.lastgroup)) for m in METRIC_WORD.finditer(text) if m.lastgroup]


def object_start(text: str) -> int:
    """Where the second side of a comparison begins; the end of the text where there is none."""
    match = _OBJECT.search(text)
    return match.end() if match else len(text)


def stated_changes(clause: Clause, known: frozenset[str]) -> Iterator[Stated]:
    """The percentages and factors of a clause, each with its metric and its variants."""
    text = clause.text
    found = sorted((*_PERCENT.finditer(text), *_FACTOR.finditer(text)), key=lambda match: match.start())
    if not found:
        return
    named = mentions(text, known)
    for match in found:
        before, after = text[: match.start()], text[match.end() :]
        if _NO_CHANGE.match(after):
            continue
        other = object_start(after) + match.end()
        earlier = [mention for mention in named if mention.end <= match.start()]
        later = [mention for mention in named if match.end() <= mention.start < other]
        subject = earlier[-1] if earlier else later[0] if later else None
        unclear = "a range" if _RANGE.search(before) or re.match(r"\s?(?:-|to)\s?\d", after) else ""
        yield Stated(
            clause,
            parse_change(match, match.re is _FACTOR),
            _metric_near(text, match.start()),
            subject,
            next((mention for mention in named if mention.start >= other), None),
            bool(_UP_TO.search(before)),
            unclear or ("a rounded figure" if _HEDGE.search(before) else ""),
        )


def _metric_near(text: str, position: int) -> Family | None:
    """The metric of the same part between commas, else the last one before, else the next one after."""
    start, end = _segment(text, position)
    found = metrics_in(text)
    near = [(abs(at - position), family) for at, family in found if start <= at < end]
    if near:
        return min(near)[1]
    if OTHER.search(text, start, end):
        return None
    before = [family for at, family in found if at < position]
    if before:
        return before[-1]
    if found:
        return found[0][1]
    return Family.THROUGHPUT if _ASSUMED.search(text) else None


def _segment(text: str, position: int) -> tuple[int, int]:
    """The part between commas, brackets and *and* in which a position lies."""
    marks = list(_SEGMENT_END.finditer(text))
    start = max((match.end() for match in marks if match.end() <= position), default=0)
    return start, min((match.start() for match in marks if match.start() >= position), default=len(text))
