"""One pass: server counters, vLLM's benchmark, server counters, and the record of all three."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .engine import EngineBenchmark, Outcome, Window
from .flags import LATENCIES, bench_serve_arguments, counts_prompts_by_usage, percentile_text
from .output import shorten
from .server import Scrape, Server, counter_deltas
from .spec import Load, LoadSpec
from .watch import GPUMonitor, WaitingWatch

MAX_ERROR_CHARACTERS: Final = 500
RESULT_FILENAME: Final = "result.json"


@dataclass
class Counters:
    """The server's counters around one pass."""

    server: Server
    before: Scrape | None = None
    after: Scrape | None = None

    def read_before(self) -> None:
        """Called at the start of the measured time."""
        self.before = self.server.settled_scrape()

    def read_after(self) -> None:
        """Called after the pass."""
        self.after = self.server.settled_scrape()


@dataclass(frozen=True)
class Passed:
    """One finished call of vLLM's benchmark."""

    asked: int
    outcome: Outcome
    window: Window
    result: Mapping[str, Any]
    server: Mapping[str, Any]
    error: str | None
    prompts_by_usage: bool = False
    gpu: Mapping[str, Any] | None = None

    @property
    def completed(self) -> int:
        """Requests that succeeded."""
        return _count(self.result.get("completed")) or 0

    @property
    def failed(self) -> int:
        """Requests that failed: by count where the version does not say (before 0.11.1)."""
        failed = _count(self.result.get("failed"))
        return max(0, self.asked - self.completed) if failed is None else failed


class PassRunner:
    """Runs passes of one specification against one server."""

    def __init__(
        self, spec: LoadSpec, engine: EngineBenchmark, server: Server, gpus: GPUMonitor, raw_dir: str | None
    ) -> None:
        self._spec = spec
        self._engine = engine
        self._server = server
        self._gpus = gpus
        self._raw_dir = raw_dir
        self._run_id = uuid.uuid4().hex[:8]

    def arguments(self, load: Load, prompts: int, label: str, result_dir: str) -> list[str]:
        """Command line of one pass; `label` makes its request ids unique on this server."""
        return bench_serve_arguments(
            self._spec,
            load,
            prompts,
            self._engine.version,
            server=self._server.base_url,
            result_dir=result_dir,
            result_filename=RESULT_FILENAME,
            request_id_prefix=f"qb-{self._run_id}-{load.name}-{label}-",
            detailed=self._raw_dir is not None,
        )

    def run(self, load: Load, prompts: int, label: str) -> Passed:
        """One pass of `prompts` requests. Raises RunnerError only for what no later pass can get past."""
        counters = Counters(self._server)
        window = Window(on_start=counters.read_before)
        with tempfile.TemporaryDirectory(prefix="quantbench-", ignore_cleanup_errors=True) as folder:
            called_at, cpu = time.time(), time.process_time()
            with WaitingWatch(self._server.base_url, lambda: window.open) as watch:
                outcome = self._engine.run(self.arguments(load, prompts, label, folder), window)
            if not window.started_at:  # it failed before the first request, or this version could not be wrapped
                window.started_at, window.cpu_started = called_at, cpu
                window.finished_at, window.cpu_finished = time.time(), time.process_time()
            counters.read_after()
            path = os.path.join(folder, RESULT_FILENAME)
            result = _read_result(path) or window.result
            self._keep_raw(path, load, label)
        if result is None and outcome.exit_code == 0:
            outcome = Outcome(1, "vllm bench serve wrote no result")
        asked = prompts if window.expected_output_lens is None else len(window.expected_output_lens)
        return Passed(
            asked=asked,
            outcome=outcome,
            window=window,
            result=result or {},
            server={**counter_deltas(counters.before, counters.after), "peakRequestsWaiting": watch.peak},
            error=outcome.error or _first_error(window.result or result),
            prompts_by_usage=counts_prompts_by_usage(self._engine.version),
            gpu=self._gpus.summary(window.started_at, window.finished_at),
        )

    def _keep_raw(self, path: str, load: Load, label: str) -> None:
        if self._raw_dir is None or not os.path.exists(path):
            return
        try:
            os.makedirs(self._raw_dir, exist_ok=True)
            target = os.path.join(self._raw_dir, f"{load.name}-{label}.json")
            shutil.copyfile(path, f"{target}.part")
            os.replace(f"{target}.part", target)
        except OSError as error:
            print(f"loadrunner: raw results of {load.name} {label} are not kept: {error}", file=sys.stderr)


def pass_record(load: Load, repeat: int, percentiles: tuple[float, ...], passed: Passed) -> dict[str, Any]:
    """The ``pass`` line. Latencies in milliseconds, null where no request gave one."""
    result, window = passed.result, passed.window
    expected = window.expected_output_lens
    record: dict[str, Any] = {
        "kind": "pass",
        "load": load.name,
        "repeat": repeat,
        "startedAt": window.started_at,
        "finishedAt": window.finished_at,
        "exitCode": passed.outcome.exit_code,
        "asked": passed.asked,
        "completed": passed.completed,
        "failed": passed.failed,
        "durationSeconds": result.get("duration"),
        "totalInputTokens": result.get("total_input_tokens"),
        "totalOutputTokens": result.get("total_output_tokens"),
        "requestsPerSecond": result.get("request_throughput"),
        "outputTokensPerSecond": result.get("output_throughput"),
        "totalTokensPerSecond": result.get("total_token_throughput"),
    }
    measured = _latencies_measured(passed)
    for name in LATENCIES:
        record[f"{name}Milliseconds"] = _latency(result if name in measured else {}, name, percentiles)
    record["inputTokensByUsage"] = passed.prompts_by_usage
    record["expectedOutputTokens"] = None if expected is None else sum(expected)
    record["meanInverseTokensAfterFirst"] = _mean_inverse(expected or [])
    record["server"] = passed.server
    record["client"] = {
        "cpuSeconds": window.cpu_finished - window.cpu_started,
        "meanEventLoopLagSeconds": window.mean_lag,
        "maxEventLoopLagSeconds": window.max_lag,
    }
    record["gpu"] = passed.gpu
    record["error"] = None if passed.error is None else shorten(passed.error, MAX_ERROR_CHARACTERS)
    return record


def _mean_inverse(lengths: Sequence[int]) -> float | None:
    """By how much TPOT changes, in the mean over the requests, if the time of each first token changes by one."""
    inverses = [1 / (length - 1) for length in lengths if length > 1]
    return sum(inverses) / len(inverses) if inverses else None


def _latency(result: Mapping[str, Any], name: str, percentiles: tuple[float, ...]) -> dict[str, Any]:
    block = {statistic: result.get(f"{statistic}_{name}_ms") for statistic in ("mean", "median", "std")}
    for percentile in percentiles:
        key = f"p{percentile_text(percentile)}"
        block[key] = result.get(f"{key}_{name}_ms")
    return block


def _latencies_measured(passed: Passed) -> set[str]:
    """Without those for which vLLM prints 0.0 because no request gave one (nothing completed, or one token only)."""
    if passed.completed == 0:
        return set()
    measured = set(LATENCIES)
    details = passed.window.result or {}
    lengths, gaps = details.get("output_lens"), details.get("itls")
    if isinstance(lengths, list) and not any(length > 1 for length in lengths):
        measured.discard("tpot")
    if isinstance(gaps, list) and not any(gaps):
        measured.discard("itl")
    return measured


def _read_result(path: str) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        if isinstance(result, dict):
            return result
    return None


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return int(value)


def _first_error(result: Mapping[str, Any] | None) -> str | None:
    """What the first failed request met: a status, or of a traceback the line that names the exception."""
    errors = (result or {}).get("errors")
    if not isinstance(errors, list):
        return None
    return next((error.strip().splitlines()[-1] for error in errors if isinstance(error, str) and error.strip()), None)
