"""The work queue: one worker per key at a time, duplicates merged, failures retried with growing delays.

Keys that are due wait in order of arrival, so that no object starves another.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
FIRST_DELAY = 0.2
LONGEST_DELAY = 20.0
"""Between two tries [s]. Short, because a GPU may be waiting; an overloaded API server asks for more by itself."""

log = logging.getLogger(__name__)


class WorkQueue(Generic[K]):
    """Calls ``work(key)`` for keys that are due; the call returns when to look at the key again [s], or None."""

    def __init__(self, work: Callable[[K], Awaitable[float | None]], workers: int) -> None:
        self._work, self._workers = work, workers
        self._ready: OrderedDict[K, float] = OrderedDict()
        self._busy: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self.finished = 0

    def add(self, key: K) -> None:
        """The key is due now. While it is being worked on, it becomes due again right after."""
        self._cancel(key)
        if key in self._busy:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = time.monotonic()
            self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """The key is due in so many seconds, unless it is due before."""
        if seconds <= 0:
            self.add(key)
            return
        pending = self._timers.get(key)
        if pending is None or pending.when() > asyncio.get_running_loop().time() + seconds:
            self._cancel(key)
            self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.add, key)

    @property
    def depth(self) -> int:
        """Keys that are due and wait for a worker."""
        return len(self._ready)

    @property
    def oldest(self) -> float:
        """How long the first of them has waited [s]."""
        first = next(iter(self._ready.values()), None)
        return 0.0 if first is None else time.monotonic() - first

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            while not self._ready:
                self._wake.clear()
                await self._wake.wait()
            key, _ = self._ready.popitem(last=False)
            self._busy.add(key)
            after: float | None = None
            failed = False
            try:
                after = await self._work(key)
                self._failures.pop(key, None)
            except Exception as error:  # noqa: BLE001 - what goes wrong with one object must not stop the others
                failed, after = True, self._delay(key, error)
            finally:
                self._busy.discard(key)
                self.finished += 1
            again = key in self._again
            self._again.discard(key)
            if again and not failed:
                self.add(key)
            elif after is not None:
                self.add_after(key, after)

    def _delay(self, key: K, error: Exception) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures - 1, 20))
        asked: float | None = getattr(error, "retry_after", None)
        if getattr(error, "status", None) == 409:
            # Someone else wrote meanwhile: nothing is wrong, look again at once.
            delay = FIRST_DELAY
        elif getattr(error, "status", None) is not None:
            log.warning("%s: %s; again in %.1f s", key, error, max(delay, asked or 0.0))
        else:
            log.exception("%s failed; again in %.1f s", key, delay)
        return max(delay, asked or 0.0)

    def _cancel(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
