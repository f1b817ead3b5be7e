"""Running other programs: their output to a log, its newest line to the progress, their end tied to ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from cluster.layout import ClusterError
from cluster.progress import Step

#: Lines of output shown when a program fails.
TAIL_LINES = 25

_running: set[subprocess.Popen[str]] = set()
_running_lock = threading.Lock()
_cancelled = threading.Event()


class Cancelled(ClusterError):
    """A program was ended because something beside it failed or the person asked to stop."""


def run(
    command: Sequence[str | Path],
    *,
    step: Step | None = None,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    summarise: Callable[[str], str] = str,
) -> None:
    """Run a program to its end.

    Standard output and error go to `log` (if any); the newest line, as `summarise` words it, to `step`.

    Raises:
        ClusterError: the program failed; the message holds the end of its output.
        Cancelled: another task failed, or Ctrl-C was pressed.
    """
    words = [str(word) for word in command]
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    process = _start(words, cwd, env)
    try:
        assert process.stdout is not None
        with open(log or os.devnull, "w", encoding="utf-8") as record:
            for line in process.stdout:
                record.write(line)
                tail.append(line.rstrip())
                if step and any(map(str.isalnum, line)):
                    step.detail(summarise(line))
        status = process.wait()
    finally:
        _end(process)
    if _cancelled.is_set():
        raise Cancelled(f"{words[0]} was stopped")
    if status != 0:
        where = f"\n(the whole output: {log})" if log else ""
        raise ClusterError(f"`{' '.join(words)}` ended with status {status}:\n" + "\n".join(tail) + where)


def output(command: Sequence[str | Path], *, timeout: float = 60) -> str:
    """Standard output of a short program.

    Raises:
        ClusterError: it failed, is missing, or took longer than `timeout` seconds.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"`{' '.join(words)}`: {error}") from error
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(words)}` ended with status {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def together(*tasks: Callable[[], None]) -> None:
    """Run tasks side by side; when one fails, end the programs of the others and raise its error."""
    _cancelled.clear()
    with ThreadPoolExecutor(max_workers=len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            errors = [error for future in futures if future.done() and (error := future.exception())]
        except BaseException:
            cancel()
            raise
        if errors:
            cancel()
    # A cancelled neighbour also ends with an error; the one that started it says more.
    errors.sort(key=lambda error: isinstance(error, Cancelled))
    if errors:
        raise errors[0]


def cancel() -> None:
    """End every program that `run` has started and not yet seen end."""
    _cancelled.set()
    with _running_lock:
        for process in _running:
            process.terminate()


def _start(words: list[str], cwd: Path | None, env: Mapping[str, str] | None) -> subprocess.Popen[str]:
    # With setpriv the kernel ends the program when we are killed, so that no build goes on behind the next one's back.
    guard = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
    with _running_lock:
        if _cancelled.is_set():
            raise Cancelled(f"{words[0]} was not started")
        try:
            process = subprocess.Popen(
                [*guard, *words],
                cwd=cwd,
                env=None if env is None else {**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise ClusterError(f"`{words[0]}` cannot be started: {error}") from error
        _running.add(process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    with _running_lock:
        _running.discard(process)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout:
        process.stdout.close()
