"""Prometheus metrics: results and progress are read from the live objects at scrape time, so that nothing is stale
after a deletion and nothing is lost by a restart. Only the operator's own health is counted as it happens.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from quantbench.api.base import JsonObject
from quantbench.api.names import Verdict

CELL = ("namespace", "benchmark", "variant", "target")
ROW = (*CELL, "load")
STUDY = ("namespace", "benchmark")

ROW_GAUGES: Mapping[str, tuple[str, str, float]] = {
    "total_tokens_per_second": ("totalTokensPerSecond", "Input and output tokens per second, mean over starts.", 1.0),
    "output_tokens_per_second": ("outputTokensPerSecond", "Output tokens per second, mean over starts.", 1.0),
    "requests_per_second": ("requestsPerSecond", "Finished requests per second, mean over starts.", 1.0),
    "time_to_first_token_seconds": ("meanTTFTMilliseconds", "Mean time to first token.", 1e-3),
    "time_per_output_token_seconds": ("meanTPOTMilliseconds", "Mean time per output token after the first.", 1e-3),
    "time_to_first_token_median_seconds": ("medianTTFTMilliseconds", "Median time to first token.", 1e-3),
    "time_to_first_token_p99_seconds": ("p99TTFTMilliseconds", "99th percentile of time to first token.", 1e-3),
    "time_per_output_token_median_seconds": ("medianTPOTMilliseconds", "Median time per output token.", 1e-3),
    "time_per_output_token_p99_seconds": ("p99TPOTMilliseconds", "99th percentile of time per output token.", 1e-3),
    "throughput_ratio": ("ratio", "Total throughput over the baseline's, geometric mean over blocks.", 1.0),
    "throughput_ratio_low": ("ratioLow", "Lower end of its 95 % interval.", 1.0),
    "throughput_ratio_high": ("ratioHigh", "Upper end of its 95 % interval.", 1.0),
    "time_to_first_token_ratio": ("ttftRatio", "Mean time to first token over the baseline's.", 1.0),
    "time_to_first_token_ratio_low": ("ttftRatioLow", "Lower end of its 95 % interval.", 1.0),
    "time_to_first_token_ratio_high": ("ttftRatioHigh", "Upper end of its 95 % interval.", 1.0),
    "time_per_output_token_ratio": ("tpotRatio", "Mean time per output token over the baseline's.", 1.0),
    "time_per_output_token_ratio_low": ("tpotRatioLow", "Lower end of its 95 % interval.", 1.0),
    "time_per_output_token_ratio_high": ("tpotRatioHigh", "Upper end of its 95 % interval.", 1.0),
    "start_variation_ratio": ("startVariation", "Coefficient of variation from start to start.", 1.0),
    "repeat_variation_ratio": ("repeatVariation", "Coefficient of variation from repeat to repeat.", 1.0),
    "saturated": ("saturated", "1 if the server was at its limit, so that TTFT is the length of a queue.", 1.0),
    "starts": ("starts", "Server starts that the figures rest on.", 1.0),
}
"""Metric name below ``quantbench_result_`` → status field, documentation, factor to base units."""
OPERATOR_GAUGES: Mapping[str, str] = {
    "leader": "1 while this process leads.",
    "resync_age_seconds": "Time since the last complete listing.",
    "workqueue_depth": "Objects that wait for a worker.",
    "workqueue_oldest_seconds": "How long the first of them has waited.",
}
"""The operator's own state: metric name below ``quantbench_`` → documentation."""


class Health:
    """What only this process can know: its own reconciles and API calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "quantbench_reconcile_duration_seconds", "Time of one look at an object.", ["kind"], registry=registry
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
        try:
            yield
        except Exception:
            self._errors.labels(kind).inc()
            raise
        finally:
            self._seconds.labels(kind).observe(time.monotonic() - start)

    def api_call(self, verb: str, kind: str, status: int) -> None:
        """Count one request to the API server."""
        self._calls.labels(verb, kind, str(status)).inc()


class StateCollector(Collector):
    """Turns the objects of the moment into metrics.

    Args:
        objects: gives the QuantBenchmark objects.
        gauges: gives the values of `OPERATOR_GAUGES`.
    """

    def __init__(
        self,
        objects: Callable[[], Iterable[JsonObject]],
        gauges: Callable[[], Mapping[str, float]],
    ) -> None:
        self._objects, self._gauges = objects, gauges

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus' client at each scrape."""
        values = self._gauges()
        for name, about in OPERATOR_GAUGES.items():
            yield GaugeMetricFamily(f"quantbench_{name}", about, values[name])
        yield from study_metrics([raw for raw in self._objects() if raw["kind"] == "QuantBenchmark"])


def study_metrics(benchmarks: Iterable[JsonObject]) -> list[Metric]:
    """Metrics of the given QuantBenchmark objects."""
    rows = {
        name: GaugeMetricFamily(f"quantbench_result_{name}", about, labels=ROW)
        for name, (_, about, _) in ROW_GAUGES.items()
    }
    verdicts = GaugeMetricFamily(
        "quantbench_cell_verdict", "1 for the verdict of a variant on a target.", labels=(*CELL, "verdict")
    )
    finished = GaugeMetricFamily(
        "quantbench_cell_runs_finished", "Runs of a variant on a target that ended.", labels=CELL
    )
    planned = GaugeMetricFamily(
        "quantbench_cell_runs_planned", "Runs of a variant on a target that are planned.", labels=CELL
    )
    active = GaugeMetricFamily("quantbench_benchmark_active_runs", "Runs that hold a server.", labels=STUDY)
    spent = GaugeMetricFamily(
        "quantbench_benchmark_gpu_seconds", "GPUs × time that ended servers had a node.", labels=STUDY
    )
    complete = GaugeMetricFamily("quantbench_benchmark_complete", "1 once no run is left.", labels=STUDY)
    for raw in benchmarks:
        head, status = raw["metadata"], raw.get("status") or {}
        study = (head["namespace"], head["name"])
        active.add_metric(study, status.get("activeRuns") or 0)
        spent.add_metric(study, 3600.0 * (status.get("gpuHours") or 0.0))
        complete.add_metric(study, float(_condition(status, "Complete") == "True"))
        for cell in status.get("cells") or []:
            place = (*study, cell["variant"], cell["target"])
            finished.add_metric(place, cell.get("finished") or 0)
            planned.add_metric(place, cell.get("planned") or 0)
            if cell.get("verdict"):
                for verdict in Verdict:
                    verdicts.add_metric((*place, str(verdict)), float(verdict == cell["verdict"]))
            for row in cell.get("loads") or []:
                _add_row(rows, (*place, row["load"]), row)
    return [*rows.values(), verdicts, finished, planned, active, spent, complete]


def _add_row(families: Mapping[str, GaugeMetricFamily], place: tuple[str, ...], row: Mapping[str, Any]) -> None:
    for name, (field, _, factor) in ROW_GAUGES.items():
        if row.get(field) is not None:
            families[name].add_metric(place, factor * row[field])


def _condition(status: JsonObject, kind: str) -> str | None:
    return next((c.get("status") for c in status.get("conditions") or [] if c.get("type") == kind), None)
