"""What a person sees while something takes its time: one line when a step ends, a heartbeat while it runs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

#: Seconds before a step shows itself, and between its signs of life.
FIRST_SIGN_SECONDS = 2.0
HEARTBEAT_SECONDS = 5.0


class Step:
    """One running step; `detail` is the newest thing known about it."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.started = time.monotonic()
        self._detail = ""

    def detail(self, text: str) -> None:
        """Replace the detail that the next heartbeat shows."""
        self._detail = " ".join(text.split())

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def render(self, mark: str, width: int = 118) -> str:
        """One line: mark, title, seconds, detail, cut to `width` characters."""
        return f"  {mark} {self.title:<34} {self.seconds:6.1f} s  {self._detail}"[:width].rstrip()


class Progress:
    """Prints steps to a stream; several threads may have a step each at the same time."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        """Print one line at once."""
        if not self._quiet:
            with self._lock:
                print(text, file=self._stream, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step while the body runs. A step that fails is marked so; the error goes on."""
        step = Step(title)
        over = threading.Event()
        beat = threading.Thread(target=self._beat, args=(step, over), daemon=True)
        beat.start()
        try:
            yield step
        except BaseException:
            self.line(step.render("✗"))
            raise
        else:
            self.line(step.render("✓"))
        finally:
            over.set()
            beat.join()

    def _beat(self, step: Step, over: threading.Event) -> None:
        pause = FIRST_SIGN_SECONDS
        while not over.wait(pause):
            self.line(step.render("…"))
            pause = HEARTBEAT_SECONDS
