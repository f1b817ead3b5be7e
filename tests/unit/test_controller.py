"""What feeds the queue, and what the process says about its health."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from core_support.fake_kube import FakeKube
from core_support.objects import benchmark_object, run_raw, study
from core_support.pods import pod, running
from quantbench.api.base import JsonObject
from quantbench.controller import RESYNC_SECONDS, STALE_SECONDS, Controller
from quantbench.handlers import _kopf_settings
from quantbench.health import application
from quantbench.kube import ApiError
from quantbench.metrics import Health, study_families
from quantbench.reconcile import Key
from quantbench.resources import labels
from quantbench.settings import Settings

SETTINGS = Settings.from_environment({"QUANTBENCH_WORKERS": "2"})
STUDY, RUN = benchmark_object(study()), run_raw(study())
STUDY_KEY = Key("QuantBenchmark", "bench", "demo")
RUN_KEY = Key("QuantBenchmarkRun", "bench", RUN["metadata"]["name"])


class Cluster(FakeKube):
    """An API server whose listings may fail, and whose watches say what they are told to."""

    def __init__(self, *objects: JsonObject) -> None:
        super().__init__()
        self.objects |= {(raw["kind"], raw["metadata"]["name"]): raw for raw in objects}
        self.blind = False
        self.refused: dict[str | None, int] = {}
        self.lists = 0
        self.events: asyncio.Queue[JsonObject] = asyncio.Queue()

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> list[JsonObject]:
        self.lists += 1
        if self.blind:
            raise ApiError(0, "TimeoutError", "no answer")
        if namespace in self.refused:
            raise ApiError(self.refused[namespace], "Forbidden", f"no rights in {namespace}")
        found = await super().list(kind, namespace, selector)
        for raw in found:
            del raw["kind"]  # as in a real list
        return found

    async def watch(self, kind: str, namespace: str | None, selector: str = "") -> AsyncIterator[JsonObject]:
        while kind == "Pod":
            yield await self.events.get()
        await asyncio.Event().wait()


def controller(*objects: JsonObject) -> tuple[Controller, Cluster]:
    cluster = Cluster(*objects)
    return Controller(cluster, SETTINGS, Health(CollectorRegistry())), cluster  # type: ignore[arg-type]


def looked_at(of: Controller, monkeypatch: pytest.MonkeyPatch) -> list[Key]:
    """The keys that are worked on from now on, without the work."""
    seen: list[Key] = []

    async def reconcile(key: Key) -> float | None:
        seen.append(key)
        return None

    monkeypatch.setattr(of.reconciler, "reconcile", reconcile)
    return seen


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def known(of: Controller) -> set[Key]:
    """What metrics are made from."""
    studies = {Key("QuantBenchmark", *study.key) for study in of.state.studies}
    return studies | {RUN_KEY for run in of.state.runs if run.study == ("bench", "demo")}


async def test_a_standby_does_nothing_but_knows_the_objects() -> None:
    of, _ = controller()
    of.seen("QuantBenchmark", "ADDED", STUDY)
    assert of.queue.depth == 0
    assert known(of) == {STUDY_KEY}
    assert of.healthy() is None


async def test_only_the_leader_exports_results() -> None:
    """Two replicas that both did would double every series."""
    measured = benchmark_object(study(), status={"activeRuns": 1})
    exported = []
    for leading in (True, False):
        of, _ = controller()
        of.seen("QuantBenchmark", "ADDED", measured)
        of.leading = leading
        text = "".join(family.text() for family in study_families(of.exported()))
        exported.append("quantbench_benchmark_active_runs{" in text)
    assert exported == [True, False]


async def test_leading_begins_with_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    of, _ = controller(STUDY, RUN)
    seen = looked_at(of, monkeypatch)
    task = asyncio.create_task(of.lead())
    await until(lambda: len(seen) == 2)
    assert set(seen) == {STUDY_KEY, RUN_KEY}
    assert known(of) == {STUDY_KEY, RUN_KEY}
    assert of.gauges()["leader"] == 1.0
    await stop(task)
    assert of.gauges()["leader"] == 0.0


async def test_events_reach_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    of, cluster = controller()
    seen = looked_at(of, monkeypatch)
    task = asyncio.create_task(of.lead())
    await until(lambda: of.leading and cluster.lists >= 2)
    of.seen("QuantBenchmarkRun", "MODIFIED", RUN)
    await until(lambda: len(seen) == 2)
    assert set(seen) == {STUDY_KEY, RUN_KEY}  # its owner may have something to start now
    server = pod(state=running())
    server["metadata"]["labels"][labels.RUN] = "its-run"
    await cluster.events.put({"type": "MODIFIED", "object": server})
    await until(lambda: len(seen) == 3)
    assert seen[2] == Key("QuantBenchmarkRun", "bench", "its-run")
    for odd in ({"type": "BOOKMARK", "object": server}, {"type": "ERROR", "object": {}}, {"type": "ADDED"}):
        await cluster.events.put(odd)
    await until(cluster.events.empty)
    await asyncio.sleep(0.02)
    assert len(seen) == 3
    await stop(task)


async def test_a_deleted_study_is_forgotten() -> None:
    of, _ = controller()
    of.seen("QuantBenchmark", "ADDED", STUDY)
    of.seen("QuantBenchmark", "DELETED", STUDY)
    assert known(of) == set()


async def test_a_listing_forgets_what_no_event_told() -> None:
    of, cluster = controller(STUDY, RUN)
    await of.resync()
    assert known(of) == {STUDY_KEY, RUN_KEY}
    del cluster.objects["QuantBenchmark", "demo"]
    await of.resync()
    assert known(of) == {RUN_KEY}


async def test_health_turns_red_when_listings_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantbench.controller.STALE_SECONDS", 0.2)
    monkeypatch.setattr("quantbench.controller.RESYNC_SECONDS", 0.02)
    of, cluster = controller(STUDY)
    looked_at(of, monkeypatch)
    task = asyncio.create_task(of.lead())
    await asyncio.sleep(0.3)
    assert cluster.lists >= 6
    assert of.healthy() is None
    # The watches are well all the time; only the listings get no answer.
    cluster.blind = True
    await asyncio.sleep(0.3)
    wrong = of.healthy()
    assert wrong is not None
    assert wrong.startswith("the last resync is")
    assert of.gauges()["resync_age_seconds"] > 0.2
    await stop(task)
    assert of.healthy() is None  # no longer leading, it has nothing to be late with


def of_two_namespaces() -> tuple[Controller, Cluster]:
    other = benchmark_object(study())
    other["metadata"] |= {"namespace": "other", "name": "elsewhere"}
    cluster = Cluster(STUDY, other)
    settings = dataclasses.replace(SETTINGS, namespaces=("bench", "other"))
    return Controller(cluster, settings, Health(CollectorRegistry())), cluster  # type: ignore[arg-type]


ELSEWHERE = Key("QuantBenchmark", "other", "elsewhere")


@pytest.mark.parametrize("status", [403, 404])
async def test_a_namespace_that_is_gone_costs_the_others_nothing(status: int, caplog: pytest.LogCaptureFixture) -> None:
    of, cluster = of_two_namespaces()
    await of.resync()
    assert known(of) == {STUDY_KEY, ELSEWHERE}
    cluster.refused = {"bench": status}
    del cluster.objects["QuantBenchmark", "elsewhere"]
    of.leading = True
    of.last_resync -= STALE_SECONDS + 1
    for _ in range(3):
        await of.resync()
    assert of.healthy() is None
    assert known(of) == {STUDY_KEY}  # what was known of the one that cannot be seen, nothing else
    assert [record.message for record in caplog.records] == [f"list bench: {status} Forbidden: no rights in bench"]
    cluster.refused = {}
    caplog.set_level("INFO")
    await of.resync()
    assert caplog.records[-1].message == "list bench: works again"


@pytest.mark.parametrize("refused", [{"bench": 403, "other": 403}, {"bench": 500}])
async def test_nothing_to_see_or_no_answer_is_no_listing(refused: dict[str | None, int]) -> None:
    of, cluster = of_two_namespaces()
    await of.resync()
    of.leading = True
    cluster.refused = refused
    of.last_resync -= STALE_SECONDS + 1
    with pytest.raises(ApiError):
        await of.resync()
    assert of.healthy() is not None
    assert known(of) == {STUDY_KEY, ELSEWHERE}


def test_kopf_never_ends_the_process_over_a_refused_request() -> None:
    waits = _kopf_settings().networking.error_backoffs
    assert isinstance(waits, Iterable)
    for _ in range(2):
        first = list(itertools.islice(waits, 1000))
        assert len(first) == 1000
        assert max(first) <= RESYNC_SECONDS


async def test_health_turns_red_when_no_worker_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    of, _ = controller()
    of.leading = True
    of.seen("QuantBenchmark", "ADDED", STUDY)
    now = time.monotonic()
    monkeypatch.setattr("quantbench.workqueue.time.monotonic", lambda: now + STALE_SECONDS + 5)
    of.last_resync = now + STALE_SECONDS
    wrong = of.healthy()
    assert wrong is not None
    assert "waited" in wrong


async def test_pages_for_probes_and_prometheus() -> None:
    of, _ = controller(STUDY)
    registry = CollectorRegistry()
    Health(registry).api_call("get", "Pod", 200)
    async with TestClient(TestServer(application(of, registry))) as client:
        assert (await client.get("/healthz")).status == 200
        assert await (await client.get("/readyz")).text() == "standby"
        of.leading = True
        assert await (await client.get("/readyz")).text() == "leading"
        of.last_resync -= STALE_SECONDS + 1
        assert (await client.get("/healthz")).status == 503
        answer = await client.get("/metrics")
        assert 'quantbench_api_requests_total{code="200",kind="Pod",verb="get"} 1.0' in await answer.text()


async def test_errors_of_a_look_are_counted() -> None:
    registry = CollectorRegistry()
    of = Controller(Cluster(), SETTINGS, Health(registry))  # type: ignore[arg-type]

    async def reconcile(key: Key) -> float | None:
        raise ApiError(500, "InternalError", "no")

    of.reconciler.reconcile = reconcile  # type: ignore[method-assign]
    with pytest.raises(ApiError):
        await of._work(STUDY_KEY)
    assert registry.get_sample_value("quantbench_reconcile_errors_total", {"kind": "QuantBenchmark"}) == 1.0
    assert registry.get_sample_value("quantbench_reconcile_duration_seconds_count", {"kind": "QuantBenchmark"}) == 1.0
