"""What a study would do, before anything is applied: cells, flags, order, server starts, and an estimate of the cost.

Pure: the durations are assumptions of whoever asks, and every figure that rests on them says so.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from quantbench.api.base import JsonObject
from quantbench.api.benchmark import Load, QuantBenchmarkSpec, Target
from quantbench.engine.arguments import max_model_len
from quantbench.engine.rows import Fate
from quantbench.fates import CellFate
from quantbench.plan import Plan, PlannedRun, fates, make_plan, run_spec
from quantbench.results import prompts, warmup_prompts

RELEASE_SECONDS = 30.0
"""From the verdict to the pod's end, the default grace period of Kubernetes."""


@dataclass(frozen=True)
class Assumptions:
    """What an estimate rests on.

    Attributes:
        start_seconds: from having a node until the server answers: image pull, loading, compilation, CUDA graphs [s].
        request_seconds: one request from its first to its last byte, while the server is busy [s].
        pass_seconds: every pass takes this long, whatever the load; None: from the load and request_seconds [s].
    """

    start_seconds: float = 300.0
    request_seconds: float = 10.0
    pass_seconds: float | None = None


@dataclass(frozen=True)
class CellPreview:
    """One variant on one target.

    Attributes:
        fate: what is known before it runs.
        message: why.
        args, env: what `vllm serve` is called with, the variant's and the common ones.
        notes: what the reader of its figures should know.
        kernels: the linear kernel that is expected, or several where the checkpoint decides; empty: not known.
        starts, most_starts: server starts, without and with adaptive ones; 0 for what never takes a GPU.
        gpu_hours: of one server start, estimated.
    """

    variant: str
    target: str
    fate: Fate
    message: str
    model: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    kernels: tuple[str, ...]
    starts: int
    most_starts: int
    gpu_hours: float


@dataclass(frozen=True)
class Preview:
    """A planned study."""

    name: str
    plan_hash: str
    engine_version: str
    cells: tuple[CellPreview, ...]
    runs: tuple[PlannedRun, ...]
    assumptions: Assumptions
    server_starts: tuple[int, int]
    gpu_hours: tuple[float, float]
    hours: tuple[float, float]
    warnings: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """For scripts; ranges are objects of ``least`` and ``most``."""
        return {
            "name": self.name,
            "planHash": self.plan_hash,
            "engineVersion": self.engine_version,
            "cells": [
                {
                    "variant": cell.variant,
                    "target": cell.target,
                    "fate": cell.fate,
                    "message": cell.message,
                    "model": cell.model,
                    "args": list(cell.args),
                    "env": dict(cell.env),
                    "notes": list(cell.notes),
                    "expectedKernels": list(cell.kernels),
                    "serverStarts": _range((cell.starts, cell.most_starts)),
                    "estimatedGPUHoursPerStart": round(cell.gpu_hours, 4),
                }
                for cell in self.cells
            ],
            "order": [
                {"block": run.block, "position": run.position, "variant": run.variant, "target": run.target}
                for run in self.runs
                if not run.refusal
            ],
            "serverStarts": _range(self.server_starts),
            "estimatedGPUHours": _range(self.gpu_hours),
            "estimatedHours": _range(self.hours),
            "assumptions": asdict(self.assumptions),
            "warnings": list(self.warnings),
        }


def _range(bounds: tuple[float, float]) -> JsonObject:
    return {"least": round(bounds[0], 4), "most": round(bounds[1], 4)}


def preview(name: str, spec: QuantBenchmarkSpec, assumptions: Assumptions) -> Preview:
    """Plan a study and estimate what it costs.

    Raises:
        quantbench.plan.SpecInvalid: with the path of every field that is wrong.
    """
    plan = make_plan(name, "", spec)
    known = {(cell.variant, cell.target): cell for cell in fates(spec)}
    first = {run.cell: run for run in reversed(plan.runs)}
    seconds = {target.name: start_seconds(spec, assumptions) for target in spec.targets}
    planned = Counter(run.cell for run in plan.runs if not run.refusal)
    cells = tuple(
        _cell(name, spec, plan, run, known[run.cell], planned[run.cell], seconds[run.target])
        for run in _in_order(spec, first.values())
    )
    least = sum(cell.starts * seconds[cell.target] for cell in cells) / 3600
    most = sum(cell.most_starts * seconds[cell.target] for cell in cells) / 3600
    gpu_hours = (
        sum(cell.starts * cell.gpu_hours for cell in cells),
        sum(cell.most_starts * cell.gpu_hours for cell in cells),
    )
    return Preview(
        name=name,
        plan_hash=plan.hash,
        engine_version=str(plan.version),
        cells=cells,
        runs=plan.runs,
        assumptions=assumptions,
        server_starts=(sum(cell.starts for cell in cells), sum(cell.most_starts for cell in cells)),
        gpu_hours=gpu_hours,
        hours=(least / spec.limits.parallelism, most / spec.limits.parallelism),
        warnings=tuple(_warnings(spec, cells, gpu_hours)),
    )


def start_seconds(spec: QuantBenchmarkSpec, assumptions: Assumptions) -> float:
    """How long one server is expected to exist [s]: its start, every load's warm-up and passes, its end."""
    passes = 0.0
    for load in spec.loads:
        passes += pass_seconds(spec, load, warmup_prompts(load, spec.workload), assumptions)
        repeats = load.repeats or spec.sampling.repeats
        passes += repeats * pass_seconds(spec, load, prompts(load, spec.workload), assumptions)
    return assumptions.start_seconds + passes + RELEASE_SECONDS


def pass_seconds(spec: QuantBenchmarkSpec, load: Load, requests: int, assumptions: Assumptions) -> float:
    """How long so many requests of a load are expected to take [s].

    The requests come as the rate says, and run in waves of as many as client and server let through at a time.
    """
    if not requests:
        return 0.0
    if assumptions.pass_seconds is not None:
        return assumptions.pass_seconds * requests / prompts(load, spec.workload)
    at_a_time = min(requests, load.max_concurrency or requests, spec.engine.max_num_seqs)
    arriving = requests / float(load.request_rate) if load.paced else 0.0
    return max(arriving, requests / at_a_time * assumptions.request_seconds)


def _in_order(spec: QuantBenchmarkSpec, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    places = {variant.name: place for place, variant in enumerate(spec.variants)}
    targets = {target.name: place for place, target in enumerate(spec.targets)}
    return sorted(runs, key=lambda run: (targets[run.target], places.get(run.variant, len(places))))


def _cell(
    name: str, spec: QuantBenchmarkSpec, plan: Plan, run: PlannedRun, known: CellFate, starts: int, seconds: float
) -> CellPreview:
    resolved = run_spec(name, spec, plan, run)
    target = _target(spec, run.target)
    return CellPreview(
        variant=run.variant,
        target=run.target,
        fate=known.fate,
        message="; ".join(part for part in (known.message, known.hint) if part),
        model=resolved.engine.model,
        args=resolved.engine.args,
        env=tuple((variable.name, variable.value or "") for variable in resolved.engine.env),
        notes=known.notes,
        kernels=known.kernels,
        starts=starts,
        most_starts=spec.sampling.most_starts if starts else 0,
        gpu_hours=target.gpus * seconds / 3600,
    )


def _target(spec: QuantBenchmarkSpec, name: str) -> Target:
    return next(target for target in spec.targets if target.name == name)


def _warnings(spec: QuantBenchmarkSpec, cells: Sequence[CellPreview], hours: tuple[float, float]) -> list[str]:
    found = []
    budget = spec.limits.gpu_hours
    if budget is not None and hours[0] > budget:
        found.append(f"limits.gpuHours is {budget:g}, and the estimate is {hours[0]:.1f} GPU-hours at least")
    elif budget is not None and hours[1] > budget:
        found.append(f"limits.gpuHours is {budget:g}: adaptive starts, up to {hours[1]:.1f} GPU-hours, may not all fit")
    if not any(cell.starts for cell in cells if cell.variant == spec.baseline):
        found.append("the baseline takes no GPU anywhere, so there will be no ratios")
    found += _too_long(spec)
    if spec.sampling.starts == 1:
        found.append("sampling.starts is 1: ratios will be shown without a verdict of better or worse")
    return found


def _too_long(spec: QuantBenchmarkSpec) -> list[str]:
    """Random lengths of which half the requests or more exceed what a variant's server takes."""
    random = spec.workload.dataset.random
    if random is None:
        return []
    path = "spec.workload.dataset.random"
    asked = f"inputLen {random.input_len} + outputLen {random.output_len}"
    over: dict[int, list[str]] = {}
    for variant in spec.variants:
        most = max_model_len((*spec.engine.args, *variant.args))
        if most is not None and random.input_len + random.output_len > most:
            over.setdefault(most, []).append(variant.name)
    return [
        f"{path}: {asked} do not fit --max-model-len={most} of {', '.join(names)}: vLLM refuses such requests or cuts"
        " their outputs"
        for most, names in over.items()
    ]
