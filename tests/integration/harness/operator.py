"""An operator inside the test's process: started, killed between any two writes, fed with bad weather."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from prometheus_client import CollectorRegistry

from harness.api import JsonObject
from harness.world import World
from quantbench.controller import OWN_KINDS, Controller
from quantbench.kube import ApiError, CallObserver, Kube
from quantbench.metrics import Health
from quantbench.resources.programs import RunnerImage
from quantbench.settings import Settings

WRITES = frozenset({"apply", "create", "update", "patch", "delete"})
Send = Callable[[], Awaitable[bytes]]


class Killed(BaseException):
    """The process was killed. Not an Exception: nothing in the operator may catch it, as nothing catches SIGKILL."""


@dataclass(frozen=True)
class Request:
    """One request of the operator to the API server."""

    verb: str
    kind: str
    path: str
    body: Any

    @property
    def write(self) -> bool:
        return self.verb in WRITES

    @property
    def step(self) -> str:
        """What the request is for, in words that do not depend on timing."""
        component = re.search(r"-([sl])\d+(-|$)", self.path)
        what = self.kind + ({"s": " server", "l": " load"}[component[1]] if component else "")
        status = (self.body.get("status") if isinstance(self.body, dict) else None) or {}
        reasons = [condition["reason"] for condition in status.get("conditions") or []]
        # An operator that comes late tells the last cells and the end of a study in one write: that write is the end.
        marks = [mark for mark in ("verdict", "finishedAt", "cells") if status.get(mark)][:1]
        marks += [reason for reason in ("Ended",) if reason in reasons]
        return " ".join([self.verb, what, *marks])


Weather = Callable[[Request, Send], Awaitable[bytes]]


async def fair(request: Request, send: Send) -> bytes:
    """Every request is answered."""
    return await send()


class Journal:
    """Weather that writes down the writes and passes all on to another weather."""

    def __init__(self, weather: Weather = fair) -> None:
        self.weather = weather
        self.writes: list[str] = []

    async def __call__(self, request: Request, send: Send) -> bytes:
        if request.write:
            self.writes.append(request.step)
        return await self.weather(request, send)


class Struck:
    """Weather that does its harm at one write: the n-th of its step (from 1), or the n-th of all."""

    def __init__(self, number: int, step: str | None = None) -> None:
        self.number, self.step = number, step
        self.count = 0
        self.hit: str | None = None

    async def __call__(self, request: Request, send: Send) -> bytes:
        if not request.write or self.step not in (None, request.step):
            return await send()
        self.count += 1
        if self.count != self.number:
            return await send()
        self.hit = f"{request.step} #{self.number}"
        return await self.strike(send)

    async def strike(self, send: Send) -> bytes:
        raise NotImplementedError


class KilledBefore(Struck):
    """The process dies right before the write."""

    async def strike(self, send: Send) -> bytes:
        raise Killed(f"before {self.hit}")


class KilledAfter(Struck):
    """The process dies right after the write."""

    async def strike(self, send: Send) -> bytes:
        await send()
        raise Killed(f"after {self.hit}")


class AnswerLost(Struck):
    """The write is done, but the client sees a time-out."""

    async def strike(self, send: Send) -> bytes:
        await send()
        raise ApiError(0, "TimeoutError", "the answer was lost")


class WeatheredKube(Kube):
    """The operator's client with weather between it and the API server."""

    def __init__(self, api: ApiClient, weather: Weather, observer: CallObserver) -> None:
        super().__init__(api, observer)
        self.weather = weather

    async def _call(
        self,
        verb: str,
        kind: str,
        method: str,
        path: str,
        query: Any = None,
        body: Any = None,
        content_type: str | None = None,
        silence: float | None = None,
    ) -> bytes:
        async def send() -> bytes:
            return await super(WeatheredKube, self)._call(verb, kind, method, path, query, body, content_type, silence)

        return await self.weather(Request(verb, kind, path, body), send)


async def connect(kubeconfig: Path) -> ApiClient:
    """The official client, without a bound on connections: many operators share it."""
    configuration = Configuration()
    await config.load_config(config_file=str(kubeconfig), client_configuration=configuration)
    configuration.connection_pool_maxsize = 0
    return ApiClient(configuration)


def settings(*namespaces: str) -> Settings:
    """Settings of an operator for some namespaces."""
    return Settings(
        namespaces=namespaces,
        runner=RunnerImage("localhost/quantbench/operator:0.1.0"),
        lease_namespace=None,
        lease_name="quantbench-operator",
        identity="test",
        port=0,
        workers=4,
        json_logs=False,
    )


@dataclass
class Clock:
    """The wall clock, which a test can put forward."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Operator:
    """One life of an operator process that watches one namespace."""

    def __init__(self, api: ApiClient, world: World, namespace: str, weather: Weather = fair) -> None:
        self.world, self.namespace = world, namespace
        self.registry, self.clock = CollectorRegistry(), Clock()
        health = Health(self.registry)
        self.kube = WeatheredKube(api, weather, health.api_call)
        self.controller = Controller(self.kube, settings(namespace), health)
        self.controller.reconciler.clock = self.clock
        self.ended = asyncio.Event()
        self.death: BaseException | None = None
        self._deaf: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Operator":
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Start to work; events of the custom resources come from the test's watch instead of kopf's."""
        self._deaf = self.world.listen(self.namespace, self._on_change)
        self._task = asyncio.create_task(self._lead())

    async def stop(self) -> None:
        """End at whatever point the process is."""
        self._deaf()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def jump(self, seconds: float) -> None:
        """Put the clock forward and look at everything."""
        self.clock.ahead += timedelta(seconds=seconds)
        await self.controller.resync()

    async def idle(self, seconds: float = 120.0) -> None:
        """Wait until nothing is due and nothing is being worked on, or the operator has ended: a dead one works no more.

        Raises AssertionError where the operator still works after ``seconds``.
        """
        queue = self.controller.queue
        try:
            async with asyncio.timeout(seconds):
                for _ in range(3):
                    while (queue.depth or queue._busy) and not self.ended.is_set():
                        await asyncio.sleep(0.01)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"still at work after {seconds:g} s: {queue.depth} due, {queue._busy}") from None

    async def _lead(self) -> None:
        try:
            await self.controller.lead()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the test asks what it died of
            self.death = error
        finally:
            self._deaf()
            self.ended.set()

    def _on_change(self, kind: str, event: str, raw: JsonObject) -> None:
        if kind in OWN_KINDS:
            self.controller.seen(kind, event, raw)


def was_killed(error: BaseException | None) -> bool:
    """Whether an operator ended because the test killed it, and for no other reason."""
    if isinstance(error, BaseExceptionGroup):
        return all(was_killed(inner) for inner in error.exceptions)
    return isinstance(error, Killed)
