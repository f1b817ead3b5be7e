"""Cells that ran one configuration, and cells that ran more than one."""

from __future__ import annotations

from typing import Any

from core_support.objects import UID, ended, later, merged, pass_json, plan_of, run, study
from quantbench.answer import summary
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Difference, Verdict
from quantbench.api.status import Cell, QuantBenchmarkStatus
from quantbench.decide.benchmark import decide_benchmark
from quantbench.effective import disagreement, duplicates, effective
from quantbench.observe import Benchmark, Run

VARIANTS = [
    {"name": "awq", "method": "AWQ", "model": "/m/awq"},
    {"name": "bf16", "method": "BF16"},
    {"name": "awq-marlin", "method": "AWQ", "kernel": "Marlin", "model": "/m/awq"},
]
FINGERPRINTS = {"awq": "a" * 16, "bf16": "b" * 16, "awq-marlin": "a" * 16, "control": "b" * 16}
TPS = {"awq": 1500.0, "bf16": 1000.0, "awq-marlin": 1600.0, "control": 1010.0}


def spec_of(**changes: Any) -> QuantBenchmarkSpec:
    base = {"variants": VARIANTS, "baseline": "bf16", "sampling": {"starts": 2, "repeats": 1, "control": True}}
    return study(**merged(base, changes))


def attested(fingerprint: str | None, kernel: str = "MarlinLinearKernel") -> dict[str, Any]:
    return {
        "attestation": {
            "engineVersion": "0.24.0",
            "quantization": "awq",
            "linearKernels": [{"layer": "AutoAWQMarlinLinearMethod", "kernel": kernel}],
            **({"fingerprint": fingerprint} if fingerprint else {}),
        }
    }


def runs_of(spec: QuantBenchmarkSpec, **fingerprints: str | None) -> list[Run]:
    """Every run of a study, measured; other fingerprints by ``variant`` or ``variant_block``."""
    built = []
    for place, planned in enumerate(plan_of(spec).runs):
        key = planned.variant.replace("-", "_")
        mark = FINGERPRINTS.get(planned.variant)
        mark = fingerprints.get(f"{key}_{planned.block}", fingerprints.get(key, mark))
        status = ended(passes=[pass_json(tps=TPS.get(planned.variant, 900.0))])
        kernel = f"Kernel{mark[0]}" if mark else "Kernel"
        built.append(run(spec, place, status=merged(status, attested(mark, kernel))))
    return built


def cells_of(spec: QuantBenchmarkSpec, runs: list[Run]) -> tuple[Cell, ...]:
    """The cells as the decision about the study writes them."""
    study = Benchmark("demo", "bench", UID, 1, False, spec, QuantBenchmarkStatus())
    decision = decide_benchmark(study, plan_of(spec), runs, later(9999))
    return QuantBenchmarkStatus.model_validate(decision.status).cells


def cell_of(spec: QuantBenchmarkSpec, runs: list[Run], variant: str) -> Cell:
    return next(cell for cell in cells_of(spec, runs) if cell.variant == variant)


def test_the_later_variant_is_the_duplicate() -> None:
    spec = spec_of()
    runs = runs_of(spec)
    assert duplicates(spec, runs) == {("awq-marlin", "h100"): "awq"}
    duplicate, original = cell_of(spec, runs, "awq-marlin"), cell_of(spec, runs, "awq")
    assert (duplicate.verdict, duplicate.same_as, duplicate.fingerprint) == (Verdict.DUPLICATE, "awq", "a" * 16)
    assert duplicate.message == "same effective configuration as awq"
    assert (original.verdict, original.same_as, original.effective) == (Verdict.MEASURED, None, "awq, Kernela")
    (row,) = duplicate.loads
    assert (row.total_tokens_per_second, row.difference) == (1600.0, Difference.SAME_CONFIGURATION)
    assert all(row.difference is not Difference.SAME_CONFIGURATION for row in original.loads)


def test_a_duplicate_is_no_answer() -> None:
    spec = spec_of()
    said = summary(spec, cells_of(spec, runs_of(spec)))
    assert said is not None
    assert "awq is 1.5000× bf16" in said, "the duplicate's 1.60× is the same configuration"
    assert "1.6" not in said


def test_the_control_is_no_duplicate() -> None:
    spec = spec_of()
    runs = runs_of(spec)
    control = cell_of(spec, runs, "control")
    assert (control.verdict, control.same_as, control.fingerprint) == (Verdict.MEASURED, None, "b" * 16)


def test_what_equals_the_baseline_is_the_duplicate_wherever_it_stands() -> None:
    spec = spec_of()
    assert duplicates(spec, runs_of(spec, awq="b" * 16, awq_marlin="c" * 16)) == {("awq", "h100"): "bf16"}


def test_missing_facts_make_nothing_equal() -> None:
    spec = spec_of()
    runs = runs_of(spec, awq=None, awq_marlin=None)
    assert duplicates(spec, runs) == {}
    assert cell_of(spec, runs, "awq-marlin").verdict is Verdict.MEASURED
    assert duplicates(spec, runs_of(spec, awq_1=None)) == {("awq-marlin", "h100"): "awq"}


def test_targets_are_apart() -> None:
    spec = spec_of(targets=[{"name": "h100"}, {"name": "l4"}])
    runs = [r for r in runs_of(spec) if r.cell != ("awq", "l4")]
    assert duplicates(spec, runs) == {("awq-marlin", "h100"): "awq"}


def test_only_measured_runs_speak() -> None:
    spec = spec_of()
    runs = runs_of(spec)
    status = merged(ended("ConfigurationMismatch"), attested("a" * 16))
    ending = [
        run(spec, place, status=status) if planned.variant == "awq-marlin" else runs[place]
        for place, planned in enumerate(plan_of(spec).runs)
    ]
    assert duplicates(spec, ending) == {}
    cell = cell_of(spec, ending, "awq-marlin")
    assert (cell.verdict, cell.same_as, cell.fingerprint) == (Verdict.CONFIGURATION_MISMATCH, None, None)
    assert cell.effective == "awq, MarlinLinearKernel", "what ran instead is to be seen"
    unended = run(spec, 0, status=attested("a" * 16))
    assert effective([unended]) == (None, None)


def test_starts_that_differ_have_no_mean() -> None:
    spec = spec_of()
    runs = runs_of(spec, awq_2="c" * 16)
    own = [r for r in runs if r.spec.variant.name == "awq"]
    assert disagreement(own) == "starts differ: block 1: awq, Kernela; block 2: awq, Kernelc"
    cell = cell_of(spec, runs, "awq")
    assert (cell.verdict, cell.loads, cell.fingerprint) == (Verdict.CONFIGURATION_MISMATCH, (), None)
    assert cell.message == disagreement(own)
    assert duplicates(spec, runs) == {}, "awq-marlin equals one start of it only"
    assert disagreement([r for r in runs if r.spec.variant.name == "bf16"]) is None


def test_a_baseline_whose_starts_differ_compares_with_nothing() -> None:
    spec = spec_of()
    rows = cells_of(spec, runs_of(spec, bf16_2="c" * 16))
    assert all(row.ratio is None for cell in rows for row in cell.loads)


def with_weights(spec: QuantBenchmarkSpec, variant: str, baseline: float | None = 15.27, **attestation: Any) -> Cell:
    """A cell beside a baseline whose weights are known; ``attestation`` is what its servers say."""
    runs = []
    for place, planned in enumerate(plan_of(spec).runs):
        said = {"engineVersion": "0.12.0", "quantization": "gptq_marlin", **attestation}
        if planned.variant == "bf16":
            said = {"engineVersion": "0.12.0", "quantization": "None", "weightsGibibytes": baseline}
        status = merged(ended(), {"attestation": {key: value for key, value in said.items() if value is not None}})
        runs.append(run(spec, place, status=status))
    return cell_of(spec, runs, variant)


def test_weights_as_large_as_the_baselines_are_not_quantized() -> None:
    spec = spec_of()
    cell = with_weights(spec, "awq", weightsGibibytes=15.3)
    assert (cell.verdict, cell.loads) == (Verdict.NOT_QUANTIZED, ())
    assert cell.message == "no kernel in the log and 15.3 GiB of weights, 15.27 GiB in bf16"
    assert with_weights(spec, "bf16", weightsGibibytes=15.3).verdict is Verdict.MEASURED
    for evidence in (
        {"weightsGibibytes": 8.8},
        {"weightsGibibytes": None},
        {"weightsGibibytes": 15.3, "quantizedLayers": 144},
        {"weightsGibibytes": 15.3, "linearKernels": [{"layer": "l", "kernel": "k"}]},
        {"weightsGibibytes": 15.3, "baseline": None},
    ):
        assert with_weights(spec, "awq", **evidence).verdict is Verdict.MEASURED, evidence
