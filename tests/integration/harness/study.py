"""Studies of the tests, and what remains of one when times, uids and generated names are taken away."""

import copy
import re
from typing import Any

from harness.api import Api, JsonObject, condition, eventually
from harness.kubelet import NODE_LABEL
from harness.world import Seen, World

API_VERSION = "quantbench.dev/v1alpha1"


def study(node: str, name: str = "study", **spec: Any) -> JsonObject:
    """A small study on one node: two variants, one server start each, two loads of two passes; ``spec`` overrides."""
    return {
        "apiVersion": API_VERSION,
        "kind": "QuantBenchmark",
        "metadata": {"name": name},
        "spec": {
            "model": "/models/bf16",
            "engine": {"image": "vllm/vllm-openai:v0.32.0", "args": ["--max-model-len=2048"]},
            "variants": [
                {"name": "bf16", "method": "BF16"},
                {"name": "int8", "method": "INT8W8A8", "model": "/models/int8"},
            ],
            "baseline": "bf16",
            "targets": [{"name": "node", "nodeSelector": {NODE_LABEL: node}, "gpus": 1}],
            "workload": {"dataset": {"random": {"inputLen": 200, "outputLen": 100}}, "numPrompts": 20},
            "loads": [{"name": "saturated"}, {"name": "c4", "maxConcurrency": 4}],
            "sampling": {"starts": 1, "repeats": 2, "control": False},
            **spec,
        },
    }


class Space:
    """One namespace with the studies of one test."""

    def __init__(self, api: Api, world: World, name: str, node: str) -> None:
        self.api, self.world, self.name, self.node = api, world, name, node

    async def submit(self, name: str = "study", **spec: Any) -> JsonObject:
        """Apply a study as kubectl does."""
        return await self.apply(study(self.node, name, **spec))

    async def apply(self, manifest: JsonObject) -> JsonObject:
        """Apply any object in this namespace."""
        placed = copy.deepcopy(manifest)
        placed["metadata"]["namespace"] = self.name
        return await self.api.apply(placed)

    async def edit(self, patch: JsonObject, name: str = "study") -> JsonObject:
        """Change the specification of a study."""
        return await self.api.merge("QuantBenchmark", self.name, name, {"spec": patch})

    async def remove(self, name: str = "study") -> None:
        """Delete a study."""
        await self.api.delete("QuantBenchmark", self.name, name)

    async def forbid(self, **hard: str) -> None:
        """Set a quota and wait until it counts, which it does some time before it refuses anything."""
        head = {"name": "quota", "namespace": self.name}
        await self.api.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": head, "spec": {"hard": hard}})

        async def counted() -> bool:
            quota = await self.api.get("ResourceQuota", self.name, "quota")
            return bool(quota and quota.get("status", {}).get("used"))

        await eventually(counted)

    async def permit(self) -> None:
        """Take the quota away."""
        await self.api.delete("ResourceQuota", self.name, "quota")

    # --- what is there ---------------------------------------------------------------------------------------

    def benchmark(self, name: str = "study") -> JsonObject | None:
        found = (raw for raw in self.world.now(self.name, "QuantBenchmark") if raw["metadata"]["name"] == name)
        return next(found, None)

    def condition(self, kind: str, name: str = "study") -> JsonObject:
        """A condition of the study; empty while it is not there."""
        return condition(self.benchmark(name) or {}, kind)

    def runs(self, **wanted: str) -> list[JsonObject]:
        """The runs that exist, of one variant if asked for, in the order of their creation."""
        runs = self.world.now(self.name, "QuantBenchmarkRun")
        return [run for run in runs if run["spec"]["variant"]["name"] == wanted.get("variant", _variant(run))]

    def run(self, variant: str) -> JsonObject | None:
        """The first run of a variant."""
        return next(iter(self.runs(variant=variant)), None)

    def stage(self, variant: str) -> str:
        """Where the first run of a variant is; empty while it is not there."""
        return str(condition(self.run(variant) or {}, "Complete").get("reason", ""))

    def verdicts(self) -> dict[str, str]:
        """Variant → ``Verdict/Reason`` of every run that has ended."""
        ended = [run for run in self.runs() if run.get("status", {}).get("verdict")]
        return {_variant(run): "{name}/{reason}".format(**run["status"]["verdict"]) for run in ended}

    def verdict(self, variant: str) -> JsonObject:
        """The verdict of the first run of a variant."""
        run = self.run(variant)
        assert run is not None
        verdict: JsonObject = run["status"]["verdict"]
        return verdict

    def children(self) -> list[Seen]:
        """Pods and Jobs that exist."""
        everything = [*self.world.ever(self.name, "Pod"), *self.world.ever(self.name, "Job")]
        return [seen for seen in everything if not seen.gone]

    def ever(self, kind: str, component: str | None = None, variant: str | None = None) -> list[Seen]:
        """Objects that ever existed."""
        return [
            seen
            for seen in self.world.ever(self.name, kind)
            if component in (None, seen.label("component")) and variant in (None, seen.label("variant"))
        ]

    # --- waiting ---------------------------------------------------------------------------------------------

    async def until(self, what: Any, *, seconds: float = 90.0, about: str = "") -> Any:
        """Wait until ``what()`` is true."""
        return await self.world.until(self.name, what, seconds=seconds, about=about)

    async def until_stage(self, variant: str, *stages: str, seconds: float = 90.0) -> None:
        """Wait until the run of a variant is in one of the stages."""
        await self.until(lambda: self.stage(variant) in stages, seconds=seconds, about=f"{variant} in {stages}")

    async def until_complete(self, name: str = "study", *, seconds: float = 90.0) -> JsonObject:
        """Wait until the study has ended and has nothing left in the cluster."""
        await self.until(lambda: self.over(name), seconds=seconds, about=f"{name} is complete and has no children")
        benchmark = self.benchmark(name)
        assert benchmark is not None
        return benchmark

    async def until_complete_beside(self, name: str, *, seconds: float = 90.0) -> None:
        """Wait until one of several studies has ended; the others may still have children."""
        await self.until(
            lambda: self.condition("Complete", name).get("status") == "True",
            seconds=seconds,
            about=f"{name} is complete",
        )

    async def table(self, kind: str) -> list[dict[str, Any]]:
        """What ``kubectl get`` prints, by column, without the age and what only ``-o wide`` shows."""
        table = await self.api.table(kind, self.name)
        columns = [(place, c["name"]) for place, c in enumerate(table["columnDefinitions"]) if not c.get("priority")]
        return [{name: row["cells"][place] for place, name in columns if name != "Age"} for row in table["rows"]]

    def over(self, name: str = "study") -> bool:
        """Whether the study has ended and holds nothing."""
        return self.condition("Complete", name).get("status") == "True" and not self.children()


def _variant(run: JsonObject) -> str:
    return str(run["spec"]["variant"]["name"])


# --- comparing end states ------------------------------------------------------------------------------------

MOMENTARY = frozenset({"lastTransitionTime", "startedAt", "finishedAt", "gpuHours", "times", "uid", "serverSeconds"})


def end_state(space: Space, name: str = "study") -> JsonObject:
    """Status of the study and of its runs without times, uids and the names that follow from uids."""
    benchmark = space.benchmark(name)
    assert benchmark is not None
    state: JsonObject = {"study": timeless(benchmark["status"])}
    for run in space.runs():
        spec = run["spec"]
        key = f"{spec['variant']['name']}/{spec['target']['name']}/{spec['block']}"
        text = {run["metadata"]["name"]: key}
        assert key not in state, f"two runs of {key}"
        state[key] = {"spec": spec, "status": _renamed(timeless(run["status"]), text)}
    return state


def timeless(value: Any) -> Any:
    """A copy without what differs between two runs of the same study."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in MOMENTARY}
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return value


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, str):
        for old, new in names.items():
            value = re.sub(re.escape(old), new, value)
    return value
