"""The custom resources of the moment, as far as metrics need them."""

from collections.abc import Container

from quantbench.api.base import JsonObject
from quantbench.metrics import facts

Place = tuple[str, str, str]


class State:
    """Facts of every QuantBenchmark and QuantBenchmarkRun, by kind, namespace and name."""

    def __init__(self) -> None:
        self._facts: dict[Place, facts.Study | facts.Run] = {}

    def __len__(self) -> int:
        return len(self._facts)

    @property
    def studies(self) -> list[facts.Study]:
        """Every QuantBenchmark."""
        return [one for one in self._facts.values() if isinstance(one, facts.Study)]

    @property
    def runs(self) -> list[facts.Run]:
        """Every QuantBenchmarkRun."""
        return [one for one in self._facts.values() if isinstance(one, facts.Run)]

    def put(self, kind: str, raw: JsonObject) -> Place:
        """An object is there, or has changed; returns its place."""
        head = raw["metadata"]
        place = (kind, str(head["namespace"]), str(head["name"]))
        known = self._facts.get(place)
        if known is None or not known.version or known.version != head.get("resourceVersion"):
            self._facts[place] = facts.study(raw) if kind == "QuantBenchmark" else facts.run(raw)
        return place

    def drop(self, kind: str, namespace: str, name: str) -> None:
        """An object is gone."""
        self._facts.pop((kind, namespace, name), None)

    def keep(self, places: set[Place], unseen: Container[str | None] = ()) -> None:
        """Only these objects are left, and those of namespaces that could not be seen."""
        for place in self._facts.keys() - places:
            if place[1] not in unseen:
                del self._facts[place]
