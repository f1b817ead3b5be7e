"""Continuous batching on a timetable: the model that the package's docstring states."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from simengine.config import Config
from simengine.metrics import Metrics

DEAD: Final = None
"""Put into a request's tokens when the engine has died."""


@dataclass
class Request:
    """One request on its way through the engine. Times are those of the event loop [s]."""

    id: str
    prompt: str
    prompt_tokens: int
    output_tokens: int
    finish_reason: str
    arrived: float
    dropped: bool = False
    cached_tokens: int = 0
    generated: int = 0
    scheduled: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    steps: asyncio.Queue[int | None] = field(default_factory=asyncio.Queue)
    """A number per token: how many there are now."""

    @property
    def finished(self) -> bool:
        return self.generated >= self.output_tokens


class Scheduler:
    """Gives every request its tokens at the times of the model."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self.config, self.metrics = config, metrics
        self.dead = False
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self._arrived = asyncio.Event()
        self._seen: set[str] = set()
        self._start_effect = log_normal(f"{config.seed}/start", config.start_sigma)

    def add(self, request: Request) -> None:
        """A request has come."""
        self.waiting.append(request)
        self._arrived.set()
        self.metrics.load(len(self.running), len(self.waiting))

    def remove(self, request: Request) -> None:
        """The client of a request is gone."""
        if request in self.running:
            self.running.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        else:
            return
        self.metrics.aborted()
        self.metrics.load(len(self.running), len(self.waiting))

    def die(self) -> None:
        """The engine is gone: every stream ends here."""
        self.dead = True
        for request in [*self.running, *self.waiting]:
            request.steps.put_nowait(DEAD)
        self.running.clear()
        self.waiting.clear()

    async def run(self) -> None:
        """Make steps for ever."""
        loop = asyncio.get_running_loop()
        while not self.dead:
            if not self.running and not self.waiting:
                self._arrived.clear()
                await self._arrived.wait()
                due = loop.time()
            fresh = self._admit(loop.time())
            due += self._seconds(fresh)
            await asyncio.sleep(max(0.0, due - loop.time()))
            self._step(loop.time())

    def _admit(self, now: float) -> list[Request]:
        fresh = []
        while self.waiting and len(self.running) < self.config.max_num_seqs:
            request = self.waiting.popleft()
            request.scheduled = now
            if self.config.traps.prefix_cache and request.prompt in self._seen:
                # vLLM computes at least the last token, and caches whole blocks of 16.
                request.cached_tokens = (request.prompt_tokens - 1) // 16 * 16
            self._seen.add(request.prompt)
            self.metrics.scheduled(request)
            self.running.append(request)
            fresh.append(request)
        self.metrics.load(len(self.running), len(self.waiting))
        return fresh

    def _seconds(self, fresh: list[Request]) -> float:
        config = self.config
        prefill = sum(request.prompt_tokens - request.cached_tokens for request in fresh)
        seconds = (
            config.step_seconds
            + config.step_seconds_per_request * len(self.running)
            + config.prefill_seconds_per_token * prefill
        )
        return seconds * self._start_effect * self._pass_effect() / config.speedup

    def _pass_effect(self) -> float:
        if not self.running:
            return 1.0
        # The load generator's ids end in a number: what stands before it is common to all requests of a pass.
        name = self.running[0].id.rpartition("-")[0].partition("-")[2].partition("-")[2]
        return log_normal(f"{self.config.seed}/{name}", self.config.pass_sigma)

    def _step(self, now: float) -> None:
        for request in self.running:
            request.generated += 1
            if request.generated == 1:
                request.first_token = now
                self.metrics.first_token(request)
            else:
                self.metrics.next_token(now - request.last_token)
            request.last_token = now
            request.steps.put_nowait(request.generated)
        for request in [request for request in self.running if request.finished]:
            self.running.remove(request)
            self.metrics.finished(request)
        self.metrics.load(len(self.running), len(self.waiting))


def log_normal(key: str, sigma: float) -> float:
    """Drawn from a log-normal distribution of median 1; the same for the same key."""
    return math.exp(random.Random(key).gauss(0.0, sigma)) if sigma else 1.0
