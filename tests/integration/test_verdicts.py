"""Everything that can go wrong with a server or a load generator, side by side in one study.

Each case is a variant of the same study and has a script of its own; the healthy baseline runs among them. So each
case also shows that the others go on, that its pods go away, and that nothing stops the study from ending.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from harness import lives
from harness.api import JsonObject
from harness.kubelet import PodLife, Script
from harness.lab import Lab
from harness.loadrun import INPUT_TOKENS, OUTPUT_TOKENS, Load, speed
from harness.study import Space


@dataclass(frozen=True)
class Case:
    """A variant, what its pods do, and what must come of it."""

    name: str
    verdict: str
    says: str
    """Part of the verdict's message or log line."""
    server: Script = field(default_factory=lives.serves)
    load: Script = field(default_factory=lives.measures)
    attempt: int = 1
    passes: int = 0
    """Passes that must be stored."""


def changed(**changes: Any) -> Script:
    """A load generator whose benchmark reports something else in the second pass of the first load."""

    def at(_: PodLife, load: Load, repeat: int) -> Mapping[str, Any]:
        return changes if (load.name, repeat) == ("saturated", 2) else {}

    return lives.measures(at)


def always(**changes: Any) -> Script:
    """A load generator whose benchmark reports something else in every pass."""
    return lives.measures(lambda life, load, repeat: changes)


def without_a_line(log: bytes, seal: str) -> tuple[bytes, str]:
    lines = log.splitlines(keepends=True)
    lines.remove(next(line for line in lines if b'"kind":"pass"' in line))
    return b"".join(lines), seal


def in_the_middle_of_a_line(log: bytes, seal: str) -> tuple[bytes, str]:
    return log[: log.rindex(b'"kind":"pass"') + 40], seal


def with_garbage(log: bytes, seal: str) -> tuple[bytes, str]:
    return log.replace(b'QUANTBENCH {"kind":"pass"', b'QUANTBENCH {"kind":\xff\xfe"pass"', 1), seal


def with_better_figures(log: bytes, seal: str) -> tuple[bytes, str]:
    return log.replace(b'"requestsPerSecond":', b'"requestsPerSecond":9', 1), seal


def behind_five_megabytes(log: bytes, seal: str) -> tuple[bytes, str]:
    return b"INFO chatter of the engine\n" * 200_000 + log, seal


SERVERS = [
    Case(name, verdict, says, server=lives.dies_starting(f"cpu-0.32-{name}.log", exit_code))
    for name, verdict, says, exit_code in (
        ("gptq-int8", "Unsupported/KernelMissing", "Marlin does not support", 1),
        ("model-path-missing", "ModelUnavailable/PathMissing", "Repo id must be", 1),
        ("weights-truncated", "ModelUnavailable/WeightsDamaged", "deserializing header", 1),
        ("unknown-flag", "Failed/UnknownFlag", "--no-such-flag=1", 2),
        ("kv-too-small", "OutOfMemory/KVCache", "KV cache", 1),
        ("fp8-static", "KernelBroken/OperatorMissing", "static_scaled_fp8_quant", 1),
        ("gguf", "PluginMissing/PluginMissing", "gguf", 1),
        ("quantization-mismatch", "ConfigurationMismatch/CheckpointMismatch", "does not match", 1),
    )
] + [
    Case("dies-under-load", "Failed/EngineDied", "under load", server=lives.dies_under_load(), passes=1),
    Case(
        "killed-under-load",
        "OutOfMemory/ContainerMemory",
        "memory limit under load",
        server=lives.dies_under_load(exit_code=137, reason="OOMKilled", after_passes=3),
        passes=3,
    ),
    Case("killed-starting", "OutOfMemory/ContainerMemory", "memory limit while starting", server=lives.out_of_memory()),
    Case(
        "image-missing",
        "ImageUnavailable/ErrImagePull",
        "not found",
        server=lives.waits("ErrImagePull", 'failed to resolve reference "vllm/vllm-openai:v9": not found'),
    ),
    Case(
        "image-misspelt",
        "ImageUnavailable/InvalidImageName",
        "couldn't parse image",
        server=lives.waits("InvalidImageName", "couldn't parse image name"),
    ),
    Case("evicted-once", "Measured/AllPassesValid", "4 passes", server=lives.evicted(), attempt=2, passes=4),
    Case("evicted-always", "Evicted/PodLost", "given up after 3", server=lives.evicted(attempts=9), attempt=3),
    Case("load-evicted", "Measured/AllPassesValid", "", load=lives.evicted(lives.measures()), attempt=2, passes=4),
]

LOADS = [
    Case("load-killed", "Failed/LoadOutOfMemory", "memory limit", load=lives.out_of_memory()),
    Case(
        "dataset-missing",
        "Failed/DatasetMissing",
        "/data/sharegpt.json",
        load=lives.reports("DatasetMissing", "/data/sharegpt.json: No such file or directory"),
    ),
    Case(
        "dataset-not-json",
        "Failed/DatasetInvalid",
        "not JSON",
        load=lives.reports("DatasetInvalid", "/data/sharegpt.json is not JSON: line 1 column 1"),
    ),
    Case(
        "benchmark-broken",
        "Failed/EngineBenchmarkFailed",
        "refuses",
        load=lives.reports("EngineBenchmarkFailed", "the argument parser of vllm.benchmarks.serve refuses: x"),
    ),
    Case("result-missing", "Failed/ResultMissing", "without saying", load=lives.tampered(lambda log, seal: (b"", ""))),
    Case("result-empty", "Failed/ResultCorrupt", "0 result lines", load=lives.tampered(lambda log, seal: (b"", seal))),
    Case(
        "no-seal", "Failed/ResultMissing", "without saying", load=lives.tampered(lambda log, seal: (log, "")), passes=4
    ),
    Case("line-missing", "Failed/ResultCorrupt", "seal", load=lives.tampered(without_a_line), passes=3),
    Case("cut-off", "Failed/ResultCorrupt", "seal", load=lives.tampered(in_the_middle_of_a_line), passes=3),
    Case("garbage", "Failed/ResultCorrupt", "1 unreadable", load=lives.tampered(with_garbage), passes=3),
    Case("wrong-digest", "Failed/ResultCorrupt", "seal", load=lives.tampered(with_better_figures), passes=4),
    Case("huge", "Failed/ResultTooLarge", "4194304 bytes", load=lives.tampered(behind_five_megabytes)),
    Case(
        "seal-is-garbage",
        "Failed/ResultMissing",
        "without saying",
        load=lives.tampered(lambda log, seal: (log, "\x00{")),
        passes=4,
    ),
    Case(
        "some-requests-failed",
        "Unstable/RequestsFailed",
        "19 of 20 requests completed",
        load=changed(completed=19, failed=1),
        passes=4,
    ),
    Case(
        "all-requests-failed",
        "Failed/RequestsFailed",
        "0 of 20 requests completed",
        load=always(completed=0, failed=20, total_output_tokens=0, total_token_throughput=0.0),
        passes=4,
    ),
    Case(
        "outputs-cut",
        "Inconsistent/OutputLengthDrift",
        "instead of 2000",
        load=always(total_output_tokens=1000),
        passes=4,
    ),
    Case(
        "prompts-differ",
        "Inconsistent/CountersDisagree",
        "1000 prompt tokens",
        load=always(total_input_tokens=1000),
        passes=4,
    ),
    Case(
        "client-busy",
        "ClientBound/ClientSaturated",
        "cores; one is what it can use",
        load=always(client_cpu_seconds=1e3),
        passes=4,
    ),
    Case("not-a-number", "Inconsistent/ImplausibleFigures", "", load=always(duration=float("nan")), passes=4),
]


def study(cases: list[Case]) -> JsonObject:
    """What differs from the usual study: one variant per case beside the baseline, all at the same time."""
    variants = [{"name": "bf16", "method": "BF16"}]
    variants += [{"name": case.name, "method": "INT8W8A8", "model": f"/models/{case.name}"} for case in cases]
    return {"variants": variants, "limits": {"parallelism": 10, "retries": 2}}


async def played(lab: Lab, cases: list[Case]) -> Space:
    """Run the study of the cases to its end."""
    space = await lab.space()
    for case in cases:
        lab.kubelet.script(space.name, "server", case.server, case.name)
        lab.kubelet.script(space.name, "load", case.load, case.name)
    lab.operator(space).start()
    await space.submit(**study(cases))
    await space.until_complete(seconds=100)
    return space


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(module_lab: Lab) -> Space:
    return await played(module_lab, SERVERS)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def loads(module_lab: Lab) -> Space:
    return await played(module_lab, LOADS)


def check(space: Space, case: Case) -> None:
    """The case has its verdict, its evidence and its passes, and nothing of it is left."""
    run = space.run(case.name)
    assert run is not None
    status = run["status"]
    verdict = status["verdict"]
    assert f"{verdict['name']}/{verdict['reason']}" == case.verdict, verdict
    assert case.says in verdict["message"] + verdict.get("logLine", "")
    assert status.get("attempt", 1) == case.attempt
    passes = [measured for measured in status.get("passes", []) if measured["attempt"] == case.attempt]
    assert len(passes) == case.passes
    assert status["times"]["released"]
    cell = cell_of(space, case.name)
    assert cell["verdict"] == verdict["name"]
    assert bool(cell.get("loads")) == (verdict["name"] in ("Measured", "Unstable")), "only what is valid is a figure"
    assert all(seen.gone for seen in space.ever("Pod", variant=case.name))


def cell_of(space: Space, variant: str) -> JsonObject:
    benchmark = space.benchmark()
    assert benchmark is not None
    return next(cell for cell in benchmark["status"]["cells"] if cell["variant"] == variant)


@pytest.mark.parametrize("case", SERVERS, ids=lambda case: case.name)
async def test_server(servers: Space, case: Case) -> None:
    check(servers, case)


@pytest.mark.parametrize("case", LOADS, ids=lambda case: case.name)
async def test_load(loads: Space, case: Case) -> None:
    check(loads, case)


async def test_others_are_measured(servers: Space, loads: Space) -> None:
    for space in (servers, loads):
        assert space.verdicts()["bf16"] == "Measured/AllPassesValid"
        complete = space.condition("Complete")
        assert complete["reason"] == "AllRunsEnded"
        assert "Measured" in complete["message"]


async def test_figures_are_those_of_the_load_generator(loads: Space) -> None:
    """From the runner's lines through the run's status to the study's: nothing is lost or scaled on the way."""
    rows = {row["load"]: row for row in cell_of(loads, "bf16")["loads"]}
    for load, row in rows.items():
        rates = [speed("bf16", load, repeat) for repeat in (1, 2)]
        mean = sum(rates) / 2
        assert row["requestsPerSecond"] == pytest.approx(mean)
        assert row["totalTokensPerSecond"] == pytest.approx(mean * (INPUT_TOKENS + OUTPUT_TOKENS))
        assert row["meanTTFTMilliseconds"] == pytest.approx(sum(1000 / rate for rate in rates) / 2, rel=1e-5)
        assert (row["passes"], row["starts"]) == (2, 1)
    assert set(rows) == {"saturated", "c4"}


async def test_a_pass_that_failed_stays_out_of_the_figures(loads: Space) -> None:
    rows = {row["load"]: row for row in cell_of(loads, "some-requests-failed")["loads"]}
    assert rows["saturated"]["passes"] == 1
    assert rows["saturated"]["requestsPerSecond"] == pytest.approx(speed("some-requests-failed", "saturated", 1))
    assert rows["c4"]["passes"] == 2
