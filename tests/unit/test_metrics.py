"""Metrics: valid, complete, bounded, and gone with their objects."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

from prometheus_client import CollectorRegistry

from core_support.fleets import largest, many
from core_support.objects import (
    NOW,
    UID,
    at,
    benchmark_object,
    ended,
    later,
    pass_json,
    plan_of,
    run_raw,
    several,
    stored,
    study,
)  # fmt: skip
from core_support.scrape import Samples, exposition, parsed, scrape, state_of
from core_support.speed import seconds_of
from quantbench.api.base import JsonObject
from quantbench.api.names import Difference, FindingKind, Verdict
from quantbench.api.run import ColdStart, StageTimes
from quantbench.api.status import LoadResult
from quantbench.decide.benchmark import decide_benchmark
from quantbench.metrics import Health, study_families
from quantbench.metrics.facts import COLD_START, ROW_FIGURES, STAGES
from quantbench.metrics.families import MAX_SERIES
from quantbench.observe import read_benchmark, read_run


def measured(name: str = "demo") -> JsonObject:
    """A finished study of two variants, one of them twice as fast, one more refused."""
    spec = several("a", "b", "c", sampling={"starts": 1})
    statuses = {
        "a": ended(passes=[pass_json(tps=1000.0)]),
        "b": ended(passes=[pass_json(tps=2000.0)]),
        "c": ended("OutOfMemory"),
    }
    runs = [
        read_run(run_raw(spec, place, status=statuses[run.variant])) for place, run in enumerate(plan_of(spec).runs)
    ]
    one = read_benchmark(benchmark_object(spec, name=name))
    return benchmark_object(spec, name=name, status=decide_benchmark(one, plan_of(spec), runs, later(999)).status)


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
    counts = {name: value(samples, "benchmark_cells", verdict=str(name)) for name in Verdict}
    assert counts == dict.fromkeys(Verdict, 0.0) | {Verdict.MEASURED: 2.0, Verdict.OUT_OF_MEMORY: 1.0}
    assert value(samples, "cell_runs_finished", **cell) == 1.0
    assert value(samples, "cell_runs_planned", **cell) == 1.0
    assert value(samples, "benchmark_complete") == 1.0
    assert value(samples, "benchmark_active_runs") == 0.0
    assert value(samples, "benchmark_gpu_seconds") == 1800.0


def test_nothing_stays_behind_when_a_study_is_deleted() -> None:
    state = state_of(measured(), measured("other"))
    assert any('benchmark="demo"' in family.text() for family in study_families(state))
    state.drop("QuantBenchmark", "bench", "demo")
    after = "".join(family.text() for family in study_families(state))
    assert 'benchmark="demo"' not in after
    assert 'benchmark="other"' in after


def test_what_a_listing_does_not_hold_is_dropped() -> None:
    state = state_of(measured(), measured("other"))
    state.keep({state.put("QuantBenchmark", measured())})
    assert [one.key for one in state.studies] == [("bench", "demo")]


def test_a_changed_object_replaces_what_was_known() -> None:
    state, raw = state_of(measured()), measured()
    raw["metadata"]["resourceVersion"] = "2"
    raw["spec"]["suspend"] = True
    state.put("QuantBenchmark", raw)
    samples = parsed("".join(family.text() for family in study_families(state)))
    assert value(samples, "benchmark_suspended") == 1.0


def test_a_study_without_a_status() -> None:
    samples = scrape(benchmark_object(several("a")))
    assert value(samples, "benchmark_complete") == 0.0
    assert value(samples, "benchmark_gpu_seconds") == 0.0


def test_labels_that_need_quoting() -> None:
    samples = scrape(measured('a"b\\c\nd'))
    assert any(dict(labels).get("benchmark") == 'a"b\\c\nd' for _, labels in samples)


def test_identity_and_effective_configuration() -> None:
    raw = measured()
    raw["status"]["cells"][0] |= {"effective": "fp8, Cutlass", "fingerprint": "f00d", "sameAs": "b"}
    samples = scrape(raw)
    (info,) = [dict(labels) for name, labels in samples if name == "quantbench_benchmark_info"]
    assert (info["uid"], info["model"], info["baseline"]) == (UID, "Qwen/Qwen3-8B", "a")
    assert info["image"] == "vllm/vllm-openai:v0.24.0"
    assert info["plan"] == plan_of(several("a", "b", "c", sampling={"starts": 1})).hash
    cells = {dict(labels)["variant"]: dict(labels) for name, labels in samples if name == "quantbench_cell_info"}
    told = [cells["a"][field] for field in ("method", "effective", "fingerprint", "same_as")]
    assert told == ["BF16", "fp8, Cutlass", "f00d", "b"]


def test_the_same_work_has_the_same_digest_whatever_serves_it() -> None:
    def workload(**changes: object) -> str:
        samples = scrape(benchmark_object(study(**changes)))
        return next(dict(labels)["workload"] for name, labels in samples if name == "quantbench_benchmark_info")

    assert workload() == workload(engine={"image": "vllm/vllm-openai:v0.25.0"}) == workload(limits={"gpuHours": 3})
    assert workload() != workload(workload={"numPrompts": 7})
    assert workload() != workload(loads=[{"name": "c1", "maxConcurrency": 1}])


def test_difference_and_findings() -> None:
    raw = measured()
    raw["status"]["cells"][1]["loads"][0]["difference"] = "Faster"
    raw["status"]["findings"] = [{"kind": "Duplicate", "message": "x"}, {"kind": "Duplicate", "message": "y"}]
    samples = scrape(raw)
    row = {"variant": "b", "target": "h100", "load": "saturated"}
    words = {word: value(samples, "result_difference", **row, difference=str(word)) for word in Difference}
    assert words == {word: float(word is Difference.FASTER) for word in Difference}
    assert value(samples, "result_difference", **{**row, "variant": "a"}, difference="Faster") is None
    counts = {kind: value(samples, "benchmark_findings", kind=str(kind)) for kind in FindingKind}
    assert counts == {kind: 2.0 if kind is FindingKind.DUPLICATE else 0.0 for kind in FindingKind}


def test_the_axes_of_loads() -> None:
    loads = [{"name": "all"}, {"name": "c16", "maxConcurrency": 16}, {"name": "r2", "requestRate": "2.5"}]
    samples = scrape(benchmark_object(study(loads=loads)))
    assert [value(samples, "load_max_concurrency", load=name) for name in ("all", "c16", "r2")] == [None, 16.0, None]
    assert [value(samples, "load_requests_per_second", load=name) for name in ("all", "c16", "r2")] == [None, None, 2.5]


def test_stages_cold_starts_and_progress() -> None:
    spec = several("a", sampling={"starts": 2}, limits={"gpuHours": 2})
    ends = ("serverCreated", "scheduled", "serverStarted", "ready", "firstPass", "lastPass", "released")
    runs = [
        run_raw(spec, place, status={
            "times": {name: at(place * 1000 + 10.0 * n * n) for n, name in enumerate(ends)},
            "coldStart": {"weightsSeconds": 3.5, "compileSeconds": 20.0 + place},
            "passes": [pass_json()] * (place + 1),
        })
        for place in range(2)
    ]  # fmt: skip
    runs[0]["status"]["coldStart"].pop("compileSeconds")
    samples = scrape(benchmark_object(spec), *runs)
    assert value(samples, "benchmark_passes") == 3.0
    assert value(samples, "benchmark_gpu_limit_seconds") == 7200.0
    assert value(samples, "benchmark_last_progress_timestamp_seconds") == later(1000 + 360).timestamp()
    assert value(samples, "benchmark_created_timestamp_seconds") == NOW.timestamp()
    # Without a cell in the status there is nothing that the runs could be shown under.
    assert value(samples, "run_stage_seconds_sum", variant="a", target="h100", stage="load") is None
    cells = [{"variant": "a", "target": "h100", "finished": 2, "planned": 2}]
    samples = scrape(benchmark_object(spec, status={"cells": cells}), *runs)
    cell = {"variant": "a", "target": "h100"}
    for place, stage in enumerate(STAGES):
        assert value(samples, "run_stage_seconds_sum", **cell, stage=stage) == 2 * 10.0 * (2 * place + 1)
        assert value(samples, "run_stage_seconds_count", **cell, stage=stage) == 2.0
    assert value(samples, "run_cold_start_seconds_sum", **cell, part="weights") == 7.0
    assert value(samples, "run_cold_start_seconds_sum", **cell, part="compile") == 21.0
    assert value(samples, "run_cold_start_seconds_count", **cell, part="compile") == 1.0
    assert value(samples, "run_cold_start_seconds_sum", **cell, part="engine") is None


def test_servers_that_run_cost_too() -> None:
    spec = several("a", targets=[{"name": "h100", "gpus": 4}])
    run = run_raw(spec, status={"times": {"serverCreated": at(-50), "scheduled": at(0)}})
    samples = scrape(benchmark_object(spec, status={"gpuHours": 0.5}), run, now=later(60).timestamp())
    assert value(samples, "benchmark_gpu_seconds") == 1800.0 + 4 * 60.0


def test_runs_are_not_mistaken_for_studies() -> None:
    assert scrape(run_raw(several("a"), status=ended())) == {}


def test_odd_objects_do_not_stop_a_scrape() -> None:
    odd = benchmark_object(several("a"), status={"conditions": [{"type": "Complete", "lastTransitionTime": "soon"}]})
    run = run_raw(several("a"), status={"times": {"ready": "yesterday"}, "passes": [{"startedAt": "?"}]})
    assert value(scrape(odd, run), "benchmark_passes") == 1.0


def test_every_figure_of_the_status_has_its_metric() -> None:
    shown = {field for field, _, _ in ROW_FIGURES.values()}
    fields = {field.alias for field in LoadResult.model_fields.values()}
    assert shown <= fields
    # Names, how many there are, and what is a state set of its own.
    assert fields - shown == {"load", "passes", "ratioStarts", "difference", "decidedBy"}


def test_stages_and_parts_are_fields_of_the_run() -> None:
    times = {field.alias for field in StageTimes.model_fields.values()}
    assert {end for start, end, _ in STAGES.values()} | {start for start, _, _ in STAGES.values()} <= times
    # Whether a cache was hit is no time.
    assert set(COLD_START.values()) == {f.alias for f in ColdStart.model_fields.values()} - {"compileCacheHit"}


def test_the_ceiling_of_series_is_that_of_the_largest_study() -> None:
    """One more family, state or figure, and the documented ceiling moves with it."""
    assert len(scrape(*largest())) == MAX_SERIES


def test_the_operators_own_counts() -> None:
    registry = CollectorRegistry()
    health = Health(registry)
    health.api_call("get", "Pod", 200)
    health.api_call("get", "Pod", 200)
    with health.reconciling("QuantBenchmark"):
        pass
    labels = {"verb": "get", "kind": "Pod", "code": "200"}
    assert registry.get_sample_value("quantbench_api_requests_total", labels) == 2.0
    assert registry.get_sample_value("quantbench_reconcile_errors_total", {"kind": "QuantBenchmark"}) == 0.0
    with suppress(ValueError), health.reconciling("QuantBenchmark"):
        raise ValueError
    assert registry.get_sample_value("quantbench_reconcile_errors_total", {"kind": "QuantBenchmark"}) == 1.0


def test_the_status_of_metrics_is_plain_json() -> None:
    assert stored(measured()) == measured()


def test_everything_together_is_valid() -> None:
    samples = parsed("".join(exposition(state_of(measured()))))
    assert ("quantbench_leader", ()) in samples
    assert any(name == "quantbench_reconcile_duration_seconds_bucket" for name, _ in samples)


MOST_SECONDS = 1.0
MOST_MEMORY = 150 * 2**20


def test_two_hundred_studies_of_sixty_rows() -> None:
    """A scrape takes less than a second and, with all that is kept for it, less than 150 MiB."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    state = state_of()
    for raw in many(200):
        state.put(raw["kind"], raw)
    tracemalloc.reset_peak()
    size = sum(len(family.text().encode()) for family in study_families(state))
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert len(state.runs) == 200 * 60
    assert size > 30e6, "the studies are not what the bound speaks of"
    assert peak < MOST_MEMORY

    def expose() -> None:
        for family in study_families(state):
            family.text().encode()

    assert seconds_of(expose, bound=MOST_SECONDS) < MOST_SECONDS
