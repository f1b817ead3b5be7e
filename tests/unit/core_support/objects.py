"""Studies, runs, pods and Jobs as the API server would hand them out."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import API_VERSION
from quantbench.observe import Benchmark, Run, read_benchmark, read_run
from quantbench.plan import Plan, make_plan, run_spec
from quantbench.resources.programs import RunnerImage
from quantbench.resources.run import run_object

NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
UID = "0f6f2a3e-0000-4000-8000-000000000001"
RUNNER = RunnerImage("quantbench/operator:1.2.3")

MINIMAL: JsonObject = {
    "model": "Qwen/Qwen3-8B",
    "engine": {"image": "vllm/vllm-openai:v0.24.0"},
    "variants": [{"name": "bf16", "method": "BF16"}],
    "baseline": "bf16",
    "targets": [{"name": "h100"}],
    "workload": {"dataset": {"shareGPT": {"path": "/data/sharegpt.json"}}},
}
FULL: JsonObject = {
    "model": "Qwen/Qwen3-8B",
    "engine": {
        "image": "registry.example/vllm@sha256:0123",
        "version": "0.32.0",
        "imagePullPolicy": "Always",
        "args": ["--max-model-len=8192"],
        "maxNumSeqs": 128,
        "maxNumBatchedTokens": 4096,
        "podTemplate": {
            "labels": {"team": "serving"},
            "annotations": {"example.org/why": "because"},
            "env": [
                {"name": "HF_HUB_OFFLINE", "value": "1"},
                {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token", "optional": True}}},
                {"name": "MIRROR", "valueFrom": {"configMapKeyRef": {"name": "hub", "key": "url", "optional": False}}},
            ],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
                {"name": "settings", "configMap": {"name": "settings", "optional": True}},
                {"name": "keys", "secret": {"secretName": "keys", "optional": False}},
                {"name": "cache", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
            ],
            "volumeMounts": [
                {"name": "data", "mountPath": "/data", "subPath": "models", "readOnly": True},
                {"name": "cache", "mountPath": "/cache"},
            ],
            "tolerations": [
                {
                    "key": "nvidia.com/gpu",
                    "operator": "Equal",
                    "value": "present",
                    "effect": "NoExecute",
                    "tolerationSeconds": 60,
                }
            ],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
            "resources": {"requests": {"cpu": 4, "memory": "16Gi"}, "limits": {"memory": "32Gi"}},
            "loadResources": {"requests": {"cpu": "500m"}, "limits": {"memory": "4Gi"}},
            "imagePullSecrets": [{"name": "registry"}],
            "runtimeClassName": "nvidia",
            "priorityClassName": "low",
            "runAsUser": 1000,
            "fsGroup": 2000,
        },
    },
    "variants": [
        {"name": "bf16", "method": "BF16"},
        {
            "name": "fp8",
            "method": "FP8Online",
            "granularity": "PerBlock",
            "kernel": "Auto",
            "kvCacheDType": "fp8_e4m3",
            "args": ["--enforce-eager"],
        },
        {
            "name": "awq",
            "method": "AWQ",
            "kernel": "Marlin",
            "model": "Qwen/Qwen3-8B-AWQ",
            "tokenizer": "Qwen/Qwen3-8B",
        },
    ],
    "baseline": "bf16",
    "targets": [
        {
            "name": "h100",
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
            "gpus": 2,
            "gpuResourceName": "nvidia.com/gpu",
            "computeCapability": "9.0",
        },
        {"name": "cpu", "gpus": 0},
    ],
    "workload": {
        "dataset": {"shareGPT": {"path": "/data/sharegpt.json"}},
        "numPrompts": 500,
        "warmupPrompts": 32,
        "ignoreEOS": True,
        "temperature": 0.0,
        "seed": 7,
        "rawOutputDir": "/cache/raw",
    },
    "loads": [
        {"name": "saturated", "requestRate": "inf"},
        {
            "name": "r2",
            "requestRate": "2.5",
            "maxConcurrency": 16,
            "burstiness": 2.0,
            "numPrompts": 100,
            "warmupPrompts": 8,
            "repeats": 1,
        },
    ],
    "sampling": {"starts": 3, "repeats": 2, "maxStarts": 6, "targetRatioError": 0.05, "control": False},
    "limits": {
        "parallelism": 2,
        "gpuHours": 12,
        "scheduleTimeout": "5m",
        "startTimeout": "1h30m",
        "loadTimeout": "90s",
        "retries": 1,
    },
    "suspend": False,
    "ttlSecondsAfterFinished": 86400,
}
RANDOM_DATASET: JsonObject = {"random": {"inputLen": 512, "outputLen": 64, "rangeRatio": 0.5}}


def at(seconds: float = 0.0) -> str:
    """A timestamp so many seconds after `NOW`."""
    return times.render(NOW + timedelta(seconds=seconds))


def later(seconds: float) -> datetime:
    """A moment so many seconds after `NOW`."""
    return NOW + timedelta(seconds=seconds)


def merged(base: JsonObject, changes: JsonObject) -> JsonObject:
    """A copy of `base` with `changes` merged into its objects; None removes a field."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def study(**changes: Any) -> QuantBenchmarkSpec:
    """The minimal study with changes."""
    return QuantBenchmarkSpec.model_validate(merged(MINIMAL, changes))


def several(*names: str, **changes: Any) -> QuantBenchmarkSpec:
    """A study of several BF16 variants (told apart by an argument), without a control."""
    variants = [{"name": name, "method": "BF16", "args": [f"--seed={place}"]} for place, name in enumerate(names)]
    few = {"variants": variants, "baseline": names[0], "sampling": {"control": False}}
    return study(**merged(few, changes))


def benchmark_object(spec: QuantBenchmarkSpec, *, status: JsonObject | None = None, **head: Any) -> JsonObject:
    """The QuantBenchmark object of a study."""
    return {
        "apiVersion": API_VERSION,
        "kind": "QuantBenchmark",
        "metadata": {
            "name": "demo",
            "namespace": "bench",
            "uid": UID,
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": at(),
            **head,
        },
        "spec": spec.to_json(),
        **({"status": status} if status is not None else {}),
    }


def benchmark(spec: QuantBenchmarkSpec, *, status: JsonObject | None = None, **head: Any) -> Benchmark:
    """The same as read."""
    return read_benchmark(stored(benchmark_object(spec, status=status, **head)))


def plan_of(spec: QuantBenchmarkSpec) -> Plan:
    """Its plan."""
    return make_plan("demo", UID, spec)


def run_raw(
    spec: QuantBenchmarkSpec,
    place: int = 0,
    *,
    status: JsonObject | None = None,
    created: float = 0.0,
    **spec_changes: Any,
) -> JsonObject:
    """The object of one planned run of a study."""
    plan = plan_of(spec)
    planned = plan.runs[place]
    raw = run_object(planned.name, "bench", UID, run_spec("demo", spec, plan, planned))
    raw["metadata"] |= {
        "uid": f"run-{place}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": at(created).replace(".000", ""),
    }
    raw["spec"] = merged(raw["spec"], spec_changes)
    if status is not None:
        raw["status"] = status
    return stored(raw)


def run(spec: QuantBenchmarkSpec | None = None, place: int = 0, **more: Any) -> Run:
    """The same as read."""
    return read_run(run_raw(spec or study(), place, **more))


def stored(raw: JsonObject) -> JsonObject:
    """What comes back from the API server: plain JSON."""
    plain: JsonObject = json.loads(json.dumps(raw, allow_nan=False))
    return plain


def pass_json(
    load: str = "saturated", repeat: int = 1, attempt: int = 1, *, tps: float = 1000.0, **more: Any
) -> JsonObject:
    """One valid pass in a run's status."""
    return {
        "key": f"{attempt}/{load}/{repeat}",
        "attempt": attempt,
        "load": load,
        "repeat": repeat,
        "valid": True,
        "startedAt": at(100 + repeat),
        "durationSeconds": 12.5,
        "asked": 1000,
        "completed": 1000,
        "failed": 0,
        "totalInputTokens": 8000,
        "totalOutputTokens": 4500,
        "totalTokensPerSecond": tps,
        "outputTokensPerSecond": tps / 4,
        "requestsPerSecond": tps / 100,
        "ttftMilliseconds": {"mean": 50.0, "median": 45.0, "p90": 80.0, "p99": 120.0},
        "tpotMilliseconds": {"mean": 8.0, "median": 7.5, "p90": 9.0, "p99": 12.0},
        **more,
    }


def ended(
    verdict: str = "Measured",
    *,
    passes: list[JsonObject] | None = None,
    created: float = 0.0,
    seconds: float = 600.0,
    reason: str = "AsItWent",
    message: str = "as it went",
    **more: Any,
) -> JsonObject:
    """The status of a run that ended with a verdict and holds nothing any more."""
    chosen = [pass_json()] if passes is None and verdict in ("Measured", "Unstable") else passes or []
    return {
        "attempt": 1,
        "verdict": {"name": verdict, "reason": reason, "message": message},
        "passes": chosen,
        "times": {
            "serverCreated": at(created),
            "scheduled": at(created),
            "stored": at(created + seconds - 1),
            "released": at(created + seconds),
        },
        **more,
    }
