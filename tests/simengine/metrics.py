"""/metrics as vLLM publishes it; names and labels as in ``v1/metrics/loggers.py`` of the releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from simengine.config import Config

if TYPE_CHECKING:
    from simengine.scheduler import Request

BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
REASONS = ("stop", "length", "abort", "error")
TOKENS_IN_CACHE = 408_256
BLOCK_SIZE = 16


class Metrics:
    """Everything that the server counts."""

    def __init__(self, config: Config) -> None:
        self.registry = CollectorRegistry()
        self._config = config
        self._tokens = 0
        self._labels = {"model_name": config.model, "engine": "0"}
        self._running = self._gauge("num_requests_running", "Requests in the batch.")
        self._waiting = self._gauge("num_requests_waiting", "Requests in the queue.")
        self._cache_usage = self._gauge("kv_cache_usage_perc", "Share of the KV cache in use.")
        self._prompt = self._counter("prompt_tokens", "Prefill tokens processed.")
        self._generated = self._counter("generation_tokens", "Generation tokens processed.")
        self._counter("num_preemptions", "Preemptions.")
        self._queries = self._counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.")
        self._hits = self._counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.")
        self._ttft = self._histogram("time_to_first_token_seconds", "Time to first token.")
        # 0.10.2 gave the gaps between tokens a name of their own, and TPOT its.
        old = config.release < (0, 10, 2)
        self._gaps = self._histogram(
            "time_per_output_token_seconds" if old else "inter_token_latency_seconds", "Time between two tokens."
        )
        self._tpot = None if old else self._histogram("request_time_per_output_token_seconds", "Mean of a request.")
        self._queue = self._histogram("request_queue_time_seconds", "Time in the queue.")
        self._e2e = self._histogram("e2e_request_latency_seconds", "Time from arrival to the last token.")
        success = Counter(
            "vllm:request_success", "Finished requests.", [*self._labels, "finished_reason"], registry=self.registry
        )
        self._success = {reason: success.labels(**self._labels, finished_reason=reason) for reason in REASONS}
        self._cache_config(config)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)

    def load(self, running: int, waiting: int) -> None:
        """Requests in the batch and in the queue now."""
        self._running.set(running)
        self._waiting.set(waiting)
        self._cache_usage.set(min(1.0, running * self._config.max_model_len / 2 / TOKENS_IN_CACHE))

    def scheduled(self, request: Request) -> None:
        """A request runs for the first time."""
        self._queue.observe(request.scheduled - request.arrived)
        if self._config.traps.prefix_cache:
            self._queries.inc(request.prompt_tokens)
            self._hits.inc(request.cached_tokens)

    def first_token(self, request: Request) -> None:
        """A request has its first token."""
        self._prompt.inc(request.prompt_tokens)
        self._count_token()
        self._ttft.observe(request.first_token - request.arrived)

    def next_token(self, gap: float) -> None:
        """A request has a further token, so long after the one before."""
        self._count_token()
        self._gaps.observe(gap)

    def finished(self, request: Request) -> None:
        """A request has all its tokens."""
        self._success[request.finish_reason].inc()
        self._e2e.observe(request.last_token - request.arrived)
        if self._tpot is not None and request.generated > 1:
            self._tpot.observe((request.last_token - request.first_token) / (request.generated - 1))

    def aborted(self) -> None:
        """The client of a request went away."""
        self._success["abort"].inc()

    def _count_token(self) -> None:
        self._tokens += 1
        every = self._config.traps.miss_every
        if not every or self._tokens % every:
            self._generated.inc()

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"vllm:{name}", text, list(self._labels), registry=self.registry).labels(**self._labels)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, list(self._labels), registry=self.registry).labels(**self._labels)

    def _histogram(self, name: str, text: str) -> Histogram:
        family = Histogram(f"vllm:{name}", text, list(self._labels), registry=self.registry, buckets=BUCKETS)
        return family.labels(**self._labels)

    def _cache_config(self, config: Config) -> None:
        says = {
            "block_size": str(BLOCK_SIZE),
            "cache_dtype": config.kv_cache_dtype,
            "enable_prefix_caching": "False",
            "gpu_memory_utilization": "0.92",
            "num_gpu_blocks": str(TOKENS_IN_CACHE // BLOCK_SIZE),
            "engine": "0",
        }
        if config.release >= (0, 24):
            says["kv_cache_size_tokens"] = str(TOKENS_IN_CACHE)
        info = Gauge("vllm:cache_config_info", "Configuration of the cache.", list(says), registry=self.registry)
        info.labels(**says).set(1)
