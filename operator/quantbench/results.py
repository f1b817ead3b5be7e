"""What the load generator reported, read with suspicion.

The log of the load container carries one marked JSON line per finished pass; the container's termination
message carries their number and digest. Only together do they make a result: a log that was cut, rotated
or mixed with garbage must never look like a measurement.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import Load, Workload
from quantbench.api.run import GPU, ClientHealth, GPUSamples, Latency, Pass, RunLoadPlan, ServerCounters
from quantbench.validity import Client, Fault, api_server_share, invalid_reason, mean_milliseconds, number

MARKER = "QUANTBENCH "
MAX_LOG_BYTES = 4 * 1024 * 1024
"""Most of a log that is read [bytes]; 200 passes of at most 15,000 bytes fit."""
DEFAULT_WARMUP = 256


@dataclass(frozen=True)
class Event:
    """Something that the runner says to have done, by its own clock; a finished pass counts as ``pass``."""

    name: str
    began: datetime
    ended: datetime


@dataclass(frozen=True)
class ServerFacts:
    """What the server said about itself over HTTP: GET /version and the labels of ``vllm:cache_config_info``."""

    version: str | None = None
    kv_cache_dtype: str | None = None
    """As vLLM's flag has it; ``auto`` is the model's own."""
    prefix_caching: bool | None = None
    kv_cache_tokens: int | None = None


@dataclass(frozen=True)
class LoadLog:
    """The marked lines of a load container's log, in order; ``readable`` is False where the log could not be had."""

    readable: bool = True
    passes: tuple[JsonObject, ...] = ()
    events: tuple[Event, ...] = ()
    error: JsonObject | None = None
    ended: bool = False
    lines: int = 0
    garbage: int = 0
    digest: str = ""
    truncated: bool = False
    server: ServerFacts | None = None
    gpus: tuple[GPU, ...] = ()
    repeated_prompts: Mapping[str, int] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """The runner has reached the server."""
        return any(event.name == "ready" for event in self.events)


@dataclass
class _Lines:
    payloads: list[str] = field(default_factory=list)
    documents: list[JsonObject] = field(default_factory=list)
    garbage: int = 0


def _marked_lines(log: str) -> _Lines:
    found = _Lines()
    # Not splitlines: U+2028 and its like end no line here. The marker need not begin the line: a longer one of the
    # other stream, such as a progress bar's, is cut by the container runtime, and ours then continues it.
    for line in log.split("\n"):
        start = line.find(MARKER + "{")
        if start < 0:
            continue
        payload = line[start + len(MARKER) :]
        found.payloads.append(payload)
        try:
            document = json.loads(payload)
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict):
            found.documents.append(document)
        else:
            found.garbage += 1
    return found


def parse_log(log: str | None, *, truncated: bool = False) -> LoadLog:
    """Collect the marked lines of a log; everything else is the engine's chatter. None: it could not be had."""
    if log is None:
        return LoadLog(readable=False)
    found = _marked_lines(log)
    by_kind: dict[str, list[JsonObject]] = {}
    for document in found.documents:
        by_kind.setdefault(str(document.get("kind")), []).append(document)
    errors, events = by_kind.get("error", []), by_kind.get("event", [])
    return LoadLog(
        passes=tuple(by_kind.get("pass", [])),
        events=tuple(event for event in map(_event, found.documents) if event),
        error=errors[0] if errors else None,
        ended=any(end.get("complete") is True for end in by_kind.get("end", [])),
        lines=len(found.payloads),
        garbage=found.garbage,
        digest=hashlib.sha256("\n".join(found.payloads).encode(errors="replace")).hexdigest(),
        truncated=truncated,
        server=next((_server_facts(e) for e in events if e.get("name") == "server"), None),
        gpus=_gpus(events),
        repeated_prompts=_repeated_prompts(events),
    )


def _server_facts(document: JsonObject) -> ServerFacts:
    """The facts of a ``server`` event; what cannot be read is absent."""
    labels = document.get("cacheConfig")
    said = {str(k): v for k, v in labels.items() if isinstance(v, str)} if isinstance(labels, dict) else {}
    version, dtype = document.get("version"), said.get("cache_dtype", "")
    tokens = _natural(said.get("kv_cache_size_tokens"))
    if tokens is None:
        # Before 0.24 there are blocks only.
        blocks, size = _natural(said.get("num_gpu_blocks")), _natural(said.get("block_size"))
        tokens = min(blocks * size, 10**15) if blocks and size else None
    return ServerFacts(
        version=version if isinstance(version, str) and re.fullmatch(r"[\w.+-]{1,64}", version, re.ASCII) else None,
        kv_cache_dtype=dtype if re.fullmatch(r"\w{1,32}", dtype, re.ASCII) else None,
        prefix_caching={"true": True, "false": False}.get(said.get("enable_prefix_caching", "").lower()),
        kv_cache_tokens=tokens,
    )


def _natural(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,12}", text, re.ASCII) else None


def _event(document: JsonObject) -> Event | None:
    """The event of a line, or None for a line without a readable time."""
    if document.get("kind") == "pass":
        began, ended = times.read_unix(document.get("startedAt")), times.read_unix(document.get("finishedAt"))
        return Event("pass", began, ended) if began and ended else None
    ended, took = times.read_unix(document.get("time")), document.get("seconds")
    if document.get("kind") != "event" or ended is None:
        return None
    try:
        began = ended - timedelta(seconds=took or 0)
    except (OverflowError, TypeError, ValueError):
        began = ended
    return Event(str(document.get("name")), min(began, ended), ended)


def check_complete(log: LoadLog, termination_message: str | None) -> Fault | None:
    """Compare the log with the termination message; None when the log is whole and the runner said it finished."""
    try:
        seal = json.loads(termination_message or "")
    except (ValueError, RecursionError):
        seal = None
    if not isinstance(seal, dict):
        if log.error is not None:
            return _reported(log.error)
        return Fault("ResultMissing", "the load container ended without saying what it measured")
    error = seal.get("error") or log.error
    if isinstance(error, dict):
        return _reported(error)
    if not log.readable:
        return Fault("LogUnavailable", "the load container's log cannot be read, so its passes cannot be checked")
    if log.truncated:
        return Fault("ResultTooLarge", f"the load container's log exceeds {MAX_LOG_BYTES} bytes")
    if log.garbage or seal.get("lines") != log.lines or seal.get("sha256") != log.digest:
        return Fault(
            "ResultCorrupt",
            f"the log does not match its seal: {log.lines} result lines read ({log.garbage} unreadable),"
            f" {seal.get('lines')} written",
        )
    if seal.get("complete") is not True or not log.ended:
        return Fault("ResultIncomplete", "the load generator stopped before its last pass")
    return None


def _reported(error: Mapping[str, Any]) -> Fault:
    return Fault(_plain(error.get("reason", "EngineBenchmarkFailed"))[:64], _plain(error.get("message", ""))[:900])


def _plain(value: Any) -> str:
    """A text that every JSON writer takes: JSON can spell halves of characters, and Python reads them."""
    return str(value).encode(errors="replace").decode()


def prompts(load: Load, workload: Workload) -> int:
    """Requests of one pass of a load."""
    return load.num_prompts or workload.num_prompts


def warmup_prompts(load: Load, workload: Workload) -> int:
    """Requests of the excluded warm-up pass of a load."""
    asked = load.warmup_prompts if load.warmup_prompts is not None else workload.warmup_prompts
    if asked is not None:
        return asked
    # A warm-up must reach the load's own concurrency, or the first pass still meets what was not warmed up.
    reach = 2 * load.max_concurrency if load.max_concurrency else DEFAULT_WARMUP
    return min(prompts(load, workload), reach)


def missing_passes(passes: Sequence[Pass], plan: RunLoadPlan) -> list[str]:
    """``load/repeat`` of every planned pass that is not there."""
    present = {(measured.load, measured.repeat) for measured in passes}
    wanted = [(load.name, repeat) for load in plan.loads for repeat in range(1, (load.repeats or plan.repeats) + 1)]
    return [f"{load}/{repeat}" for load, repeat in wanted if (load, repeat) not in present]


def read_passes(log: LoadLog, plan: RunLoadPlan, attempt: int) -> tuple[Pass, ...]:
    """Every readable pass of a log, each with its own judgement of validity.

    Lines that do not belong to the plan or cannot be read are left out here; `check_complete` and
    `missing_passes` notice them.
    """
    loads = {load.name: load for load in plan.loads}
    read: dict[str, Pass] = {}
    for document in log.passes:
        load = loads.get(str(document.get("load")))
        if load is None:
            continue
        try:
            measured = _read_pass(document, load, plan.workload, attempt)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            continue  # The line may hold anything.
        if measured.repeat <= (load.repeats or plan.repeats):
            read.setdefault(measured.key, measured)
    return tuple(read.values())


def _read_pass(document: JsonObject, load: Load, workload: Workload, attempt: int) -> Pass:
    invalid = invalid_reason(document, prompts(load, workload), workload)
    repeat = int(document["repeat"])
    return Pass(
        key=f"{attempt}/{load.name}/{repeat}",
        attempt=attempt,
        load=load.name,
        repeat=repeat,
        valid=invalid is None,
        invalid_reason=invalid.reason if invalid else None,
        message=invalid.message[:256] if invalid else None,
        started_at=times.render(times.from_unix(document["startedAt"])),
        duration_seconds=document.get("durationSeconds") or 0.0,
        asked=int(document["asked"]),
        completed=int(document.get("completed") or 0),
        failed=int(document.get("failed") or 0),
        total_input_tokens=int(document.get("totalInputTokens") or 0),
        total_output_tokens=int(document.get("totalOutputTokens") or 0),
        total_tokens_per_second=document.get("totalTokensPerSecond") or 0.0,
        output_tokens_per_second=document.get("outputTokensPerSecond") or 0.0,
        requests_per_second=document.get("requestsPerSecond") or 0.0,
        ttft_milliseconds=_latency(document.get("ttftMilliseconds")),
        tpot_milliseconds=_latency(document.get("tpotMilliseconds")),
        itl_milliseconds=_latency(document.get("itlMilliseconds")),
        e2el_milliseconds=_latency(document.get("e2elMilliseconds")),
        server=_counters(document.get("server") or {}),
        client=_client(Client.of(document)),
        gpu=_gpu(document.get("gpu")),
    )


def _latency(figures: Any) -> Latency:
    if not isinstance(figures, dict):
        return Latency()
    return Latency(**{name: figures.get(name) for name in ("mean", "median", "p90", "p99")})


def _counters(server: Mapping[str, Any]) -> ServerCounters:
    succeeded = server.get("requestsSucceeded")
    return ServerCounters(
        prompt_tokens=_count(server.get("promptTokens")),
        generation_tokens=_count(server.get("generationTokens")),
        preemptions=_count(server.get("preemptions")),
        prefix_cache_hits=_count(server.get("prefixCacheHits")),
        requests_succeeded=_count(sum(succeeded.values())) if isinstance(succeeded, dict) else None,
        mean_ttft_milliseconds=mean_milliseconds(server.get("ttftSeconds")),
        mean_tpot_milliseconds=mean_milliseconds(server.get("tpotSeconds")),
        mean_queue_milliseconds=mean_milliseconds(server.get("queueSeconds")),
        api_server_share=api_server_share(server),
        peak_requests_waiting=_count(server.get("peakRequestsWaiting")),
    )


def _count(value: Any) -> int | None:
    found = number(value)
    return None if found is None or found < 0 else round(found)


def _client(client: Client) -> ClientHealth:
    return ClientHealth(cpu_share=client.cpu_share, max_event_loop_lag_milliseconds=client.max_lag)


def _gpu(summary: Any) -> GPUSamples | None:
    """Readings that say something, as far as they can be read: they say more about a pass, but it stands without."""
    try:
        samples = GPUSamples.model_validate(summary)
    except ValidationError:
        return None
    return samples if samples.samples else None


def _gpus(events: Sequence[JsonObject]) -> tuple[GPU, ...]:
    """The server's GPUs, from the runner's ``gpus`` event."""
    listed = next((event.get("gpus") for event in events if event.get("name") == "gpus"), None)
    try:
        return TypeAdapter(tuple[GPU, ...]).validate_python(listed)
    except ValidationError:
        return ()


def _repeated_prompts(events: Sequence[JsonObject]) -> dict[str, int]:
    """By load: how many of its prompts are repeats, from the runner's ``dataset`` event."""
    said = next((event.get("repeatedPrompts") for event in events if event.get("name") == "dataset"), None)
    counts = {str(load): _count(count) for load, count in said.items()} if isinstance(said, dict) else {}
    return {load: count for load, count in counts.items() if count}
