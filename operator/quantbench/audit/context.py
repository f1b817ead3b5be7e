"""Rule 5: how the load was made, what is not stated, and rows without figures."""

import re
import shlex
from collections.abc import Iterator, Sequence

from quantbench.audit.document import Document, Text
from quantbench.audit.report import Finding, Kind, Place, Severity
from quantbench.audit.tables import Row, Table
from quantbench.audit.vocabulary import GPU, Family, words
from quantbench.engine.version import EngineVersion

_BENCH = re.compile(r"\bvllm\s+bench\s+serve\b|\bbenchmark_serving\.py\b")
_SERVE = re.compile(r"\bvllm\s+serve\b|\bvllm\.entrypoints\b|\bvllm/vllm-openai\b")
_VERSION = re.compile(r"\bv?llm\b\D{0,24}?\bv?(?P<version>\d+\.\d+(?:\.\d+)?(?:\.?(?:post|rc)\d+)?)\b", re.IGNORECASE)
_NO_DEFAULT_TEMPERATURE = EngineVersion(0, 15)
"""First version whose load generator sends no temperature (vllm/benchmarks/serve.py)."""


def stated_version(document: Document) -> EngineVersion | None:
    """The vLLM version that the text names first."""
    match = _VERSION.search(document.prose)
    return EngineVersion.parse(match["version"]) if match else None


def check_context(document: Document, tables: Sequence[Table], version: EngineVersion | None) -> list[Finding]:
    """Findings about everything but the figures."""
    return [
        *(finding for command in _commands(document.code) for finding in _load(command, version)),
        *_unstated(document, tables, version),
        *(_gap(table, row) for table in tables for row in _unexplained(document, table)),
    ]


def ends_at_eos(document: Document) -> bool:
    """Whether a load's command is stated that lets each answer end where its own text ends."""
    return any("--ignore-eos" not in _flags(command.text) for command in _commands(document.code))


def _commands(code: Sequence[Text]) -> Iterator[Text]:
    """The load generator's commands; lines that end in a backslash go on."""
    for block in code:
        joined, start = "", block.line
        for number, raw in enumerate(block.text.splitlines(), block.line):
            start = start if joined else number
            joined += raw.rstrip().removesuffix("\\") + " "
            if raw.rstrip().endswith("\\"):
                continue
            if _BENCH.search(joined):
                yield Text(" ".join(joined.split()), start)
            joined = ""
        if _BENCH.search(joined):
            yield Text(" ".join(joined.split()), start)


def _flags(command: str) -> dict[str, str]:
    """Long flags and their values; ``_`` and ``-`` are one, as for vLLM's parser."""
    try:
        parts = shlex.split(command, comments=True)
    except ValueError:
        parts = command.split()
    flags = {}
    for index, part in enumerate(parts):
        if part.startswith("--"):
            name, equals, value = part.partition("=")
            following = parts[index + 1] if index + 1 < len(parts) and not parts[index + 1].startswith("--") else ""
            flags[name.replace("_", "-")] = value if equals else following
    return flags


def _load(command: Text, version: EngineVersion | None) -> Iterator[Finding]:
    flags = _flags(command.text)
    place = (Place(line=command.line, text=command.text),)
    missing = []
    if "--ignore-eos" not in flags:
        missing.append("without --ignore-eos each variant ends its answers where its own text ends")
    if "--temperature" not in flags and (version is None or version >= _NO_DEFAULT_TEMPERATURE):
        missing.append(f"since {_NO_DEFAULT_TEMPERATURE.release} no temperature is sent unless --temperature is given")
    if missing:
        yield Finding(
            kind=Kind.UNCONTROLLED_LOAD,
            severity=Severity.WARNING,
            sentence=f"The work is not the same for every variant: {'; '.join(missing)}",
            places=place,
            hint="throughput changes with the length of the outputs; add --ignore-eos --temperature 0, or report "
            "the output tokens of each variant",
        )
    if flags.get("--request-rate", "inf") == "inf" and "--max-concurrency" not in flags:
        yield Finding(
            kind=Kind.QUEUEING_TTFT,
            severity=Severity.WARNING,
            sentence="All requests are sent at once (no --request-rate, no --max-concurrency): the mean TTFT is the "
            "length of a queue, not a latency that a user sees",
            places=place,
            hint="state a --max-concurrency or a --request-rate below saturation",
        )


def _unstated(document: Document, tables: Sequence[Table], version: EngineVersion | None) -> Iterator[Finding]:
    vague = [
        (table, index)
        for table in tables
        for index, column in table.metrics()
        if column.metric.family is Family.THROUGHPUT and not column.metric.what
    ]
    if vague:
        yield Finding(
            kind=Kind.UNSTATED_FACT,
            severity=Severity.NOTICE,
            sentence="Throughput is not said to be of output tokens or of input and output tokens together",
            places=tuple(table.place(table.rows[0], index) for table, index in vague),
            hint="with vLLM's load generator the two differ by the prompt's share, often a factor of two",
        )
    if not document.tells:
        return
    text = document.prose
    code = "\n".join(part.text for part in document.code)
    missing = [
        name
        for name, stated in (
            ("the version of vLLM", version is not None),
            ("the GPU", bool(GPU.search(text)) or any(GPU.search(table.title) for table in tables)),
            ("the server's command (kernel, dtype, batch limits and GPU memory follow from it)", _serves(code)),
            ("the load's command", bool(_BENCH.search(code))),
        )
        if not stated
    ]
    if missing:
        yield Finding(
            kind=Kind.UNSTATED_FACT,
            severity=Severity.NOTICE,
            sentence=f"Not stated, though the figures depend on it: {'; '.join(missing)}",
        )


def _serves(code: str) -> bool:
    return bool(_SERVE.search(code))


def _unexplained(document: Document, table: Table) -> Iterator[Row]:
    """Rows without any figure that no sentence of their section speaks of."""
    beside = [part for part in document.passages if part.section == table.section]
    for row in table.rows:
        if all(cell.value.missing for cell in row.cells):
            own = row.words or words(row.name)
            if not any(own & words(part.text) for part in beside if part.text != table.title):
                yield row


def _gap(table: Table, row: Row) -> Finding:
    return Finding(
        kind=Kind.UNEXPLAINED_GAP,
        severity=Severity.NOTICE,
        sentence=f"{table.title}: {row.name} has no figures, and nothing says why",
        places=(table.place(row),),
    )
