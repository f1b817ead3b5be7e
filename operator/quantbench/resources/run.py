"""The QuantBenchmarkRun object."""

from quantbench.api.base import JsonObject
from quantbench.api.names import API_VERSION
from quantbench.api.run import QuantBenchmarkRunSpec
from quantbench.resources import labels
from quantbench.resources.pods import owner


def run_object(name: str, namespace: str, benchmark_uid: str, spec: QuantBenchmarkRunSpec) -> JsonObject:
    """One run of a benchmark, owned by it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "QuantBenchmarkRun",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                **labels.MANAGED,
                labels.BENCHMARK: labels.short(spec.benchmark),
                labels.VARIANT: spec.variant.name,
                labels.TARGET: spec.target.name,
            },
            "ownerReferences": [owner("QuantBenchmark", spec.benchmark, benchmark_uid)],
        },
        "spec": spec.to_json(),
    }
