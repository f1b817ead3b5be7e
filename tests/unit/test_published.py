"""A published study beside measured ones: which row is which variant, what agrees, and what its conclusions come to."""

from __future__ import annotations

import importlib
import json
import math
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from core_support.objects import at, merged
from core_support.simulated import failed, measured, study_of
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Difference, Kernel, Method
from quantbench.audit.rules import read
from quantbench.cli import app
from quantbench.cli.read import load_paths, read_path
from quantbench.engine.capability import capability
from quantbench.engine.version import EngineVersion
from quantbench.exports import ExportError, Study, to_document
from quantbench.exports import merged as put_together
from quantbench.fates import engine_request
from quantbench.published import Comparison, Conclusions, compare
from quantbench.published.claims import Figure
from quantbench.published.document import Agreement, Outcome, Row, Verdict
from quantbench.published.markdown import to_markdown
from quantbench.published.matching import gpu_of, target_of, variant_of

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "benchmarks" / "published" / "qwen3-8b.md"
TEXT = PUBLISHED.read_text()
CONCLUSIONS = Conclusions.model_validate(yaml.safe_load(PUBLISHED.with_suffix(".yaml").read_text()))
REAL = ROOT / "benchmarks" / "results" / "published-study-h100"
LOADS = ("saturated", "c64", "c16", "c1")
KERNELS = {
    "fp8-static": "CutlassFP8ScaledMMLinearKernel",
    "w4a16": "MacheteLinearKernel",
    "awq": "MacheteLinearKernel",
    "awq-marlin": "MarlinLinearKernel",
}
PLUGIN = failed("PluginMissing", "GGUF left vLLM in 0.24", "", "use an older image")
PLUGIN["verdict"].pop("logLine")


def spec_of(file: str) -> QuantBenchmarkSpec:
    raw = yaml.safe_load((ROOT / "benchmarks" / "studies" / f"{file}.yaml").read_text())
    return QuantBenchmarkSpec.model_validate(raw["spec"])


def simulated(
    speeds: Mapping[str, float | Mapping[str, float]],
    *,
    starts: int = 3,
    preempted: Mapping[str, int] | None = None,
    marks: Mapping[str, str] | None = None,
    **changes: Any,
) -> Study:
    """The H100 study with these variants; a speed may depend on the load, and None is a variant without figures."""
    whole = spec_of("published-study-h100").to_json()
    variants = [variant for variant in whole["variants"] if variant["name"] in speeds or variant["name"] == "gguf"]
    sampling = {"starts": starts, "maxStarts": starts, "repeats": 3, "control": True}
    spec = QuantBenchmarkSpec.model_validate(merged(whole, {"variants": variants, "sampling": sampling, **changes}))

    def status(variant: str, target: str, block: int) -> JsonObject:
        if variant == "gguf":
            return PLUGIN
        own = speeds["bf16" if variant == "control" else variant]
        seed, mark = f"{variant}/{target}/{block}", "bf16" if variant == "control" else variant
        by_load = own if isinstance(own, Mapping) else dict.fromkeys(LOADS, own)
        found: JsonObject = {}
        for load, speed in by_load.items():
            one = measured(spec, speed=speed, seed=seed, noise=0.003, mark=(marks or {}).get(mark, mark))
            passes = [p for p in one["passes"] if p["load"] == load]
            for each in passes:
                each |= {"totalInputTokens": 233_000, "totalOutputTokens": 192_000}
                if variant == "bf16":
                    each["server"] = each["server"] | {"preemptions": (preempted or {}).get(load, 0)}
            found = one | {"passes": [*found.get("passes", []), *passes]}
        attested = found["attestation"]
        if variant in KERNELS:
            attested["linearKernels"] = [{"layer": "AnyLinear", "kernel": KERNELS[variant]}]
        return found

    return study_of(spec, status)


AS_PUBLISHED: Mapping[str, float] = {
    "bf16": 1.0, "fp8-static": 1.2365, "fp8-dynamic": 1.1481, "w4a16": 1.0226, "awq": 0.97, "kv-fp8": 1.0156,
}  # fmt: skip


def compared(study: Study, text: str = TEXT) -> Comparison:
    return compare(text, "qwen3-8b.md", study, CONCLUSIONS)


@pytest.fixture(scope="module")
def whole() -> Comparison:
    return compared(simulated(AS_PUBLISHED))


def row(found: Comparison, name: str) -> Row:
    return next(row for table in found.tables for row in table.rows if row.name == name)


# --- which row is which variant ------------------------------------------------------------------------------------

H100_ROWS = {
    "FP8 Static": "fp8-static", "FP8 Dynamic": "fp8-dynamic", "Int4-W4A16": "w4a16", "BF16": "bf16", "AWQ": "awq",
    "GPTQ": "gptq-int4", "BF16 (Baseline)": "bf16", "BF16 + KV Cache FP8 (E4M3)": "kv-fp8",
}  # fmt: skip
A100_ROWS = {
    "BF16": "bf16", "GPTQ-Marlin (Int4)": "gptq-int4-marlin", "GPTQ (Int4)": "gptq-int4", "AWQ": "awq",
    "AWQ Marlin": "awq-marlin", "GPTQ Marlin (Int8)": "gptq-int8-marlin", "GPTQ (Int8)": "gptq-int8",
    "bitsandbytes": "bitsandbytes", "GGUF (Q4_K_M)": "gguf",
}  # fmt: skip
RTX4090_ROWS = {
    "BF16": "bf16", "AWQ": "awq", "AWQ Marlin": "awq-marlin", "GPTQ (Int8)": "gptq-int8",
    "GPTQ Marlin": "gptq-int8-marlin",
}  # fmt: skip


@pytest.mark.parametrize("version", ["", "-0.9.2"])
@pytest.mark.parametrize(("gpu", "rows"), [("h100", H100_ROWS), ("a100", A100_ROWS), ("rtx4090", RTX4090_ROWS)])
def test_every_published_row_is_a_variant_of_the_shipped_study(gpu: str, rows: dict[str, str], version: str) -> None:
    spec = spec_of(f"published-study-{gpu}{version}")
    study = study_of(spec, lambda *_: PLUGIN, blocks=0)
    _, tables = read(TEXT, "x.md")
    own = [table for table in tables if target_of(gpu_of(table, tables), study)]
    found = {one.name: variant_of(one, spec.variants) for table in own for one in table.rows}
    assert {name: variant.name if variant else None for name, variant in found.items()} == rows
    # Nothing of the study is without a row but what says so.
    if gpu != "h100" or version:
        assert {variant.name for variant in spec.variants} == set(rows.values())


def test_an_fp8_cache_is_no_fp8_checkpoint() -> None:
    _, (table,) = read("# H100\n\n| Method | tok/s |\n|---|---|\n| BF16 | 10 |\n| FP8 | 12 |\n", "x.md")
    spec = spec_of("published-study-h100")
    of_cache = [variant for variant in spec.variants if variant.name in ("bf16", "kv-fp8")]
    assert [variant.name if (variant := variant_of(row, of_cache)) else None for row in table.rows] == ["bf16", None]


# --- rows ------------------------------------------------------------------------------------------------------------


def test_what_agrees_and_what_differs(whole: Comparison) -> None:
    static, awq = row(whole, "FP8 Static"), row(whole, "AWQ")
    assert (static.variant, static.agreement) == ("fp8-static", Agreement.AGREES)
    assert (awq.variant, awq.agreement) == ("awq", Agreement.DIFFERS)
    first = static.loads[0]
    assert (first.load, whole.like_published) == ("saturated", "saturated")
    throughput = first.ratios[0]
    # From the table's numbers: 16452.52 / 13305.38, not the +26.7 % that stands beside them.
    assert throughput.published == pytest.approx(1.23653, abs=1e-5)
    assert throughput.low is not None
    assert throughput.high is not None
    assert throughput.low < throughput.published < throughput.high
    assert throughput.starts == 3
    assert [at.load for at in static.loads] == list(LOADS)


def test_reasons_come_from_data(whole: Comparison) -> None:
    assert row(whole, "AWQ").reasons[:3] == (
        "version: vLLM 0.9.2 there, 0.24.0 here",
        "kernel: AWQMarlinLinearMethod in vLLM 0.9.2, MacheteLinearKernel attested here",
        "lengths: answers ended where their own text did there (no --ignore-eos); 233 input and 192 output tokens a"
        " request here",
    )
    # Both versions take Machete for these.
    assert not any(reason.startswith("kernel") for reason in row(whole, "Int4-W4A16").reasons)
    near = [reason for reason in row(whole, "Int4-W4A16").reasons if reason.startswith("single run")]
    assert near
    assert all("two starts of one server differ by up to" in reason for reason in near)


def test_a_kernel_that_the_study_asked_for_shows_what_it_explains() -> None:
    """The published version took Marlin for AWQ by itself; another variant asks the current one for it."""
    files = [REAL / f"sitting-{number}.json" for number in (1, 2)]
    (reason,) = [of for of in row(compared(load_paths(files)), "AWQ").reasons if of.startswith("kernel")]
    assert reason == (
        "kernel: AWQMarlinLinearMethod in vLLM 0.9.2, MacheteLinearKernel attested here;"
        " awq-marlin, on MarlinLinearKernel, is at 0.791 in throughput (1), 1.638 in TTFT (1), 1.421 in TPOT (1)"
    )
    # A variant with another checkpoint, or one that asks for another kernel, explains nothing.
    study = load_paths(files)
    for changes in ({"model": "/models/other"}, {"kernel": Kernel.MACHETE}):
        variants = tuple(
            variant.model_copy(update=changes if variant.name == "awq-marlin" else {})
            for variant in study.benchmark.spec.variants
        )
        spec = study.benchmark.spec.model_copy(update={"variants": variants})
        other = compared(replace(study, benchmark=replace(study.benchmark, spec=spec)))
        assert "awq-marlin" not in "".join(row(other, "AWQ").reasons)
    # In the first sitting nobody asked for it.
    (alone,) = [of for of in row(compared(load_paths(files[:1])), "AWQ").reasons if of.startswith("kernel")]
    assert alone == "kernel: AWQMarlinLinearMethod in vLLM 0.9.2, MacheteLinearKernel attested here"


def test_a_single_run_explains_what_starts_were_seen_to_scatter_by() -> None:
    """Two starts with a residual of 0.0505 in log TPOT and 4 degrees of freedom: 2.776 × 0.0505 × √(2/2 + 2) = 0.243."""
    found = compared(load_paths([REAL / "sitting-1.json"]))
    single = [reason for reason in row(found, "FP8 Static").reasons if reason.startswith("single run")]
    assert single == [
        "single run: one start of each, as published, would give a ratio of TTFT from 0.615 to 0.842 here",
        "single run: one start of each, as published, would give a ratio of TPOT from 0.611 to 0.993 here",
    ]
    # 0.859 beside 0.708, 0.733 beside 1.088: beyond what two starts of each differ by.
    for name in ("FP8 Dynamic", "AWQ"):
        assert not any(reason.startswith("single run") for reason in row(found, name).reasons)


def test_reasons_go_with_what_they_rest_on() -> None:
    text = TEXT.replace("--num-prompts 1000", "--num-prompts 1000 --ignore-eos").replace("vLLM v0.9.2", "vLLM v0.24.0")
    assert row(compared(simulated(AS_PUBLISHED), text), "AWQ").reasons == ()


def test_what_was_not_measured_says_why() -> None:
    found = compared(simulated({**AS_PUBLISHED, "gptq-int4": 1.0}))
    assert row(found, "GPTQ").agreement is Agreement.NOT_PUBLISHED
    fewer = compared(simulated({"bf16": 1.0, "fp8-static": 1.2}))
    assert (row(fewer, "AWQ").agreement, row(fewer, "AWQ").message) == (
        Agreement.NOT_MEASURED,
        "no variant of the study is this one",
    )
    gguf = compared(simulated({"bf16": 1.0}), TEXT.replace("| GPTQ                |", "| GGUF (Q4_K_M) |"))
    assert row(gguf, "GGUF (Q4_K_M)").message == "PluginMissing: GGUF left vLLM in 0.24"


def test_one_start_has_no_interval() -> None:
    static = row(compared(simulated(AS_PUBLISHED, starts=1)), "FP8 Static")
    assert static.agreement is Agreement.ONE_RUN
    assert static.reasons == ()


TURNED = """
vLLM 0.9.2

### H100

| Method | Mean TTFT (ms) | Throughput (tok/s) |
| --- | --- | --- |
| BF16 | 5172.78 | 13305.38 |
| FP8 Static | 5172.78 | 16452.52 |
"""


def test_throughput_decides_wherever_its_column_stands() -> None:
    static = row(compared(simulated(AS_PUBLISHED), TURNED), "FP8 Static")
    figures = {ratio.figure: ratio for ratio in static.loads[0].ratios}
    assert [*figures] == ["throughput", "ttft"]
    assert static.agreement is figures[Figure.THROUGHPUT].agreement is Agreement.AGREES
    assert figures[Figure.TTFT].agreement is Agreement.DIFFERS


def test_a_study_without_such_a_load_agrees_with_nothing() -> None:
    found = compared(simulated(AS_PUBLISHED, loads=[{"name": "c16", "maxConcurrency": 16}]))
    assert found.like_published is None
    assert row(found, "FP8 Static").agreement is Agreement.NOT_MEASURED
    assert row(found, "FP8 Static").message == "no load of the study sends all requests at once"


def test_two_names_of_one_configuration_are_told() -> None:
    found = compared(simulated({**AS_PUBLISHED, "gptq-int4": 1.0}, marks={"gptq-int4": "awq"}))
    assert row(found, "GPTQ").message == "ran the same configuration as awq"


def test_tables_of_other_gpus_are_left_out_and_said(whole: Comparison) -> None:
    assert [table.title for table in whole.tables] == ["H100 80GB", "KV Cache Quantization"]
    assert whole.left_out == ("RTX 4090: no target has the GPU 4090", "A100 80GB: no target has the GPU A100")
    with pytest.raises(ExportError, match=r"nothing to compare with demo: .*no target has the GPU H100"):
        compared(study_of(_elsewhere(), lambda *_: PLUGIN))


def _elsewhere() -> QuantBenchmarkSpec:
    raw = spec_of("published-study-h100").to_json()
    target = {"name": "l4", "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}}
    return QuantBenchmarkSpec.model_validate({**raw, "targets": [target]})


# --- conclusions -----------------------------------------------------------------------------------------------------


def verdict(found: Comparison, number: int) -> Verdict:
    return next(verdict for verdict in found.conclusions if verdict.number == number)


def test_the_six_conclusions_are_judged(whole: Comparison) -> None:
    assert [(one.number, one.outcome) for one in whole.conclusions] == [
        (1, Outcome.HOLDS),
        (2, Outcome.CANNOT_BE_SAID),  # memory was never short
        (3, Outcome.DOES_NOT_HOLD),  # w4a16 is faster
        (4, Outcome.CANNOT_BE_SAID),  # neither bitsandbytes nor GGUF has figures
        (5, Outcome.CANNOT_BE_SAID),  # no kernel was asked for
        (6, Outcome.HOLDS),
    ]
    assert "memory was ample at saturated: bf16 preempted 0 times in 9000 requests" in verdict(whole, 2).sentence
    assert verdict(whole, 1).sentence == "holds at saturated, c64, c16, c1"


# What is measured → conclusion, outcome and what is said of it.
Case = tuple[Callable[[], Study], int, Outcome, str]
CASES: dict[str, Case] = {
    "static is not faster than dynamic": (
        lambda: simulated({**AS_PUBLISHED, "fp8-dynamic": 1.4}), 1, Outcome.DOES_NOT_HOLD, "does not hold at saturated"),
    "one start decides nothing": (
        lambda: simulated(AS_PUBLISHED, starts=1), 1, Outcome.CANNOT_BE_SAID, "cannot be said at saturated"),
    "memory is short at one load": (
        lambda: simulated(AS_PUBLISHED, preempted={"saturated": 500}), 2, Outcome.HOLDS, "holds at saturated"),
    "most of them are slower": (
        lambda: simulated({"bf16": 1, "awq": 0.8, "w4a16": 0.9, "fp8-static": 1.2}, preempted={"saturated": 500}),
        2, Outcome.DOES_NOT_HOLD, "does not hold at saturated"),
    "weight-only is slower but at one request": (
        lambda: simulated({"bf16": 1, "awq": {"saturated": 0.9, "c64": 0.9, "c16": 0.9, "c1": 1.8}}),
        3, Outcome.HOLDS_ONLY_AT, "holds only at saturated, c64, c16; does not hold at c1"),
    "where memory is short nothing is claimed": (
        lambda: simulated({"bf16": 1, "awq": {"saturated": 1.5, "c64": 0.9, "c16": 0.9, "c1": 0.9}},
                          preempted={"saturated": 500}),
        3, Outcome.HOLDS, "holds at c64, c16, c1"),
    "bitsandbytes is the slowest": (
        lambda: simulated({"bf16": 1, "awq": 0.9, "gptq-int4-exllama": 0.3, "bitsandbytes": 0.5}),
        4, Outcome.HOLDS, "holds at saturated"),
    "the forced kernel is faster": (
        lambda: simulated({"bf16": 1, "awq": 0.9, "awq-marlin": 1.0}),
        5, Outcome.DOES_NOT_HOLD, "does not hold at saturated"),
    "kernels of another method mean nothing": (
        lambda: simulated({"bf16": 1, "awq": 0.9, "gptq-int4-marlin": 1.0}),
        5, Outcome.CANNOT_BE_SAID, "none of the variants that it compares was measured together"),
    "both kernels are one": (
        lambda: simulated({"bf16": 1, "awq": 1.2, "awq-marlin": 1.0}, marks={"awq-marlin": "awq"}),
        5, Outcome.CANNOT_BE_SAID, "cannot be said at saturated"),
    "an FP8 KV cache costs": (
        lambda: simulated({**AS_PUBLISHED, "kv-fp8": 0.95}), 6, Outcome.DOES_NOT_HOLD, "does not hold at saturated"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_conclusion_follows_the_figures(case: str) -> None:
    study, number, outcome, said = CASES[case]
    found = verdict(compared(study()), number)
    assert found.outcome is outcome
    assert said in found.sentence


def sittings(one: Mapping[str, float], other: Mapping[str, float], *, starts: int = 3) -> Study:
    """Two sittings in one; the machine of the second has half the pace."""
    parts = (simulated(one), simulated({name: speed / 2 for name, speed in other.items()}, starts=starts))
    made = []
    for number, part in enumerate(parts):
        runs = tuple(replace(run, uid=f"{number}-{run.uid}", created_at=at(9000.0 * number)) for run in part.runs)
        made.append(Study(replace(part.benchmark, uid=f"sitting-{number}"), runs))
    return put_together(made)


def test_variants_of_different_sittings_are_compared_by_way_of_the_baseline() -> None:
    found = compared(sittings({"bf16": 1.0, "fp8-static": 1.24}, {"bf16": 1.0, "fp8-dynamic": 1.15}))
    first = verdict(found, 1)
    assert (first.outcome, first.sentence) == (Outcome.HOLDS, "holds at saturated, c64, c16, c1")
    tests = {(test.variant, test.against): test for test in first.loads[0].tests if test.figure == "throughput"}
    indirect = tests.pop(("fp8-static", "fp8-dynamic"))
    assert indirect.through_baseline
    assert not any(test.through_baseline for test in tests.values())
    assert indirect.ratio == pytest.approx(1.24 / 1.15, rel=0.01)
    widths = [math.log((test.high or 0) / test.ratio) for test in tests.values()]
    assert len(widths) == 2
    assert math.log((indirect.high or 0) / indirect.ratio) == pytest.approx(math.hypot(*widths), rel=1e-3)
    assert math.log(indirect.ratio / (indirect.low or 0)) == pytest.approx(math.hypot(*widths), rel=1e-3)
    assert f"≈ {indirect.ratio:.3f} [" in to_markdown(found)
    # One start of one of them has no interval, by whatever way.
    single = verdict(compared(sittings({"bf16": 1.0, "fp8-static": 1.24}, {"bf16": 1, "fp8-dynamic": 1}, starts=1)), 1)
    assert single.outcome is Outcome.CANNOT_BE_SAID


def test_another_checkpoint_of_a_method_is_another_quantization() -> None:
    found = verdict(compared(simulated({**AS_PUBLISHED, "fp8-block": 1.5})), 1)
    assert {name for test in found.loads[0].tests for name in (test.variant, test.against)} == {
        "bf16", "fp8-static", "fp8-dynamic",
    }  # fmt: skip


def test_two_names_of_one_configuration_have_one_say() -> None:
    speeds = {"bf16": 1.0, "w4a16": 0.8, "awq": 1.2, "awq-marlin": 1.2}
    apart = compared(simulated(speeds, preempted={"saturated": 500}))
    assert verdict(apart, 2).outcome is Outcome.HOLDS  # two of three
    one = compared(simulated(speeds, preempted={"saturated": 500}, marks={"awq-marlin": "awq"}))
    assert verdict(one, 2).outcome is Outcome.DOES_NOT_HOLD  # one of two


def test_a_claim_that_could_not_be_tested_leaves_its_conclusion_open() -> None:
    found = verdict(compared(simulated({"bf16": 1.0, "kv-fp8": 1.05})), 6)
    assert [test.goes for test in found.loads[0].tests] == [True]
    assert found.outcome is Outcome.CANNOT_BE_SAID
    assert found.loads[0].notes == ("not compared: none of the variants that it compares was measured together",)


def test_a_claim_whose_condition_is_not_met_says_nothing() -> None:
    claims = [
        {"variants": {"methods": ["FP8Static"]}, "direction": "better"},
        {"variants": {"methods": ["FP8Static"]}, "direction": "worse", "memory": "short"},
    ]
    content = {"source": "here", "conclusions": [{"number": 1, "text": "x", "claims": claims}]}
    conclusions = Conclusions.model_validate(content)
    ample = simulated({"bf16": 1.0, "fp8-static": 1.2})
    short = simulated({"bf16": 1.0, "fp8-static": 1.2}, preempted={"c16": 500})
    assert verdict(compare(TEXT, "x.md", ample, conclusions), 1).sentence == "holds at saturated, c64, c16, c1"
    assert verdict(compare(TEXT, "x.md", short, conclusions), 1).sentence == (
        "holds only at saturated, c64, c1; does not hold at c16"
    )


def test_what_decides_is_shown(whole: Comparison) -> None:
    third = verdict(whole, 3).loads[0]
    tests = {(test.variant, test.figure.value): test for test in third.tests}
    against = tests["w4a16", "throughput"]
    assert (against.against, against.goes, against.starts) == ("bf16", False, 3)
    assert tests["awq", "throughput"].goes is True
    assert tests["awq", "tpot"].goes is True
    assert third.notes == ("memory was ample at saturated: bf16 preempted 0 times in 9000 requests",)


# --- what is printed -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exports") / "sitting-1.json"
    file.write_text(json.dumps(to_document(simulated(AS_PUBLISHED), "1")))
    return file


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_command_prints_the_comparison(export: Path, whole: Comparison) -> None:
    result = run(PUBLISHED, "--against", export)
    assert result.exit_code == 0
    assert result.stdout == to_markdown(whole)
    assert "| AWQ | `awq` | throughput | 0.733 |" in result.stdout
    assert "| 3 | Where GPU memory is not short" in result.stdout
    raw = json.loads(run(PUBLISHED, "--against", export, "-o", "json").stdout)
    assert Comparison.model_validate(raw) == whole


def test_finished_passes_of_a_cut_off_run_count_where_that_is_asked_for() -> None:
    """The only start of the variant with an FP8 KV cache was cut off before its last load."""
    export = REAL / "sitting-2.json"
    assert (
        "| BF16 + KV Cache FP8 (E4M3) | `kv-fp8` |  |  | not measured |" in run(PUBLISHED, "--against", export).stdout
    )
    said = run(PUBLISHED, "--against", export, "--as-it-stands").stdout
    assert (
        "| BF16 + KV Cache FP8 (E4M3) | `kv-fp8` | throughput | 1.016 | 0.956 (1) | one start | 0.983 (1) | 0.980 (1) |"
        in said
    )


def test_what_a_row_comes_to_stands_beside_the_load_that_it_is_about(whole: Comparison) -> None:
    lines = to_markdown(whole).splitlines()
    assert "| row | variant | ratio of | published | `saturated` |  | `c64` | `c16` | `c1` |" in lines
    static = next(line for line in lines if line.startswith("| FP8 Static |")).split(" | ")
    assert static[5] == "agrees"
    # No load is the published one, or nothing was measured: there is no place beside it.
    other = to_markdown(compared(simulated(AS_PUBLISHED, loads=[{"name": "c16", "maxConcurrency": 16}])))
    assert "| row | variant | ratio of | published |  | `c16` |" in other


def test_the_overview_of_conclusions_says_at_which_loads() -> None:
    text = to_markdown(compared(CASES["weight-only is slower but at one request"][0]()))
    third = next(line for line in text.splitlines() if line.startswith("| 3 |"))
    assert third.endswith("| **holds only** at saturated, c64, c16; does not hold at c1 |")
    assert next(line for line in text.splitlines() if line.startswith("| 2 |")).endswith("| **cannot be said** |")


def test_a_sign_is_not_the_studys_own_word() -> None:
    """A single interval can leave 1 out where the study, for all its comparisons, cannot tell the two apart."""
    study = load_paths([REAL / "sitting-1.json"], as_they_stand=True)
    found = compared(study)
    static = next(test for test in verdict(found, 1).loads[0].tests if test.variant == "fp8-static")
    cell = next(cell for cell in study.benchmark.status.cells if cell.variant == "fp8-static")
    assert (static.goes, cell.loads[0].difference) == (True, Difference.NOT_DISTINGUISHABLE)
    assert "may call indistinguishable what has a ✓ or a ✗ here" in to_markdown(found)


def test_a_table_without_conclusions_beside_it(export: Path, tmp_path: Path) -> None:
    alone = tmp_path / "other.md"
    alone.write_text(TEXT)
    assert "The conclusions" not in run(alone, "--against", export).stdout
    named = run(alone, "--against", export, "--conclusions", PUBLISHED.with_suffix(".yaml"))
    assert "The conclusions" in named.stdout


@pytest.mark.parametrize(
    ("conclusions", "said"),
    [
        ("conclusions: [", "not YAML"),
        ("source: x\nconclusions: []\n", "conclusions: Tuple should have at least 1 item"),
        (
            "source: x\nconclusions:\n- {number: 1, text: x, claims: [{variants: {methods: [FP9]}, direction: better}]}\n",
            "conclusions[0].claims[0].variants.methods[0]: Input should be",
        ),
        ("source: x\nconclusions:\n- {number: 1, text: x, claim: []}\n", "conclusions[0].claim: unknown field"),
    ],
)
def test_conclusions_that_cannot_be_read(export: Path, tmp_path: Path, conclusions: str, said: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(conclusions)
    result = run(PUBLISHED, "--against", export, "--conclusions", file)
    assert result.exit_code == 2
    assert f"{file}: " in result.stderr
    assert said in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--conclusions", "c.yaml"), "--conclusions: needs --against"),
        (("--as-it-stands",), "--as-it-stands: needs --against"),
        (
            ("--noise-floor", "3", "--against", "x.json"),
            "--noise-floor: the measured intervals of --against replace it",
        ),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(arguments: tuple[str, ...], said: str) -> None:
    result = run(PUBLISHED, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_other_ends_of_the_command(export: Path, tmp_path: Path) -> None:
    assert run(PUBLISHED, "--against", tmp_path / "none.json").exit_code == 2
    foreign = tmp_path / "foreign.md"
    foreign.write_text("# L4\n\n| Method | tok/s |\n|---|---|\n| BF16 | 10 |\n| AWQ | 11 |\n")
    result = run(foreign, "--against", export)
    assert result.exit_code == 1
    assert "nothing to compare" in result.stderr


# --- the page in the documentation -----------------------------------------------------------------------------------


@pytest.fixture
def page() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        yield importlib.import_module("reference.published")
    finally:
        sys.path.remove(str(ROOT / "tools"))


@pytest.fixture
def results(page: Any, tmp_path: Path) -> Path:
    """The folder of the results in a checkout that has none yet."""
    for folder in ("published", "studies"):
        shutil.copytree(ROOT / "benchmarks" / folder, tmp_path / "benchmarks" / folder)
    found: Path = tmp_path / page.RESULTS
    found.mkdir(parents=True)
    shutil.copy(REAL / "study.yaml", found)
    return found


def test_the_page_is_what_the_command_prints(page: Any, export: Path, results: Path, tmp_path: Path) -> None:
    assert page.exports(tmp_path) == []
    (results / "attestations.json").write_text('{"kind": "Other"}')
    assert page.exports(tmp_path) == []
    shutil.copy(export, results)
    text = page.text(tmp_path)
    assert run(PUBLISHED, "--against", export).stdout in text
    assert "weights are random" in text
    assert (
        f"quantbench audit benchmarks/published/qwen3-8b.md --against {page.RESULTS}/sitting-1.json --as-it-stands\n"
        in text
    )


# --- the real runs ---------------------------------------------------------------------------------------------------


def test_the_real_sittings_are_parts_of_the_study_beside_them(page: Any) -> None:
    study = QuantBenchmarkSpec.model_validate(yaml.safe_load((REAL / "study.yaml").read_text())["spec"])
    variants = {variant.name: variant for variant in study.variants}
    files = page.exports(ROOT)
    assert files
    for file in files:
        spec = read_path(file).benchmark.spec
        assert {variant.name for variant in spec.variants} <= set(variants)
        assert all(variant == variants[variant.name] for variant in spec.variants)
        for field in ("model", "engine", "baseline", "targets", "workload", "loads"):
            assert getattr(spec, field) == getattr(study, field), f"{file.name}: {field}"


TAKEN_FOR_INVALID = ("awq-marlin", "1/saturated/2")
"""Its API server lagged behind the engine by too little to be believed then; tests/data/passes holds its line."""


def test_the_real_runs_ran_what_their_rows_say(page: Any) -> None:
    """Every quantized layer of the 36 was attested, by the kernel that the plan expects, and client and server agree."""
    layers = {"bf16": 0, "control": 0, "kv-fp8": 0}
    expected: dict[str, tuple[str, ...]] = {}
    study = load_paths(page.exports(ROOT))
    spec = study.benchmark.spec
    asked = {one.name: one for one in spec.variants}
    asked["control"] = asked[spec.baseline]
    for run in study.runs:
        attested, variant = run.status.attestation, run.spec.variant.name
        if not run.status.passes:
            continue
        assert attested is not None, run.name
        assert attested.quantized_layers == layers.get(variant, 4 * 36), variant
        version = EngineVersion.parse(attested.engine_version or "")
        expected[variant] = capability(engine_request(asked[variant], spec.targets[0]), version, ()).kernels
        ran = {layer.kernel for layer in attested.linear_kernels}
        assert ran <= set(expected[variant]) or not expected[variant], variant
        assert (attested.prefix_caching, attested.eager) == (False, False)
        for one in run.status.passes:
            assert one.valid or (variant, one.key) == TAKEN_FOR_INVALID
            assert one.server is not None
            counted = (one.server.requests_succeeded, one.server.prompt_tokens, one.server.generation_tokens)
            assert counted == (one.completed, one.total_input_tokens, one.total_output_tokens)
    assert (expected["awq"], expected["fp8-static"]) == (("MacheteLinearKernel",), ("CutlassFP8ScaledMMLinearKernel",))


def test_the_commands_of_the_page_are_those_of_the_sittings(page: Any) -> None:
    """What they cut from the study is what was applied, and every checkpoint that it names is made."""
    text = page.text(ROOT)
    lines = text.splitlines()
    (making,) = [line for line in lines if line.startswith("python3 benchmarks/checkpoints")]
    cuts = [shlex.split(line.partition(" | ")[0])[1:] for line in lines if line.startswith("quantbench cut")]
    files = page.exports(ROOT)
    assert len(cuts) == len(files)
    for file, arguments in zip(files, cuts, strict=True):
        benchmark = read_path(file).benchmark
        printed = yaml.safe_load(CliRunner().invoke(app, arguments).stdout)
        assert printed["metadata"]["name"] == benchmark.name
        # A sitting's variants may stand in another order, which says which server starts when.
        made, asked = (
            spec.model_copy(update={"variants": tuple(sorted(spec.variants, key=lambda variant: variant.name))})
            for spec in (QuantBenchmarkSpec.model_validate(printed["spec"]), benchmark.spec)
        )
        assert made == asked
        assert f"quantbench export {benchmark.name} -n {benchmark.namespace} --to {file.relative_to(ROOT)}" in lines
        for variant in benchmark.spec.variants:
            if variant.method is Method.GGUF:
                continue  # Refused before it would be read.
            assert f" --scheme {Path(variant.model or benchmark.spec.model).name} " in making
    # A paragraph right behind a block of commands is made a part of it.
    assert not re.search(r"(?m)^```\n[^\n]", text.replace("```console", ""))


def test_the_page_and_its_report_count_alike(page: Any, results: Path, tmp_path: Path) -> None:
    """The second start of the control was cut off: its finished passes count."""
    shutil.copy(REAL / "sitting-1.json", results)
    text, report = page.text(tmp_path), page.report(tmp_path)
    assert "12 server starts so far, 11 of them to their end." in text
    assert "In 71 of 71 valid passes" in text
    assert " 5 of them are of starts that were cut off later. No passes were invalid." in text
    assert "71 of 71 measured passes count." in report
    assert (
        "| control <br> h100 <br> start 2 | ? CutOff <br> CutOff | passes that count: 3 of 3 of saturated, 1 of 1 of c64,"
        in (report)
    )
    assert "stricter than the single intervals" in text
    shutil.copy(REAL / "sitting-2.json", results)
    assert "| `kv-fp8` | throughput | 1.016 | 0.956 (1) |" in page.text(tmp_path)


def test_a_server_whose_gpu_is_not_known_is_a_gap(page: Any, results: Path, tmp_path: Path) -> None:
    """As one that was refused before it had told anything."""
    document = json.loads((REAL / "sitting-1.json").read_text())
    refused = next(run for run in document["runs"] if run["spec"]["variant"]["name"] == "awq")
    refused["status"]["attestation"]["gpus"] = []
    (results / "sitting-1.json").write_text(json.dumps(document))
    assert re.search(r"and 8\d\.\d % of the time from a GPU's first server", page.text(tmp_path))


def test_seconds_of_several_starts_are_a_range_where_they_differ(page: Any) -> None:
    assert [page._spread(of) for of in ([], [None], [44.2], [44.4, 43.6], [68.0, None, 43.0])] == [
        "", "", "44", "44", "43 to 68",
    ]  # fmt: skip


def test_the_page_counts_only_what_agrees(page: Any) -> None:
    runs = [run for run in load_paths(page.exports(ROOT)).runs if run.status.passes]
    passes = sum(one.valid for run in runs for one in run.status.passes)
    assert "own counters. 15 of them are of starts that were cut off later. 1 pass was invalid." in page._counts(runs)
    assert f"In {passes} of {passes} valid passes" in page._counts(runs)
    first = runs[0].status.passes[0]
    wrong = first.model_copy(update={"total_output_tokens": first.total_output_tokens + 1})
    status = runs[0].status.model_copy(update={"passes": (wrong, *runs[0].status.passes[1:])})
    assert f"In {passes - 1} of {passes} valid passes" in page._counts([replace(runs[0], status=status), *runs[1:]])
