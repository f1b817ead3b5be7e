"""A study that is deleted, suspended, edited or robbed of its pods in each of its stages."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from harness import lives
from harness.api import JsonObject, Refused, path_of
from harness.invariants import Invariants
from harness.kubelet import NODE_LABEL
from harness.lab import Lab
from harness.operator import Operator
from harness.study import Space, study
from quantbench.observe import owned_by

STAGES = ("Scheduling", "Starting", "Loading", "Releasing")
GATE = "quantbench.dev/test-gate"


@dataclass
class Held:
    """A study whose first run is held in one stage until it is let go."""

    lab: Lab
    space: Space
    operator: Operator
    stage: str
    invariants: Invariants
    variant: str = ""
    free: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def at(cls, lab: Lab, stage: str) -> "Held":
        space = await lab.space()
        held = cls(lab, space, lab.operator(space), stage, Invariants(space))
        selector = {NODE_LABEL: space.node}
        if stage == "Scheduling":
            selector[f"{GATE}-{space.name}"] = "open"
        elif stage == "Starting":
            lab.kubelet.script(space.name, "server", lives.serves_once(held.free))
        elif stage == "Loading":
            lab.kubelet.script(space.name, "load", lives.measures(hold=held.free))
        else:
            lab.kubelet.lingering[space.name] = held.free
        await space.submit(targets=[{"name": "node", "nodeSelector": selector, "gpus": 1}])
        held.operator.start()
        await space.until(held.reached, about=f"a run in {stage}")
        return held

    def reached(self) -> bool:
        """Whether the run is in its stage; under load once some of its passes are stored, which must not be mixed up."""
        space = self.space
        for run in space.runs():
            self.variant = run["spec"]["variant"]["name"]
            if space.stage(self.variant) == self.stage and space.ever("Pod", "server"):
                return self.stage != "Loading" or bool(run["status"].get("passes"))
        return False

    def decided(self) -> bool:
        """Whether the first run has given its attempt up, or has a verdict."""
        status = (self.space.run(self.variant) or {}).get("status", {})
        return bool(status.get("attempt", 1) > 1 or status.get("verdict"))

    async def robbed(self, kind: str, name: str, pod: str) -> None:
        """Delete an object of the run, and let go once the pod that ends by that is over."""
        life = self.lab.kubelet.life(self.space.name, pod)
        assert life is not None
        await self.lab.api.delete(kind, self.space.name, name)
        # Let go any earlier, the last pass could still end before the deletion reaches the node: then it counts.
        await life.over.wait()
        self.free.set()

    async def let_go(self) -> None:
        self.free.set()
        if self.stage == "Scheduling":
            label = {f"{GATE}-{self.space.name}": "open"}
            await self.lab.api.merge("Node", None, self.space.node, {"metadata": {"labels": label}})


@pytest_asyncio.fixture(params=STAGES, loop_scope="session")
async def held(request: pytest.FixtureRequest, lab: Lab) -> AsyncIterator[Held]:
    held = await Held.at(lab, request.param)
    yield held
    await held.let_go()
    lab.kubelet.lingering.pop(held.space.name, None)


async def test_deleted(held: Held) -> None:
    """Everything goes, and a benchmark of the same name starts afresh at once."""
    space = held.space
    before = space.benchmark()
    assert before is not None
    old = {seen.uid for kind in ("Pod", "Job", "QuantBenchmarkRun") for seen in space.ever(kind)}
    await space.remove()
    await space.until(lambda: space.benchmark() is None, about="the benchmark is gone")
    await space.submit()
    await held.let_go()
    after = await space.until_complete()
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert space.verdicts() == {"bf16": "Measured/AllPassesValid", "int8": "Measured/AllPassesValid"}
    await space.until(lambda: len(space.runs()) == 2, seconds=90, about="the garbage collector took the old runs")
    assert {run["metadata"]["uid"] for run in space.runs()}.isdisjoint(old)
    assert [run["status"]["attempt"] for run in space.runs()] == [1, 1]
    assert not space.children()


@pytest.mark.parametrize("propagation", ["Background", "Orphan"])
async def test_run_deleted(held: Held, propagation: str) -> None:
    """It is measured afresh: by a server of its own, without a pass of the one before, at the cost of no retry."""
    space, there = held.space, asyncio.Event()
    before = space.run(held.variant)
    assert before is not None
    old = [seen for kind in ("Pod", "Job") for seen in space.ever(kind)]
    # Containers take a moment to end, which the next run is sooner there than.
    held.lab.kubelet.unmounting[space.name] = there
    path = path_of("QuantBenchmarkRun", space.name, before["metadata"]["name"])
    await held.lab.api.call("DELETE", path, {"propagationPolicy": propagation})
    await space.until(lambda: afresh(space, before), about="the run is made anew")
    await held.operator.idle()
    there.set()
    await held.let_go()
    await space.until_complete()
    run = space.run(held.variant)
    assert run is not None
    assert space.verdicts() == {"bf16": "Measured/AllPassesValid", "int8": "Measured/AllPassesValid"}
    assert (run["status"]["attempt"], run["status"].get("lost", 0), len(run["status"]["passes"])) == (1, 0, 4)
    assert run["status"]["server"]["uid"] not in [seen.uid for seen in old]
    adopted = [seen.name for seen in old if owned_by(seen.raw, run["metadata"]["uid"])]
    assert not adopted


def afresh(space: Space, before: JsonObject) -> bool:
    """Whether a run of the same name has taken another's place."""
    uids = {run["metadata"]["uid"] for run in space.runs() if run["metadata"]["name"] == before["metadata"]["name"]}
    return bool(uids) and before["metadata"]["uid"] not in uids


async def test_suspended_and_resumed(held: Held) -> None:
    """The pods go, the study says so and rests; resumed, it comes to the same end."""
    space, stage = held.space, held.stage
    await space.edit({"suspend": True})
    if stage == "Releasing":
        # The verdict is there: the run goes on to free its GPU.
        held.free.set()
    await space.until(
        lambda: space.condition("Progressing").get("reason") == "Suspended" and not space.children(),
        about="the study is suspended and holds nothing",
    )
    ended = stage == "Releasing"
    await space.until_stage(held.variant, "Ended" if ended else "Suspended")
    assert len(space.runs()) == 1, "a suspended study starts nothing"
    await held.operator.idle()
    assert space.condition("Complete")["status"] == "False"
    # Nothing is held again by what was let go.
    await held.let_go()
    await space.edit({"suspend": False})
    benchmark = await space.until_complete()
    assert space.verdicts() == {"bf16": "Measured/AllPassesValid", "int8": "Measured/AllPassesValid"}
    run = space.run(held.variant)
    assert run is not None
    assert run["status"]["attempt"] == (1 if ended else 2)
    assert run["status"].get("lost", 0) == 0
    counted = [cell["loads"] for cell in benchmark["status"]["cells"]]
    assert [[row["passes"] for row in rows] for rows in counted] == [[2, 2], [2, 2]]
    held.invariants.check(abandoned=True)


@pytest.mark.parametrize(
    ("stage", "limit", "verdict"),
    [
        ("Scheduling", "scheduleTimeout", "Unschedulable/NoNode"),
        ("Starting", "startTimeout", "TimedOut/StartTimeout"),
        ("Loading", "loadTimeout", "TimedOut/LoadTimeout"),
    ],
)
async def test_deadline_shortened(lab: Lab, stage: str, limit: str, verdict: str) -> None:
    """A limit that is changed while a run waits counts for that run."""
    held = await Held.at(lab, stage)
    space = held.space
    await space.edit({"limits": {limit: "1s"}})
    await space.until(lambda: held.variant in space.verdicts(), about="the deadline passes")
    assert space.verdicts()[held.variant] == verdict
    await space.edit({"limits": {limit: "10m"}})
    await held.let_go()
    await space.until_complete()
    other = next(variant for variant in ("bf16", "int8") if variant != held.variant)
    # A target without a node is not tried again; everything else goes on.
    assert space.verdicts()[other] == (verdict if stage == "Scheduling" else "Measured/AllPassesValid")


async def test_plan_cannot_be_edited(space: Space) -> None:
    """Fields that shape the plan are refused by the API server; the others change."""
    await space.submit()
    original = study(space.node)["spec"]
    changes = {
        "model": "/models/other",
        "engine": {"image": "vllm/vllm-openai:v0.25.0"},
        "variants": [*original["variants"], {"name": "kv", "method": "BF16", "kvCacheDType": "fp8"}],
        "baseline": "int8",
        "targets": [{"name": "node", "gpus": 2}],
        "workload": {"numPrompts": 21},
        "loads": [{"name": "saturated"}],
        "sampling": {"starts": 3},
    }
    for changed, value in changes.items():
        with pytest.raises(Refused) as refused:
            await space.edit({changed: value})
        assert refused.value.status == 422
        assert f"spec.{changed}: Invalid value" in refused.value.message
        assert f"{changed} is immutable" in refused.value.message
    edited = await space.edit({"limits": {"parallelism": 3}, "suspend": True, "ttlSecondsAfterFinished": 60})
    assert edited["spec"]["limits"]["parallelism"] == 3


@pytest.mark.parametrize("robbed", ["server", "load"])
async def test_pod_deleted_by_someone(lab: Lab, robbed: str) -> None:
    """Somebody deletes a pod under load: the run starts again under the next attempt's number."""
    held = await Held.at(lab, "Loading")
    space = held.space
    pod = next(seen for seen in space.ever("Pod", robbed))
    await held.robbed("Pod", pod.name, pod.name)
    await space.until_complete()
    run = space.run(held.variant)
    assert run is not None
    assert space.verdicts()[held.variant] == "Measured/AllPassesValid"
    assert (run["status"]["attempt"], run["status"]["lost"]) == (2, 1)
    assert [measured["attempt"] for measured in run["status"]["passes"]].count(2) == 4


@pytest.mark.parametrize("robbed", ["server", "load"])
async def test_pod_deleted_while_the_operator_is_away(lab: Lab, robbed: str) -> None:
    """The pod's end is all that the next operator finds: it must not be taken for a fault of the variant."""
    held = await Held.at(lab, "Loading")
    space, there = held.space, asyncio.Event()
    await held.operator.stop()
    lab.kubelet.unmounting[space.name] = there
    pod = next(seen for seen in space.ever("Pod", robbed))
    await lab.api.delete("Pod", space.name, pod.name)
    await space.until(lambda: pod.raw["status"]["phase"] in ("Failed", "Succeeded"), about="the pod's end")
    operator = lab.operator(space)
    operator.start()
    await space.until(held.decided, about="the loss, or a verdict, is stored")
    there.set()
    held.free.set()
    await space.until_complete()
    run = space.run(held.variant)
    assert run is not None
    assert space.verdicts()[held.variant] == "Measured/AllPassesValid"
    assert (run["status"]["attempt"], run["status"]["lost"]) == (2, 1)


@pytest.mark.parametrize("robbed", ["server", "load"])
async def test_next_attempt_waits_until_the_last_one_is_gone(lab: Lab, robbed: str) -> None:
    """A lost server holds its GPU for as long as its volumes are taken down."""
    held = await Held.at(lab, "Loading")
    space, there = held.space, asyncio.Event()
    lab.kubelet.unmounting[space.name] = there
    await lab.api.delete("Pod", space.name, next(seen for seen in space.ever("Pod", robbed)).name)
    await space.until(held.decided, about="the attempt is lost")
    await held.operator.controller.resync()
    await space.until(lambda: all(seen.raw["metadata"].get("deletionTimestamp") for seen in space.ever("Pod")))
    await held.operator.idle()
    assert len(space.ever("Pod", "server")) == 1
    assert "waiting for the pods of the last attempt" in str(space.run(held.variant))
    there.set()
    held.free.set()
    await space.until_complete()
    held.invariants.check(abandoned=True)
    assert space.verdicts()[held.variant] == "Measured/AllPassesValid"


async def test_node_that_never_answers(lab: Lab) -> None:
    """Its pods stay for ever: the study goes on without them, and says where they are."""
    held = await Held.at(lab, "Releasing")
    space = held.space
    await held.operator.jump(200)
    await held.operator.idle()
    assert len(space.ever("Pod", "server")) == 1
    await held.operator.jump(110)
    await space.until(lambda: space.condition("Complete").get("status") == "True", about="the study is complete")
    assert set(space.verdicts().values()) == {"Measured/AllPassesValid"}
    run, server = space.run(held.variant), space.ever("Pod", "server", held.variant)[0]
    assert run is not None
    assert not server.gone
    (complete,) = run["status"]["conditions"]
    assert f"pod {server.name} on node {space.node}" in complete["message"]
    held.free.set()
    await space.until(lambda: not space.children(), about="the node is back")


@pytest.mark.parametrize("robbed", ["server", "job"])
async def test_measured_while_the_operator_is_away(lab: Lab, robbed: str) -> None:
    """A finished result counts, whatever happens to the other objects before an operator looks at it.

    A deleted Job takes its ended pod along at once, unless it is told to leave it.
    """
    held = await Held.at(lab, "Loading")
    space = held.space
    await held.operator.stop()
    held.free.set()
    (load,) = space.ever("Pod", "load")
    await space.until(lambda: load.raw["status"]["phase"] == "Succeeded", about="the load generator is done")
    if robbed == "server":
        server = space.ever("Pod", "server")[0]
        await lab.api.call("DELETE", path_of("Pod", space.name, server.name), {"gracePeriodSeconds": 0})
        await space.until(lambda: server.gone, about="the server is gone")
    else:
        job = space.ever("Job")[0]
        await lab.api.call("DELETE", path_of("Job", space.name, job.name), {"propagationPolicy": "Orphan"})
        await space.until(lambda: job.gone, about="the Job is gone")
    lab.operator(space).start()
    await space.until_complete()
    run = space.run(held.variant)
    assert run is not None
    assert (run["status"].get("attempt", 1), run["status"].get("lost", 0)) == (1, 0)
    assert space.verdicts()[held.variant] == "Measured/AllPassesValid"
    held.invariants.check(abandoned=True)


async def test_job_deleted_by_someone(lab: Lab) -> None:
    held = await Held.at(lab, "Loading")
    space = held.space
    job = next(seen for seen in space.ever("Job"))
    (load,) = space.ever("Pod", "load")
    await held.robbed("Job", job.name, load.name)
    await space.until_complete()
    assert space.verdicts()[held.variant] == "Measured/AllPassesValid"
    run = space.run(held.variant)
    assert run is not None
    assert run["status"]["attempt"] == 2


async def test_budget_spent_by_a_lost_server(lab: Lab) -> None:
    """No server is started in its stead, and the study is complete; a raised budget lets both go on."""
    held = await Held.at(lab, "Loading")
    space = held.space
    await space.edit({"limits": {"gpuHours": 1e-9}})
    await space.until(
        lambda: any(run["spec"]["limits"].get("budgetSpent") for run in space.runs()),
        about="the run is told that the budget is spent",
    )
    (server,) = space.ever("Pod", "server")
    await held.robbed("Pod", server.name, server.name)
    complete = await space.until_complete()
    assert space.condition("Complete")["reason"] == "BudgetSpent"
    assert (space.stage(held.variant), complete["status"]["activeRuns"]) == ("BudgetSpent", 0)
    await held.operator.controller.resync()
    await held.operator.idle()
    assert len(space.ever("Pod", "server")) == 1
    await space.edit({"limits": {"gpuHours": 10}})
    await space.until(lambda: len(space.verdicts()) == 2, about="both runs ended")
    await space.until_complete()
    assert set(space.verdicts().values()) == {"Measured/AllPassesValid"}
    held.invariants.check(abandoned=True)


async def test_next_server_waits_until_the_last_one_is_gone(lab: Lab) -> None:
    """A pod that is asked to go still holds its GPU."""
    held = await Held.at(lab, "Releasing")
    space = held.space
    await held.operator.controller.resync()
    await held.operator.idle()
    assert len(space.ever("Pod", "server")) == 1
    assert len(space.runs()) == 1
    held.free.set()
    await space.until_complete()
    held.invariants.check()
    assert len(space.ever("Pod", "server")) == 2


async def test_results_stay_when_pods_go(lab: Lab, space: Space, operator: Operator) -> None:
    """A finished study keeps its answer whatever happens to the runs' labels, pods or the operator."""
    await space.submit()
    before = await space.until_complete()
    await operator.stop()
    lab.operator(space).start()
    after = space.benchmark()
    assert after is not None
    assert after["status"]["cells"] == before["status"]["cells"]
