"""The work queue: merging, one worker per key, order, back-off."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from quantbench.kube import ApiError
from quantbench.workqueue import FIRST_DELAY, LONGEST_DELAY, WorkQueue

Work = Callable[[str], float | None]


@asynccontextmanager
async def running(queue: WorkQueue[str]) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is true; a failure after 5 s."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


class Slow:
    """Work that waits until it is let go, and notes what goes on at the same time."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.busy: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.at_once = 0
        self.go = asyncio.Event()

    async def __call__(self, key: str) -> float | None:
        self.busy[key] += 1
        self.most[key] = max(self.most[key], self.busy[key])
        self.at_once = max(self.at_once, self.busy.total())
        await self.go.wait()
        self.busy[key] -= 1
        self.done.append(key)
        return None


async def test_equal_keys_are_merged() -> None:
    work = Slow()
    queue = WorkQueue(work, workers=1)
    for _ in range(100):
        queue.add("a")
    assert queue.depth == 1
    work.go.set()
    async with running(queue):
        await until(lambda: queue.finished == 1)
        await asyncio.sleep(0.02)
    assert work.done == ["a"]


async def test_a_key_is_never_worked_on_twice_at_a_time() -> None:
    work = Slow()
    queue = WorkQueue(work, workers=4)
    async with running(queue):
        queue.add("a")
        await until(lambda: work.busy["a"] == 1)
        for _ in range(10):
            queue.add("a")
        await asyncio.sleep(0.02)
        assert work.busy["a"] == 1
        work.go.set()
        # What happened meanwhile is looked at once more, and once only.
        await until(lambda: queue.finished == 2)
        await asyncio.sleep(0.02)
    assert work.done == ["a", "a"]
    assert work.most["a"] == 1


async def test_workers_share_the_keys() -> None:
    work = Slow()
    queue = WorkQueue(work, workers=3)
    async with running(queue):
        for key in "abcdef":
            queue.add(key)
        await until(lambda: work.busy.total() == 3)
        await asyncio.sleep(0.02)
        assert work.at_once == 3
        assert queue.depth == 3
        work.go.set()
        await until(lambda: queue.finished == 6)


async def test_a_busy_key_does_not_starve_others() -> None:
    order: list[str] = []
    queue: WorkQueue[str]

    async def work(key: str) -> float | None:
        order.append(key)
        queue.add("noisy")  # it is always due again
        await asyncio.sleep(0)
        return None

    queue = WorkQueue(work, workers=1)
    async with running(queue):
        for key in ("noisy", "a", "b", "c"):
            queue.add(key)
        await until(lambda: {"a", "b", "c"} <= set(order))
    assert order[:4] == ["noisy", "a", "b", "c"]


async def test_the_call_says_when_to_look_again() -> None:
    moments: list[float] = []

    async def work(key: str) -> float | None:
        moments.append(asyncio.get_running_loop().time())
        return 0.05 if len(moments) < 3 else None

    queue = WorkQueue(work, workers=1)
    async with running(queue):
        queue.add("a")
        await until(lambda: len(moments) == 3)
        await asyncio.sleep(0.1)
    assert len(moments) == 3
    assert all(later - earlier >= 0.045 for earlier, later in itertools.pairwise(moments))


async def test_an_event_comes_before_the_timer() -> None:
    seen: list[str] = []

    async def work(key: str) -> float | None:
        seen.append(key)
        return 30.0

    queue = WorkQueue(work, workers=1)
    async with running(queue):
        queue.add("a")
        await until(lambda: len(seen) == 1)
        queue.add("a")
        await until(lambda: len(seen) == 2)
    # Of two timers the earlier one counts.
    queue.add_after("b", 0.02)
    queue.add_after("b", 60)
    async with running(queue):
        await until(lambda: seen[-1] == "b")


async def test_failures_are_retried_with_growing_delays(caplog: pytest.LogCaptureFixture) -> None:
    queue = WorkQueue(Slow(), workers=1)
    with caplog.at_level(logging.CRITICAL):
        delays = [queue._delay("a", ValueError("no")) for _ in range(12)]
    assert delays[:4] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY, 8 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
    assert queue._delay("b", ApiError(500, "", "")) == FIRST_DELAY


async def test_the_server_may_ask_for_patience() -> None:
    queue = WorkQueue(Slow(), workers=1)
    assert queue._delay("a", ApiError(429, "TooManyRequests", "slow down", retry_after=7.0)) == 7.0
    assert queue._delay("a", ApiError(429, "TooManyRequests", "slow down", retry_after=0.0)) == 2 * FIRST_DELAY


async def test_a_conflict_is_no_failure_to_back_off_from() -> None:
    queue = WorkQueue(Slow(), workers=1)
    assert [queue._delay("a", ApiError(409, "Conflict", "")) for _ in range(5)] == [FIRST_DELAY] * 5


async def test_a_failing_key_is_taken_again_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantbench.workqueue.FIRST_DELAY", 0.01)
    tries: Counter[str] = Counter()

    async def work(key: str) -> float | None:
        tries[key] += 1
        if key == "bad" and tries[key] < 4:
            raise ApiError(500, "InternalError", "sometimes")
        return None

    queue = WorkQueue(work, workers=1)
    async with running(queue):
        queue.add("bad")
        queue.add("good")
        await until(lambda: tries["bad"] == 4)
        await until(lambda: not queue._failures)
    assert tries == {"bad": 4, "good": 1}
    # After a success the delays begin anew.
    assert queue._delay("bad", ApiError(500, "", "")) == 0.01


async def test_events_during_a_failing_look_do_not_defeat_the_back_off() -> None:
    tries: list[float] = []
    queue: WorkQueue[str]

    async def work(key: str) -> float | None:
        tries.append(asyncio.get_running_loop().time())
        queue.add(key)  # its own write comes back as an event
        await asyncio.sleep(0)  # as any request does; without it a fault would make this test hang
        raise ApiError(500, "InternalError", "always")

    queue = WorkQueue(work, workers=1)
    async with running(queue):
        queue.add("a")
        await until(lambda: len(tries) == 2)
    assert tries[1] - tries[0] >= 0.9 * FIRST_DELAY


async def test_how_long_the_first_has_waited() -> None:
    queue = WorkQueue(Slow(), workers=1)
    assert queue.oldest == 0.0
    queue.add("a")
    await asyncio.sleep(0.02)
    queue.add("b")
    assert queue.oldest >= 0.02


async def test_more_events_do_not_make_the_first_look_younger() -> None:
    """Or a queue that no worker serves would never be noticed."""
    queue = WorkQueue(Slow(), workers=1)
    queue.add("a")
    queue.add("b")
    await asyncio.sleep(0.03)
    queue.add("a")
    queue.add("b")
    assert queue.oldest >= 0.03
