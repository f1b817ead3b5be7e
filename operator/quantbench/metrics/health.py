"""What only this process can know: its own reconciles and API calls, counted as they happen."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

# A look at an object takes a few API calls, some milliseconds each; a busy API server makes it seconds.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Health:
    """Counters and histograms of the process, in the given registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # CPU time, memory and open files, under the names that every Prometheus client gives them.
        ProcessCollector(registry=registry)
        self._seconds = Histogram(
            "quantbench_reconcile_duration_seconds",
            "Time of one look at an object.",
            ["kind"],
            registry=registry,
            buckets=BUCKETS,
        )
        self._errors = Counter(
            "quantbench_reconcile_errors",
            "Looks at an object that failed and are taken again.",
            ["kind"],
            registry=registry,
        )
        self._calls = Counter(
            "quantbench_api_requests",
            "Requests to the API server; code 0 is no answer.",
            ["verb", "kind", "code"],
            registry=registry,
        )

    @contextmanager
    def reconciling(self, kind: str) -> Iterator[None]:
        """Time one look at an object."""
        start = time.monotonic()
        # Known from the first look on: a counter that appears with its first error has no rate.
        errors = self._errors.labels(kind)
        try:
            yield
        except Exception:
            errors.inc()
            raise
        finally:
            self._seconds.labels(kind).observe(time.monotonic() - start)

    def api_call(self, verb: str, kind: str, status: int) -> None:
        """Count one request to the API server."""
        self._calls.labels(verb, kind, str(status)).inc()
