"""Result lines and the termination message."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loadrunner.output import Output, plain


class Pipe:
    """An Output whose lines can be read back."""

    def __init__(self, tmp_path: Path) -> None:
        self.termination = tmp_path / "termination-log"
        self._reader, writer = os.pipe()
        self.output = Output(writer, str(self.termination))
        self._writer = writer

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def parts(self) -> list[str]:
        lines = os.read(self._reader, 65_536).decode().splitlines()
        assert all(line.startswith("QUANTBENCH ") for line in lines)
        return [line.removeprefix("QUANTBENCH ") for line in lines]

    def message(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.termination.read_text())
        return result


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    result = Pipe(tmp_path)
    yield result
    result.close()


def test_the_digest_covers_every_line(pipe: Pipe) -> None:
    pipe.output.event("started", 1.5, python="3.11")
    assert pipe.message()["lines"] == 1, "the message is right after each line, for a process that is killed"
    pipe.output.emit({"kind": "pass", "text": "Grüße\n"})
    pipe.output.end(complete=True, passes=1)
    parts = pipe.parts()
    assert json.loads(parts[0]) == {"kind": "event", "name": "started", "time": 1.5, "python": "3.11"}
    assert pipe.message() == {
        "schema": 1,
        "complete": True,
        "lines": 3,
        "sha256": hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        "error": None,
    }


def test_an_error_is_told_twice(pipe: Pipe) -> None:
    pipe.output.error("ServerDied", "gone\n" + "é" * 5000)
    pipe.output.end(complete=False, passes=0)
    (error, end) = (json.loads(part) for part in pipe.parts())
    assert (error["kind"], error["reason"], len(error["message"])) == ("error", "ServerDied", 2000)
    assert end == {"kind": "end", "complete": False, "passes": 0}
    assert pipe.termination.stat().st_size < 4000, "escaped, the message is six times as long"
    assert pipe.message()["error"]["message"].startswith("gone\né")


def test_a_shorter_message_replaces_a_longer_one(pipe: Pipe) -> None:
    pipe.termination.write_text("x" * 9000)
    pipe.output.event("started", 0.0)
    assert pipe.message()["lines"] == 1


def test_no_termination_file(tmp_path: Path) -> None:
    output = Output(os.open(os.devnull, os.O_WRONLY), str(tmp_path / "none" / "log"))
    output.event("started", 0.0)
    assert output.lines == 1


def test_a_line_that_a_container_runtime_would_cut(pipe: Pipe) -> None:
    with pytest.raises(ValueError, match="exceeds 14999"):
        pipe.output.emit({"text": "x" * 15_000})
    assert pipe.output.lines == 0


class NumpyLike:
    def __init__(self, value: object) -> None:
        self._value = value

    def item(self) -> object:
        return self._value


def test_only_json() -> None:
    value = {
        "nan": math.nan,
        "inf": [-math.inf, 1.5],
        "numpy": NumpyLike(7),
        "nested": NumpyLike(math.nan),
        1: (True, None),
    }
    assert plain(value) == {"nan": None, "inf": [None, 1.5], "numpy": 7, "nested": None, "1": [True, None]}
    assert plain(object).startswith("<class")


WRITER = """
import os, signal, sys
from benchmarks.loadrunner.output import Output
output = Output(1, sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: output.exit_now(143))
output.emit({"text": "x" * 14_000})
"""


def test_a_line_is_finished_although_the_process_is_told_to_end(tmp_path: Path) -> None:
    """The pipe takes a part of the line only, so that the signal comes in its middle."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    termination = tmp_path / "termination-log"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(termination)], stdout=writer) as child:
        os.close(writer)
        while not select.select([reader], [], [], 0.01)[0]:
            assert child.poll() is None
        time.sleep(0.1)
        child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        with os.fdopen(reader, "rb") as stream:
            (line,) = stream.readlines()
    assert child.returncode == 143
    assert line.endswith(b"}\n")
    assert json.loads(line.removeprefix(b"QUANTBENCH "))["text"] == "x" * 14_000
    assert json.loads(termination.read_text())["lines"] == 1
