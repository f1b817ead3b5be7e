"""What is looked at beside a pass: requests waiting at the server, and its GPUs."""

from __future__ import annotations

import json
import math
import re
import sys
import threading
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

PERIOD_SECONDS: Final = 1.0
METRICS_TIMEOUT: Final = 3.0
GPU_TIMEOUT: Final = 2.0
MAX_ANSWER_BYTES: Final = 65_536
MAX_SUMMARY_CHARACTERS: Final = 2_000
# 64 GPUs, the most that a target can have, fit into one result line with these.
MAX_GPUS: Final = 64
MAX_GPU_TEXTS: Final = {"name": 64, "uuid": 48, "driver": 16, "computeCapability": 8}

_WAITING = re.compile(rb"\nvllm:num_requests_waiting(?:\{[^\n]*\})? (\S+)")


def requests_waiting(metrics: bytes) -> int | None:
    """``vllm:num_requests_waiting`` of a Prometheus text exposition, summed over engines; None if it is not there."""
    found = 0.0
    values = _WAITING.findall(b"\n" + metrics)
    for value in values:
        try:
            found += float(value)
        except ValueError:
            return None
    return int(found) if values and math.isfinite(found) else None


class WaitingWatch:
    """Peak of ``vllm:num_requests_waiting`` while a pass is measured, read about once a second in a thread.

    It does not disturb what is measured: one kept-open connection, and one search in the text instead of a parse, cost
    0.2 ms of CPU time per reading of 100 kB, a five-thousandth of the client's core. The server writes its text (some
    5 ms) in a thread beside its loop, as for any Prometheus. A server that does not answer leaves the peak as it is.
    """

    def __init__(self, base_url: str, measuring: Callable[[], bool], *, period: float = PERIOD_SECONDS) -> None:
        self.peak: int | None = None
        self._measuring = measuring
        self._period = period
        self._stop = threading.Event()
        url = urlsplit(base_url)
        self._connection = HTTPConnection(url.hostname or "", url.port or 80, timeout=METRICS_TIMEOUT)
        self._thread = threading.Thread(target=self._run, name="requests-waiting", daemon=True)

    def __enter__(self) -> WaitingWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(METRICS_TIMEOUT)

    def _run(self) -> None:
        while not self._stop.wait(self._period):
            if self._measuring():
                waiting = self._read()
                if waiting is not None and self._measuring():
                    self.peak = max(self.peak or 0, waiting)
        self._connection.close()

    def _read(self) -> int | None:
        try:
            self._connection.request("GET", "/metrics")
            return requests_waiting(self._connection.getresponse().read())
        except (OSError, HTTPException):
            self._connection.close()  # the next request opens it anew
            return None


class GPUMonitor:
    """The GPU monitor beside the server (`benchmarks/gpumonitor`); None where the operator started none."""

    def __init__(self, base_url: str | None) -> None:
        self._base_url = base_url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._told: object = None

    def gpus(self) -> list[dict[str, Any]]:
        """The GPUs: name, uuid, driver, computeCapability; empty if nobody says."""
        found = self._ask(0.0, 0.0).get("gpus")
        if not isinstance(found, list):
            return []
        return [
            {key: None if gpu.get(key) is None else str(gpu[key])[:most] for key, most in MAX_GPU_TEXTS.items()}
            for gpu in found[:MAX_GPUS]
            if isinstance(gpu, dict)
        ]

    def summary(self, since: float, until: float) -> dict[str, Any] | None:
        """What they did in a time [Unix s], in the keys of a ``pass`` line; None if nobody says."""
        found = self._ask(since, until).get("summary")
        return found if isinstance(found, dict) and len(json.dumps(found)) <= MAX_SUMMARY_CHARACTERS else None

    def _ask(self, since: float, until: float) -> dict[str, Any]:
        if self._base_url is None:
            return {}
        answer: object = None
        try:
            with self._opener.open(
                f"{self._base_url}/gpu?since={since}&until={until}", timeout=GPU_TIMEOUT
            ) as response:
                answer = json.loads(response.read(MAX_ANSWER_BYTES))
            error = answer.get("error") if isinstance(answer, dict) else "no JSON object"
        except (OSError, HTTPException, ValueError, RecursionError) as failure:
            error = str(getattr(failure, "reason", None) or failure)
        if error and error != self._told:
            self._told = error
            print(f"loadrunner: GPU monitor: {str(error)[:200]}", file=sys.stderr)
        return answer if isinstance(answer, dict) else {}
