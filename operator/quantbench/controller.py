"""The running operator: keeps the work queue fed and knows whether it is well.

Three sources feed the queue: events of the custom resources (from kopf), events of pods and Jobs (label-filtered
watches, a speed-up only), and a periodic listing that nothing can silence. What it remembers of objects serves the
metrics only; decisions always look at the API server.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from quantbench.api.base import JsonObject
from quantbench.kube import ApiError, Kube
from quantbench.metrics import Health, State
from quantbench.metrics.state import Place
from quantbench.reconcile import Key, Reconciler
from quantbench.resources import labels
from quantbench.settings import Settings
from quantbench.workqueue import WorkQueue

RESYNC_SECONDS = 60.0
STALE_SECONDS = 240.0
"""A resync older than this [s] means that the operator is blind: four in a row have failed."""
REFUSED = (403, 404)
"""What the API server says of a namespace that is gone, or was taken from the operator."""
OWN_KINDS = ("QuantBenchmark", "QuantBenchmarkRun")
CHILD_KINDS = ("Pod", "Job")
MANAGED = ",".join(f"{key}={value}" for key, value in labels.MANAGED.items())

log = logging.getLogger(__name__)


class Controller:
    """Feeds the queue while it leads."""

    def __init__(self, kube: Kube, settings: Settings, health: Health) -> None:
        self.kube, self.settings, self.health = kube, settings, health
        self.reconciler = Reconciler(kube, settings.runner)
        self.queue: WorkQueue[Key] = WorkQueue(self._work, settings.workers)
        self.state = State()
        self.leading = False
        self.last_resync = time.monotonic()
        self._told: dict[str, str] = {}

    @property
    def namespaces(self) -> tuple[str | None, ...]:
        """Namespaces to list and watch; (None,) is the whole cluster."""
        return self.settings.namespaces or (None,)

    async def lead(self) -> None:
        """Work until cancelled; called when this process has become the leader."""
        log.info("leading as %s", self.settings.identity)
        self.leading = True
        self.last_resync = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.queue.run())
                group.create_task(self._resync_for_ever())
                for namespace in self.namespaces:
                    for kind in CHILD_KINDS:
                        group.create_task(self._watch_for_ever(kind, namespace))
        finally:
            self.leading = False

    def seen(self, kind: str, event: str | None, raw: JsonObject) -> None:
        """A custom resource changed."""
        head = raw["metadata"]
        key = Key(kind, head["namespace"], head["name"])
        if event == "DELETED":
            self.state.drop(kind, key.namespace, key.name)
        else:
            self.state.put(kind, raw)
        self._enqueue(key)
        self._enqueue_owner(head)

    def exported(self) -> State:
        """What belongs into metrics: nothing in a standby, or every series would be doubled."""
        return self.state if self.leading else State()

    def healthy(self) -> str | None:
        """What is wrong, or None. A standby is well while it lives."""
        age = time.monotonic() - self.last_resync
        if self.leading and age > STALE_SECONDS:
            return f"the last resync is {age:.0f} s old"
        if self.leading and self.queue.oldest > STALE_SECONDS:
            return f"an object has waited {self.queue.oldest:.0f} s for a worker"
        return None

    def gauges(self) -> dict[str, float]:
        """Values of `quantbench.metrics.OPERATOR_GAUGES`."""
        return {
            "leader": float(self.leading),
            "resync_age_seconds": time.monotonic() - self.last_resync,
            "workqueue_depth": float(self.queue.depth),
            "workqueue_oldest_seconds": self.queue.oldest,
        }

    async def resync(self) -> None:
        """List everything of ours and look at each object.

        A namespace that was deleted, or whose Role was, keeps the others from nothing: what was known of it stays.

        Raises:
            ApiError: the API server did not answer, or refused every namespace.
        """
        found: set[Place] = set()
        failed: dict[str | None, ApiError] = {}
        for namespace in self.namespaces:
            what = f"list {namespace or 'the cluster'}"
            try:
                for kind in OWN_KINDS:
                    found |= {self.state.put(kind, raw) for raw in await self.kube.list(kind, namespace)}
                self._tell(what, None)
            except ApiError as error:
                failed[namespace] = error
                self._tell(what, error)
        if len(failed) < len(self.namespaces):
            self.state.keep(found, failed)
        for place in found:
            self._enqueue(Key(*place))
        fatal = [error for error in failed.values() if error.status not in REFUSED]
        if fatal or len(failed) == len(self.namespaces):
            raise (fatal or list(failed.values()))[0]
        self.last_resync = time.monotonic()

    def _enqueue(self, key: Key) -> None:
        if self.leading:
            self.queue.add(key)

    def _enqueue_owner(self, head: JsonObject) -> None:
        for reference in head.get("ownerReferences") or []:
            if reference.get("kind") in OWN_KINDS:
                self._enqueue(Key(reference["kind"], head["namespace"], reference["name"]))

    async def _work(self, key: Key) -> float | None:
        with self.health.reconciling(key.kind):
            return await self.reconciler.reconcile(key)

    async def _resync_for_ever(self) -> None:
        while True:
            if await self._tried("resync", self.resync):
                await asyncio.sleep(RESYNC_SECONDS)
            else:
                await asyncio.sleep(2.0)

    async def _watch_for_ever(self, kind: str, namespace: str | None) -> None:
        async def watch() -> None:
            async for event in self.kube.watch(kind, namespace, MANAGED):
                head = (event.get("object") or {}).get("metadata") or {}
                run = (head.get("labels") or {}).get(labels.RUN)
                if run and event.get("type") in ("ADDED", "MODIFIED", "DELETED"):
                    self._enqueue(Key("QuantBenchmarkRun", head["namespace"], run))

        while True:
            well = await self._tried(f"watch {kind} in {namespace or 'the cluster'}", watch)
            await asyncio.sleep(0.5 if well else 2.0)

    async def _tried(self, what: str, call: Callable[[], Awaitable[None]]) -> bool:
        try:
            await call()
        except ApiError as error:
            self._tell(what, error)
            return False
        self._tell(what, None)
        return True

    def _tell(self, what: str, error: ApiError | None) -> None:
        """Log what goes wrong when it begins or changes, and its end; a namespace may be gone for days."""
        before, now = self._told.pop(what, None), str(error or "")
        if now:
            self._told[what] = now
            if now != before:
                log.warning("%s: %s", what, now)
        elif before:
            log.info("%s: works again", what)
