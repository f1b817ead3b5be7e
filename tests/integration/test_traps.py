"""Servers and load generators that would yield wrong figures: each must end in its verdict, and never as a figure.

The operator and the load runner are the real ones, on a real API server; vLLM is the simulated engine of
tests/simengine, and its log a real one's. The traps are variants of one study, beside healthy ones.

| trap | verdict | test |
|---|---|---|
| connections break in the middle of answers | Failed/RequestsFailed | test_trap[dropped] |
| requests are answered with errors | Failed/RequestsFailed | test_trap[refused] |
| outputs end early in spite of ignore-eos | Inconsistent/OutputLengthDrift | test_trap[drifting] |
| repeats are answered from the prefix cache | Inconsistent/PrefixCacheHit | test_trap[cached] |
| the server counts other tokens than the client | Inconsistent/CountersDisagree | test_trap[miscounting] |
| the engine dies under load | Failed/EngineDied, finished passes kept | test_trap[dying] |
| no memory for the KV cache at start | OutOfMemory/KVCache with its reason | test_trap[too-small] |
| the server says that it caches prefixes | ConfigurationMismatch/PrefixCaching | test_trap[caching] |
| the load generator is throttled | ClientBound/ClientLagging | test_trap[slow-client] |
| another kernel than the requested one | ConfigurationMismatch/Kernel | test_trap[other-kernel] |
| quantization asked for, no layer is quantized | NotQuantized/NoQuantizedLayer | test_trap[unquantized] |
| two names for one configuration | the cell is a Duplicate, without a difference | test_two_names_for_one_configuration |
| the same truth, noise from start to start | NotDistinguishable, control around 1 | test_the_same_truth_twice |
| none: a healthy server, twice as quick | Measured, figures near the planted truth | test_planted_truth |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from harness.api import JsonObject
from harness.kubelet import NODE_LABEL, Script
from harness.lab import Lab
from harness.processes import runs_loads, simulates
from harness.study import Space

REQUESTS, INPUT_TOKENS, OUTPUT_TOKENS, REPEATS = 12, 48, 64, 2
STEP_SECONDS, STEP_SECONDS_PER_REQUEST, PREFILL_SECONDS_PER_TOKEN = 0.020, 0.001, 0.0002
"""Passes of some two seconds: what a busy machine delays is then a small share of them."""
CLOCKS, BUSY = 0.06, 0.4
"""Shares of the planted truth: by which a figure may look better, for the clocks; by which a busy machine may make it
worse."""
PARALLEL = 4
UNCACHED = ("enable_prefix_caching=True", "enable_prefix_caching=False")
"""Some logs were taken without the operator's flag."""
INT8_LOG = {"file": "cpu-0.32-int8.log", "replace": [UNCACHED]}
W4A16_LOG = {"file": "cpu-0.32-w4a16.log", "replace": [UNCACHED]}


def server(log: str | Mapping[str, Any] = INT8_LOG, **config: Any) -> Script:
    """A simulated engine with the model that all variants have in common."""
    model = {
        "step_seconds": STEP_SECONDS,
        "step_seconds_per_request": STEP_SECONDS_PER_REQUEST,
        "prefill_seconds_per_token": PREFILL_SECONDS_PER_TOKEN,
    }
    return simulates(log, **(model | config))


def trapped(**traps: Any) -> Script:
    """A server that logs what it should and is trapped."""
    return server(traps=traps)


@dataclass(frozen=True)
class Trap:
    """A variant that must not be measured."""

    name: str
    verdict: str
    says: str
    """Part of the verdict's message."""
    server: Script = field(default_factory=server)
    load: Script = field(default_factory=runs_loads)
    variant: Mapping[str, str] = field(default_factory=lambda: {"method": "INT8W8A8"})
    valid: tuple[bool, ...] | None = (False,) * REPEATS
    """Of each pass that must be stored; None: it does not matter how far the load had come."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What each invalid pass must say."""


TRAPS = [
    Trap(
        "dropped",
        "Failed/RequestsFailed",
        "8 of 12 requests completed, 4 failed",
        trapped(drop_every=3),
        figures={"completed": 8, "failed": 4},
    ),
    Trap(
        "refused",
        "Failed/RequestsFailed",
        "0 of 12 requests completed, 12 failed",
        trapped(refuse_every=1),
        figures={"completed": 0, "totalOutputTokens": 0},
    ),
    Trap("drifting", "Inconsistent/OutputLengthDrift", "instead of 768", trapped(early_end=0.3)),
    # The warm-up has filled the cache: of 48 tokens two whole blocks of 16 are found, the last is computed always.
    Trap("cached", "Inconsistent/PrefixCacheHit", "384 prompt tokens came from", trapped(prefix_cache=True)),
    Trap("miscounting", "Inconsistent/CountersDisagree", "768 output tokens, the server 72", trapped(miss_every=16)),
    Trap(
        "dying",
        "Failed/EngineDied",
        "under load",
        # In the second pass, after the warm-up and the first.
        trapped(dies_at_request=2 * REQUESTS + 6),
        valid=(True, False),
    ),
    Trap(
        "too-small",
        "OutOfMemory/KVCache",
        "larger than the available KV cache memory",
        server("cpu-0.32-kv-too-small.log", exit_code=1),
        valid=(),
    ),
    Trap(
        "caching",
        "ConfigurationMismatch/PrefixCaching",
        "requested no prefix caching",
        server("cpu-0.32-int8.log"),
        valid=None,
    ),
    Trap(
        "slow-client",
        "ClientBound/ClientLagging",
        "the load generator was",
        load=runs_loads(throttle=(0.5, 0.2)),
    ),
    # vLLM 0.29 and later only warns when it has no such kernel for a layer.
    Trap(
        "other-kernel",
        "ConfigurationMismatch/Kernel",
        "requested kernel Machete",
        server({"file": "cpu-0.32-linear-backend-machete.log", "replace": [UNCACHED]}),
        variant={"method": "AWQ", "kernel": "Machete"},
        valid=None,
    ),
    # What vLLM 0.11 to 0.31 makes of some GPTQ checkpoints.
    Trap(
        "unquantized",
        "NotQuantized/NoQuantizedLayer",
        "requested method GPTQInt4, effective none of 24 linear layers quantized",
        server(
            {
                "file": "cpu-0.32-gptq-int4.log",
                "replace": [UNCACHED],
                "without": ["CPUWNA16LinearKernel"],
                "structure": "",
            }
        ),
        variant={"method": "GPTQInt4"},
        valid=None,
    ),
]
AWQ_LOG = {
    "file": "cpu-0.32-awq.log",
    "replace": [UNCACHED, ("CPUWNA16LinearKernel", "MarlinLinearKernel")],
    "structure": "AutoAWQMarlinLinearMethod",
}
AWQ = {"name": "awq", "method": "AWQ", "model": "/models/awq"}
TWINS: list[JsonObject] = [AWQ, {**AWQ, "name": "awq-marlin", "kernel": "Marlin"}]


def study(space: Space, *variants: JsonObject, warmup: int = REQUESTS, **more: Any) -> JsonObject:
    """The specification of a study."""
    spec: JsonObject = {
        "engine": {"image": "vllm/vllm-openai:v0.32.0", "args": ["--max-model-len=2048"]},
        "variants": list(variants),
        "targets": [{"name": "node", "nodeSelector": {NODE_LABEL: space.node}, "gpus": 1}],
        "workload": {
            "dataset": {"random": {"inputLen": INPUT_TOKENS, "outputLen": OUTPUT_TOKENS}},
            "numPrompts": REQUESTS,
            "warmupPrompts": warmup,
        },
        "loads": [{"name": "saturated"}],
        "sampling": {"starts": 1, "repeats": REPEATS, "control": False},
        "limits": {"parallelism": PARALLEL},
    }
    return spec | more


async def played(lab: Lab, traps: list[Trap]) -> Space:
    """Run a study of the traps beside healthy servers, two of which are the same, to its end."""
    space = await lab.space()
    lab.kubelet.script(space.name, "load", runs_loads())
    lab.kubelet.script(space.name, "server", server("cpu-0.32-bf16.log"), "bf16")
    lab.kubelet.script(space.name, "server", server(W4A16_LOG, step_seconds=STEP_SECONDS / 2), "quick")
    for twin in TWINS:
        lab.kubelet.script(space.name, "server", server(AWQ_LOG), twin["name"])
    for trap in traps:
        lab.kubelet.script(space.name, "server", trap.server, trap.name)
        lab.kubelet.script(space.name, "load", trap.load, trap.name)
    lab.operator(space).start()
    variants: list[JsonObject] = [{"name": "bf16", "method": "BF16"}]
    variants += [{"name": "quick", "method": "W4A16", "model": "/models/w4a16"}]
    variants += [{"name": trap.name, "model": f"/models/{trap.name}", **trap.variant} for trap in traps]
    await space.submit(**study(space, *variants, *TWINS))
    await space.until_complete(seconds=120)
    return space


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def traps(module_lab: Lab) -> Space:
    return await played(module_lab, TRAPS)


def cell_of(space: Space, variant: str) -> JsonObject:
    benchmark = space.benchmark()
    assert benchmark is not None
    return next(cell for cell in benchmark["status"]["cells"] if cell["variant"] == variant)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
async def test_trap(traps: Space, trap: Trap) -> None:
    """The verdict, its evidence, every pass kept and marked, and no figure in the answer."""
    verdict, run = traps.verdict(trap.name), traps.run(trap.name)
    assert run is not None
    assert f"{verdict['name']}/{verdict['reason']}" == trap.verdict, verdict
    assert trap.says in verdict["message"]
    passes = run["status"].get("passes", [])
    assert trap.valid in (None, tuple(measured["valid"] for measured in passes))
    for measured in passes:
        if not measured["valid"]:
            assert trap.figures.items() <= measured.items()
    cell = cell_of(traps, trap.name)
    assert cell["verdict"] == verdict["name"]
    assert not cell.get("loads")


async def test_memory_has_its_telling_line_and_a_hint(traps: Space) -> None:
    verdict = traps.verdict("too-small")
    assert verdict["logLine"].startswith("ValueError: To serve at least one request")
    assert verdict["hint"]


@pytest.mark.parametrize(("variant", "step_seconds"), [("bf16", STEP_SECONDS), ("quick", STEP_SECONDS / 2)])
async def test_planted_truth(traps: Space, variant: str, step_seconds: float) -> None:
    """The answer's figures are those that the simulated engine's model gives: never better, and worse by delays only."""
    # A pass in which the machine held the load generator up may have been left out.
    assert traps.verdict(variant)["name"] in ("Measured", "Unstable"), traps.verdict(variant)
    (row,) = cell_of(traps, variant)["loads"]
    step = step_seconds + STEP_SECONDS_PER_REQUEST * REQUESTS
    prefill = PREFILL_SECONDS_PER_TOKEN * INPUT_TOKENS * REQUESTS
    throughput = REQUESTS * (INPUT_TOKENS + OUTPUT_TOKENS) / (OUTPUT_TOKENS * step + prefill)
    assert 1 - BUSY < row["totalTokensPerSecond"] / throughput < 1 + CLOCKS
    assert 1 - CLOCKS < row["meanTPOTMilliseconds"] / (1000 * step) < 1 / (1 - BUSY)
    assert row["meanTTFTMilliseconds"] > 1000 * (step + prefill / REQUESTS)


async def test_two_names_for_one_configuration(traps: Space) -> None:
    """Both servers said that they run the same kernel of the same checkpoint: one of them is no variant."""
    one, other = (cell_of(traps, twin["name"]) for twin in TWINS)
    assert traps.verdicts()["awq"] == "Measured/AllPassesValid", traps.verdict("awq")
    assert other["verdict"] == "Duplicate"
    assert other["sameAs"] == "awq"
    assert one["fingerprint"] == other["fingerprint"]
    assert {row["difference"] for row in other["loads"]} == {"SameConfiguration"}


async def test_the_same_truth_twice(lab: Lab) -> None:
    """What differs from start to start only is no difference; what truly differs is one."""
    space = await lab.space()
    lab.kubelet.script(space.name, "load", runs_loads())
    # More noise than a busy machine adds; what is drawn is the same each time.
    noise = {"start_sigma": 0.05, "pass_sigma": 0.003}
    half = {"step_seconds": STEP_SECONDS / 2, "step_seconds_per_request": STEP_SECONDS_PER_REQUEST / 2}
    lab.kubelet.script(space.name, "server", server("cpu-0.32-bf16.log", **noise))
    lab.kubelet.script(space.name, "server", server(INT8_LOG, **noise), "int8")
    lab.kubelet.script(space.name, "server", server(W4A16_LOG, **half, **noise), "quick")
    lab.operator(space).start()
    variants: list[JsonObject] = [
        {"name": "bf16", "method": "BF16"},
        {"name": "int8", "method": "INT8W8A8", "model": "/models/int8"},
        {"name": "quick", "method": "W4A16", "model": "/models/w4a16"},
    ]
    sampling = {"starts": 3, "maxStarts": 3, "repeats": 1, "control": True}
    await space.submit(**study(space, *variants, warmup=0, sampling=sampling))
    await space.until_complete(seconds=120)
    rows = {variant: cell_of(space, variant)["loads"][0] for variant in ("int8", "control", "quick")}
    assert rows["int8"]["difference"] == "NotDistinguishable"
    assert rows["quick"]["difference"] == "Faster"
    # One interval in twenty misses 1, and a busy machine adds what is not drawn: how often is for the simulation to say.
    assert "difference" not in rows["control"]
    assert all(row["ratioLow"] < row["ratio"] < row["ratioHigh"] for row in rows.values())
