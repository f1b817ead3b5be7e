"""Result lines on standard output, and the termination message that proves that none is missing.

A line is ``QUANTBENCH `` and compact JSON, below the 16 KiB at which container runtimes cut a line in two. The
termination message carries the number of lines and the SHA-256 of their JSON parts joined by newlines; it is
rewritten after each line, so it is right even when the process is killed without warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

MARKER: Final = "QUANTBENCH "
MAX_LINE_BYTES: Final = 14_999
MAX_MESSAGE_CHARACTERS: Final = 2_000
MAX_TERMINATION_BYTES: Final = 4_000
TERMINATION_LOG: Final = "/dev/termination-log"


def reserve_stdout() -> int:
    """Keep standard output for result lines: returns it as a new descriptor, and sends everything else that writes
    to descriptor 1 (print, vLLM's logging, C libraries, child processes) to standard error.
    """
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    return results


def plain(value: Any) -> Any:
    """`value` as JSON without NaN and Infinity (null instead) and without numpy types."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    item = getattr(value, "item", None)  # numpy scalars
    return plain(item()) if callable(item) else str(value)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters of a text, without its surrounding white space."""
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Output:
    """The one writer of result lines."""

    def __init__(self, descriptor: int, termination_path: str) -> None:
        self._descriptor = descriptor
        self._termination_path = termination_path
        self._digest = hashlib.sha256()
        self._lines = 0
        self._error: dict[str, str] | None = None
        self._complete = False
        self._writing = False
        self._exit_status: int | None = None

    @property
    def lines(self) -> int:
        """Number of lines written so far."""
        return self._lines

    def event(self, name: str, time: float, **fields: Any) -> None:
        """One ``event`` line; `time` in Unix seconds."""
        self.emit({"kind": "event", "name": name, "time": time, **fields})

    def error(self, reason: str, message: str) -> None:
        """The ``error`` line, also kept for the termination message."""
        message = shorten(message, MAX_MESSAGE_CHARACTERS)
        self._error = {"reason": reason, "message": message}
        self.emit({"kind": "error", "reason": reason, "message": message})

    def end(self, *, complete: bool, passes: int) -> None:
        """The last line."""
        self._complete = complete
        self.emit({"kind": "end", "complete": complete, "passes": passes})

    def emit(self, record: Mapping[str, Any]) -> None:
        """Write one line at once. Raises ValueError for a record that does not fit into one line."""
        text = json.dumps(plain(record), separators=(",", ":"), allow_nan=False)
        line = f"{MARKER}{text}\n".encode("ascii")
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"a result line of {len(line)} bytes exceeds {MAX_LINE_BYTES}")
        # A signal handler runs between any two of these statements; `exit_now` waits for the last of them.
        self._writing = True
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            if self._lines:
                self._digest.update(b"\n")
            self._digest.update(text.encode("ascii"))
            self._lines += 1
            self._write_termination_message()
        finally:
            self._writing = False
            if self._exit_status is not None:
                os._exit(self._exit_status)

    def exit_now(self, status: int) -> None:
        """End the process at once, for a signal handler; a line being written is finished first."""
        self._exit_status = status
        if not self._writing:
            self._write_termination_message()
            os._exit(status)

    def termination_message(self) -> str:
        """JSON of fewer than 4000 bytes: Kubernetes cuts the message at 4096."""
        error = dict(self._error) if self._error else None
        while True:
            message = {
                "schema": 1,
                "complete": self._complete,
                "lines": self._lines,
                "sha256": self._digest.hexdigest(),
                "error": error,
            }
            text = json.dumps(message, separators=(",", ":"))
            if len(text) < MAX_TERMINATION_BYTES or error is None:
                return text
            error["message"] = shorten(error["message"], len(error["message"]) // 2)

    def _write_termination_message(self) -> None:
        data = self.termination_message().encode("ascii")
        # Overwritten in place and cut afterwards: there is no moment at which the file is empty.
        with contextlib.suppress(OSError):
            descriptor = os.open(self._termination_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.pwrite(descriptor, data, 0)
                os.ftruncate(descriptor, len(data))
            finally:
                os.close(descriptor)
