"""Every query of every dashboard, asked of a real Prometheus that scraped the operator after a study's end."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from harness import lives
from harness.kubelet import PodLife
from harness.lab import Lab
from harness.loadrun import INPUT_TOKENS, OUTPUT_TOKENS, Load, speed
from harness.operator import Operator
from harness.study import Space
from prometheus_support.dashboards import Query, queries
from prometheus_support.server import Prometheus, prometheus, served
from quantbench.health import application

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from core_support.fleets import many

VARIANTS = [
    {"name": "bf16", "method": "BF16"},
    {"name": "int8", "method": "INT8W8A8", "model": "/models/int8"},
    {"name": "w4a16", "method": "W4A16", "model": "/models/w4a16"},
]
SPEC = {
    "variants": VARIANTS,
    "sampling": {"starts": 2, "repeats": 2, "maxStarts": 2, "control": False},
    "loads": [{"name": "saturated"}, {"name": "c2", "maxConcurrency": 2}, {"name": "c4", "maxConcurrency": 4}],
    "limits": {"gpuHours": 8},
}


@dataclass
class Scene:
    """An operator that is scraped."""

    server: Prometheus
    variables: Mapping[str, str]


def grows(life: PodLife, load: Load, repeat: int) -> Mapping[str, Any]:
    """More requests in flight bring more throughput, so that not every load is saturated."""
    rate = speed(life.variant, load.name, repeat) * (load.max_concurrency or 64)
    tokens = {
        "output_throughput": rate * OUTPUT_TOKENS,
        "total_token_throughput": rate * (INPUT_TOKENS + OUTPUT_TOKENS),
    }
    return {"duration": load.num_prompts / rate, "request_throughput": rate, **tokens}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(module_lab: Lab, module_space: Space, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """A study ended, was deleted, and its namesake, in which one variant no longer starts, has ended too."""
    lab, space = module_lab, module_space
    lab.kubelet.script(space.name, "load", lives.measures(grows))
    operator = lab.operator(space)
    folder = tmp_path_factory.mktemp("prometheus")
    async with (
        operator,
        served(application(operator.controller, operator.registry)) as target,
        prometheus(folder, target) as server,
    ):
        await _study(space, server)
        await space.remove()
        await space.until(lambda: not space.runs() and space.benchmark() is None, about="all of it is gone")
        await _until(server, "quantbench_benchmark_info", found=False)
        lab.kubelet.script(space.name, "server", lives.dies_starting("cpu-0.32-kv-too-small.log"), "w4a16")
        await _study(space, server)
        yield Scene(server, _variables(space))


def _variables(space: Space) -> dict[str, str]:
    choices = {"namespace": space.name, "benchmark": "study", "target": ".*", "load": ".*", "job": ".*"}
    return {**choices, "__rate_interval": "30s"}


async def _study(space: Space, server: Prometheus) -> None:
    """Run a study to its end, and until its results are recorded."""
    made = await space.submit(**SPEC)
    await space.until_complete(seconds=120)
    uid = made["metadata"]["uid"]
    await _until(server, f'quantbench:finished_total_tokens_per_second{{uid="{uid}"}}', found=True)
    # A few more looks, so that rates have something to rest on.
    await asyncio.sleep(3)


async def _until(server: Prometheus, expression: str, *, found: bool) -> None:
    for _ in range(240):
        if bool(await server.ask(expression)) == found:
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"{expression}: {await server.targets()}")


async def answer(scene: Scene, query: Query) -> list[dict[str, Any]]:
    """What the panel would get."""
    return await scene.server.ask(query.asked(scene.variables), over=None if query.instant else 10.0)


@pytest.mark.parametrize("query", queries(), ids=str)
async def test_every_panel_has_data(scene: Scene, query: Query) -> None:
    assert await answer(scene, query), query.asked(scene.variables)


async def test_a_panel_without_data_would_be_noticed(scene: Scene) -> None:
    (query,) = [q for q in queries() if q.panel == "How the runs ended"]
    assert await answer(scene, query)
    other = Scene(scene.server, {**scene.variables, "benchmark": "another"})
    assert not await answer(other, query)


async def test_the_panels_say_what_the_study_found(scene: Scene, module_space: Space) -> None:
    """The same figures as in the status, under the names that the columns go by."""
    status = (module_space.benchmark() or {})["status"]
    cells = {cell["variant"]: cell for cell in status["cells"]}
    of_panel = {query.panel: await answer(scene, query) for query in queries() if query.dashboard == "study"}
    verdicts = {series["metric"]["variant"]: series["metric"]["verdict"] for series in of_panel["How the runs ended"]}
    assert verdicts == {name: cell["verdict"] for name, cell in cells.items()}
    assert verdicts["w4a16"] == "OutOfMemory"
    curve = {
        (series["metric"]["variant"], series["metric"]["concurrency"]): float(series["value"][1])
        for series in of_panel["Throughput, by concurrency"]
    }
    expected = {
        (name, row["load"].removeprefix("c")): row["totalTokensPerSecond"]
        for name, cell in cells.items()
        for row in cell.get("loads", [])
        if row["load"] != "saturated"
    }
    assert curve == pytest.approx(expected)
    ((_, ended),) = [series["value"] for series in of_panel["Runs ended"]]
    assert float(ended) == 1.0


async def test_a_namesake_is_held_against_its_predecessor(scene: Scene) -> None:
    """The same passes were measured, so nothing became slower; what failed this time is not compared."""
    found = await scene.server.ask("quantbench:ratio_to_previous")
    ratios = {(s["metric"]["variant"], s["metric"]["load"]): float(s["value"][1]) for s in found}
    assert ratios == pytest.approx({(v, load): 1.0 for v in ("bf16", "int8") for load in ("saturated", "c2", "c4")})
    assert not await scene.server.ask('ALERTS{alertname="QuantBenchmarkRegressed"}')


MOST_SECONDS = 1.0
STUDIES = 200


async def _download(target: str) -> float:
    """How long another process waits for all of /metrics [s], its own start included."""
    program = f"import urllib.request as r; print(len(r.urlopen('http://{target}/metrics').read()))"
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    size, _ = await process.communicate()
    took = time.perf_counter() - start
    assert int(size) > 50e6
    return took


@pytest.mark.timeout(300)
async def test_two_hundred_studies_of_sixty_rows(lab: Lab, space: Space, tmp_path: Path) -> None:
    """Scrape and the heaviest query stay below a second. The operator does nothing but answer."""
    operator: Operator = lab.operator(space)
    operator.controller.leading = True
    for raw in many(STUDIES):
        operator.controller.state.put(raw["kind"], raw)
    variables = {**_variables(space), "namespace": "bench", "benchmark": "qwen3-8b-000"}
    every = [(query, query.asked({**variables, "namespace": ".*"} if query.dashboard == "fleet" else variables))
             for query in queries() if "quantbench:" not in query.expression]  # fmt: skip
    async with (
        served(application(operator.controller, operator.registry)) as target,
        prometheus(tmp_path, target, interval="20s", rules=False) as server,
    ):
        assert min([await _download(target) for _ in range(3)]) < MOST_SECONDS
        await _until(server, f"count(quantbench_benchmark_info) == {STUDIES}", found=True)
        (scraped,) = await server.targets()
        assert scraped["health"] == "up", scraped["lastError"]
        (rows,) = await server.ask("count(quantbench_result_starts)")
        assert int(rows["value"][1]) == STUDIES * 60
        took: dict[str, float] = {}
        for query, text in every:
            tries = []
            for _ in range(3):
                start = time.perf_counter()
                await server.ask(text, over=None if query.instant else 10.0)
                tries.append(time.perf_counter() - start)
            # The best of three: the bound is for the work, not for what else the machine does.
            took[str(query)] = min(tries)
        slowest = max(took, key=took.__getitem__)
        assert took[slowest] < MOST_SECONDS, f"{took[slowest]:.2f} s: {slowest}"
