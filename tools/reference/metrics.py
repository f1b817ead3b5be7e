"""The metrics of the operator's /metrics."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry, Metric

from quantbench.api.base import JsonObject
from quantbench.metrics import OPERATOR_GAUGES, ROW_GAUGES, Health, StateCollector
from reference.markdown import code, codes, page, table

ABOUT = """
Served at `/metrics` on the operator's HTTP port. Results and progress are read from the objects at scrape time: nothing
is stale after a deletion, and nothing is lost by a restart. Only the leader acts; a standby shows the same results.
Times are in seconds, as Prometheus has it.
"""
EXAMPLE: JsonObject = {
    "kind": "QuantBenchmark",
    "metadata": {"namespace": "", "name": ""},
    "status": {
        "cells": [
            {
                "variant": "",
                "target": "",
                "verdict": "Measured",
                "loads": [{"load": "", **{field: 1.0 for field, _, _ in ROW_GAUGES.values()}}],
            }
        ]
    },
}
"""A study with every figure, because labels show in samples only."""


def text() -> str:
    """The page."""
    state = list(StateCollector(lambda: [EXAMPLE], lambda: dict.fromkeys(OPERATOR_GAUGES, 0.0)).collect())
    own = [metric for metric in state if metric.name.removeprefix("quantbench_") in OPERATOR_GAUGES]
    studies = [metric for metric in state if metric not in own]
    header = ("Metric", "Type", "Labels", "Meaning")
    return page(
        "Metrics",
        ABOUT,
        "## Studies",
        table(header, _rows(studies)),
        "## Operator",
        table(header, _rows([*own, *_counted()])),
    )


def _counted() -> Iterable[Metric]:
    """What the process counts as it happens."""
    registry = CollectorRegistry()
    health = Health(registry)
    health.api_call("", "", 200)
    with suppress(ValueError), health.reconciling(""):
        raise ValueError
    return registry.collect()


def _rows(metrics: Iterable[Metric]) -> Iterator[tuple[str, ...]]:
    for metric in metrics:
        shown = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = [label for label in metric.samples[0].labels if label != "le"]
        yield code(shown), metric.type, codes(labels), metric.documentation
