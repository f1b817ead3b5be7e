"""Each finding is there exactly when its data say so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_support.figures import ALIKE, FASTER, ONE_RUN, SAME, SLOWER, UNDECIDED, cell, gpu_pass, row, run_of
from core_support.objects import merged, pass_json, several, study
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Axis, Difference, FindingKind, Verdict
from quantbench.api.run import Attestation
from quantbench.api.status import MAX_FINDINGS, Cell, Crossover, Finding, QuantBenchmarkStatus
from quantbench.findings import LARGEST, findings
from quantbench.observe import Run

TWO_LOADS = [{"name": "saturated"}, {"name": "c16", "maxConcurrency": 16}]
SPEC = several("bf16", "fp8", "awq", "awq-marlin", loads=TWO_LOADS, sampling={"starts": 3, "control": True})
BASE = cell("bf16", row(), row(load="c16"))


def of(cells: list[Cell], runs: list[Run] | None = None, spec: QuantBenchmarkSpec = SPEC, **more: Any) -> list[Finding]:
    return list(findings(spec, cells, runs or [], **more))


def kinds(found: list[Finding]) -> list[FindingKind]:
    return [finding.kind for finding in found]


def only(kind: FindingKind, found: list[Finding]) -> Finding:
    (one,) = [finding for finding in found if finding.kind is kind]
    return one


def test_nothing_to_say_yet() -> None:
    assert of([]) == []
    assert of([BASE]) == []
    assert of([cell("fp8", verdict=None)]) == []


# --- comparisons -----------------------------------------------------------------------------------------------


def test_a_difference() -> None:
    found = only(FindingKind.DIFFERENCE, of([BASE, cell("fp8", row(1.2366, 1.2071, 1.2668, FASTER))]))
    assert found.message == "fp8 is 1.24× bf16 at saturated on h100 (95 % CI 1.21 to 1.27, 3 starts)"
    assert (found.target, found.load, found.variants) == ("h100", "saturated", ("fp8",))
    assert found.evidence == (
        "fp8: 1,236.6 tokens/s, TTFT 50.0 ms, TPOT 8.00 ms",
        "bf16: 1,000.0 tokens/s, TTFT 50.0 ms, TPOT 8.00 ms",
    )
    slower = only(FindingKind.DIFFERENCE, of([cell("awq", row(0.733, 0.72, 0.745, SLOWER))]))
    assert slower.message.startswith("awq is 0.73× bf16 at saturated")


def test_under_a_fixed_rate_latency_decides() -> None:
    spec = several("bf16", "fp8", loads=[{"name": "r4", "requestRate": 4}])
    figures = {"tpot_ratio": 0.7, "tpot_ratio_low": 0.68, "tpot_ratio_high": 0.72}
    (found,) = of([cell("fp8", row(1.001, 0.999, 1.003, FASTER, load="r4", **figures))], spec=spec)
    assert found.message == (
        "fp8 takes 0.70× the time per output token of bf16 at r4 on h100 (95 % CI 0.68 to 0.72, 3 starts)"
    )


def test_no_difference_beside_the_control() -> None:
    alike, control = cell("awq", row(1.012, 0.97, 1.05, ALIKE)), cell("control", row(1.008, 0.98, 1.03, ALIKE))
    found = of([BASE, alike, control])
    assert only(FindingKind.NO_DIFFERENCE, found).message == (
        "awq cannot be told from bf16 at saturated on h100: 1.01× (95 % CI 0.97 to 1.05, 3 starts);"
        " the control lies at 1.01×"
    )
    assert only(FindingKind.CONTROL, found).message == (
        "the control, bf16 measured again, lies at 1.01× at saturated on h100 (95 % CI 0.98 to 1.03, 3 starts):"
        " the noise floor"
    )
    assert "control" not in only(FindingKind.NO_DIFFERENCE, of([BASE, alike])).message


def test_a_control_that_differs_is_an_alarm() -> None:
    cells = [cell("awq", row(1.05, 0.9, 1.2, ALIKE)), cell("control", row(1.08, 1.05, 1.11, FASTER))]
    first = of(cells)[0]
    assert first.kind is FindingKind.CONTROL
    assert "do not believe differences of that size" in first.message


def test_undecided_rows_and_duplicates_say_nothing_of_differences() -> None:
    rows = [cell("fp8", row(1.1, 0.9, 1.3, UNDECIDED)), cell("awq", row(1.1, 1.0, 1.2, SAME))]
    assert of([BASE, *rows]) == []
    marked = cell("awq-marlin", row(1.2, 1.1, 1.3, FASTER), same_as="awq")
    assert kinds(of([BASE, marked, cell("awq", row(0.9, 0.8, 1.1, ALIKE))])) == [
        FindingKind.DUPLICATE,
        FindingKind.NO_DIFFERENCE,
    ]


@pytest.mark.parametrize("verdict", [Verdict.NOT_QUANTIZED, Verdict.INCONSISTENT])
def test_invalid_cells_are_not_compared(verdict: Verdict) -> None:
    assert FindingKind.DIFFERENCE not in kinds(of([cell("fp8", row(2.0, 1.9, 2.1, FASTER), verdict=verdict)]))


def test_single_starts() -> None:
    spec = several("bf16", "fp8", "awq", sampling={"starts": 1}, loads=TWO_LOADS)
    cells = [
        cell("fp8", row(1.24, starts=1, difference=ONE_RUN), row(1.1, starts=1, load="c16")),
        cell("awq", row(0.9, starts=1)),
    ]
    (found,) = of(cells, spec=spec)
    assert found.kind is FindingKind.ONE_RUN
    assert found.message == (
        "figures of fp8 and awq on h100 rest on one start each: shown, not judged;"
        " with sampling.starts of 2 or more they would be"
    )
    assert found.variants == ("fp8", "awq")
    assert found.evidence == (
        "fp8 is 1.24× bf16 at saturated",
        "awq is 0.90× bf16 at saturated",
        "fp8 is 1.10× bf16 at c16",
    )
    assert of([cell("fp8", row(1.24, 1.2, 1.3, FASTER, starts=2))], spec=spec)[0].kind is FindingKind.DIFFERENCE


# --- what the servers ran --------------------------------------------------------------------------------------


def attested(*kernels: str, **more: Any) -> dict[str, Any]:
    layers = [{"layer": f"layer{place}", "kernel": kernel} for place, kernel in enumerate(kernels)]
    return {"linearKernels": layers, **more}


def test_duplicates_name_their_kernel() -> None:
    cells = [
        cell("awq", row(0.9, 0.8, 1.0, ALIKE), effective="awq_marlin, MarlinLinearKernel", fingerprint="abc"),
        cell("awq-marlin", row(0.9, 0.8, 1.0, SAME), same_as="awq", effective="awq_marlin, MarlinLinearKernel"),
    ]
    runs = [run_of(SPEC, name, attestation=attested("MarlinLinearKernel")) for name in ("awq", "awq-marlin")]
    found = only(FindingKind.DUPLICATE, of(cells, runs))
    assert found.message == "awq and awq-marlin ran the same kernel (MarlinLinearKernel) on h100: treated as one"
    assert found.variants == ("awq", "awq-marlin")
    assert found.evidence[0] == "awq: awq_marlin, MarlinLinearKernel"
    without = only(FindingKind.DUPLICATE, of(cells))
    assert without.message == "awq and awq-marlin ran the same effective configuration on h100: treated as one"
    runs[1] = run_of(SPEC, "awq-marlin", attestation=attested("ConchLinearKernel"))
    assert "ran the same effective configuration" in only(FindingKind.DUPLICATE, of(cells, runs)).message
    two = [run_of(SPEC, name, attestation=attested("A", "B")) for name in ("awq", "awq-marlin")]
    assert "ran the same kernels (A, B)" in only(FindingKind.DUPLICATE, of(cells, two)).message


def test_duplicates_of_duplicates_are_one_group() -> None:
    cells = [
        cell("fp8"),
        cell("awq", same_as="fp8"),
        cell("awq-marlin", same_as="awq"),
        cell("control", same_as="bf16"),
    ]
    assert only(FindingKind.DUPLICATE, of(cells)).variants == ("fp8", "awq", "awq-marlin")
    mutual = [cell("awq", same_as="awq-marlin"), cell("awq-marlin", same_as="awq")]
    assert only(FindingKind.DUPLICATE, of(mutual)).variants == ("awq", "awq-marlin")


def test_a_mismatch() -> None:
    wrong = cell("awq-marlin", verdict=Verdict.CONFIGURATION_MISMATCH, effective="awq, ConchLinearKernel")
    outcome = {
        "logLine": "Using ConchLinearKernel",
        "message": "asked for Marlin, got Conch",
        "hint": "name the kernel",
    }
    ran = run_of(SPEC, "awq-marlin", "ConfigurationMismatch", outcome=outcome)
    (found,) = of([wrong], [ran])
    assert found.kind is FindingKind.MISMATCH
    assert found.message == "awq-marlin ran something else than asked for on h100: Using ConchLinearKernel"
    assert found.evidence == (
        "asked for Marlin, got Conch",
        "name the kernel",
        f"run {ran.name}",
        "effective: awq, ConchLinearKernel",
    )
    bare = only(FindingKind.MISMATCH, of([cell("fp8", verdict=Verdict.NOT_QUANTIZED, message="0 of 252 layers")]))
    assert bare.message == "fp8 ran no quantized layer on h100: 0 of 252 layers"


def test_weight_only() -> None:
    variants = [{"name": "bf16", "method": "BF16"}, {"name": "fp8", "method": "FP8Online"}]
    spec = study(variants=variants)
    card = {"name": "NVIDIA A100", "computeCapability": "8.0"}
    ran = run_of(spec, "fp8", attestation=attested("MarlinFP8", weightOnlyFallback=True, gpus=[card]))
    (found,) = of([cell("fp8")], [ran], spec=spec)
    assert found.kind is FindingKind.DEGRADED
    assert found.message.startswith("fp8 ran weight-only (W8A16) on h100: ")
    assert found.evidence == ("kernels: MarlinFP8", "NVIDIA A100, compute capability 8.0", f"run {ran.name}")
    for said in (False, None):
        entry = {} if said is None else {"weightOnlyFallback": said}
        assert of([cell("fp8")], [run_of(spec, "fp8", attestation=attested("CutlassFP8", **entry))], spec=spec) == []


def test_a_failure_with_its_first_telling_line() -> None:
    broken = cell("awq", verdict=Verdict.UNSUPPORTED, message="no code for it")
    outcome = {"logLine": "ValueError: not on  this\nGPU", "hint": "use another"}
    runs = [run_of(SPEC, "awq", "Unsupported", outcome=outcome)]
    found = of([BASE, broken], runs)
    assert kinds(found) == [FindingKind.FAILED]
    assert found[0].message == "awq has no figures on h100: Unsupported: ValueError: not on this GPU"
    assert found[0].evidence == ("as it went", "use another", f"run {runs[0].name}")
    without_log = of([broken], [run_of(SPEC, "awq", "Unsupported", message="no code for it")])
    assert without_log[0].message == "awq has no figures on h100: Unsupported: no code for it"
    assert of([cell("awq", row(1.0, 0.9, 1.1, UNDECIDED), verdict=Verdict.UNSTABLE)]) == []
    # Its first start was unstable but has valid passes: it has figures, and they are compared.
    later = cell("awq", row(1.2, 1.1, 1.3, FASTER), verdict=Verdict.EVICTED)
    assert kinds(of([later])) == [FindingKind.DIFFERENCE]


def test_a_failed_baseline_is_an_alarm() -> None:
    first = of([cell("fp8", verdict=Verdict.FAILED), cell("bf16", verdict=Verdict.OUT_OF_MEMORY, message="no room")])[0]
    assert first.message == "bf16, the baseline, has no figures on h100: OutOfMemory: no room"


# --- loads and passes ------------------------------------------------------------------------------------------


def crossing(**more: Any) -> Crossover:
    figures = {"target": "h100", "axis": "maxConcurrency", "variant": "fp8", "other": "awq", "at": 19.7}
    return Crossover.model_validate(figures | more)


def test_a_crossover() -> None:
    cells = [cell("fp8", row(1.2), row(0.9, load="c16")), cell("awq", row(0.8), row(1.1, load="c16"))]
    found = only(FindingKind.CROSSOVER, of(cells, crossovers=[crossing(low=13.9, high=28.6)]))
    assert found.message == (
        "awq is the faster one up to about 20 requests in flight (95 % CI 14 to 29) on h100, fp8 above"
    )
    assert found.variants == ("fp8", "awq")
    assert found.evidence == (
        "c16: awq 1,100.0 tokens/s, fp8 900.0 tokens/s",
        "saturated: awq 800.0 tokens/s, fp8 1,200.0 tokens/s",
    )
    guesses = [crossing(at=float(place)) for place in (2, 3, 5, 7, 11)]
    known = [crossing(at=90.0, low=80.0, high=101.0)]
    shown = [of.message for of in of(cells, crossovers=[*guesses, *known]) if of.kind is FindingKind.CROSSOVER]
    assert [message.split("about ")[1].split(" ")[0] for message in shown] == ["2", "3", "5", "90"]
    rate = crossing(axis=Axis.REQUEST_RATE, at=2.345)
    assert "up to about 2.3 requests per second (no interval: too few starts) on h100" in (
        only(FindingKind.CROSSOVER, of([], crossovers=[rate])).message
    )


def test_a_crossover_along_rates_shows_the_loads_around_it() -> None:
    rates = (1, 2, 4, 8, 16, 32)
    spec = several("bf16", "fp8", "awq", loads=[{"name": f"r{rate}", "requestRate": rate} for rate in rates])
    cells = [
        cell(name, *(row(1.0, load=f"r{rate}", starts=1, mean_tpot_milliseconds=rate * factor) for rate in rates))
        for name, factor in (("fp8", 1.0), ("awq", 2.0))
    ]
    found = only(FindingKind.CROSSOVER, of(cells, spec=spec, crossovers=[crossing(axis=Axis.REQUEST_RATE, at=5)]))
    assert found.evidence == tuple(
        f"r{rate}: awq TPOT {2 * rate:.2f} ms, fp8 TPOT {rate:.2f} ms" for rate in (2, 4, 8, 16)
    )


def test_a_queue_is_not_sold_as_latency() -> None:
    full, free = row(saturated=True), row(load="c16", saturated=False)
    cells = [cell("bf16", full, free), cell("fp8", row(saturated=True)), cell("awq", row()), cell("control", full)]
    server = {"meanQueueMilliseconds": 46.5, "peakRequestsWaiting": 744}
    (found,) = of(cells, [run_of(SPEC, "bf16", passes=[pass_json(server=server)])])
    assert found.kind is FindingKind.SATURATED
    assert found.message == (
        "saturated on h100: 2 of 3 variants were at their limit: mean TTFT there is the length of a queue"
    )
    assert (found.load, found.variants) == ("saturated", ("bf16", "fp8"))
    assert found.evidence == (
        "bf16: mean TTFT 50.0 ms, 93 % of it in the queue, up to 744 requests waiting",
        "fp8: mean TTFT 50.0 ms",
    )


def test_a_limit_without_a_queue_is_not_called_one() -> None:
    server = {"meanQueueMilliseconds": 1.0, "peakRequestsWaiting": 0}
    (found,) = of([cell("bf16", row(saturated=True))], [run_of(SPEC, "bf16", passes=[pass_json(server=server)])])
    assert found.message == "saturated on h100: 1 of 1 variants was at its limit: more load brought no more throughput"


def invalid(repeat: int, reason: str, message: str | None = None) -> dict[str, Any]:
    extra = {} if message is None else {"message": message}
    return pass_json(repeat=repeat, valid=False, invalidReason=reason, **extra)


def test_excluded_passes() -> None:
    passes = [invalid(1, "CountersDisagree", "4 instead of 5"), invalid(2, "CountersDisagree"), pass_json(repeat=3)]
    runs = [run_of(SPEC, "awq", "Unstable", passes=passes), run_of(SPEC, "awq", block=2)]
    found = only(FindingKind.EXCLUDED, of([cell("awq", row())], runs))
    assert found.message == "2 of 4 passes of awq on h100 were left out: CountersDisagree: 4 instead of 5"
    assert found.evidence == ("1/saturated/1: CountersDisagree", "1/saturated/2: CountersDisagree")
    two = [run_of(SPEC, "awq", "Unstable", passes=[*passes, invalid(4, "PrefixCacheHit")])]
    assert "2 CountersDisagree, 1 PrefixCacheHit" in of([cell("awq", row())], two)[0].message
    # Passes of an earlier attempt never counted, and a variant without figures is a failure.
    earlier = run_of(SPEC, "awq", passes=[invalid(1, "X"), pass_json(attempt=2)], attempt=2)
    assert of([cell("awq", row())], [earlier]) == []
    assert kinds(of([cell("awq", verdict=Verdict.INCONSISTENT)], runs)) == [FindingKind.FAILED]


def test_excluded_starts() -> None:
    runs = [run_of(SPEC, "awq"), run_of(SPEC, "awq", "OutOfMemory", block=2, outcome={"logLine": "CUDA out of memory"})]
    found = only(FindingKind.EXCLUDED, of([cell("awq", row())], runs))
    assert found.message == "1 of 2 starts of awq on h100 was left out: OutOfMemory: CUDA out of memory"
    assert found.evidence == (f"run {runs[1].name}: OutOfMemory: as it went",)
    # Passes of a start that is left out as a whole are not counted again.
    wrong = run_of(SPEC, "awq", "ConfigurationMismatch", block=2, passes=[invalid(1, "X"), gpu_pass(1.0, 900.0, "X")])
    assert [one.message[:24] for one in of([cell("awq", row())], [runs[0], wrong])] == ["1 of 2 starts of awq on "]
    assert of([cell("awq", row())], [runs[0], run_of(SPEC, "awq", "Duplicate", block=2)]) == []
    assert of([cell("awq", row())], [runs[0], run_of(SPEC, "awq", block=3)]) == []


def test_throttling_over_all_readings() -> None:
    runs = [
        run_of(SPEC, "bf16", passes=[gpu_pass(0.7, 1300.0, "SwPowerCap", samples=30)]),
        run_of(SPEC, "fp8", passes=[gpu_pass(0.3, 1740.0, "SwPowerCap", "HwThermalSlowdown", samples=10)]),
    ]
    cells = [cell("bf16", row()), cell("fp8", row(1.1, 1.0, 1.2, UNDECIDED))]
    (found,) = of(cells, runs)
    assert found.kind is FindingKind.THROTTLED
    assert found.message == (
        "the GPU on h100 was held back by SwPowerCap, HwThermalSlowdown in 60 % of the readings while measuring saturated:"
        " clocks 1,410 MHz mean"
    )
    assert found.evidence == (
        "bf16: 70 % of the readings, 1,300 MHz, 690 W",
        "fp8: 30 % of the readings, 1,740 MHz, 690 W",
    )
    moment = run_of(SPEC, "bf16", passes=[gpu_pass(0.05, 1900.0, "SwPowerCap")])
    unknown = run_of(SPEC, "fp8", passes=[pass_json(gpu={"samples": 0}), pass_json(repeat=2)])
    not_counted = run_of(SPEC, "awq", passes=[gpu_pass(1.0, 500.0, "SwPowerCap", valid=False), pass_json(repeat=2)])
    assert FindingKind.THROTTLED not in kinds(of([*cells, cell("awq", row())], [moment, unknown, not_counted]))


def test_an_api_server_that_lags_behind_its_engine() -> None:
    def late(*shares: float | None) -> list[dict[str, Any]]:
        return [pass_json(repeat=place, server={"apiServerShare": share}) for place, share in enumerate(shares, 1)]

    runs = [
        run_of(SPEC, "bf16", passes=late(0.3, 0.26)),
        run_of(SPEC, "fp8", passes=late(0.33)),
        run_of(SPEC, "awq", passes=late(0.09)),
        run_of(SPEC, "awq-marlin", passes=late(None)),
    ]
    cells = [cell(name, row(1.1, 1.0, 1.2, UNDECIDED)) for name in ("bf16", "fp8", "awq", "awq-marlin")]
    found = only(FindingKind.API_SERVER_BOUND, of(cells, runs))
    assert found.message == (
        "saturated on h100: vLLM's API server lagged behind the engine for 28 % to 33 % of the decode time: the figures are"
        " what its users get, but the engines may differ by more"
    )
    assert (found.load, found.variants) == ("saturated", ("bf16", "fp8"))
    assert found.evidence == ("bf16: 28 % of the decode time", "fp8: 33 % of the decode time")
    assert FindingKind.API_SERVER_BOUND not in kinds(of(cells, runs[2:]))


def test_runs_that_have_not_ended_say_nothing() -> None:
    running = run_of(SPEC, "awq")
    status = running.status.model_copy(
        update={"verdict": None, "passes": tuple(p.model_copy(update={"valid": False}) for p in running.status.passes)}
    )
    status = status.model_copy(update={"attestation": Attestation(weight_only_fallback=True)})
    unfinished = Run(**{**vars(running), "status": status})
    assert of([cell("awq", row())], [unfinished]) == []


# --- order and bounds ------------------------------------------------------------------------------------------


def test_the_answer_comes_first_and_other_loads_last() -> None:
    cells = [
        BASE,
        cell("awq", row(0.8, 0.7, 0.9, SLOWER), row(1.3, 1.2, 1.4, FASTER, load="c16")),
        cell("fp8", row(1.2, 1.1, 1.3, FASTER, saturated=True)),
        cell("awq-marlin", same_as="awq"),
        cell("control", row(1.0, 0.9, 1.1, ALIKE)),
    ]
    found = of(cells, crossovers=[crossing()])
    assert [(finding.kind.value, finding.variants[0]) for finding in found] == [
        ("Difference", "fp8"),
        ("Difference", "awq"),
        ("Duplicate", "awq"),
        ("Crossover", "fp8"),
        ("Saturated", "fp8"),
        ("Control", "control"),
        ("Difference", "awq"),
    ]


def test_many_findings_are_cut_and_counted() -> None:
    targets = [{"name": f"t{place}"} for place in range(16)]
    spec = several("bf16", *(f"v{place}" for place in range(9)), targets=targets)
    cells = [
        cell(f"v{place}", row(1.2, 1.1, 1.3, FASTER), target=target["name"]) for target in targets for place in range(9)
    ]
    found = of(cells, spec=spec)
    assert len(found) <= MAX_FINDINGS
    left = 9 * 16 - (len(found) - 1)
    assert found[-1].message == f"and {left} more: {left} Difference"
    assert sum(len(finding.model_dump_json()) for finding in found) < 1.2 * LARGEST


def test_exactly_as_many_as_fit_need_no_count() -> None:
    spec = several("bf16", *(f"v{place}" for place in range(30)), targets=[{"name": "h"}, {"name": "a"}])
    cells = [cell(f"v{place % 30}", target="ha"[place // 30], verdict="Failed", message="x") for place in range(49)]
    assert of(cells[:48], spec=spec)[-1].message == "v17 has no figures on a: Failed: x"
    cut = of(cells, spec=spec)
    assert (len(cut), cut[-1].message) == (MAX_FINDINGS, "and 2 more: 2 Failed")


ratios = st.floats(0, 1e6) | st.just(1.0)
rows = st.builds(
    row,
    st.none() | ratios,
    st.none() | ratios,
    st.none() | ratios,
    st.none() | st.sampled_from(Difference),
    load=st.sampled_from(["saturated", "c16"]),
    starts=st.integers(0, 25),
    saturated=st.sampled_from([None, True, False]),
)
NAMES = ["bf16", "fp8", "awq", "awq-marlin", "control"]
cells_ = st.builds(
    cell,
    st.sampled_from(NAMES),
    rows,
    target=st.sampled_from(["h100", "a100"]),
    verdict=st.none() | st.sampled_from(Verdict),
    same_as=st.none() | st.sampled_from([*NAMES, "unheard-of"]),
    message=st.none() | st.text(max_size=160),
    effective=st.none() | st.text(max_size=160),
)
ENDED = {
    (name, verdict, block): run_of(SPEC, name, verdict, block=block, passes=[pass_json(tps=1000.0 * block)])
    for name in NAMES
    for verdict in ("Measured", "Unstable", "Failed", "Duplicate", "NotQuantized")
    for block in (1, 2)
}
messages = st.text(min_size=1, max_size=512)


def with_texts(ran: Run, message: str, line: str | None) -> Run:
    assert ran.status.verdict
    outcome = ran.status.verdict.model_copy(update={"message": message, "log_line": line})
    return Run(**{**vars(ran), "status": ran.status.model_copy(update={"verdict": outcome})})


runs_ = st.builds(with_texts, st.sampled_from(list(ENDED.values())), messages, st.none() | messages)
crossovers_ = st.builds(
    crossing, at=st.floats(1e-6, 1e6), low=st.none() | st.floats(0, 1e6), high=st.none() | st.floats(0, 1e6)
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(cells_, max_size=12),
    st.lists(runs_, max_size=8, unique_by=lambda run: run.name),
    st.lists(crossovers_, max_size=40),
)
def test_any_data_give_bounded_findings(cells: list[Cell], runs: list[Run], crossings: list[Crossover]) -> None:
    two = several(*NAMES[:4], loads=TWO_LOADS, targets=[{"name": "h100"}, {"name": "a100"}])
    for spec in (SPEC, two):
        found = findings(spec, cells, runs, crossings)
        assert len(found) <= MAX_FINDINGS
        # The API takes them: texts and lists within their bounds, names that are names.
        status = QuantBenchmarkStatus(findings=found).to_json()
        assert QuantBenchmarkStatus.model_validate(merged({}, status)).findings == found
        assert findings(spec, cells, list(reversed(runs)), crossings)[:1] == found[:1]
        assert findings(spec, cells, runs, crossings) == found
