"""The vLLM server as seen over HTTP: health, and its Prometheus counters before and after a pass.

Counter names, with what 0.9.2 calls differently, as in `vllm/v1/metrics/loggers.py` of the releases. Prometheus
adds ``_total`` to counters; values are summed over all labels (model, engine).
"""

from __future__ import annotations

import json
import math
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final

POLL_SECONDS: Final = 0.2
HEALTH_TIMEOUT: Final = 5.0
SCRAPE_TIMEOUT: Final = 10.0
MAX_METRICS_BYTES: Final = 64 * 2**20

# How long the counters may take to settle after the last response; and how long they must stand still when the
# server's gauges say that requests are running although none is (aborted requests leave them so until the next step).
SETTLE_SECONDS: Final = 5.0
UNCHANGED_SECONDS: Final = 1.0

_COUNTERS: Final = {
    "promptTokens": ("vllm:prompt_tokens",),
    "generationTokens": ("vllm:generation_tokens",),
    "preemptions": ("vllm:num_preemptions",),
    "prefixCacheHits": ("vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"),
    "prefixCacheQueries": ("vllm:prefix_cache_queries", "vllm:gpu_prefix_cache_queries"),
}
_HISTOGRAMS: Final = {
    "ttftSeconds": ("vllm:time_to_first_token_seconds",),
    "tpotSeconds": ("vllm:request_time_per_output_token_seconds",),
    # Up to 0.10.1 the gaps between tokens were published under the name of TPOT.
    "itlSeconds": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    "queueSeconds": ("vllm:request_queue_time_seconds",),
    "e2eSeconds": ("vllm:e2e_request_latency_seconds",),
}
_SUCCESS: Final = "vllm:request_success"
_GAUGES: Final = ("vllm:num_requests_running", "vllm:num_requests_waiting")

_SAMPLE = re.compile(r"(vllm:[a-zA-Z0-9_:]+)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*")
_CACHE_CONFIG: Final = "vllm:cache_config_info"
_CACHE_LABELS: Final = (
    "block_size",
    "cache_dtype",
    "enable_prefix_caching",
    "gpu_memory_utilization",
    "kv_cache_max_concurrency",
    "kv_cache_size_tokens",
    "num_gpu_blocks",
)
_LONGEST_LABEL: Final = 64
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"', re.ASCII)
_REASON = re.compile(r'(?:^|[,{])\s*finished_reason="([^"]*)"')


@dataclass(frozen=True)
class Scrape:
    """One reading of /metrics: sums by metric name, and finished requests by reason."""

    sums: Mapping[str, float]
    finished: Mapping[str, float] = field(default_factory=dict)

    def counter(self, names: tuple[str, ...]) -> float | None:
        """First of `names` that the server has, with or without ``_total``."""
        for name in names:
            for candidate in (f"{name}_total", name):
                if candidate in self.sums:
                    return self.sums[candidate]
        return None

    def busy(self) -> bool:
        """True while the server says that it has requests running or waiting."""
        return any(self.sums.get(name, 0.0) > 0 for name in _GAUGES)

    def progress(self) -> tuple[float | None, ...]:
        """What must stand still before a reading counts as settled."""
        counters = tuple(self.counter(names) for names in _COUNTERS.values())
        return (*counters, sum(self.finished.values()))


def parse_metrics(text: str) -> Scrape:
    """The vLLM samples of a Prometheus text exposition; lines that are not samples are passed over."""
    sums: dict[str, float] = {}
    finished: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("vllm:"):
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None:
            continue
        name, labels, number = match.groups()
        try:
            value = float(number)
        except ValueError:
            continue
        if not math.isfinite(value):
            continue
        sums[name] = sums.get(name, 0.0) + value
        if name in (_SUCCESS, f"{_SUCCESS}_total"):
            reason = _REASON.search(labels or "")
            if reason is not None:
                finished[reason.group(1)] = finished.get(reason.group(1), 0.0) + value
    return Scrape(sums, finished)


def cache_config(text: str) -> dict[str, str] | None:
    """The labels of ``vllm:cache_config_info`` that say what the KV cache is; None if the server has no such metric."""
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line) if line.startswith(_CACHE_CONFIG) else None
        if match and match[1] == _CACHE_CONFIG:
            labels = dict(_LABEL.findall(match[2] or ""))
            return {name: labels[name][:_LONGEST_LABEL] for name in _CACHE_LABELS if name in labels}
    return None


def counter_deltas(before: Scrape | None, after: Scrape | None) -> dict[str, Any]:
    """What the server counted between two readings, in the keys of a ``pass`` line; null where it does not say."""
    finished: dict[str, float | None] | None = None
    if before is not None and after is not None and after.finished:
        # prometheus_client creates a labelled counter at its first use, so one missing before was 0.
        finished = {
            reason: _difference(before.finished.get(reason, 0.0), value)
            for reason, value in sorted(after.finished.items())
        }
    deltas: dict[str, Any] = {}
    for key, names in _COUNTERS.items():
        deltas[key] = _delta(before, after, names)
    deltas["requestsSucceeded"] = finished
    for key, names in _HISTOGRAMS.items():
        total = _delta(before, after, tuple(f"{name}_sum" for name in names))
        count = _delta(before, after, tuple(f"{name}_count" for name in names))
        deltas[key] = None if total is None or count is None else {"sum": total, "count": count}
    return deltas


def _delta(before: Scrape | None, after: Scrape | None, names: tuple[str, ...]) -> float | None:
    if before is None or after is None:
        return None
    return _difference(before.counter(names), after.counter(names))


def _difference(before: float | None, after: float | None) -> float | None:
    # A counter that fell belongs to another server process.
    if before is None or after is None or after < before:
        return None
    difference = after - before
    return int(difference) if difference == int(difference) else difference


class Server:
    """HTTP access to one server pod. Proxies of the environment are not used."""

    def __init__(
        self,
        base_url: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = base_url
        self._sleep = sleep
        self._clock = clock
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def unhealthy(self, timeout: float = HEALTH_TIMEOUT) -> str | None:
        """None if GET /health answers 200, else why not (503 once the engine is dead)."""
        try:
            with self._opener.open(f"{self.base_url}/health", timeout=timeout) as response:
                status = int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            status = error.code
        except (OSError, HTTPException, ValueError) as error:
            return str(getattr(error, "reason", None) or error or type(error).__name__)
        return None if status == 200 else f"GET /health answered {status}"

    def wait_until_healthy(self, deadline: float) -> str | None:
        """Poll until healthy or until `deadline` (of the clock); asks at least once. None, or the last failure."""
        while True:
            left = deadline - self._clock()
            failure = self.unhealthy(max(1.0, min(HEALTH_TIMEOUT, left)))
            if failure is None or left <= POLL_SECONDS:
                return failure
            self._sleep(POLL_SECONDS)

    def dead(self, attempts: int = 3, pause: float = 0.5) -> str | None:
        """None if the server is healthy, else the failure that lasted for all `attempts`."""
        failure = self.unhealthy()
        for _ in range(attempts - 1):
            if failure is None:
                return None
            self._sleep(pause)
            failure = self.unhealthy()
        return failure

    def scrape(self) -> Scrape | None:
        """One reading of /metrics, None if it cannot be had."""
        text = self._get("/metrics")
        return None if text is None else parse_metrics(text)

    def describe(self) -> dict[str, Any]:
        """What the server says about itself, for the ``server`` event; null where it does not say."""
        try:
            version = json.loads(self._get("/version") or "null")["version"]
        except (LookupError, RecursionError, TypeError, ValueError):
            version = None
        known = isinstance(version, str) and len(version) <= _LONGEST_LABEL
        return {"version": version if known else None, "cacheConfig": cache_config(self._get("/metrics") or "")}

    def _get(self, path: str) -> str | None:
        try:
            with self._opener.open(f"{self.base_url}{path}", timeout=SCRAPE_TIMEOUT) as response:
                data: bytes = response.read(MAX_METRICS_BYTES)
        except (OSError, HTTPException, ValueError):
            return None
        return data.decode("utf-8", "replace")

    def settled_scrape(self) -> Scrape | None:
        """A reading whose counters stand still and whose gauges say idle.

        The server hands out the last token a moment before it counts it, so a reading taken right after a pass can
        miss the end of that pass.
        """
        started = changed = self._clock()
        previous: Scrape | None = None
        while True:
            current = self.scrape()
            now = self._clock()
            if current is None:
                return None
            if previous is None or current.progress() != previous.progress():
                changed = now
            elif not current.busy() or now - changed >= UNCHANGED_SECONDS:
                return current
            if now - started >= SETTLE_SECONDS:
                return current
            previous = current
            self._sleep(0.02 if now - started < 0.2 else 0.1)
