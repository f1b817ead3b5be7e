"""What Prometheus would read from the operator."""

from __future__ import annotations

import math
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from quantbench.api.base import JsonObject
from quantbench.metrics import OPERATOR_GAUGES, Health, State, operator_families, study_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def state_of(*objects: JsonObject) -> State:
    """The state after these objects were seen."""
    state = State()
    for raw in objects:
        state.put(raw["kind"], raw)
    return state


def exposition(state: State, now: float = 0.0) -> Iterator[str]:
    """The text, family by family."""
    registry = CollectorRegistry()
    health = Health(registry)
    health.api_call("get", "Pod", 200)
    with health.reconciling("QuantBenchmark"):
        pass
    yield generate_latest(registry).decode()
    for family in operator_families(dict.fromkeys(OPERATOR_GAUGES, 1.0)):
        yield family.text()
    for family in study_families(state, lambda: now):
        yield family.text()


def parsed(text: str) -> Samples:
    """Every sample, read by Prometheus' own client; the test fails where the text is not what it should be."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation.endswith(".") for family in families)
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples), "a series twice"
    assert all(math.isfinite(value) for value in found.values())
    return found


def scrape(*objects: JsonObject, now: float = 0.0) -> Samples:
    """What is read of these objects, the operator's own counters left out."""
    state = state_of(*objects)
    return parsed("".join(family.text() for family in study_families(state, lambda: now)))
