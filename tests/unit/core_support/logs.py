"""Logs of the load generator, written as `benchmarks/loadrunner` writes them, and of real servers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from core_support.objects import NOW
from quantbench.api.base import JsonObject
from quantbench.results import MARKER

SERVER_LOGS = Path(__file__).resolve().parents[2] / "data" / "engine" / "logs"


def server_log(name: str) -> str:
    """The log of a real vLLM server."""
    return (SERVER_LOGS / name).read_text()


def unix(seconds: float) -> float:
    """Unix time of a moment so many seconds after `NOW`."""
    return NOW.timestamp() + seconds


def event(name: str, at: float, **more: Any) -> JsonObject:
    """An event line."""
    return {"kind": "event", "name": name, "time": unix(at), **more}


def a_pass(
    load: str = "saturated", repeat: int = 1, *, at: float = 100, seconds: float = 10.0, **more: Any
) -> JsonObject:
    """The line of a valid pass of 1000 requests."""
    return {
        "kind": "pass",
        "load": load,
        "repeat": repeat,
        "startedAt": unix(at),
        "finishedAt": unix(at + seconds),
        "exitCode": 0,
        "asked": 1000,
        "completed": 1000,
        "failed": 0,
        "durationSeconds": seconds,
        "totalInputTokens": 20_000,
        "totalOutputTokens": 10_000,
        "requestsPerSecond": 1000 / seconds,
        "outputTokensPerSecond": 10_000 / seconds,
        "totalTokensPerSecond": 30_000 / seconds,
        "ttftMilliseconds": {"mean": 50.5, "median": 45.0, "std": 3.0, "p50": 45.0, "p90": 80.0, "p99": 120.0},
        "tpotMilliseconds": {"mean": 8.0, "median": 7.5, "std": 1.0, "p50": 7.5, "p90": 9.0, "p99": 12.0},
        "itlMilliseconds": {"mean": 8.0, "median": 7.5, "std": 1.0, "p50": 7.5, "p90": 9.0, "p99": 12.0},
        "e2elMilliseconds": {"mean": 900.0, "median": 880.0, "std": 9.0, "p50": 880.0, "p90": 950.0, "p99": 990.0},
        "inputTokensByUsage": True,
        "expectedOutputTokens": 10_000,
        "server": {
            "promptTokens": 20_000,
            "generationTokens": 10_000,
            "preemptions": 0,
            "prefixCacheHits": 0,
            "prefixCacheQueries": 20_000,
            "requestsSucceeded": {"length": 990, "stop": 10},
            "ttftSeconds": {"sum": 50.0, "count": 1000},
            "tpotSeconds": {"sum": 8.0, "count": 1000},
            "queueSeconds": {"sum": 2.0, "count": 1000},
            "e2eSeconds": {"sum": 895.0, "count": 1000},
            "peakRequestsWaiting": 40,
        },
        "client": {"cpuSeconds": 1.0, "meanEventLoopLagSeconds": 0.0002, "maxEventLoopLagSeconds": 0.001},
        "gpu": None,
        "error": None,
        **more,
    }


def whole(*passes: JsonObject, complete: bool = True, error: JsonObject | None = None) -> list[JsonObject]:
    """All documents of a log with these passes."""
    said = [{"kind": "error", **error}] if error else []
    return [
        event("started", 10),
        event("imported", 30, seconds=20.0),
        event("ready", 60, seconds=50.0),
        event("warmup", 95, load="saturated", seconds=15.0),
        *passes,
        *said,
        {"kind": "end", "complete": complete, "passes": len(passes)},
    ]


def payloads(documents: list[JsonObject]) -> list[str]:
    """Their JSON, as the runner spells it."""
    return [json.dumps(document, separators=(",", ":")) for document in documents]


def text(documents: list[JsonObject], *, chatter: str = "INFO vLLM says something\n") -> str:
    """The container's log: marked lines between others."""
    return "".join(f"{chatter}{MARKER}{payload}\n" for payload in payloads(documents))


def seal(documents: list[JsonObject], **more: Any) -> str:
    """The termination message that belongs to the documents."""
    errors = [document for document in documents if document["kind"] == "error"]
    digest = hashlib.sha256("\n".join(payloads(documents)).encode()).hexdigest()
    message: JsonObject = {
        "schema": 1,
        "complete": bool(documents) and documents[-1].get("complete") is True,
        "lines": len(documents),
        "sha256": digest,
        "error": {key: errors[0][key] for key in ("reason", "message")} if errors else None,
    }
    return json.dumps({**message, **more})
