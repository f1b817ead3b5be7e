"""Finished studies of given size, every field filled: for ceilings and for what a scrape may cost."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from core_support.objects import at, benchmark_object, plan_of, run_raw, study
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import MAX_ROWS, QuantBenchmarkSpec
from quantbench.api.names import Difference, FindingKind, Verdict
from quantbench.api.run import ColdStart, StageTimes
from quantbench.api.status import Cell, Finding, LoadResult


def row(load: str, scale: float) -> JsonObject:
    """Figures of one row, each field filled."""
    numbers = {
        field.alias or name: scale + place for place, (name, field) in enumerate(LoadResult.model_fields.items())
    }
    counts = {"starts": 3, "passes": 9, "ratioStarts": 3}
    result = {
        **numbers,
        "load": load,
        "saturated": load == "saturated",
        "difference": Difference.FASTER,
        "decidedBy": "TPOT",
        **counts,
    }
    return LoadResult.model_validate(result).to_json()


def filled(spec: QuantBenchmarkSpec, name: str = "demo") -> JsonObject:
    """The finished object of a study: every cell with every row, findings of every kind."""
    cells = [
        Cell(
            variant=variant.name, target=target.name, verdict=Verdict.MEASURED, message="as it went",
            effective="compressed-tensors, CutlassFP8ScaledMMLinearKernel, FLASH_ATTN, auto", fingerprint="0123456789ab",
            finished=3, planned=3,
        ).to_json() | {"loads": [row(load.name, 100.0 * place + 1 / 3) for load in spec.loads]}
        for target in spec.targets
        for place, variant in enumerate(spec.variants, start=1)
    ]  # fmt: skip
    findings = [Finding(kind=kind, message="it is so").to_json() for kind in FindingKind]
    conditions = [
        {"type": kind, "status": "True", "reason": "Finished", "message": "", "lastTransitionTime": at(900)}
        for kind in ("Accepted", "Complete", "Comparable")
    ]
    status = {"cells": cells, "findings": findings, "conditions": conditions, "gpuHours": 3.5, "activeRuns": 0}
    return benchmark_object(spec, name=name, uid=f"uid-of-{name}", status=status)


def run_of(spec: QuantBenchmarkSpec, place: int) -> JsonObject:
    """A run that ended, every stage and part of its start known."""
    times = {field.alias or name: at(10.0 * n) for n, (name, field) in enumerate(StageTimes.model_fields.items())}
    cold = {f.alias or name: True if f.annotation == bool | None else 2.5 for name, f in ColdStart.model_fields.items()}
    raw = run_raw(spec, place)
    raw["status"] = {"attempt": 1, "times": times, "coldStart": cold, "passes": [{"startedAt": at(50)}] * 9}
    return raw


def largest() -> Iterator[JsonObject]:
    """The study with the most series: as many cells as rows, loads of both kinds, a budget, and a run of each cell.

    The ceiling counts 32 loads beside them, which a study of one load has not: they are left out of its cells here.
    """
    names = [f"v{number}" for number in range(25)]
    targets = [{"name": f"t{number}"} for number in range(MAX_ROWS // len(names))]
    loads = [{"name": f"l{number}", "maxConcurrency": 1 + number, "requestRate": 1 + number} for number in range(32)]
    spec = study(
        variants=[{"name": name, "method": "BF16"} for name in names], baseline="v0", targets=targets,
        loads=loads[:1], sampling={"control": False, "starts": 1}, limits={"gpuHours": 1},
    )  # fmt: skip
    raw = filled(spec)
    raw["spec"]["loads"] = loads
    yield raw
    for place in range(len(plan_of(spec).runs)):
        yield run_of(spec, place)


def many(count: int) -> Iterator[JsonObject]:
    """So many studies of 20 variants under three loads, 60 rows each, with three starts of every cell."""
    spec = study(
        variants=[{"name": f"variant-{number:02}", "method": "BF16"} for number in range(20)], baseline="variant-00",
        loads=[{"name": "saturated"}, {"name": "c16", "maxConcurrency": 16}, {"name": "c64", "maxConcurrency": 64}],
        sampling={"control": False, "starts": 3},
    )  # fmt: skip
    runs = [run_of(spec, place) for place in range(len(plan_of(spec).runs))]
    one = filled(spec)
    for number in range(count):
        name = f"qwen3-8b-{number:03}"
        raw = copy.deepcopy(one)
        raw["metadata"] |= {"name": name, "uid": f"uid-of-{name}"}
        yield raw
        for run in runs:
            again = {**run, "metadata": {**run["metadata"], "name": f"{run['metadata']['name']}-{number}"}}
            again["spec"] = {**run["spec"], "benchmark": name}
            yield again
