"""The operator as a process of its own, through kopf, with the environment and the rights that the chart gives it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from harness import lives
from harness.api import JsonObject, Refused
from harness.invariants import Invariants
from harness.lab import Lab
from harness.process import Installed, Process
from harness.study import Space, end_state

MEASURED = {"bf16": "Measured/AllPassesValid", "int8": "Measured/AllPassesValid"}
LEASE = "quantbench-operator"


@pytest_asyncio.fixture(loop_scope="session")
async def installed(lab: Lab, space: Space, tmp_path: Path) -> AsyncIterator[Installed]:
    """The chart in the namespace, watching it."""
    yield await Installed.into(lab.api, space.name, tmp_path)


def quiet(process: Process) -> None:
    """Nothing went wrong that the process told of."""
    told = process.log.read_text()
    assert "Traceback" not in told, told
    assert '"severity": "error"' not in told, told


async def test_pods_of_the_chart_are_restricted(lab: Lab, space: Space, installed: Installed) -> None:
    """The API server takes the Deployment, and PodSecurity its pods."""
    await lab.api.create(installed.deployment, dryRun="All")
    template = installed.deployment["spec"]["template"]
    head = {"name": "operator", "namespace": space.name}
    pod: JsonObject = {"apiVersion": "v1", "kind": "Pod", "metadata": head, "spec": template["spec"]}
    await lab.api.create(pod, dryRun="All")
    template["spec"]["hostNetwork"] = True
    with pytest.raises(Refused, match="violates PodSecurity"):
        await lab.api.create(pod, dryRun="All")


@pytest.mark.timeout(180)
async def test_killed_three_times(lab: Lab, space: Space, installed: Installed, tmp_path: Path) -> None:
    """SIGKILL while loading, while starting and while releasing: the end is that of an undisturbed study."""
    invariants, load, start = Invariants(space), asyncio.Event(), asyncio.Event()
    lab.kubelet.script(space.name, "load", lives.measures(hold=load))
    process = Process(installed, lab.world, "operator-0", tmp_path)
    await process.start()
    await space.submit()
    try:
        await space.until(lambda: "Loading" in stages(space), about="the first run loads")
        await process.kill()
        lab.kubelet.script(space.name, "server", lives.serves_once(start))
        load.set()
        await process.start()
        await space.until(lambda: "Starting" in stages(space), about="the second run starts")
        await process.kill()
        there = lab.kubelet.lingering[space.name] = asyncio.Event()
        start.set()
        await process.start()
        await space.until(lambda: stages(space).count("Releasing") == 1, about="the second run is released")
        await process.kill()
        there.set()
        await process.start()
        await space.until_complete()
    finally:
        del lab.kubelet.lingering[space.name]
        await process.kill()
    invariants.check()
    invariants.once()
    quiet(process)
    other = await lab.space()
    await other.submit()
    async with lab.operator(other):
        await other.until_complete()
    assert end_state(space) == end_state(other)


def stages(space: Space) -> list[str]:
    return [space.stage(run["spec"]["variant"]["name"]) for run in space.runs()]


@pytest.mark.timeout(180)
async def test_two_candidates(lab: Lab, space: Space, installed: Installed, tmp_path: Path) -> None:
    """One leads, the other stands by; it takes over at once after an orderly stop, and after the Lease's end else."""
    first = Process(installed, lab.world, "operator-a", tmp_path)
    second = Process(installed, lab.world, "operator-b", tmp_path)
    held = asyncio.Event()
    lab.kubelet.script(space.name, "load", lives.measures(hold=held))
    invariants = Invariants(space)
    async with first:
        await first.answers("/readyz", "leading")
        async with second:
            await second.answers("/readyz", "standby")
            await space.submit()
            await space.until(lambda: "Loading" in stages(space), about="the first run loads")
            for process in (first, second):
                assert (await process.get("/healthz"))[0] == 200
            assert await holder(lab, space) == "operator-a"
            assert await first.terminate() == 0
            await second.answers("/readyz", "leading", seconds=10)
            assert await holder(lab, space) == "operator-b"
            await second.kill()
            held.set()
            await first.start()
            await first.answers("/readyz", "standby")
            # The tests need not wait for fifteen seconds to see that a Lease ends.
            await lab.api.merge("Lease", space.name, LEASE, {"spec": {"leaseDurationSeconds": 2}})
            await first.answers("/readyz", "leading", seconds=15)
            await space.until_complete()
            assert await first.terminate() == 0
            assert await holder(lab, space) is None
    invariants.check()
    invariants.once()
    assert space.verdicts() == MEASURED
    for process in (first, second):
        quiet(process)


async def holder(lab: Lab, space: Space) -> str | None:
    lease = await lab.api.get("Lease", space.name, LEASE)
    assert lease is not None
    name: str | None = lease["spec"].get("holderIdentity")
    return name


@pytest.mark.timeout(180)
async def test_whole_cluster(lab: Lab, space: Space, tmp_path: Path) -> None:
    """Cluster mode: studies of namespaces that it was never told of, their metrics, and their end."""
    installed = await Installed.into(lab.api, space.name, tmp_path, "watch.cluster=true")
    async with Process(installed, lab.world, "operator-0", tmp_path) as process:
        await process.answers("/readyz", "leading")
        elsewhere = await lab.space()
        await elsewhere.submit()
        benchmark = await elsewhere.until_complete()
        assert elsewhere.verdicts() == MEASURED
        cell = next(cell for cell in benchmark["status"]["cells"] if cell["variant"] == "int8")
        study = {"namespace": elsewhere.name, "benchmark": "study"}
        place = {**study, "load": "saturated", "target": "node", "variant": "int8"}
        row = next(row for row in cell["loads"] if row["load"] == "saturated")
        await metric(process, "quantbench_result_total_tokens_per_second", place, row["totalTokensPerSecond"])
        ttft = row["meanTTFTMilliseconds"] / 1e3
        await metric(process, "quantbench_result_time_to_first_token_seconds", place, ttft)
        await metric(process, "quantbench_leader", {}, 1.0)
        await metric(process, "quantbench_benchmark_complete", study, 1.0)
        status, text = await process.get("/metrics")
        assert status == 200
        assert 'quantbench_api_requests_total{code="200",kind="Pod",verb="apply"}' in text or 'code="201"' in text
        await elsewhere.remove()
        await gone(process, elsewhere.name)
        quiet(process)


async def metric(process: Process, name: str, labels: Mapping[str, str], value: float) -> None:
    """Wait until a metric has a value: events reach the process a moment after the test."""
    for _ in range(200):
        families = text_string_to_metric_families((await process.get("/metrics"))[1])
        samples = [sample for family in families for sample in family.samples]
        found = next((one.value for one in samples if (one.name, one.labels) == (name, labels)), None)
        if found == pytest.approx(value):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{name} of {labels} is {found}, not {value}")


async def gone(process: Process, namespace: str) -> None:
    """Wait until no metric speaks of a namespace."""
    for _ in range(200):
        if namespace not in (await process.get("/metrics"))[1]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"metrics still speak of {namespace}")


@pytest.mark.timeout(180)
async def test_many_namespaces(lab: Lab, space: Space, tmp_path: Path) -> None:
    """Each watched namespace costs watches; they must not take the connections that the work needs."""
    spaces = [space, *[await lab.space() for _ in range(24)]]
    names = ",".join(other.name for other in spaces)
    installed = await Installed.into(lab.api, space.name, tmp_path, f"watch.namespaces={{{names}}}")
    async with Process(installed, lab.world, "operator-0", tmp_path) as process:
        await process.answers("/readyz", "leading")
        await spaces[-1].submit()
        await spaces[-1].until_complete()
        assert spaces[-1].verdicts() == MEASURED
        quiet(process)


@pytest.mark.timeout(180)
async def test_a_namespace_that_is_gone(lab: Lab, space: Space, tmp_path: Path) -> None:
    """Its Role goes with it: the API server refuses that namespace, and the others go on."""
    lost = await lab.space()
    names = f"{lost.name},{space.name}"
    installed = await Installed.into(lab.api, space.name, tmp_path, f"watch.namespaces={{{names}}}")
    bindings = [one["metadata"] for one in installed.objects["RoleBinding"]]
    for name in [head["name"] for head in bindings if head["namespace"] == lost.name]:
        await lab.api.delete("RoleBinding", lost.name, name)
    async with Process(installed, lab.world, "operator-0", tmp_path) as process:
        await process.answers("/readyz", "leading")
        await space.submit()
        await space.until_complete()
        assert space.verdicts() == MEASURED
        assert (await process.get("/healthz"))[0] == 200
        assert process.log.read_text().count(f"list {lost.name}: 403 Forbidden") == 1


async def test_settings_that_are_wrong(installed: Installed, lab: Lab, tmp_path: Path) -> None:
    process = Process(installed, lab.world, "operator-0", tmp_path, QUANTBENCH_WORKERS="many")
    await process.start()
    assert process._process is not None
    assert await asyncio.wait_for(process._process.wait(), 30) == 2
    assert "QUANTBENCH_WORKERS='many' is not a whole number" in process.said()
