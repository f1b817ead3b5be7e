"""Whole studies with runs and the status that the operator would write: simulated, with known speeds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from core_support import objects
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.status import QuantBenchmarkStatus
from quantbench.comparisons import Comparisons
from quantbench.effective import duplicates, void
from quantbench.exports import Study
from quantbench.observe import Run, read_run
from quantbench.plan import Plan, make_plan, run_spec
from quantbench.resources.run import run_object
from quantbench.status import plan_fields

GPU = {"name": "NVIDIA H100 80GB HBM3", "driver": "570.86.15", "computeCapability": "9.0"}
NAMED: JsonObject = {"message": "done", "reason": "Complete", "lastTransitionTime": objects.at(9000)}


def study_of(
    spec: QuantBenchmarkSpec,
    status: Callable[[str, str, int], JsonObject],
    *,
    ended: bool = True,
    blocks: int | None = None,
) -> Study:
    """A study of which every planned run has the status that ``status(variant, target, block)`` gives."""
    plan = make_plan("demo", objects.UID, spec)
    runs = [
        _run(spec, plan, place, status(planned.variant, planned.target, planned.block))
        for place, planned in enumerate(plan.runs)
        if blocks is None or planned.block <= blocks
    ]
    found = Comparisons(spec, plan, runs, same_as=duplicates(spec, runs), void=void(spec, runs))
    fields = plan_fields(plan, plan.runs, runs, spec, found, complete=ended)
    conditions = [{"type": "Complete", "status": "True", **NAMED}] if ended else []
    read = QuantBenchmarkStatus.model_validate({"conditions": conditions, "startedAt": objects.at(), "gpuHours": 1.5})
    benchmark = replace(objects.benchmark(spec), status=read.model_copy(update=fields))
    return Study(benchmark, tuple(runs))


def _run(spec: QuantBenchmarkSpec, plan: Plan, place: int, status: JsonObject) -> Run:
    planned = plan.runs[place]
    raw = run_object(planned.name, "bench", objects.UID, run_spec("demo", spec, plan, planned))
    raw["metadata"] |= {"uid": f"run-{place}", "generation": 1, "creationTimestamp": objects.at(place)}
    return read_run(objects.stored(raw | {"status": status}))


def measured(
    spec: QuantBenchmarkSpec, *, speed: float, seed: str, noise: float = 0.01, mark: str | None = None, **more: Any
) -> JsonObject:
    """The status of a run whose server is ``speed`` times as fast as the baseline, with noise from start to start."""
    luck = random.Random(seed)
    start = math.exp(luck.gauss(0.0, noise))
    passes = []
    for load in spec.loads:
        flying = min(load.max_concurrency or 256, 256)
        tpot = (6.0 + flying / 12) / speed / start
        for repeat in range(1, spec.sampling.repeats + 1):
            pace = math.exp(luck.gauss(0.0, noise / 3))
            total = flying * 1000 / tpot * 1.45 * pace
            queue = 4000.0 if load.max_concurrency is None else 0.0
            ttft = (queue + 30.0 + flying) / speed / pace
            passes.append(
                objects.pass_json(
                    load.name,
                    repeat,
                    tps=float(f"{total:.6g}"),
                    ttftMilliseconds={"mean": ttft, "median": ttft * 0.9, "p90": ttft * 1.6, "p99": ttft * 2.4},
                    tpotMilliseconds={"mean": tpot / pace, "median": tpot * 0.98, "p90": tpot * 1.2, "p99": tpot * 1.6},
                    server={
                        "meanTPOTMilliseconds": tpot / pace * 0.995,
                        "meanTTFTMilliseconds": ttft * 0.98,
                        "meanQueueMilliseconds": queue / speed,
                        "preemptions": 0,
                        "prefixCacheHits": 0,
                    },
                    client={"cpuShare": 0.4, "maxEventLoopLagMilliseconds": 12.0},
                    gpu={"samples": 40, "minSMClockMegahertz": 1755, "throttledShare": 0.0},
                )
            )
    return objects.ended(passes=passes, **{**started(mark or seed.split("/", maxsplit=1)[0], speed), **more})


def started(mark: str, speed: float = 1.0, kernel: str = "CutlassFP8ScaledMMLinearKernel") -> JsonObject:
    """What a server's log attests, and what its start took."""
    return {
        "attestation": {
            "engineVersion": "0.24.0",
            "quantization": "none" if mark == "bf16" else mark,
            "dtype": "bfloat16",
            "linearKernels": [] if mark == "bf16" else [{"layer": "CompressedTensorsLinear", "kernel": kernel}],
            "attentionBackend": "FLASH_ATTN",
            "kvCacheDType": "auto",
            "kvCacheTokens": 384128,
            "weightsGibibytes": 15.3 / speed,
            "gpus": [{**GPU, "uuid": "GPU-0d1f6c1e-0000-4000-8000-000000000001"}],
            "fingerprint": f"{abs(hash_of(mark)):016x}"[:16],
        },
        "coldStart": {
            "weightsSeconds": 6.2 / speed,
            "modelSeconds": 8.9 / speed,
            "compileSeconds": 21.5,
            "graphCaptureSeconds": 9.4,
            "engineSeconds": 38.0 + 4 * speed,
            "compileCacheHit": False,
        },
    }


def hash_of(text: str) -> int:
    """The same in every process."""
    return int.from_bytes(random.Random(text).randbytes(8))


def failed(verdict: str, message: str, line: str, hint: str) -> JsonObject:
    """The status of a run that never got to a pass."""
    status = objects.ended(verdict, passes=[], message=message)
    status["verdict"] |= {"logLine": line, "hint": hint}
    return status


SPEEDS: Mapping[str, float] = {"bf16": 1.0, "control": 1.0, "fp8-dynamic": 1.31, "w4a16": 0.94, "int8-w8a8": 1.22,
                               "kv-fp8": 1.015, "awq-marlin": 1.12, "gptq-int4": 1.12}  # fmt: skip
OOM_LINE = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a total capacity of 79.1 GiB"
)
SPEC: JsonObject = {
    "sampling": {"starts": 3, "repeats": 3},
    "engine": {"args": ["--max-model-len=8192"]},
    "variants": [
        {"name": "bf16", "method": "BF16"},
        {"name": "fp8-dynamic", "method": "FP8Dynamic", "model": "RedHatAI/Qwen3-8B-FP8-dynamic"},
        {"name": "int8-w8a8", "method": "INT8W8A8", "model": "RedHatAI/Qwen3-8B-quantized.w8a8"},
        {"name": "w4a16", "method": "W4A16", "model": "RedHatAI/Qwen3-8B-quantized.w4a16"},
        {"name": "awq-marlin", "method": "AWQ", "kernel": "Marlin", "model": "Qwen/Qwen3-8B-AWQ"},
        {"name": "gptq-int4", "method": "GPTQInt4", "model": "JunHowie/Qwen3-8B-GPTQ-Int4"},
        {"name": "kv-fp8", "method": "BF16", "kvCacheDType": "fp8_e4m3"},
        {"name": "bnb", "method": "BitsAndBytes"},
    ],
    "loads": [
        {"name": "saturated", "requestRate": "inf"},
        {"name": "c64", "maxConcurrency": 64, "numPrompts": 640},
        {"name": "c16", "maxConcurrency": 16, "numPrompts": 160},
        {"name": "c4", "maxConcurrency": 4, "numPrompts": 40},
    ],
}


def rich_spec(**changes: Any) -> QuantBenchmarkSpec:
    """A study of eight variants and a control under four loads."""
    return objects.study(**objects.merged(SPEC, changes))


def rich_study(spec: QuantBenchmarkSpec | None = None, **more: Any) -> Study:
    """Every kind of end in one study: faster, slower, no difference, a duplicate, a failure, passes left out."""
    chosen = spec or rich_spec()

    def status(variant: str, target: str, block: int) -> JsonObject:
        if variant == "bnb":
            return failed("OutOfMemory", "no memory is left for the KV cache", OOM_LINE, "lower --max-num-seqs")
        mark = {"gptq-int4": "awq-marlin", "control": "bf16"}.get(variant, variant)
        found = measured(chosen, speed=SPEEDS.get(variant, 1.0), seed=f"{variant}/{target}/{block}", mark=mark)
        if variant == "w4a16" and block == 1:
            broken = {
                "valid": False,
                "invalidReason": "ServerDisagrees",
                "message": "client and server TPOT differ by 4 %",
            }
            found["passes"][0] |= broken
            found["verdict"] |= {"name": "Unstable", "reason": "InvalidPasses", "message": "1 of 12 passes is invalid"}
        return found

    return study_of(chosen, status, **more)


def large_study(targets: int, variants: int, loads: int, starts: int) -> Study:
    """A study of many rows; beyond the first block its runs are copies, which is all the same to who reads them."""
    names = [{"name": f"v{place}", "method": "BF16", "args": [f"--seed={place}"]} for place in range(variants)]
    spec = objects.study(
        variants=names,
        baseline="v0",
        targets=[{"name": f"t{place}"} for place in range(targets)],
        loads=[{"name": f"c{place + 1}", "maxConcurrency": 2 * place + 1} for place in range(loads)],
        sampling={"starts": starts, "maxStarts": starts, "repeats": 1, "control": False},
    )
    small = objects.study(
        **(spec.to_json() | {"sampling": {"starts": 2, "maxStarts": 2, "repeats": 1, "control": False}})
    )
    found = study_of(
        small,
        lambda variant, target, block: measured(
            small, speed=1 + int(variant[1:]) / 50, seed=f"{variant}/{target}/{block}"
        ),
    )
    runs = [run for run in found.runs if run.spec.block == 1]
    more = (
        replace(run, name=f"{run.name}-{block}", spec=run.spec.model_copy(update={"block": block}))
        for block in range(1, starts + 1)
        for run in runs
    )
    return Study(replace(found.benchmark, spec=spec), tuple(more))


def with_status(study: Study, **fields: Any) -> Study:
    """The study with other fields of its status."""
    status = study.benchmark.status.model_copy(update=fields)
    return replace(study, benchmark=replace(study.benchmark, status=status))
