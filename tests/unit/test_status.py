"""The status of a large study: its costs, its size, and the time that it takes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from core_support.objects import NOW, UID, at, ended, later, merged, pass_json, plan_of, run, several, study
from core_support.speed import seconds_of
from quantbench import times
from quantbench.api.benchmark import MAX_ROWS, QuantBenchmarkSpec
from quantbench.api.names import FindingKind, Verdict
from quantbench.api.run import Attestation, LayerKernel, Outcome, Pass, QuantBenchmarkRunStatus, ServerPod, StageTimes
from quantbench.api.status import QuantBenchmarkStatus
from quantbench.comparisons import Comparisons, starts_of
from quantbench.decide.benchmark import decide_benchmark
from quantbench.observe import Benchmark, Run
from quantbench.plan import Plan, run_spec
from quantbench.status import all_crossovers, gpu_hours, plan_fields

KIB = 1024
LIMIT = 256 * KIB


def test_gpu_hours() -> None:
    two = study(targets=[{"name": "t", "gpus": 2}])
    hour = run(two, status=ended(seconds=3600))
    assert gpu_hours([hour], at(9999)) == pytest.approx(gpu_hours([hour], at(0)))
    assert gpu_hours([hour], at(9999)).total == pytest.approx(2.0)
    earlier = run(two, status=merged(ended(seconds=3600), {"serverSeconds": 1800.0}))
    assert gpu_hours([hour, earlier], at(9999)).ended == pytest.approx(5.0)
    running = run(two, status={"times": {"serverCreated": at(-300), "scheduled": at(0)}})
    pending = run(two, status={"times": {"serverCreated": at(0)}})
    costs = gpu_hours([running, pending], at(1800))
    assert (costs.ended, costs.running) == (0.0, pytest.approx(1.0))
    assert gpu_hours([run(two)], at(5)).total == 0.0
    early = run(two, status=ended(seconds=3600))
    when = early.status.times.model_copy(update={"released": at(-5)})
    skewed = replace(early, status=early.status.model_copy(update={"times": when}))
    assert gpu_hours([skewed], at(9)).total == 0.0, "another clock"
    cpu = run(study(targets=[{"name": "t", "gpus": 0}]), status=ended(seconds=3600))
    assert gpu_hours([cpu], at(5)).total == 0.0


def test_only_measured_starts_count_and_only_their_last_attempt() -> None:
    passes = [pass_json(attempt=1, tps=1.0), pass_json(attempt=2, tps=5.0)]
    second = run(status=merged(ended(passes=passes), {"attempt": 2}))
    (start,) = starts_of([second, run(status=ended("Failed", passes=passes)), run(status={"passes": passes})])
    assert [measured.total_tokens_per_second for measured in start.passes] == [5.0]
    assert len(starts_of([run(status=ended("Unstable"))])) == 1


def large(variants: int, targets: int, loads: int, starts: int) -> QuantBenchmarkSpec:
    """A study with names as long as they may be."""
    names = [f"v{place:02d}".ljust(40, "x") for place in range(variants)]
    return several(
        *names,
        targets=[{"name": f"t{place:02d}".ljust(40, "x")} for place in range(targets)],
        loads=[{"name": f"l{place:02d}".ljust(40, "x")} for place in range(loads)],
        sampling={"starts": starts, "repeats": 2},
        limits={"parallelism": 64},
    )


def runs_of(spec: QuantBenchmarkSpec, plan: Plan, verdict: Verdict, passes: int) -> list[Run]:
    """Every run of a plan, ended; built without JSON, because this is about the decision."""
    template = run_spec("demo", spec, plan, plan.runs[0])
    measured = tuple(
        Pass.model_validate(pass_json(load.name, repeat)) for load in spec.loads for repeat in range(1, passes + 1)
    )
    status = QuantBenchmarkRunStatus(
        server=ServerPod(name="s", uid="u"),
        times=StageTimes(server_created=at(0), released=at(600)),
        verdict=Outcome(name=verdict, reason="AsItWent", message="m" * 1024),
        passes=measured if verdict is Verdict.MEASURED else (),
        attestation=Attestation(
            engine_version="0.24.0",
            quantization="q" * 64,
            linear_kernels=tuple(LayerKernel(layer=f"l{place}", kernel=f"{place}k" * 24) for place in range(16)),
            fingerprint="f" * 16,
        ),
    )
    variants = {variant.name: variant for variant in spec.variants}
    targets = {target.name: target for target in spec.targets}
    return [
        Run(
            name=planned.name,
            namespace="bench",
            uid=planned.name,
            generation=1,
            created_at=times.render(NOW),
            deleting=False,
            spec=template.model_copy(
                update={
                    "variant": template.variant.model_copy(update={"name": variants[planned.variant].name}),
                    "target": targets[planned.target],
                    "block": planned.block,
                }
            ),
            status=status,
        )
        for planned in plan.runs
    ]


def decided(spec: QuantBenchmarkSpec, runs: list[Run], plan: Plan) -> tuple[bytes, float]:
    """The status as bytes, and how long the decision took [s]."""
    study = Benchmark("demo", "bench", UID, 1, False, spec, QuantBenchmarkStatus())
    decision = decide_benchmark(study, plan, runs, later(9999))
    took = seconds_of(lambda: decide_benchmark(study, plan, runs, later(9999)), bound=1.0)
    return json.dumps(decision.status, separators=(",", ":"), allow_nan=False).encode(), took


@pytest.mark.parametrize("verdict", [Verdict.MEASURED, Verdict.CONFIGURATION_MISMATCH])
@pytest.mark.parametrize(
    ("variants", "targets", "loads", "starts"),
    [(25, 16, 1, 25), (32, 12, 1, 25), (1, 16, 25, 25), (10, 10, 4, 25), (32, 1, 12, 25), (10, 2, 8, 25)],
)
def test_the_largest_studies(variants: int, targets: int, loads: int, starts: int, verdict: Verdict) -> None:
    assert variants * targets * loads <= MAX_ROWS
    spec = large(variants, targets, loads, starts)
    plan = plan_of(spec)
    status, took = decided(spec, runs_of(spec, plan, verdict, passes=1), plan)
    assert len(status) < LIMIT, f"{len(status) / KIB:.0f} KiB"
    assert took < 1.0, f"{took:.2f} s"


def test_ten_thousand_runs() -> None:
    spec = large(25, 16, 1, 25)
    plan = plan_of(spec)
    runs = runs_of(spec, plan, Verdict.MEASURED, passes=2)
    assert len(runs) == 10_000
    status, all_ended = decided(spec, runs, plan)
    _, half_way = decided(spec, runs[:5000], plan)
    _, at_first = decided(spec, [], plan)
    planning = seconds_of(lambda: plan_of(spec), bound=1.0)
    figures = f"status {len(status) / KIB:.0f} KiB; decisions {all_ended:.2f}, {half_way:.2f}, {at_first:.2f} s; plan {planning:.2f} s"
    print(figures)
    assert max(all_ended, half_way, at_first, planning) < 1.0, figures
    assert len(status) < 256 * KIB, figures


def test_the_status_of_a_run_with_the_most_passes() -> None:
    passes = [pass_json("l" * 40, repeat, attempt) for attempt in (1, 2) for repeat in range(1, 201)]
    for measured in passes:
        measured["itlMilliseconds"] = measured["e2elMilliseconds"] = measured["ttftMilliseconds"]
        measured["server"] = {"promptTokens": 123456, "generationTokens": 123456, "requestsSucceeded": 1000}
    status = run(status=ended(passes=passes, attempt=2)).status
    assert len(status.passes) == 400
    # etcd takes 1.5 MiB; a run keeps the passes of at most two full attempts.
    assert len(json.dumps(status.to_json())) < 400 * KIB


# --- regimes and findings --------------------------------------------------------------------------------------


def swept(speeds: dict[str, tuple[float, ...]], starts: int = 2, **server: float) -> dict[str, Any]:
    """The status fields of a study whose variants were this fast under loads c8, c16 and c32 [tokens/s]."""
    concurrencies = (8, 16, 32)
    loads = [{"name": f"c{c}", "maxConcurrency": c, "numPrompts": 10 * c} for c in concurrencies]
    spec = several(*speeds, loads=loads, sampling={"starts": starts})
    plan = plan_of(spec)
    runs = [
        run(
            spec,
            place,
            status=ended(
                passes=[
                    pass_json(f"c{c}", tps=tps, server=server)
                    for c, tps in zip(concurrencies, speeds[planned.variant], strict=True)
                ]
            ),
        )
        for place, planned in enumerate(plan.runs)
    ]
    return plan_fields(plan, plan.runs, runs, spec, Comparisons(spec, plan, runs), complete=True)


def test_crossovers_and_saturation_come_from_the_runs() -> None:
    # int4 leads up to c16 by 20 %, fp8 at c32: equal in the middle, on the logarithmic scale.
    speeds = {"bf16": (100.0, 200.0, 400.0), "int4": (240.0, 480.0, 490.0), "fp8": (200.0, 400.0, 588.0)}
    fields = swept(speeds)
    crossover = next(one for one in fields["crossovers"] if one.other == "int4")
    assert (crossover.variant, crossover.target) == ("fp8", "h100")
    assert crossover.at == pytest.approx(16 * 2**0.5, rel=1e-3)
    rows = {(cell.variant, row.load): row.saturated for cell in fields["cells"] for row in cell.loads}
    assert [rows["int4", f"c{c}"] for c in (8, 16, 32)] == [False, True, True]
    assert [rows["bf16", f"c{c}"] for c in (8, 16, 32)] == [False, False, None]
    kinds = [finding.kind for finding in fields["findings"]]
    assert kinds.count(FindingKind.CROSSOVER) == 1
    assert kinds.count(FindingKind.SATURATED) == 2
    assert "int4 is the faster one up to about 23 requests in flight" in str(fields["findings"])


def test_the_servers_own_queue_says_that_it_is_full() -> None:
    fields = swept({"bf16": (100.0, 200.0, 400.0)}, meanQueueMilliseconds=45.0, peakRequestsWaiting=9)
    assert [row.saturated for row in fields["cells"][0].loads] == [True, True, True]


def test_duplicates_and_the_control_never_cross() -> None:
    speeds = {"bf16": (100.0, 200.0, 400.0), "int4": (240.0, 480.0, 490.0), "fp8": (200.0, 400.0, 588.0)}
    fields = swept(speeds)
    spec = several(*speeds, loads=[{"name": f"c{c}", "maxConcurrency": c} for c in (8, 16, 32)])
    runs = [
        run(
            spec,
            place,
            status=ended(
                passes=[pass_json(f"c{c}", tps=tps) for c, tps in zip((8, 16, 32), speeds[p.variant], strict=True)]
            ),
        )
        for place, p in enumerate(plan_of(spec).runs)
    ]
    comparisons = Comparisons(spec, plan_of(spec), runs)
    assert all_crossovers(spec, fields["cells"], comparisons)
    same = tuple(
        cell.model_copy(update={"same_as": "bf16" if cell.variant == "int4" else None}) for cell in fields["cells"]
    )
    assert all_crossovers(spec, same, comparisons) == ()


def test_along_rates_the_time_per_token_decides() -> None:
    rates, tpots = (2, 8), {"bf16": (10.0, 20.0), "fp8": (12.5, 16.0)}
    spec = several(*tpots, loads=[{"name": f"r{rate}", "requestRate": rate} for rate in rates])
    plan = plan_of(spec)
    runs = [
        run(
            spec,
            place,
            status=ended(
                passes=[
                    pass_json(f"r{rate}", tps=rate * 100.0, tpotMilliseconds={"mean": tpot})
                    for rate, tpot in zip(rates, tpots[planned.variant], strict=True)
                ]
            ),
        )
        for place, planned in enumerate(plan.runs)
    ]
    (crossover,) = plan_fields(plan, plan.runs, runs, spec, Comparisons(spec, plan, runs), complete=True)["crossovers"]
    assert (crossover.variant, crossover.other, crossover.axis) == ("fp8", "bf16", "requestRate")
    # 0.8 at rate 2 and 1.25 at rate 8: equal in the middle.
    assert crossover.at == pytest.approx(4.0)
