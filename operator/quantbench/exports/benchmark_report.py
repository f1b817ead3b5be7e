"""One pass as a llm-d Benchmark Report, schema version 0.2.

The schema is that of github.com/llm-d/llm-d-benchmark, benchmark-report/llmd_benchmark_report/br_v0_2_json_schema.json.
It asks for a description of the stack and the load beside the figures; what was not observed says ``unknown``.
"""

from typing import Any

from quantbench.api.base import JsonObject
from quantbench.api.benchmark import Load
from quantbench.api.run import Latency, Pass
from quantbench.exports.secrets import without_secrets
from quantbench.exports.study import Study
from quantbench.exports.vllm_bench import left_out
from quantbench.observe import Run
from quantbench.plan import plan_hash

SCHEMA_VERSION = "0.2"
_PERCENTILES = {"median": "p50", "p90": "p90", "p99": "p99"}


def to_report(study: Study, run: Run, measured: Pass) -> JsonObject:
    """The report of one pass; `None` fields of the schema are left out."""
    load = next((one for one in run.spec.load.loads if one.name == measured.load), Load(name=measured.load))
    benchmark = study.benchmark
    return {
        "version": SCHEMA_VERSION,
        "run": {
            "uid": f"{run.uid}/{measured.key}",
            "eid": benchmark.uid,
            "time": {"start": measured.started_at, "duration": f"PT{measured.duration_seconds:g}S"},
            "description": f"{run.spec.variant.name} on {run.spec.target.name} at {measured.load},"
            f" block {run.spec.block}, repeat {measured.repeat}",
            "keywords": [
                "quantbench",
                benchmark.name,
                str(run.spec.variant.method),
                f"invalid: {why}" if (why := left_out(run, measured)) else "valid",
            ],
        },
        "scenario": {"stack": [_engine(run)], "load": _load(study, run, load, measured)},
        "results": {"request_performance": {"aggregate": _figures(measured)}},
    }


def _engine(run: Run) -> JsonObject:
    engine = without_secrets(run.spec.engine)
    attested = run.status.attestation
    gpus = attested.gpus if attested else ()
    count = run.spec.target.gpus
    return {
        "metadata": {
            "label": run.spec.variant.name,
            "cfg_id": (attested.fingerprint if attested else None) or "unknown",
        },
        "standardized": {
            "kind": "inference_engine",
            "tool": "vllm",
            "tool_version": (attested.engine_version if attested else None) or run.spec.engine.version,
            "role": "replica",
            "replicas": 1,
            "model": {"name": run.spec.engine.model},
            "accelerator": {
                "model": gpus[0].name if gpus else "unknown" if count else "cpu",
                "count": count,
                "parallelism": {"tp": max(1, count)},
            },
        },
        "native": {
            "args": dict(_argument(arg) for arg in engine.args),
            "envars": {variable.name: variable.value for variable in engine.env if variable.value is not None},
        },
    }


def _argument(arg: str) -> tuple[str, str | bool]:
    name, equals, value = arg.partition("=")
    return name, value if equals else True


def _load(study: Study, run: Run, load: Load, measured: Pass) -> JsonObject:
    workload = run.spec.load.workload
    random = workload.dataset.random
    source = "random" if random else "sampled" if workload.dataset.share_gpt else "unknown"
    standardized: JsonObject = {
        "tool": "vllm bench serve",
        "tool_version": run.spec.engine.version,
        "source": source,
        "input_seq_len": {
            "distribution": ("uniform" if random.range_ratio else "fixed") if random else "other",
            "value": random.input_len if random else _per_request(measured.total_input_tokens, measured),
        },
    }
    if load.paced:
        standardized["rate_qps"] = float(load.request_rate)
    if load.max_concurrency:
        standardized["concurrency"] = load.max_concurrency
    return {
        "metadata": {
            "cfg_id": study.benchmark.status.plan_hash or plan_hash(study.benchmark.spec),
            "description": load.name,
        },
        "standardized": standardized,
        "native": {"config": {"workload": workload.to_json(), "load": load.to_json()}},
    }


def _figures(measured: Pass) -> JsonObject:
    latency = {
        "time_to_first_token": _statistics("ms", measured.ttft_milliseconds),
        "time_per_output_token": _statistics("ms/token", measured.tpot_milliseconds),
        "inter_token_latency": _statistics("ms/token", measured.itl_milliseconds),
        "request_latency": _statistics("ms", measured.e2el_milliseconds),
    }
    return {
        "requests": {
            "total": measured.asked,
            "failures": measured.failed,
            "incomplete": max(0, measured.asked - measured.completed - measured.failed),
            "input_length": _mean("count", _per_request(measured.total_input_tokens, measured)),
            "output_length": _mean("count", _per_request(measured.total_output_tokens, measured)),
        },
        "latency": {name: figures for name, figures in latency.items() if figures},
        "throughput": {
            "input_token_rate": _mean(
                "tokens/s", max(0.0, measured.total_tokens_per_second - measured.output_tokens_per_second)
            ),
            "output_token_rate": _mean("tokens/s", measured.output_tokens_per_second),
            "total_token_rate": _mean("tokens/s", measured.total_tokens_per_second),
            "request_rate": _mean("queries/s", measured.requests_per_second),
        },
    }


def _per_request(tokens: int, measured: Pass) -> float:
    return tokens / measured.completed if measured.completed else 0.0


def _mean(units: str, value: float) -> JsonObject:
    return {"units": units, "mean": value}


def _statistics(units: str, latency: Latency) -> JsonObject | None:
    if latency.mean is None:
        return None
    found: dict[str, Any] = _mean(units, latency.mean)
    for field, percentile in _PERCENTILES.items():
        value = getattr(latency, field)
        if value is not None:
            found[percentile] = value
    return found
