"""An API server that is slow to agree: conflicts, overload, time-outs, lost events. Same end state, bounded effort."""

import asyncio
import itertools
import random
from collections import Counter

import pytest

from harness.api import JsonObject
from harness.invariants import Invariants
from harness.kubelet import Kubelet
from harness.lab import Lab
from harness.operator import Journal, Operator, Request, Send, Weather
from harness.study import Space, end_state
from quantbench import controller as controller_module
from quantbench import workqueue as workqueue_module
from quantbench.kube import ApiError

MEASURED = {"bf16": "Measured/AllPassesValid", "int8": "Measured/AllPassesValid"}


class Storm:
    """A share of all requests fails, in every way in which requests fail; the same requests for the same seed."""

    def __init__(self, seed: int, share: float) -> None:
        self._random, self._share = random.Random(seed), share
        self.failed: Counter[str] = Counter()

    async def __call__(self, request: Request, send: Send) -> bytes:
        if self._random.random() >= self._share:
            return await send()
        kind = self._random.choice(("429", "500", "503", "unreachable", "lost"))
        self.failed[kind] += 1
        match kind:
            case "429":
                raise ApiError(429, "TooManyRequests", "the server has received too many requests", 0.1)
            case "500":
                raise ApiError(500, "InternalError", "etcdserver: request timed out")
            case "503":
                raise ApiError(503, "ServiceUnavailable", "the server is currently unable to handle the request")
            case "unreachable":
                raise ApiError(0, "ClientConnectorError", "connection refused")
        await send()
        raise ApiError(0, "TimeoutError", "the answer was lost")


class Meddler:
    """Somebody changes each object right before the operator writes its status, a few times."""

    def __init__(self, space: Space, times: int) -> None:
        self._space, self._left = space, times
        self.conflicts = 0

    async def __call__(self, request: Request, send: Send) -> bytes:
        if request.verb == "patch" and request.path.endswith("/status") and self._left:
            self._left -= 1
            name = request.path.split("/")[-2]
            note = {"metadata": {"annotations": {"example.com/note": str(self._left)}}}
            await self._space.api.merge(request.kind, self._space.name, name, note)
            try:
                return await send()
            except ApiError as error:
                assert error.status == 409
                self.conflicts += 1
                raise
        return await send()


async def undisturbed(lab: Lab) -> JsonObject:
    space = await lab.space()
    await space.submit()
    async with lab.operator(space):
        await space.until_complete()
        return end_state(space)


async def disturbed(lab: Lab, space: Space, weather: Weather) -> tuple[JsonObject, Journal]:
    """A study in bad weather; its end state, and what the operator wrote."""
    invariants, journal = Invariants(space), Journal(weather)
    await space.submit()
    async with lab.operator(space, journal) as operator:
        await space.until_complete(seconds=120)
        await operator.idle()
        assert not operator.ended.is_set()
    invariants.check()
    invariants.once()
    return end_state(space), journal


async def test_storm(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request in six fails, reads and writes alike."""
    # A step makes several requests, so that most steps fail: some objects go through a dozen tries.
    monkeypatch.setattr(workqueue_module, "LONGEST_DELAY", 1.0)
    storms = [Storm(seed, 1 / 6) for seed in range(4)]
    spaces = [await lab.space() for _ in storms]
    reference = await undisturbed(lab)
    outcomes = await asyncio.gather(
        *(disturbed(lab, space, storm) for space, storm in zip(spaces, storms, strict=True))
    )
    for state, journal in outcomes:
        assert state == reference
        assert len(journal.writes) < 150
    failed = sum((storm.failed for storm in storms), Counter[str]())
    assert set(failed) == {"429", "500", "503", "unreachable", "lost"}


async def test_conflicts(lab: Lab, space: Space) -> None:
    """A status is never written over somebody else's change: 409, and a fresh look."""
    meddler = Meddler(space, 8)
    reference, (state, _) = await asyncio.gather(undisturbed(lab), disturbed(lab, space, meddler))
    assert meddler.conflicts == 8
    assert state == reference


async def test_events_are_lost(lab: Lab, space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """No watch works at all: listings alone carry the study to its end."""
    monkeypatch.setattr(controller_module, "RESYNC_SECONDS", 0.3)
    await space.submit()
    operator = lab.operator(space)

    async def dead_watch(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(operator.controller, "_watch_for_ever", dead_watch)
    monkeypatch.setattr(operator, "_on_change", lambda *_: None)
    operator.start()
    await space.until_complete(seconds=120)
    assert space.verdicts() == MEASURED


async def test_events_come_twice_and_late(lab: Lab, space: Space) -> None:
    """Old and repeated events are only reasons to look."""
    await space.submit()
    operator = lab.operator(space)
    journal = operator.kube.weather = Journal()
    operator.start()
    seen: list[tuple[str, str, JsonObject]] = []
    deaf = space.world.listen(space.name, lambda *event: seen.append(event))
    await space.until_complete()
    deaf()
    await operator.idle()
    told = len(journal.writes)
    own = [event for event in seen if event[0] in controller_module.OWN_KINDS]
    for kind, event, raw in itertools.chain(own, reversed(own)):
        operator.controller.seen(kind, event, raw)
    await operator.idle()
    assert journal.writes[told:] == []
    assert space.verdicts() == MEASURED


async def test_watches_end_and_are_taken_up_again(lab: Lab, space: Space, operator: Operator) -> None:
    """The API server closes a watch whenever it likes."""
    original, ended = operator.kube.watch, 0

    async def short_watch(*arguments: object) -> object:
        nonlocal ended
        count = 0
        async for event in original(*arguments):  # type: ignore[arg-type]
            yield event
            count += 1
            if count == 2:
                ended += 1
                raise ApiError(410, "Expired", "too old resource version")

    operator.kube.watch = short_watch  # type: ignore[method-assign, assignment]
    # Watches that run already end with the next event's connection; new ones come from here.
    await operator.stop()
    operator.start()
    await space.submit()
    await space.until_complete()
    assert ended > 0
    assert space.verdicts() == MEASURED


@pytest.mark.parametrize("status", [500, 404])
async def test_log_that_cannot_be_read_at_first(
    lab: Lab, kubelet: Kubelet, space: Space, operator: Operator, status: int
) -> None:
    """A result that is there must not be lost because the node's answer is late."""
    left = [6]

    def fault() -> int | None:
        left[0] -= 1
        return status if left[0] >= 0 else None

    kubelet.log_faults[space.name] = fault
    await space.submit()
    await space.until_complete(seconds=120)
    del kubelet.log_faults[space.name]
    assert left[0] < 0
    assert space.verdicts() == MEASURED


async def test_log_that_can_never_be_read(lab: Lab, kubelet: Kubelet, space: Space, operator: Operator) -> None:
    """It is asked for a while; then the run ends without figures and without looking measured."""
    kubelet.log_faults[space.name] = lambda: 500
    await space.submit(limits={"retries": 0})
    await space.until(lambda: any(_ended(pod.raw) for pod in space.ever("Pod", "load")), about="a load pod ended")
    await operator.idle()
    assert not space.verdicts()
    for _ in range(2):
        await operator.jump(70)
        await operator.idle()
        await space.until(lambda: len(space.verdicts()) == len(space.ever("Pod", "server")))
    await space.until_complete(seconds=120)
    del kubelet.log_faults[space.name]
    assert set(space.verdicts().values()) == {"Failed/LogUnavailable"}
    assert space.condition("Comparable")["reason"] == "BaselineMissing"


def _ended(pod: JsonObject) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


async def test_cause_of_a_lasting_failure_shows(lab: Lab, space: Space) -> None:
    """While the API server refuses to write, the operator lives, and its metrics say what is wrong."""

    async def read_only(request: Request, send: Send) -> bytes:
        if request.write:
            raise ApiError(503, "ServiceUnavailable", "etcd has no leader")
        return await send()

    operator = lab.operator(space, read_only)
    operator.start()
    await space.submit()

    def errors() -> float:
        return operator.registry.get_sample_value("quantbench_reconcile_errors_total", {"kind": "QuantBenchmark"}) or 0

    while errors() < 3:
        await asyncio.sleep(0.05)
    assert operator.controller.healthy() is None
    assert not space.runs()
    operator.kube.weather = Journal()
    await operator.controller.resync()
    await space.until_complete()
    assert space.verdicts() == MEASURED


async def test_a_long_list_comes_in_pages(space: Space, operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each object is there once, however many pages it takes."""
    names = [f"lease-{number}" for number in range(7)]
    for name in names:
        head = {"name": name, "namespace": space.name}
        await space.api.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": head, "spec": {}})
    monkeypatch.setattr("quantbench.kube.PAGE", 3)
    found = await operator.kube.list("Lease", space.name)
    assert [lease["metadata"]["name"] for lease in found] == names
