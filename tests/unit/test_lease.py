"""Leader election: one at a time, whatever stops, hangs or comes back."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from core_support.objects import stored
from quantbench import lease as module
from quantbench.api.base import JsonObject
from quantbench.kube import ApiError
from quantbench.lease import Lease, give_up, lead_while_elected
from quantbench.settings import Settings


class Leases:
    """The Lease as an API server keeps it: a write with an old resourceVersion is a conflict."""

    def __init__(self) -> None:
        self.lease: JsonObject | None = None
        self.version = 0
        self.error: ApiError | None = None
        self.hangs = False

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error

    async def get(self, kind: str, namespace: str, name: str) -> JsonObject | None:
        await self._answer()
        return copy.deepcopy(self.lease)

    async def create(self, manifest: JsonObject) -> JsonObject:
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "")
        return self._store(manifest)

    async def replace(self, manifest: JsonObject) -> JsonObject:
        await self._answer()
        if manifest["metadata"].get("resourceVersion") != str(self.version):
            raise ApiError(409, "Conflict", "")
        return self._store(manifest)

    async def patch(self, kind: str, namespace: str, name: str, patch: JsonObject, subresource: str = "") -> JsonObject:
        assert self.lease is not None
        if patch["metadata"]["resourceVersion"] != str(self.version):
            raise ApiError(409, "Conflict", "")
        return self._store({**self.lease, "spec": {**self.lease["spec"], **patch["spec"]}})

    def _store(self, manifest: JsonObject) -> JsonObject:
        self.version += 1
        self.lease = stored(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return self.lease

    @property
    def holder(self) -> str | None:
        found: str | None = self.lease["spec"]["holderIdentity"] if self.lease else None
        return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same proportions, a hundred times as fast."""
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.03)
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", 0.1)


def candidate(api: Leases, name: str) -> Lease:
    return Lease(api, "system", "operator", name)  # type: ignore[arg-type]


def settings(name: str) -> Settings:
    return Settings.from_environment({"QUANTBENCH_LEASE_NAMESPACE": "system", "POD_NAME": name})


class Work:
    """What a leader does, until it is cancelled."""

    def __init__(self) -> None:
        self.running = False
        self.fails = asyncio.Event()

    async def __call__(self) -> None:
        self.running = True
        try:
            await self.fails.wait()
            raise RuntimeError("a part of the controller failed")
        finally:
            self.running = False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


def leader(api: Leases, name: str) -> tuple[asyncio.Task[Any], Work]:
    work = Work()
    return asyncio.create_task(lead_while_elected(settings(name), api, work)), work  # type: ignore[arg-type]


async def stop(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_leader_stops_before_another_may_start() -> None:
    import importlib

    fresh = importlib.util.module_from_spec(module.__spec__)  # type: ignore[arg-type]
    module.__spec__.loader.exec_module(fresh)  # type: ignore[union-attr]
    assert 2 * fresh.RENEW_SECONDS < fresh.GIVE_UP_SECONDS < fresh.LEASE_SECONDS - fresh.RENEW_SECONDS


async def test_the_first_gets_it_and_renews() -> None:
    api = Leases()
    first, second = candidate(api, "a"), candidate(api, "b")
    assert await first.acquire_or_renew()
    assert not await second.acquire_or_renew()
    assert await first.acquire_or_renew()
    assert api.lease is not None
    spec = api.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("a", 1)
    assert spec["renewTime"] >= spec["acquireTime"]


async def test_a_lease_that_is_not_renewed_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Leases()
    first, second = candidate(api, "a"), candidate(api, "b")
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    assert await first.acquire_or_renew()
    assert not await second.acquire_or_renew()
    now += 14
    assert await first.acquire_or_renew()
    now += 14  # 28 s after b first saw it, 14 s after a renewed it
    assert not await second.acquire_or_renew()
    now += 16
    assert await second.acquire_or_renew()
    assert (api.holder, api.lease["spec"]["leaseTransitions"]) == ("b", 2)  # type: ignore[index]
    assert not await first.acquire_or_renew()


async def test_of_two_that_try_at_once_one_gets_it() -> None:
    api = Leases()
    assert sorted(await asyncio.gather(*(candidate(api, name).acquire_or_renew() for name in "ab"))) == [False, True]
    held = candidate(api, api.holder or "")
    await held.release()
    stale = copy.deepcopy(api.lease)
    assert await candidate(api, "c").acquire_or_renew()
    with pytest.raises(ApiError):
        await api.replace(stale or {})


async def test_a_released_lease_is_free_at_once() -> None:
    api = Leases()
    await candidate(api, "a").acquire_or_renew()
    await give_up(settings("b"), api)  # type: ignore[arg-type]
    assert api.holder == "a"  # not b's to give
    await give_up(settings("a"), api)  # type: ignore[arg-type]
    assert api.holder is None
    assert await candidate(api, "b").acquire_or_renew()
    api.error = ApiError(500, "InternalError", "")
    await give_up(settings("b"), api)  # type: ignore[arg-type]


async def test_only_the_holder_works() -> None:
    api = Leases()
    one, first = leader(api, "a")
    await until(lambda: first.running)
    two, second = leader(api, "b")
    await asyncio.sleep(0.2)
    assert first.running
    assert not second.running
    await stop(one)
    assert not first.running
    await give_up(settings("a"), api)  # type: ignore[arg-type]
    await until(lambda: second.running)
    await stop(two)


async def test_a_restart_of_the_same_pod_takes_its_own_lease_over() -> None:
    api = Leases()
    await candidate(api, "a").acquire_or_renew()
    task, work = leader(api, "a")
    await until(lambda: work.running)
    await stop(task)


@pytest.mark.parametrize("fault", ["error", "hang"])
async def test_a_leader_that_cannot_renew_stops(fault: str) -> None:
    api = Leases()
    task, work = leader(api, "a")
    await until(lambda: work.running)
    if fault == "hang":
        api.hangs = True
    else:
        api.error = ApiError(0, "TimeoutError", "no answer")
    async with asyncio.timeout(1):
        await task
    assert not work.running


async def test_a_short_outage_does_no_harm() -> None:
    api = Leases()
    task, work = leader(api, "a")
    await until(lambda: work.running)
    api.error = ApiError(503, "ServiceUnavailable", "")
    await asyncio.sleep(0.05)
    api.error = None
    await asyncio.sleep(0.2)
    assert work.running
    await stop(task)


async def test_a_leader_that_was_away_stops_as_soon_as_it_sees_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", 60)
    api = Leases()
    task, work = leader(api, "a")
    await until(lambda: work.running)
    assert api.lease is not None
    api._store({**api.lease, "spec": {**api.lease["spec"], "holderIdentity": "b"}})
    async with asyncio.timeout(1):
        await task
    assert not work.running
    assert api.holder == "b"


async def test_the_end_of_the_work_is_told() -> None:
    api = Leases()
    task, work = leader(api, "a")
    await until(lambda: work.running)
    work.fails.set()
    with pytest.raises(RuntimeError, match="a part of the controller failed"):
        await task


async def test_without_a_namespace_there_is_no_election() -> None:
    api = Leases()
    work = Work()
    alone = Settings.from_environment({})
    task = asyncio.create_task(lead_while_elected(alone, api, work))  # type: ignore[arg-type]
    await until(lambda: work.running)
    assert api.lease is None
    await give_up(alone, api)  # type: ignore[arg-type]
    await stop(task)
