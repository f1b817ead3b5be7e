"""What a server really runs decides what its figures may be called."""

import asyncio
from typing import Any

from harness import lives
from harness.kubelet import PodLife, Script
from harness.lab import Lab
from harness.study import Space

BF16 = {"name": "bf16", "method": "BF16"}
AWQ = {"name": "awq", "method": "AWQ", "model": "/models/awq"}
MACHETE = {**AWQ, "name": "awq-machete", "kernel": "Machete"}
INT8 = {"name": "int8", "method": "INT8W8A8", "model": "/models/int8"}
ON_A_GPU = "MacheteLinearKernel"


def on_machete(log: str) -> str:
    """A CPU server's log with the name of a GPU's kernel."""
    return log.replace("CPUWNA16LinearKernel", ON_A_GPU)


def without_quantization(log: str) -> str:
    """What vLLM 0.11 to 0.31 makes of some GPTQ checkpoints: all layers as they were, and no kernel in the log."""
    kept = [line for line in log.splitlines() if "CPUWNA16LinearKernel" not in line]
    prefix = "(Worker pid=1) INFO 11-24 07:12:54 [base_loader.py:92] "
    layers = ["vLLM model structure:", "Q()(", "  (layers): M()(", "    (0-1): 2 x L()("]
    layers += ["      (o_proj): RowParallelLinear(in_features=512, bias=False)", "    )", "  )"]
    layers += ["  (lm_head): ParallelLMHead(num_embeddings=1024)", ")"]
    ready = kept.index(lives.READY) if lives.READY in kept else len(kept) - 1
    return "\n".join([*kept[:ready], *(prefix + line for line in layers), *kept[ready:], ""])


def held_back(hold: asyncio.Event) -> Script:
    """A load generator that reaches the server and would measure once ``hold`` is set."""

    async def script(life: PodLife) -> None:
        async with lives.running(life) as load_run:
            if await lives.server_answers(load_run):
                load_run.ready()
                await hold.wait()
        await life.end(1)

    return script


async def played(lab: Lab, space: Space, *variants: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Run a study to its end; its cells by variant."""
    lab.operator(space).start()
    await space.submit(variants=[BF16, *variants], **more)
    benchmark = await space.until_complete()
    return {cell["variant"]: cell for cell in benchmark["status"]["cells"]}


async def test_a_misrequested_kernel_costs_no_load(lab: Lab, space: Space) -> None:
    """vLLM from 0.29 on warns and takes another kernel; a real log of that."""
    lab.kubelet.script(space.name, "server", lives.serves("cpu-0.32-linear-backend-machete.log"), "awq-machete")
    async with lives.held() as hold:
        lab.kubelet.script(space.name, "load", held_back(hold), "awq-machete")
        cells = await played(lab, space, MACHETE)
        assert not hold.is_set()
    verdict, run = space.verdict("awq-machete"), space.run("awq-machete")
    assert run is not None
    assert (verdict["name"], verdict["reason"]) == ("ConfigurationMismatch", "Kernel")
    assert "requested kernel Machete (MacheteLinearKernel), effective CPUWNA16LinearKernel" in verdict["message"]
    assert "Using CPUWNA16LinearKernel for" in verdict["logLine"]
    assert verdict["hint"]
    assert not run["status"].get("passes")
    assert run["status"]["attestation"]["linearKernels"][0]["kernel"] == "CPUWNA16LinearKernel"
    assert cells["awq-machete"]["verdict"] == "ConfigurationMismatch"
    assert "CPUWNA16LinearKernel" in cells["awq-machete"]["effective"]
    assert space.verdicts()["bf16"] == "Measured/AllPassesValid"


async def test_two_names_for_one_kernel(lab: Lab, space: Space) -> None:
    for variant in ("awq", "awq-machete"):
        lab.kubelet.script(space.name, "server", lives.serves(change=on_machete), variant)
    cells = await played(lab, space, MACHETE, AWQ)
    awq, machete = cells["awq"], cells["awq-machete"]
    assert (awq["verdict"], awq["sameAs"]) == ("Duplicate", "awq-machete")
    assert awq["fingerprint"] == machete["fingerprint"] != cells["bf16"]["fingerprint"]
    assert {row["difference"] for row in awq["loads"]} == {"SameConfiguration"}
    assert machete["verdict"] == "Measured"
    assert "sameAs" not in machete
    benchmark = space.benchmark()
    assert benchmark is not None
    assert "awq-machete" in benchmark["status"]["summary"]
    assert "awq is" not in benchmark["status"]["summary"], "it is no candidate"


async def test_nothing_is_quantized(lab: Lab, space: Space) -> None:
    gptq = {"name": "gptq", "method": "GPTQInt4", "model": "/models/gptq"}
    lab.kubelet.script(space.name, "server", lives.serves(change=without_quantization), "gptq")
    lab.kubelet.script(space.name, "server", lives.serves("cpu-0.32-bf16.log"), "int8")
    cells = await played(lab, space, gptq, INT8)
    assert space.verdicts() == {
        "bf16": "Measured/AllPassesValid",
        "gptq": "NotQuantized/NoQuantizedLayer",
        "int8": "NotQuantized/NoQuantization",
    }
    assert "loads" not in cells["gptq"] or not cells["gptq"]["loads"]


async def test_a_log_that_cannot_be_read_costs_no_measurement(lab: Lab, space: Space) -> None:
    """The first look at the server's log fails, as a busy kubelet's does; the figures and the attestation come."""
    failures = iter([500] * 2)
    lab.kubelet.log_faults[space.name] = lambda: next(failures, None)
    await played(lab, space)
    run = space.run("bf16")
    assert run is not None
    assert space.verdicts()["bf16"] == "Measured/AllPassesValid"
    assert run["status"]["attestation"]["engineVersion"] == "0.32.0"
    assert run["status"]["coldStart"]["engineSeconds"] == 0.4
