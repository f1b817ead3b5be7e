"""Everything of ours that exists or ever existed in the cluster, followed by one watch per kind."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp

from harness.api import Api, JsonObject, Refused, path_of

KINDS = ("Pod", "Job", "QuantBenchmark", "QuantBenchmarkRun")
T = TypeVar("T")
Listener = Callable[[str, str, JsonObject], None]


@dataclass
class Seen:
    """One object with everything that it ever was, as far as the watch told."""

    kind: str
    raw: JsonObject
    gone: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    def label(self, key: str) -> str:
        return str(self.raw["metadata"].get("labels", {}).get(f"quantbench.dev/{key}", ""))


class World:
    """Follows pods, Jobs, benchmarks and runs of the whole cluster."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._seen: dict[str, dict[str, Seen]] = defaultdict(dict)
        self._listeners: dict[str | None, list[Listener]] = defaultdict(list)
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        listed = [asyncio.Event() for _ in KINDS]
        self._tasks = [asyncio.create_task(self._follow(kind, done)) for kind, done in zip(KINDS, listed, strict=True)]
        for done in listed:
            await asyncio.wait_for(done.wait(), 30)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def listen(self, namespace: str | None, listener: Listener) -> Callable[[], None]:
        """Call ``listener(kind, event, object)`` for each change in a namespace (None: in all); returns its removal."""
        self._listeners[namespace].append(listener)

        def remove() -> None:
            if listener in self._listeners[namespace]:
                self._listeners[namespace].remove(listener)

        return remove

    def ever(self, namespace: str, kind: str) -> list[Seen]:
        """Every object of a kind that ever existed in a namespace, the oldest first."""
        return [seen for seen in self._seen[namespace].values() if seen.kind == kind]

    def now(self, namespace: str, kind: str) -> list[JsonObject]:
        """The objects of a kind that exist."""
        return [seen.raw for seen in self.ever(namespace, kind) if not seen.gone]

    def forget(self, namespace: str) -> None:
        """Drop what is remembered of a namespace."""
        self._seen.pop(namespace, None)
        self._listeners.pop(namespace, None)

    async def until(
        self, namespace: str, condition: Callable[[], T | None], *, seconds: float = 90.0, about: str = ""
    ) -> T:
        """Wait until a look at the world gives something true; each change in the namespace is a reason to look."""
        changed = asyncio.Event()
        self._waiters[namespace].add(changed)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    changed.clear()
                    value = condition()
                    if value:
                        return value
                    await changed.wait()
        except TimeoutError:
            what = about or getattr(condition, "__name__", "condition")
            raise AssertionError(f"not within {seconds:g} s: {what}\n{self.describe(namespace)}") from None
        finally:
            self._waiters[namespace].discard(changed)

    def describe(self, namespace: str) -> str:
        """What is in a namespace, for the message of a failed test."""
        return "\n".join(_describe(seen) for seen in self._seen[namespace].values())

    def _note(self, kind: str, event: str, raw: JsonObject) -> None:
        raw["kind"] = kind
        head = raw["metadata"]
        seen = self._seen[head["namespace"]].setdefault(head["uid"], Seen(kind, raw))
        seen.raw, seen.gone = raw, event == "DELETED"
        for listener in (*self._listeners[None], *self._listeners[head["namespace"]]):
            listener(kind, event, raw)
        for waiter in self._waiters[head["namespace"]]:
            waiter.set()

    async def _follow(self, kind: str, listed: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, Refused, ValueError):
                page = await self.api.call("GET", path_of(kind))
                self._reconcile(kind, page["items"])
                listed.set()
                async for event in self.api.watch(path_of(kind), page["metadata"]["resourceVersion"]):
                    if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                        self._note(kind, event["type"], event["object"])
                    elif event["type"] == "ERROR":
                        break
            await asyncio.sleep(0.1)

    def _reconcile(self, kind: str, items: Iterable[JsonObject]) -> None:
        """After a gap in the watch: what is there now, and what must have gone meanwhile."""
        present = {item["metadata"]["uid"]: item for item in items}
        for namespace in list(self._seen):
            for seen in [seen for seen in self.ever(namespace, kind) if not seen.gone]:
                if seen.uid not in present:
                    self._note(kind, "DELETED", seen.raw)
        for item in present.values():
            self._note(kind, "ADDED", item)


def _describe(seen: Seen) -> str:
    status = seen.raw.get("status", {})
    conditions = [
        f"{c['type']}={c['status']}/{c.get('reason', '')} ({c.get('message', '')[:160]})"
        for c in status.get("conditions", [])
    ]
    state = [str(status[key]) for key in ("phase", "verdict", "attempt", "progress") if key in status]
    containers = [str(c.get("state")) for c in status.get("containerStatuses", [])]
    gone = " GONE" if seen.gone else ""
    deleting = " deleting" if seen.raw["metadata"].get("deletionTimestamp") else ""
    return f"{seen.kind} {seen.name}{gone}{deleting}: {' '.join([*state, *conditions, *containers])}"
