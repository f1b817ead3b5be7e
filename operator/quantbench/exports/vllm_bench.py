"""Results of ``vllm bench serve``, one JSON file per pass, as vLLM's tools read and write them.

The keys were read in ``vllm/benchmarks/serve.py`` of vLLM 0.32, the folders of ``vllm bench sweep serve`` in
``vllm/benchmarks/sweep/serve.py`` of the same version: ``EXPERIMENT/SERVE--NAME-BENCH--NAME/run=N.json``.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import MAX_STARTS, Load, QuantBenchmarkSpec
from quantbench.api.conditions import Condition, ConditionType, Reason
from quantbench.api.names import Verdict
from quantbench.api.run import Latency, Pass, QuantBenchmarkRunStatus, ServerCounters
from quantbench.api.status import QuantBenchmarkStatus
from quantbench.effective import counts
from quantbench.exports.document import field_errors
from quantbench.exports.figures import figures
from quantbench.exports.study import ExportError, Study
from quantbench.observe import Benchmark, Run, read_run
from quantbench.plan import plan_hash
from quantbench.statistics import headline

UNKNOWN = "unknown"
TARGET = "imported"
EARLIER = "EarlierAttempt"
_NEEDED = ("duration", "completed", "total_input_tokens", "total_output_tokens", "total_token_throughput")
_OPTIONAL = (
    "num_prompts", "failed", "max_concurrency", "output_throughput", "request_throughput", "burstiness",
    "quantbench_mean_queue_ms",
)  # fmt: skip
_SWEEP = re.compile(r"(?:SERVE--(?P<serve>.*?))?-?(?:BENCH--(?P<bench>.*))?", re.DOTALL)
_LATENCIES = {"ttft": "ttft_milliseconds", "tpot": "tpot_milliseconds", "itl": "itl_milliseconds",
              "e2el": "e2el_milliseconds"}  # fmt: skip
_BASELINE = re.compile(r"bf16|bfloat16|fp16|float16|baseline", re.IGNORECASE)
_OTHER_LENGTHS = 1.5
"""Ratio of tokens per request from which on the work was other work: grids of lengths double, while samples of one data
set, or answers that end where each variant ends them, differ by less."""
_REMEDIES = {
    "model_id": "keep each checkpoint in a folder, or under a label, of its own",
    "the run": "read each study by itself, and join them with quantbench import",
}

_Start = tuple[str, str, int]
"""Variant, target and block."""


def is_result(document: Any) -> bool:
    """Whether a JSON document is the result of one ``vllm bench serve``."""
    return isinstance(document, Mapping) and all(key in document for key in _NEEDED)


def to_result(run: Run, measured: Pass) -> JsonObject:
    """One pass as ``vllm bench serve --save-result`` would have written it, as far as it was kept."""
    load = next((one for one in run.spec.load.loads if one.name == measured.load), Load(name=measured.load))
    rate = str(load.request_rate)
    result: JsonObject = {
        "date": _date(measured.started_at),
        "endpoint_type": "openai-chat",
        "backend": "openai-chat",
        "label": run.spec.variant.name,
        "model_id": run.spec.engine.model,
        "tokenizer_id": run.spec.engine.tokenizer,
        "num_prompts": measured.asked,
        "request_rate": rate if rate == "inf" else float(rate),
        "burstiness": load.burstiness,
        "max_concurrency": load.max_concurrency,
        "duration": measured.duration_seconds,
        "completed": measured.completed,
        "failed": measured.failed,
        "total_input_tokens": measured.total_input_tokens,
        "total_output_tokens": measured.total_output_tokens,
        "request_throughput": measured.requests_per_second,
        "request_goodput": None,
        "output_throughput": measured.output_tokens_per_second,
        "total_token_throughput": measured.total_tokens_per_second,
    }
    for name, field in _LATENCIES.items():
        latency: Latency = getattr(measured, field)
        for figure in ("mean", "median", "p90", "p99"):
            value = getattr(latency, figure)
            if value is not None:
                result[f"{figure}_{name}_ms"] = value
    # `--metadata` of vllm bench serve adds strings of the user's choice; these lead back to the study.
    return result | {
        "quantbench_benchmark": run.spec.benchmark,
        "quantbench_run": run.name,
        "quantbench_target": run.spec.target.name,
        "quantbench_load": measured.load,
        "quantbench_block": str(run.spec.block),
        "quantbench_valid": f"false: {why}" if (why := left_out(run, measured)) else "true",
        "quantbench_mean_queue_ms": measured.server.mean_queue_milliseconds,
    }


def left_out(run: Run, measured: Pass) -> str | None:
    """Why the pass does not count in its study; None where it does."""
    if not measured.valid:
        return measured.invalid_reason or "Invalid"
    if measured.attempt != run.status.attempt:
        return EARLIER
    return str(run.status.verdict.name) if run.status.verdict and not counts(run) else None


def study_of_results(name: str, files: Sequence[tuple[str, Mapping[str, Any]]], baseline: str | None = None) -> Study:
    """A study of result files.

    Files that `to_result` wrote tell target and block, and whether the pass counts. Others do not tell starts apart:
    there a variant has one.

    Args:
        name: what to call it.
        files: path below the folder that was read, and content.
        baseline: variant to compare with; absent: the first whose name tells 16-bit floats, else the first.

    Raises:
        ExportError: files that are no results, one name for two checkpoints, runs or amounts of work, or more variants,
            loads or repeats than a study holds.
    """
    # An attempt that was lost is no part of the start that followed.
    files = [(path, document) for path, document in files if document.get("quantbench_valid") != f"false: {EARLIER}"]
    if not files:
        raise ExportError(f"{name}: only passes of attempts that were lost")
    parents = {PurePosixPath(path).parent.as_posix() for path, _ in files}
    starts: dict[_Start, dict[str, list[Mapping[str, Any]]]] = {}
    loads: dict[str, Load] = {}
    known: dict[tuple[str, str], tuple[str, str | float]] = {}
    for path, document in files:
        _check(path, document)
        variant, load_name = _place(PurePosixPath(path), document, several=len(parents) > 1)
        load = _load(path, load_name, document)
        start = (variant, _slug(str(document.get("quantbench_target") or TARGET)), _block(path, document))
        for what, key, value in _told(path, document, start, load):
            first, other = known.setdefault((what, key), (path, value))
            if not _alike(value, other):
                raise ExportError(
                    f"{what} is not the same in {first} and {path}: {key} is {_form(other)} and {_form(value)};"
                    f" {_REMEDIES.get(key, 'read what did other work by itself')}"
                )
        loads.setdefault(load.name, load)
        starts.setdefault(start, {}).setdefault(load.name, []).append(document)
    variants = list(dict.fromkeys(variant for variant, _, _ in starts))
    chosen = baseline or next(iter([v for v in variants if _BASELINE.search(v)] or variants))
    if chosen not in variants:
        raise ExportError(f"baseline {chosen!r} is not among the variants {', '.join(variants)}")
    repeats = {load: max(len(found.get(load, ())) for found in starts.values()) for load in loads}
    spec = _spec(files[0][1], list(starts), chosen, list(loads.values()), repeats)
    try:
        runs = tuple(_run(name, spec, place, *item) for place, item in enumerate(starts.items(), 1))
    except ValidationError as error:
        raise ExportError(f"{name}: {field_errors(error, 'results')}") from error
    digest = plan_hash(spec)
    ended = Condition(
        type=ConditionType.COMPLETE,
        status="True",
        reason=Reason.ALL_RUNS_ENDED,
        message=f"read from {len(files)} results of vllm bench serve",
        last_transition_time=max(run.created_at for run in runs),
    )
    update = figures(spec, runs, digest, complete=True) | {"conditions": (ended,)}
    status = QuantBenchmarkStatus().model_copy(update=update)
    head = Benchmark(_slug(name), TARGET, _identity([run.uid for run in runs]), 1, False, spec, status)
    return Study(head, runs)


def _check(path: str, document: Mapping[str, Any]) -> None:
    """Figures must be numbers before anything is computed from them."""
    for key in (*_NEEDED, *_OPTIONAL):
        value = document.get(key)
        if key in _OPTIONAL and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ExportError(f"{path}: {key}: a number of at least 0 expected, {value!r} found")


def _told(path: str, document: Mapping[str, Any], start: _Start, load: Load) -> Iterator[tuple[str, str, str | float]]:
    """What all files of one variant, load or start must have in common: of what, what it is, and its value."""
    variant, target, block = start
    yield f"variant {variant!r}", "model_id", str(document.get("model_id") or UNKNOWN)
    own = f"load {load.name!r}"
    for key in ("request_rate", "max_concurrency", "burstiness"):
        yield own, key, str(getattr(load, key))
    asked, completed = document.get("num_prompts"), document["completed"]
    if asked is not None:
        yield own, "num_prompts", str(asked)
    if completed and completed == asked:
        yield own, "total_input_tokens per request", document["total_input_tokens"] / completed
        if document["total_output_tokens"]:
            # Variants may differ here: a damaged one runs on, or says little.
            key = "total_output_tokens per request"
            yield f"{own} of variant {variant!r}", key, document["total_output_tokens"] / completed
    if "quantbench_run" in document:
        # A study that was measured twice has runs of the same names.
        run = f"{document['quantbench_run']} in {PurePosixPath(path).parent}"
        yield f"{variant} on {target} in block {block}", "the run", run


def _alike(one: str | float, other: str | float) -> bool:
    if isinstance(one, float) and isinstance(other, float) and one != other:
        return max(one, other) < _OTHER_LENGTHS * min(one, other)
    return one == other


def _block(path: str, document: Mapping[str, Any]) -> int:
    told = str(document.get("quantbench_block", 1))
    if not re.fullmatch(r"[1-9][0-9]?", told) or int(told) > MAX_STARTS:
        raise ExportError(f"{path}: quantbench_block: a number from 1 to {MAX_STARTS} expected, {told!r} found")
    return int(told)


def _place(path: PurePosixPath, document: Mapping[str, Any], *, several: bool) -> tuple[str, str]:
    """Variant and load of a file: what its folder says, else what it says itself."""
    folder = path.parent.name
    match = _SWEEP.fullmatch(folder) if "--" in folder else None
    load = str(document.get("quantbench_load") or (match and match["bench"]) or "") or _load_name(document)
    if match and match["serve"]:
        return _slug(match["serve"]), _slug(load)
    label = document.get("label")
    own = label if isinstance(label, str) and label else None
    variant = own or (folder if several and folder and not match else None) or str(document.get("model_id") or UNKNOWN)
    return _slug(variant.rsplit("/", 1)[-1]), _slug(load)


def _rate(document: Mapping[str, Any]) -> str:
    told = document.get("request_rate")
    return "inf" if told is None else str(told)


def _load_name(document: Mapping[str, Any]) -> str:
    rate, limit = _rate(document), document.get("max_concurrency")
    parts = [*([f"r{rate}"] if rate != "inf" else []), *([f"c{limit}"] if limit else [])]
    return "-".join(parts) or "saturated"


def _load(path: str, name: str, document: Mapping[str, Any]) -> Load:
    rate = _rate(document)
    try:
        return Load.model_validate(
            {
                "name": name,
                "requestRate": rate if rate == "inf" else f"{float(rate):.6f}".rstrip("0").rstrip("."),
                "maxConcurrency": document.get("max_concurrency"),
                "burstiness": document.get("burstiness") or 1.0,
                "numPrompts": document.get("num_prompts") or document["completed"] or 1,
            }
        )
    except ValueError as error:
        said = field_errors(error, "load") if isinstance(error, ValidationError) else str(error)
        raise ExportError(f"{path}: {said}") from error


def _spec(
    sample: Mapping[str, Any],
    starts: Sequence[_Start],
    baseline: str,
    loads: Sequence[Load],
    repeats: Mapping[str, int],
) -> QuantBenchmarkSpec:
    variants, targets, blocks = (list(dict.fromkeys(parts)) for parts in zip(*starts, strict=True))
    most, last = max(repeats.values()), max(blocks)
    try:
        return QuantBenchmarkSpec.model_validate(
            {
                "model": str(sample.get("model_id") or UNKNOWN),
                "engine": {"image": UNKNOWN},
                "variants": [{"name": variant, "method": "Custom"} for variant in variants],
                "baseline": baseline,
                "targets": [{"name": target} for target in targets],
                "workload": {"dataset": {}},
                "loads": [
                    load.to_json() | ({"repeats": repeats[load.name]} if repeats[load.name] < most else {})
                    for load in loads
                ],
                "sampling": {"starts": last, "repeats": most, "control": False}
                | ({"maxStarts": last} if last > 1 else {}),
            }
        )
    except ValidationError as error:
        raise ExportError(field_errors(error)) from error


def _identity(content: Any) -> str:
    """Of the figures, not of their place: folders of one name are two measurements, copies of a folder are one."""
    return "imported-" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _run(
    name: str, spec: QuantBenchmarkSpec, place: int, start: _Start, of_load: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Run:
    variant, target, block = start
    own = (name, variant) if target == TARGET else (name, variant, target, str(block))
    passes = tuple(
        _pass(load, repeat, document)
        for load in spec.loads
        for repeat, document in enumerate(of_load.get(load.name, ()), 1)
    )
    sample = next(iter(of_load.values()))[0]
    usable = {measured.load for measured in passes if measured.valid}
    verdict = Verdict.MEASURED if all(measured.valid for measured in passes) else Verdict.UNSTABLE
    if usable != set(of_load):
        verdict = Verdict.INCONSISTENT
    status = QuantBenchmarkRunStatus.model_validate(
        {
            "verdict": {"name": verdict, "reason": "Imported", "message": "read from results of vllm bench serve"},
            "headline": headline(passes, spec.loads),
            "passes": passes,
        }
    )
    return read_run(
        {
            "metadata": {
                "name": _slug("-".join(own), longest=63),
                "namespace": TARGET,
                "uid": _identity([variant, of_load]),
                "creationTimestamp": passes[0].started_at,
            },
            "spec": {
                "benchmark": _slug(name),
                "variant": {"name": variant, "method": "Custom", "kernel": "Auto", "kvCacheDType": "auto"},
                "target": next(one.to_json() for one in spec.targets if one.name == target),
                "block": block,
                "position": place,
                "engine": {
                    "image": UNKNOWN,
                    "imagePullPolicy": "IfNotPresent",
                    "version": UNKNOWN,
                    "model": str(sample.get("model_id") or UNKNOWN),
                    "tokenizer": str(sample.get("tokenizer_id") or UNKNOWN),
                    "args": [],
                },
                "load": {
                    "workload": spec.workload.to_json(),
                    "loads": [load.to_json() for load in spec.loads],
                    "repeats": spec.sampling.repeats,
                },
                "limits": {
                    "scheduleTimeoutSeconds": 1,
                    "startTimeoutSeconds": 1,
                    "loadTimeoutSeconds": 1,
                    "retries": 0,
                },
            },
            "status": status.to_json(),
        }
    )


def _pass(load: Load, repeat: int, document: Mapping[str, Any]) -> Pass:
    asked = document.get("num_prompts") or document["completed"]
    completed, failed = document["completed"], document.get("failed")
    lost = asked - completed if failed is None else failed
    plausible = min(document["duration"], document["total_token_throughput"], document["total_output_tokens"]) > 0
    # vllm bench serve exits with 0, and writes such a file, when every request failed.
    reason = "RequestsFailed" if completed != asked or lost else None if plausible else "ImplausibleFigures"
    message = f"{completed} of {asked} requests completed, {lost} failed"
    told = str(document.get("quantbench_valid", "true"))
    if told != "true":
        reason, message = told.removeprefix("false: ")[:64] or "Invalid", "left out by the study that it is from"
    latencies = {
        field: Latency(**{figure: document.get(f"{figure}_{name}_ms") for figure in ("mean", "median", "p90", "p99")})
        for name, field in _LATENCIES.items()
    }
    return Pass(
        key=f"1/{load.name}/{repeat}",
        attempt=1,
        load=load.name,
        repeat=repeat,
        valid=reason is None,
        invalid_reason=reason,
        message=message if reason else None,
        started_at=_moment(document.get("date")),
        duration_seconds=document["duration"],
        asked=asked,
        completed=completed,
        failed=lost,
        total_input_tokens=document["total_input_tokens"],
        total_output_tokens=document["total_output_tokens"],
        total_tokens_per_second=document["total_token_throughput"],
        output_tokens_per_second=document.get("output_throughput") or 0.0,
        requests_per_second=document.get("request_throughput") or 0.0,
        server=ServerCounters(mean_queue_milliseconds=document.get("quantbench_mean_queue_ms")),
        **latencies,
    )


def _moment(date: Any) -> str:
    """``20260102-030405``, in the clock of the machine that measured, as a Kubernetes time."""
    try:
        return times.render(datetime.strptime(str(date), "%Y%m%d-%H%M%S").replace(tzinfo=UTC))
    except ValueError:
        return times.render(datetime(1970, 1, 1, tzinfo=UTC))


def _date(moment: str) -> str:
    return times.parse(moment).strftime("%Y%m%d-%H%M%S")


def _form(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else value


def _slug(text: str, longest: int = 40) -> str:
    """A text as a DNS label, which names of variants and loads must be."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if len(plain) > longest:
        # Cut names must still differ.
        plain = f"{plain[: longest - 7].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return plain or UNKNOWN
