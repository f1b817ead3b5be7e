"""What must hold after every change in a namespace, whatever happens to the operator."""

from collections import Counter

from harness.api import JsonObject
from harness.study import Space


class Invariants:
    """Listens to a namespace from now on and collects what is wrong.

    Objects of all kinds share etcd's revision, so their resource versions tell the order of changes even though the
    watches of different kinds do not.
    """

    def __init__(self, space: Space, *, servers: int = 1) -> None:
        self.space, self.servers = space, servers
        self.wrong: list[str] = []
        self.most = 0
        """Most servers that existed at the same time; known after `check`."""
        self._verdicts: dict[str, tuple[int, JsonObject]] = {}
        self._passes: dict[str, set[str]] = {}
        self._ends: list[tuple[str, str, int]] = []
        self._lives: dict[str, list[int]] = {}
        self._deaf = space.world.listen(space.name, self._on_change)

    def check(self, *, abandoned: bool = False) -> None:
        """The end: raises AssertionError with everything that was wrong.

        Args:
            abandoned: attempts were given up, whose pods go without a verdict.
        """
        self._deaf()
        for run, child, version in [] if abandoned else self._ends:
            stored = self._verdicts.get(run)
            if stored is None or stored[0] >= version:
                self.wrong.append(f"{child} was deleted before the verdict of {run} was stored")
        in_order = sorted(self._lives.items(), key=lambda item: item[1][0])
        for place, (name, (start, _)) in enumerate(in_order):
            before = [other for other, (_, end) in in_order[:place] if start < end]
            self.most = max(self.most, len(before) + 1)
            if len(before) >= self.servers:
                self.wrong.append(f"server {name} was started beside {before}")
        assert not self.wrong, "\n".join(self.wrong)

    def once(self) -> None:
        """Each run had one server pod, one load Job and one load pod: nothing was done twice."""
        for kind, component in (("Pod", "server"), ("Job", "load"), ("Pod", "load")):
            made = Counter(seen.label("run") for seen in self.space.ever(kind, component))
            twice = {run: count for run, count in made.items() if count != 1}
            assert not twice, f"{component} {kind}s made more than once: {twice}"

    def _on_change(self, kind: str, event: str, raw: JsonObject) -> None:
        head, version = raw["metadata"], int(raw["metadata"]["resourceVersion"])
        run = head.get("labels", {}).get("quantbench.dev/run", "")
        if kind == "QuantBenchmarkRun":
            self._on_run(event, raw, version)
        elif kind in ("Pod", "Job") and (event == "DELETED" or head.get("deletionTimestamp")):
            self._ends.append((run, f"{kind} {head['name']}", version))
        if kind == "Pod" and head.get("labels", {}).get("quantbench.dev/component") == "server":
            life = self._lives.setdefault(head["name"], [version, version])
            life[1] = max(life[1], version)

    def _on_run(self, event: str, raw: JsonObject, version: int) -> None:
        name, status = raw["metadata"]["name"], raw.get("status", {})
        if event == "DELETED":
            self.wrong.append(f"run {name} was deleted")
        verdict, passes = status.get("verdict"), {measured["key"] for measured in status.get("passes", [])}
        if name in self._verdicts and self._verdicts[name][1] != verdict:
            self.wrong.append(f"the verdict of {name} changed from {self._verdicts[name][1]} to {verdict}")
        if verdict:
            self._verdicts.setdefault(name, (version, verdict))
        if not passes >= self._passes.get(name, set()):
            self.wrong.append(f"run {name} lost passes {self._passes[name] - passes}")
        self._passes[name] = passes
