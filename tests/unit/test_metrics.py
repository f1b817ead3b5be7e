"""Metrics: valid, complete, and gone with their objects."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from core_support.objects import benchmark_object, ended, pass_json, plan_of, run_raw, several, stored
from quantbench.api.base import JsonObject
from quantbench.api.names import Verdict
from quantbench.api.status import LoadResult
from quantbench.decide.benchmark import decide_benchmark
from quantbench.metrics import OPERATOR_GAUGES, ROW_GAUGES, Health, StateCollector
from quantbench.observe import read_benchmark, read_run

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def measured(name: str = "demo") -> JsonObject:
    """A finished study of two variants, one of them twice as fast, one more refused."""
    from core_support.objects import later

    spec = several("a", "b", "c", sampling={"starts": 1})
    statuses = {
        "a": ended(passes=[pass_json(tps=1000.0)]),
        "b": ended(passes=[pass_json(tps=2000.0)]),
        "c": ended("OutOfMemory"),
    }
    runs = [
        read_run(run_raw(spec, place, status=statuses[run.variant])) for place, run in enumerate(plan_of(spec).runs)
    ]
    study = read_benchmark(benchmark_object(spec, name=name))
    return benchmark_object(spec, name=name, status=decide_benchmark(study, plan_of(spec), runs, later(999)).status)


def scrape(*studies: JsonObject) -> Samples:
    """What Prometheus would read."""
    registry = CollectorRegistry()
    registry.register(StateCollector(lambda: studies, lambda: dict.fromkeys(OPERATOR_GAUGES, 1.0)))
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation.endswith(".") for family in families)
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples), "a series twice"
    assert all(math.isfinite(value) for value in found.values())
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    wanted = {"namespace": "bench", "benchmark": "demo", **labels}
    return samples.get((f"quantbench_{name}", tuple(sorted(wanted.items()))))


def test_figures_in_base_units() -> None:
    samples = scrape(measured())
    row = {"variant": "b", "target": "h100", "load": "saturated"}
    assert value(samples, "result_total_tokens_per_second", **row) == 2000.0
    assert value(samples, "result_output_tokens_per_second", **row) == 500.0
    assert value(samples, "result_requests_per_second", **row) == 20.0
    assert value(samples, "result_time_to_first_token_seconds", **row) == 0.05
    assert value(samples, "result_time_per_output_token_seconds", **row) == 0.008
    assert value(samples, "result_throughput_ratio", **row) == 2.0
    assert value(samples, "result_starts", **row) == 1.0
    assert value(samples, "result_throughput_ratio", **{**row, "variant": "a"}) is None


def test_progress_and_verdicts() -> None:
    samples = scrape(measured())
    cell = {"variant": "c", "target": "h100"}
    verdicts = {name: value(samples, "cell_verdict", **cell, verdict=str(name)) for name in Verdict}
    assert verdicts == {name: float(name is Verdict.OUT_OF_MEMORY) for name in Verdict}
    assert value(samples, "cell_runs_finished", **cell) == 1.0
    assert value(samples, "cell_runs_planned", **cell) == 1.0
    assert value(samples, "benchmark_complete") == 1.0
    assert value(samples, "benchmark_active_runs") == 0.0
    assert value(samples, "benchmark_gpu_seconds") == 1800.0


def test_nothing_stays_behind_when_a_study_is_deleted() -> None:
    studies = [measured(), measured("other")]
    registry = CollectorRegistry()
    registry.register(StateCollector(lambda: studies, lambda: dict.fromkeys(OPERATOR_GAUGES, 0.0)))
    assert b'benchmark="demo"' in generate_latest(registry)
    del studies[0]
    after = generate_latest(registry)
    assert b'benchmark="demo"' not in after
    assert b'benchmark="other"' in after


def test_a_study_without_a_status() -> None:
    samples = scrape(benchmark_object(several("a")))
    assert value(samples, "benchmark_complete") == 0.0
    assert value(samples, "benchmark_gpu_seconds") == 0.0


def test_labels_that_need_quoting() -> None:
    samples = scrape(measured('a"b\\c\nd'))
    assert any(dict(labels).get("benchmark") == 'a"b\\c\nd' for _, labels in samples)


def test_runs_are_not_mistaken_for_studies() -> None:
    run = run_raw(several("a"), status=ended())
    assert {name for name, _ in scrape(run)} == {f"quantbench_{name}" for name in OPERATOR_GAUGES}


def test_every_figure_of_the_status_has_its_metric() -> None:
    shown = {field for field, _, _ in ROW_GAUGES.values()}
    fields = {field.alias for field in LoadResult.model_fields.values()}
    assert shown <= fields
    # A name, a word, and how many there are: no figures of their own.
    assert fields - shown == {"load", "passes", "ratioStarts", "difference"}


def test_the_operators_own_counts() -> None:
    registry = CollectorRegistry()
    health = Health(registry)
    health.api_call("get", "Pod", 200)
    health.api_call("get", "Pod", 200)
    with health.reconciling("QuantBenchmark"):
        pass
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert {family.name for family in families} >= {"quantbench_reconcile_duration_seconds", "quantbench_api_requests"}
    labels = {"verb": "get", "kind": "Pod", "code": "200"}
    assert registry.get_sample_value("quantbench_api_requests_total", labels) == 2.0
    assert registry.get_sample_value("quantbench_reconcile_errors_total", {"kind": "QuantBenchmark"}) is None


def test_the_status_of_metrics_is_plain_json() -> None:
    assert stored(measured()) == measured()
