"""From a study to its runs: which, in what order, under what names; and studies that cannot be planned."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_support.objects import FULL, UID, merged, plan_of, several, study
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import CONTROL, QuantBenchmarkSpec
from quantbench.api.names import Verdict
from quantbench.engine.rows import Fate
from quantbench.plan import SpecInvalid, fates, make_plan, measured_variants, plan_hash, run_limits, run_name, run_spec

SIX = ("a", "b", "c", "d", "e", "f")


def errors(**changes: Any) -> dict[str, str]:
    """Paths and messages of what makes a study unplannable."""
    with pytest.raises(SpecInvalid) as caught:
        plan_of(study(**changes))
    return {error.path: error.message for error in caught.value.errors}


def test_every_cell_once_per_block_with_the_control() -> None:
    targets = [{"name": "cpu", "gpus": 0}, {"name": "h100"}]
    spec = several(*SIX, targets=targets, sampling={"starts": 3, "control": True})
    runs = plan_of(spec).runs
    cells = {(variant, target) for variant in (*SIX, CONTROL) for target in ("cpu", "h100")}
    for block in (1, 2, 3):
        assert Counter(run.cell for run in runs if run.block == block) == Counter(cells)
    for block in (1, 2, 3):
        for target in ("cpu", "h100"):
            positions = [run.position for run in runs if run.block == block and run.target == target]
            assert positions == list(range(1, 8))
    assert [run.block for run in runs] == sorted(run.block for run in runs)


def test_the_control_repeats_the_baseline() -> None:
    spec = several("a", "b", sampling={"control": True}, baseline="b")
    control = measured_variants(spec)[-1]
    assert control.name == CONTROL
    assert control.model_copy(update={"name": "b"}) == spec.variants[1]
    assert [variant.name for variant in measured_variants(several("a", "b"))] == ["a", "b"]


def order(spec: QuantBenchmarkSpec, block: int) -> list[str]:
    return [run.variant for run in plan_of(spec).runs if run.block == block]


def test_the_order_is_drawn_per_block_and_stays() -> None:
    spec = several(*SIX, sampling={"starts": 8})
    assert plan_of(spec) == plan_of(spec)
    assert len({tuple(order(spec, block)) for block in range(1, 9)}) >= 6
    assert order(spec, 1) != order(several(*SIX, model="another/model"), 1)


def test_each_variant_gets_each_place_about_equally_often() -> None:
    places: Counter[tuple[str, int]] = Counter()
    for seed in range(40):
        for run in plan_of(several("a", "b", "c", workload={"seed": seed}, sampling={"starts": 3})).runs:
            places[run.variant, run.position] += 1
    assert len(places) == 9
    assert all(20 <= count <= 60 for count in places.values()), places  # 40 on average


def test_names_are_stable_unique_and_short() -> None:
    long = "a" * 39
    variants = [{"name": long + last, "method": "BF16"} for last in "abcdefgh"]
    targets = [{"name": f"target-{place}"} for place in range(8)]
    spec = study(variants=variants, baseline=variants[0]["name"], targets=targets, sampling={"starts": 6})
    names = [run.name for run in make_plan("benchmark." * 20, UID, spec).runs]
    assert names == [run.name for run in make_plan("benchmark." * 20, UID, spec).runs]
    assert len(set(names)) == len(names) == 9 * 8 * 6
    for name in names:
        assert len(name) <= 52
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name), name


@given(
    benchmark=st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,60}[a-z0-9])?", fullmatch=True),
    variant=st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True),
    block=st.integers(1, 25),
)
def test_run_names_are_dns_labels(benchmark: str, variant: str, block: int) -> None:
    name = run_name(benchmark, UID, variant, "t", block)
    assert len(name) <= 52
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert name != run_name(benchmark, UID, variant, "t", block + 1)
    assert name != run_name(benchmark, UID, variant, "u", block)


def test_a_recreated_benchmark_gets_other_names() -> None:
    spec = study()
    before, after = (make_plan("demo", uid, spec) for uid in ("first", "second"))
    assert before.hash == after.hash
    assert not {run.name for run in before.runs} & {run.name for run in after.runs}


@pytest.mark.parametrize(
    "changes",
    [
        {"suspend": True},
        {"ttlSecondsAfterFinished": 5},
        {"limits": {"parallelism": 8, "gpuHours": 3, "startTimeout": "1h"}},
    ],
    ids=str,
)
def test_what_may_change_does_not_change_the_plan(changes: JsonObject) -> None:
    assert plan_of(study(**changes)) == plan_of(study())


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"engine": {"args": ["--enforce-eager"]}},
        {"engine": {"podTemplate": {"runAsUser": 1}}},
        {"targets": [{"name": "other"}]},
        {"workload": {"seed": 1}},
        {"loads": [{"name": "other"}]},
        {"sampling": {"repeats": 1}},
        {"variants": [{"name": "bf16", "method": "BF16", "kvCacheDType": "fp8"}]},
    ],
    ids=str,
)
def test_other_work_has_another_hash(changes: JsonObject) -> None:
    assert plan_hash(study(**changes)) != plan_hash(study())


def test_a_refusal_is_recorded_once_and_with_its_advice() -> None:
    gguf = [{"name": "bf16", "method": "BF16"}, {"name": "gguf", "method": "GGUF", "model": "m.gguf"}]
    spec = study(variants=gguf, sampling={"starts": 4})
    refused = [run for run in plan_of(spec).runs if run.refusal]
    assert [(run.variant, run.block) for run in refused] == [("gguf", 1)]
    refusal = run_spec("demo", spec, plan_of(spec), refused[0]).refusal
    assert refusal is not None
    assert refusal.verdict is Verdict.PLUGIN_MISSING
    assert "0.24" in refusal.message
    assert "0.23" in refusal.message  # what to use instead


def test_a_refusal_depends_on_the_target() -> None:
    awq = [{"name": "bf16", "method": "BF16"}, {"name": "awq", "method": "AWQ", "kernel": "Marlin", "model": "m"}]
    targets = [{"name": "cpu", "gpus": 0}, {"name": "gpu"}]
    runs = plan_of(study(variants=awq, targets=targets, sampling={"starts": 1})).runs
    assert {run.target for run in runs if run.refusal} == {"cpu"}


def test_the_command_line_of_a_server() -> None:
    spec = QuantBenchmarkSpec.model_validate(FULL)
    plan = plan_of(spec)
    resolved = run_spec("demo", spec, plan, next(run for run in plan.runs if run.cell == ("fp8", "h100")))
    args = resolved.engine.args
    for wanted in (
        "--served-model-name=Qwen/Qwen3-8B",
        "--port=8000",
        "--max-num-seqs=128",
        "--max-num-batched-tokens=4096",
        "--tensor-parallel-size=2",
        "--no-enable-prefix-caching",
        "--quantization=fp8_per_block",
        "--kv-cache-dtype=fp8_e4m3",
    ):
        assert wanted in args
    # What users say comes last; their common arguments stand before the variant's.
    assert args[-2:] == ("--max-model-len=8192", "--enforce-eager")
    assert resolved.engine.tokenizer == spec.model
    assert "--tensor-parallel-size=2" not in run_spec("demo", spec, plan, _of(plan, "fp8", "cpu")).engine.args
    awq = run_spec("demo", spec, plan, _of(plan, "awq", "h100")).engine
    assert (awq.model, awq.tokenizer) == ("Qwen/Qwen3-8B-AWQ", "Qwen/Qwen3-8B")
    assert "--tokenizer=Qwen/Qwen3-8B" in awq.args


def _of(plan: Any, variant: str, target: str) -> Any:
    return next(run for run in plan.runs if run.cell == (variant, target))


def test_all_variants_share_the_requests() -> None:
    spec = QuantBenchmarkSpec.model_validate(FULL)
    plan = plan_of(spec)
    loads = [run_spec("demo", spec, plan, run).load for run in plan.runs]
    assert all(load == loads[0] for load in loads)
    assert loads[0].workload == spec.workload
    assert (loads[0].loads, loads[0].repeats) == (spec.loads, 2)


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ({}, (900, 1200, 1800, 2)),
        ({"scheduleTimeout": "0s", "startTimeout": "1s", "loadTimeout": "1h30m", "retries": 0}, (1, 1, 5400, 0)),
        ({"loadTimeout": "9999999h9999999h"}, (900, 1200, 2**31 - 1, 2)),
    ],
)
def test_limits_in_seconds(limits: JsonObject, wanted: tuple[int, ...]) -> None:
    found = run_limits(study(limits=limits))
    assert wanted == (
        found.schedule_timeout_seconds,
        found.start_timeout_seconds,
        found.load_timeout_seconds,
        found.retries,
    )


def test_an_unknown_version() -> None:
    path, message = errors(engine={"image": "registry.example/mine:latest"}).popitem()
    assert path == "spec.engine.version"
    assert "registry.example/mine:latest" in message


@pytest.mark.parametrize("engine", [{"version": "0.8.5"}, {"image": "vllm/vllm-openai:v0.6.0"}])
def test_an_old_version(engine: JsonObject) -> None:
    path, message = errors(engine=engine).popitem()
    assert path == "spec.engine.version"
    assert "0.9.2" in message


def test_a_version_that_is_none() -> None:
    assert set(errors(engine={"version": "0.24.0 please"})) == {"spec.engine.version"}


def test_the_baseline_must_be_a_variant() -> None:
    assert errors(baseline="fp8") == {"spec.baseline": "'fp8' is not among the variants"}


def test_arguments_of_the_operator() -> None:
    found = errors(
        engine={"args": ["--enforce-eager", "--port=1"]},
        variants=[
            {"name": "bf16", "method": "BF16", "args": ["--dtype=float16"]},
            {"name": "fp8", "method": "FP8Online", "args": ["--seed=1", "--quantization", "awq"]},
        ],
    )
    assert set(found) == {"spec.engine.args[1]", "spec.variants[0].args[0]", "spec.variants[1].args[1]"}
    assert "--port=1" in found["spec.engine.args[1]"]
    assert "Custom" in found["spec.variants[0].args[0]"]


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ({"env": [{"name": "HOME", "value": "/root"}]}, "env[0].name"),
        ({"env": [{"name": "A", "value": "1"}, {"name": "QUANTBENCH_LOAD", "value": "{}"}]}, "env[1].name"),
        ({"env": [{"name": "VLLM_LOGGING_LEVEL", "value": "ERROR"}]}, "env[0].name"),
        ({"volumeMounts": [{"name": "nowhere", "mountPath": "/data"}]}, "volumeMounts[0].name"),
        ({"volumes": [{"name": "quantbench-tmp", "emptyDir": {}}]}, "volumes[0].name"),
        ({"affinity": {"nodeAffinity": {"note": "x" * 20_000}}}, "affinity"),
    ],
)
def test_pod_templates_that_reach_too_far(template: JsonObject, path: str) -> None:
    assert set(errors(engine={"podTemplate": template})) == {f"spec.engine.podTemplate.{path}"}


@pytest.mark.parametrize(
    "path",
    ["/", "//", "/tmp", "/tmp/", "//tmp", "/data/../tmp", "/dev/shm", "/dev/nvidia0", "/proc", "/proc/self", "/sys/fs",
     "/quantbench", "/quantbench/loadrunner"],
)  # fmt: skip
def test_mount_points_of_the_operator(path: str) -> None:
    template = {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": path}]}
    assert set(errors(engine={"podTemplate": template})) == {"spec.engine.podTemplate.volumeMounts[0].mountPath"}


@pytest.mark.parametrize("path", ["/data", "/tmp/cache", "/models", "/quantbench-data", "/device"])
def test_other_mount_points(path: str) -> None:
    template = {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": path}]}
    assert plan_of(study(engine={"podTemplate": template})).runs


def test_everything_wrong_is_said_at_once() -> None:
    found = errors(
        engine={"args": ["--host=::1"], "podTemplate": {"env": [{"name": "HOME"}]}},
        baseline="nothing",
    )
    assert set(found) == {"spec.engine.args[0]", "spec.engine.podTemplate.env[0].name", "spec.baseline"}


def test_the_message_names_path_and_reason() -> None:
    with pytest.raises(SpecInvalid, match=re.escape("spec.baseline: 'x' is not among the variants")):
        plan_of(QuantBenchmarkSpec.model_validate(merged(FULL, {"baseline": "x"})))


# --- what is known before any GPU is taken -----------------------------------------------------------------------

AWQ = [
    {"name": "bf16", "method": "BF16"},
    {"name": "awq", "method": "AWQ", "model": "m"},
    {"name": "awq-marlin", "method": "AWQ", "kernel": "Marlin", "model": "m"},
    {"name": "awq-machete", "method": "AWQ", "kernel": "Machete", "model": "m"},
]
GPUS = [
    {"name": "a100", "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}},
    {"name": "h100", "computeCapability": "9.0"},
    {"name": "any"},
    {"name": "cpu", "gpus": 0},
]


def test_a_gpu_that_cannot_run_a_variant_is_never_taken() -> None:
    spec = study(variants=AWQ, targets=GPUS, sampling={"starts": 3, "control": False})
    plan = plan_of(spec)
    refused = [run for run in plan.runs if run.refusal]
    assert [run.cell for run in refused if run.target != "cpu"] == [("awq-machete", "a100")]
    assert {run.block for run in refused} == {1}
    refusal = run_spec("demo", spec, plan, refused[0]).refusal
    assert refusal is not None
    assert refusal.verdict is Verdict.UNSUPPORTED
    assert "needs compute capability 9.0" in refusal.message


def test_fates_come_in_the_studys_order() -> None:
    found = {(cell.variant, cell.target): cell for cell in fates(study(variants=AWQ, targets=GPUS))}
    names = [variant["name"] for variant in AWQ]
    assert list(found) == [(name, target["name"]) for target in GPUS for name in [*names, CONTROL]]
    assert found["awq-machete", "a100"].fate is Fate.UNSUPPORTED
    assert found["awq-marlin", "h100"].fate is Fate.SUPPORTED
    assert found["awq", "any"].kernels == ()
    assert found["awq", "h100"].kernels == ("MacheteLinearKernel",)
    assert "auto_awq.py" in found["awq", "h100"].sources[0]


def test_variants_that_will_run_alike_are_announced() -> None:
    found = {(cell.variant, cell.target): cell for cell in fates(study(variants=AWQ, targets=GPUS))}
    # Marlin is what vLLM chooses on an A100 anyway; on a Hopper it chooses Machete.
    assert "run as variant awq does" in found["awq-marlin", "a100"].message
    assert "run as variant awq does" in found["awq-machete", "h100"].notes[0]
    assert not any("run as variant" in note for note in found["awq-marlin", "h100"].notes)
    assert not any("run as variant" in note for note in found["awq-marlin", "any"].notes)
    assert not any("run as variant" in note for note in found[CONTROL, "h100"].notes)


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({}, True),
        ({"model": "other"}, False),
        ({"args": ["--enforce-eager"]}, False),
        ({"kvCacheDType": "fp8"}, False),
    ],
    ids=str,
)
def test_only_the_same_checkpoint_and_arguments_run_alike(change: JsonObject, alike: bool) -> None:
    variants = [*AWQ[:2], AWQ[2] | change]
    found = {cell.variant: cell for cell in fates(study(variants=variants, targets=GPUS[:1]))}
    assert ("run as variant awq does" in found["awq-marlin"].message) == alike


def test_fp8_is_a_short_name_of_e4m3() -> None:
    variants = [{"name": dtype.replace("_", "-"), "method": "BF16", "kvCacheDType": dtype}
                for dtype in ("fp8", "fp8_e4m3", "fp8_e5m2")]  # fmt: skip
    found = {cell.variant: cell.fate for cell in fates(study(variants=variants, baseline="fp8", targets=GPUS[1:2]))}
    assert (found["fp8-e4m3"], found["fp8-e5m2"]) == (Fate.MERGED, Fate.SUPPORTED)


def test_runs_carry_what_is_known() -> None:
    spec = study(variants=AWQ, targets=GPUS)
    plan = plan_of(spec)
    notes = run_spec("demo", spec, plan, _of(plan, "awq", "h100")).variant.notes
    assert any("awq and awq_marlin are one class" in note for note in notes)
    assert "expected kernel: MacheteLinearKernel" in notes
    for run in plan.runs:
        said = run_spec("demo", spec, plan, run).variant.notes
        assert len(said) <= 8
        assert all(0 < len(note) <= 300 for note in said)


def test_arguments_of_the_engine_count_for_fates_too() -> None:
    gptq = [{"name": "bf16", "method": "BF16"}, {"name": "gptq", "method": "GPTQInt4", "model": "m"}]
    found = fates(study(variants=gptq, targets=GPUS[:1], engine={"args": ["--load-format=dummy"]}))
    assert [cell.fate for cell in found if cell.variant == "gptq"] == [Fate.SILENTLY_UNQUANTIZED]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (
            {"computeCapability": "8.0", "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}},
            "nodeSelector[nvidia.com/gpu.product]",
        ),
        ({"nodeSelector": {"nvidia.com/gpu.compute.major": "x"}}, "nodeSelector[nvidia.com/gpu.compute.major]"),
        ({"computeCapability": "9.10"}, "computeCapability"),
        ({"computeCapability": "9.0", "gpus": 0}, "computeCapability"),
    ],
)
def test_targets_that_contradict_themselves(target: JsonObject, path: str) -> None:
    found = errors(targets=[{"name": "good"}, {"name": "bad", **target}])
    assert set(found) == {f"spec.targets[1].{path}"}
    with pytest.raises(SpecInvalid):
        fates(study(targets=[{"name": "bad", **target}]))


def test_a_checkpoint_without_a_tokenizer() -> None:
    gguf = {"name": "gguf", "method": "GGUF", "model": "m.gguf"}
    of = {"variants": [{"name": "bf16", "method": "BF16"}, gguf], "engine": {"image": "vllm/vllm-openai:v0.20.0"}}
    with pytest.raises(SpecInvalid) as caught:
        plan_of(study(**of))
    assert [error.path for error in caught.value.errors] == ["spec.variants[1].tokenizer"]
    of["variants"] = [of["variants"][0], {**gguf, "tokenizer": "Qwen/Qwen3-8B"}]
    assert plan_of(study(**of)).runs
