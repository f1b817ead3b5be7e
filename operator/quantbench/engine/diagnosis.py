"""Why a vLLM server failed, from its log and exit status.

The first cause counts, not the last line: vLLM wraps a worker's error two or three times on the way out. Work is
linear in the length of the log.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from quantbench.api.names import Verdict
from quantbench.engine.lines import strip
from quantbench.engine.signatures import (
    DIED_SERVING,
    EXIT_CODES,
    HANDLED,
    MEMORY_HINTS,
    SIGNATURES,
    STAGE_MARKS,
    WRAPPERS,
    Signature,
    Stage,
)

LONGEST_LINE = 512
"""Characters of ``Diagnosis.line``."""
_LOOKED_AT = 4096
"""Characters of one log line that are looked at; vLLM's own lines tell within the first few hundred."""
_SHORTEST = 8
"""No signature is shorter."""
_KILLED = "a process of the server was killed: raise the pod's memory limit"
_DIED = "a process of the server vanished without a word: most often for memory, so raise the pod's memory limit"
_ASKED_TO_STOP = frozenset({None, 0, 143})

_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w{0,80}\.){0,12}[A-Z]\w{0,80}(?:Error|Exception|Unsupported|Timeout)(?=:|$)")
_PYDANTIC_TAIL = re.compile(r" \[type=\w{1,64}, input_value=")
_KILLED_CHILD = re.compile(r"(?:Failed core proc\(s\): \{[^}]{0,200}: |exit code: )-9\b")


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, for a status and for a person."""

    verdict: Verdict
    reason: str
    """CamelCase, from a fixed set (``signatures``) or the name of the exception."""
    line: str
    """The first telling line, without its log prefix, at most ``LONGEST_LINE`` characters; empty if there is none."""
    hint: str
    """What to change; empty when nothing is known."""

    @property
    def known(self) -> bool:
        """Whether it says more than that something failed."""
        return self.hint != "" or self.verdict is not Verdict.FAILED


class _Line(NamedTuple):
    text: str
    """Without colour and log prefix, at most ``_LOOKED_AT`` characters."""
    level: str
    """Level of vLLM's logger or uvicorn's; empty for raw output such as tracebacks."""
    stage: Stage
    after_shutdown: bool
    handled: bool
    """It tells of an attempt that is repeated or done without, or belongs to the traceback of one."""


def diagnose(log: str, exit_code: int | None, *, served: bool = False) -> Diagnosis:
    """The first cause of the failure in ``log``, else what the exit status says, else the last line.

    ``exit_code`` is None while the server runs, for instance when it did not become ready in time. ``served``: it is
    known to have been ready, whether or not the log still tells of its start. Whether Kubernetes evicted or OOM-killed
    the pod is not for this function: the pod's status says so.
    """
    lines = list(_lines(log, served))
    cause = _cause(lines, exit_code)
    if cause is not None:
        return cause
    wrappers = [line.text for line in lines if _is_wrapper(line)]
    wrapper = wrappers[0] if wrappers else None
    killed = next((text for text in wrappers if _KILLED_CHILD.search(text)), None)
    last = next((line.text for line in reversed(lines) if not line.after_shutdown), "")
    shown = _shorten(killed or wrapper or last)
    if killed is not None:
        return Diagnosis(Verdict.OUT_OF_MEMORY, "HostMemory", shown, _KILLED)
    by_status = EXIT_CODES.get(exit_code) if exit_code is not None else None
    if by_status is not None:
        return Diagnosis(by_status.verdict, by_status.reason, shown, by_status.hint)
    if wrapper is not None:
        return Diagnosis(Verdict.FAILED, "EngineDied", shown, _DIED)
    return Diagnosis(Verdict.FAILED, "Stopped" if exit_code == 0 else "Unknown", shown, "")


def find_cause(log: str, exit_code: int | None = None) -> Diagnosis | None:
    """The first cause of a failure that ``log`` shows, or None: a healthy server's log has none."""
    return _cause(list(_lines(log)), exit_code)


def _cause(lines: Sequence[_Line], exit_code: int | None) -> Diagnosis | None:
    """Causes before the shutdown first, known ones before unknown ones.

    What follows ``[shutdown]`` is the noise of processes being stopped. It counts only for a server that failed
    by itself before it served: its parent sometimes reports the error after the workers are gone.
    """
    telling = [index for index, line in enumerate(lines) if _speaks_of_failure(line)]
    before = [index for index in telling if not lines[index].after_shutdown]
    after = telling[len(before) :]
    served = bool(lines) and lines[-1].stage is Stage.SERVING
    parts = [before] if served or exit_code in _ASKED_TO_STOP else [before, after]
    for part in parts:
        found = _known(lines, part) or _exception(lines, part)
        if found is not None:
            return found
    return None


def _lines(log: str, served: bool = False) -> Iterator[_Line]:
    stage, after_shutdown = Stage.SERVING if served else Stage.LOAD, False
    handled_records: set[tuple[str, str]] = set()
    for raw in log.splitlines():
        text, level, process, record = strip(raw[:_LOOKED_AT])
        if not text:
            continue
        after_shutdown = after_shutdown or text.startswith("[shutdown]")
        handled = (process, record) in handled_records
        if not handled and any(mark in text for mark in HANDLED):
            handled = True
            # A logged exception is one record: its traceback says no more than its first line does.
            if record:
                handled_records.add((process, record))
        yield _Line(text, level, stage, after_shutdown, handled)
        for mark, next_stage in () if served else STAGE_MARKS:
            if mark in text:
                stage = next_stage


def _speaks_of_failure(line: _Line) -> bool:
    """Neither an ordinary log line nor a traceback's source line (four spaces and more) or file line."""
    if len(line.text) < _SHORTEST or line.level not in ("", "ERROR", "CRITICAL"):
        return False
    return not line.handled and not line.text.startswith(("[W", "    ", '  File "'))


def _is_wrapper(line: _Line) -> bool:
    if len(line.text) < _SHORTEST or (line.after_shutdown and DIED_SERVING not in line.text):
        return False
    return not line.text.startswith("    ") and any(text in line.text for text in WRAPPERS)


def _known(lines: Sequence[_Line], part: Sequence[int]) -> Diagnosis | None:
    """The first line with a signature."""
    for index in part:
        line = lines[index]
        for signature in SIGNATURES:
            if signature.needle in line.text and _was_seen(signature.seen, lines, index):
                return _from_signature(signature, lines, index)
    return None


def _was_seen(wanted: str, lines: Sequence[_Line], index: int) -> bool:
    """Looks back over the log; a table that asks this on many lines of a log would make it quadratic."""
    return not wanted or any(wanted in line.text.lower() for line in lines[: index + 1])


def _from_signature(signature: Signature, lines: Sequence[_Line], index: int) -> Diagnosis:
    line = lines[index]
    text = _message(line.text)
    if text.endswith("Reasons:"):
        text = _with_reasons(text, lines, index)
    if not signature.reason:
        return Diagnosis(signature.verdict, line.stage.value, _shorten(text), MEMORY_HINTS[line.stage])
    hint = signature.hint
    if signature.pattern is not None:
        match = signature.pattern.search(line.text)
        hint = hint.format_map(match.groupdict()) if match else signature.plain
    return Diagnosis(signature.verdict, str(signature.reason), _shorten(text), hint)


def _with_reasons(text: str, lines: Sequence[_Line], index: int) -> str:
    """VLLM lists one reason per kernel on the lines that follow: they are the message."""
    reasons = []
    for line in lines[index + 1 : index + 17]:
        if "Kernel" not in line.text or not _speaks_of_failure(line):
            break
        reasons.append(line.text.strip())
    return f"{text} {'; '.join(reasons)}" if reasons else text


def _exception(lines: Sequence[_Line], part: Sequence[int]) -> Diagnosis | None:
    """The first line that names an exception, wrappers aside; its class is the reason."""
    for index in part:
        line = lines[index]
        match = _EXCEPTION.match(line.text)
        if match is None or any(text in line.text for text in WRAPPERS):
            continue
        name = match[0].rpartition(".")[2]
        text = line.text
        if "validation error" in text:
            text = _pydantic(text, lines, index)
        return Diagnosis(Verdict.FAILED, name, _shorten(text), "")
    return None


def _pydantic(text: str, lines: Sequence[_Line], index: int) -> str:
    """The message below a pydantic summary: ``Value error, …``, or the field's name and what is wrong with it."""
    below = [line.text for line in lines[index + 1 : index + 3]]
    if not below:
        return text
    if len(below) > 1 and not below[0].startswith(" ") and below[1].startswith(" "):
        return f"{below[0].strip()}: {_message(below[1])}"
    return _message(below[0]) or text


def _message(text: str) -> str:
    """A line without pydantic's wrapping, and without the tuple that some of vLLM's errors hold by mistake."""
    message = text.strip().removeprefix("Value error, ")
    if match := _PYDANTIC_TAIL.search(message):
        message = message[: match.start()]
    head, opening, rest = message.partition("('")
    if opening and rest.endswith("')"):
        message = head + rest[:-2].replace("', '", " ")
    return message


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"
