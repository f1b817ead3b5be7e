"""Raw objects → the numbers that a scrape needs. Total functions: odd objects never raise."""

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import CONTROL
from quantbench.metrics.exposition import pairs

ROW_FIGURES: Mapping[str, tuple[str, str, float]] = {
    "total_tokens_per_second": ("totalTokensPerSecond", "Input and output tokens per second, mean over starts.", 1.0),
    "output_tokens_per_second": ("outputTokensPerSecond", "Output tokens per second, mean over starts.", 1.0),
    "requests_per_second": ("requestsPerSecond", "Finished requests per second, mean over starts.", 1.0),
    "time_to_first_token_seconds": (
        "meanTTFTMilliseconds",
        "Mean time to first token. Of a saturated server it is the length of a queue: see quantbench_result_saturated.",
        1e-3,
    ),
    "time_per_output_token_seconds": ("meanTPOTMilliseconds", "Mean time per output token after the first.", 1e-3),
    "time_to_first_token_median_seconds": ("medianTTFTMilliseconds", "Median time to first token.", 1e-3),
    "time_to_first_token_p99_seconds": (
        "p99TTFTMilliseconds",
        "99th percentile of time to first token; absent where a pass has too few requests for one.",
        1e-3,
    ),
    "time_per_output_token_median_seconds": ("medianTPOTMilliseconds", "Median time per output token.", 1e-3),
    "time_per_output_token_p99_seconds": (
        "p99TPOTMilliseconds",
        "99th percentile of time per output token; absent likewise.",
        1e-3,
    ),
    "throughput_ratio": ("ratio", "Total throughput over the baseline's, geometric mean over blocks.", 1.0),
    "throughput_ratio_low": ("ratioLow", "Lower end of its 95 % interval; absent with too few starts.", 1.0),
    "throughput_ratio_high": ("ratioHigh", "Upper end of its 95 % interval; absent likewise.", 1.0),
    "time_to_first_token_ratio": ("ttftRatio", "Mean time to first token over the baseline's.", 1.0),
    "time_to_first_token_ratio_low": ("ttftRatioLow", "Lower end of its 95 % interval.", 1.0),
    "time_to_first_token_ratio_high": ("ttftRatioHigh", "Upper end of its 95 % interval.", 1.0),
    "time_per_output_token_ratio": ("tpotRatio", "Mean time per output token over the baseline's.", 1.0),
    "time_per_output_token_ratio_low": ("tpotRatioLow", "Lower end of its 95 % interval.", 1.0),
    "time_per_output_token_ratio_high": ("tpotRatioHigh", "Upper end of its 95 % interval.", 1.0),
    "start_variation_ratio": ("startVariation", "Coefficient of variation of throughput from start to start.", 1.0),
    "repeat_variation_ratio": ("repeatVariation", "Coefficient of variation of throughput between repeats.", 1.0),
    "saturated": (
        "saturated",
        "1 if the server was at its limit, so that TTFT is the length of a queue; absent: not known.",
        1.0,
    ),
    "starts": ("starts", "Server starts that the figures rest on; with 1 they are one run, not a verdict.", 1.0),
}
"""Metric name below ``quantbench_result_`` → field of `LoadResult`, documentation, factor to base units."""
STAGES: Mapping[str, tuple[str, str, str]] = {
    "schedule": ("serverCreated", "scheduled", "the server pod waits for a node"),
    "container": ("scheduled", "serverStarted", "its network, images and container are made ready"),
    "load": ("serverStarted", "ready", "the server loads the model"),
    "client": ("ready", "firstPass", "the server waits for its load generator"),
    "measure": ("firstPass", "lastPass", "warm-ups and passes"),
    "release": ("lastPass", "released", "the verdict is stored and the pods are removed"),
}
"""Stage of a run → the fields of `StageTimes` at its ends, and what happens in it."""
COLD_START: Mapping[str, str] = {
    "weights": "weightsSeconds",
    "model": "modelSeconds",
    "compile": "compileSeconds",
    "graph_capture": "graphCaptureSeconds",
    "engine": "engineSeconds",
}
"""Part of a cold start → field of `ColdStart`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One variant on one target under one load; `figures` in the order of `ROW_FIGURES`, NaN where there is none."""

    labels: str
    figures: Sequence[float]
    difference: str | None


@dataclass(frozen=True, slots=True)
class Cell:
    """One variant on one target."""

    key: tuple[str, str]
    labels: str
    info: str
    verdict: str | None
    finished: int
    planned: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """A QuantBenchmark."""

    version: str
    key: tuple[str, str]
    labels: str
    info: str
    created: float
    changed: float
    accepted: bool
    complete: bool
    suspended: bool
    active: int
    gpu_seconds: float
    gpu_limit: float | None
    findings: Mapping[str, int]
    loads: tuple[tuple[str, float | None, float | None], ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A QuantBenchmarkRun; `stages` in the order of `STAGES`, `cold` in that of `COLD_START`, NaN where unknown [s]."""

    version: str
    study: tuple[str, str]
    cell: tuple[str, str]
    stages: Sequence[float]
    cold: Sequence[float]
    passes: int
    progress: float
    gpus: int
    server_since: float | None


def study(raw: JsonObject) -> Study:
    """The facts of a QuantBenchmark."""
    head, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    key = (str(head["namespace"]), str(head["name"]))
    conditions = {c.get("type"): c for c in status.get("conditions") or []}
    created = _moment(head.get("creationTimestamp")) or 0.0
    limit = (spec.get("limits") or {}).get("gpuHours")
    kinds = [str(finding.get("kind")) for finding in status.get("findings") or []]
    methods = {variant["name"]: variant for variant in spec.get("variants") or []}
    methods[CONTROL] = methods.get(str(spec.get("baseline")), {})
    place = {"namespace": key[0], "benchmark": key[1]}
    return Study(
        version=str(head.get("resourceVersion", "")),
        key=key,
        labels=pairs(place),
        info=pairs({**place, **_identity(head, spec, status)}),
        created=created,
        changed=max([created, *(_moment(c.get("lastTransitionTime")) or 0.0 for c in conditions.values())]),
        accepted=conditions.get("Accepted", {}).get("status") == "True",
        complete=conditions.get("Complete", {}).get("status") == "True",
        suspended=bool(spec.get("suspend")),
        active=status.get("activeRuns") or 0,
        gpu_seconds=3600.0 * (status.get("gpuHours") or 0.0),
        gpu_limit=None if limit is None else 3600.0 * limit,
        findings={kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        loads=tuple(_load(place, load) for load in spec.get("loads") or []),
        cells=tuple(_cell(place, cell, methods) for cell in status.get("cells") or []),
    )


def run(raw: JsonObject) -> Run:
    """The facts of a QuantBenchmarkRun."""
    head, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    when = {name: _moment(text) for name, text in (status.get("times") or {}).items()}
    passes, cold = status.get("passes") or [], status.get("coldStart") or {}
    target = spec.get("target") or {}
    ends = [_pass_end(one) for one in passes]
    placed, released = when.get("scheduled"), when.get("released")
    return Run(
        version=str(head.get("resourceVersion", "")),
        study=(str(head["namespace"]), str(spec.get("benchmark", ""))),
        cell=(str((spec.get("variant") or {}).get("name", "")), str(target.get("name", ""))),
        stages=array("d", (_between(when.get(start), when.get(end)) for start, end, _ in STAGES.values())),
        cold=array("d", (cold.get(field, nan) for field in COLD_START.values())),
        passes=len(passes),
        progress=max([_moment(head.get("creationTimestamp")) or 0.0, *(t for t in when.values() if t), *ends]),
        gpus=target.get("gpus", 1),
        server_since=placed if placed and not released else None,
    )


def _identity(head: JsonObject, spec: JsonObject, status: JsonObject) -> dict[str, str]:
    """What tells this study from a namesake before it; `workload` is equal where both ask for the same work."""
    asked = [spec.get(field) for field in ("model", "workload", "loads", "baseline")]
    content = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    engine = spec.get("engine") or {}
    return {
        "uid": str(head.get("uid", "")),
        "model": str(spec.get("model", "")),
        "image": str(engine.get("image", "")),
        "baseline": str(spec.get("baseline", "")),
        "plan": str(status.get("planHash") or ""),
        "workload": hashlib.sha256(content.encode()).hexdigest()[:12],
    }


def _load(place: Mapping[str, str], load: JsonObject) -> tuple[str, float | None, float | None]:
    rate, most = str(load.get("requestRate", "inf")), load.get("maxConcurrency")
    labels = pairs({**place, "load": str(load["name"])})
    return labels, None if most is None else float(most), None if rate == "inf" else _number(rate)


def _cell(place: Mapping[str, str], cell: JsonObject, methods: Mapping[str, JsonObject]) -> Cell:
    here = {**place, "variant": str(cell["variant"]), "target": str(cell["target"])}
    asked = methods.get(here["variant"], {})
    told = {
        "method": str(asked.get("method", "")),
        "effective": str(cell.get("effective") or ""),
        "fingerprint": str(cell.get("fingerprint") or ""),
        "same_as": str(cell.get("sameAs") or ""),
    }
    return Cell(
        key=(here["variant"], here["target"]),
        labels=pairs(here),
        info=pairs({**here, **told}),
        verdict=cell.get("verdict"),
        finished=cell.get("finished") or 0,
        planned=cell.get("planned") or 0,
        rows=tuple(_rows(here, cell.get("loads") or [])),
    )


def _rows(here: Mapping[str, str], rows: Sequence[JsonObject]) -> Iterator[Row]:
    for row in rows:
        figures = (_scaled(row.get(field), factor) for field, _, factor in ROW_FIGURES.values())
        yield Row(pairs({**here, "load": str(row["load"])}), array("d", figures), row.get("difference"))


def _scaled(value: float | None, factor: float) -> float:
    # Milliseconds of six digits become seconds of six digits: 8.1 ms is 0.0081 s, not 0.008100000000000001.
    return nan if value is None else float(f"{factor * value:.6g}") if factor != 1.0 else float(value)


def _pass_end(one: JsonObject) -> float:
    return (_moment(one.get("startedAt")) or 0.0) + float(one.get("durationSeconds") or 0.0)


def _between(start: float | None, end: float | None) -> float:
    return nan if start is None or end is None else max(0.0, end - start)


def _moment(text: Any) -> float | None:
    """Seconds since 1970, or None where the text is no time."""
    return times.parse(text).timestamp() if isinstance(text, str) and times.is_moment(text) else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
