"""One line of a container's log of vLLM, without what loggers, processes and Kubernetes put before it."""

import re
from typing import NamedTuple

LOOKED_AT = 8192
"""Characters of one log line that are looked at; the longest of vLLM's own is the engine's configuration."""

_COLOUR = re.compile(r"\x1b\[[0-9;]{0,32}m")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]{8,20}(?:Z|[+-]\d\d:\d\d) ")
_PROCESS = re.compile(r"\(([A-Za-z][^()]{0,80})\) ?")
_LEVEL = re.compile(
    r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)"
    r"(?: \d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})? \[[^\]\s]{1,160}\] ?|: {1,8})"
)


class Line(NamedTuple):
    """A line without its prefix."""

    text: str
    level: str
    """Level of vLLM's logger or uvicorn's; empty for raw output such as tracebacks."""
    process: str
    """What vLLM calls the process that wrote it, e.g. ``Worker_TP0 pid=93``; empty where it does not say."""
    record: str
    """The logger's prefix, which all lines of one record share: level, time, place; empty for raw output."""


def strip(raw: str) -> Line:
    """A line without colours, timestamp, process name and logger prefix; indentation stays."""
    text = _COLOUR.sub("", raw) if "\x1b" in raw else raw
    if text[:1].isdigit() and (match := _TIMESTAMP.match(text)):
        text = text[match.end() :]
    process = ""
    for _ in range(3):
        if text[:1] != "(" or (match := _PROCESS.match(text)) is None:
            break
        process, text = process or match[1], text[match.end() :]
    if match := _LEVEL.match(text):
        return Line(text[match.end() :].rstrip(), match["level"], process, match[0])
    return Line(text.rstrip(), "", process, "")
