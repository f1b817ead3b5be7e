"""Studies as values: one file and back, several files as one, and the formats of others."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from core_support.studies import finished, spec_of
from quantbench.api.conditions import ConditionType
from quantbench.api.names import Verdict
from quantbench.api.run import Outcome
from quantbench.exports import ExportError, Study, from_document, merged, to_document
from quantbench.exports.benchmark_report import to_report
from quantbench.exports.comparison import Word, compare
from quantbench.exports.rows import COLUMNS, rows
from quantbench.exports.secrets import REDACTED, without_secrets
from quantbench.exports.vllm_bench import is_result, study_of_results, to_result
from quantbench.observe import Run
from quantbench.report import to_markdown
from quantbench.report.build import build

SCHEMA = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "exports" / "llm-d-benchmark-report-v0.2.yaml").read_text()
)


def document(study: Study) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(json.dumps(to_document(study, "1.0"), allow_nan=False))
    return raw


# --- one file ------------------------------------------------------------------------------------------------------


def test_an_export_is_the_whole_study() -> None:
    study = finished()
    assert from_document(document(study)) == study


def test_credentials_stay_at_home() -> None:
    template = {"env": [{"name": "HF_TOKEN", "value": "hf_geheim"}, {"name": "HF_HUB_OFFLINE", "value": "1"}]}
    engine = {"args": ["--hf-token=geheim", "--max-model-len=8192"], "podTemplate": template}
    study = finished(spec_of(engine=engine))
    raw = document(study)
    assert "geheim" not in json.dumps(raw)
    assert raw["benchmark"]["spec"]["engine"]["args"] == [f"--hf-token={REDACTED}", "--max-model-len=8192"]
    assert without_secrets(["--api-key", "geheim", "--x"]) == ["--api-key", REDACTED, "--x"]
    env = raw["runs"][0]["spec"]["engine"]["podTemplate"]["env"]
    assert {item["name"]: item["value"] for item in env} == {"HF_TOKEN": REDACTED, "HF_HUB_OFFLINE": "1"}
    assert "geheim" not in json.dumps(to_report(study, study.runs[0], study.runs[0].status.passes[0]))
    # The digest of what was asked for is the stored one, so that it still merges.
    assert merged([from_document(raw), study]).benchmark.status.plan_hash == study.benchmark.status.plan_hash


SECRET_VARIABLES = {
    "HTTPS_PROXY": ("http://alice:geheim@proxy.corp:3128", f"http://{REDACTED}@proxy.corp:3128"),
    "ALL_PROXY": ("alice:geheim@proxy.corp:3128", REDACTED),
    "HF_ENDPOINT": ("https://geheim@hub.corp/x", f"https://{REDACTED}@hub.corp/x"),
    "AWS_KEY": ("geheim", REDACTED),
    "API_TOKENS": ("geheim", REDACTED),
    "GIT_PAT": ("geheim", REDACTED),
    "RUNAI_AUTH": ("geheim", REDACTED),
    "SOME_HEADER": ("Bearer geheim", REDACTED),
    "OTHER_HEADER": ("Basic geheim==", REDACTED),
}
PLAIN_VARIABLES = {
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_MAX_TOKENS_PER_EXPERT_FUSED_MOE": "8192",
    "NO_PROXY": "10.0.0.0/8,.svc",
    "HF_HOME": "/cache/hf_datasets",
    "PYTHONPATH": "/keys:/a@b",
    "MIRROR": "https://hub.corp:8443/a@b",
}


def test_credentials_are_known_by_name_place_and_form() -> None:
    variables = {name: value for name, (value, _) in SECRET_VARIABLES.items()} | PLAIN_VARIABLES
    template = {"env": [{"name": name, "value": value} for name, value in variables.items()]}
    study = finished(spec_of(engine={"args": ["--hf_token=geheim"], "podTemplate": template}))
    raw = document(study)
    assert "geheim" not in json.dumps(raw)
    for engine in (raw["benchmark"]["spec"]["engine"], raw["runs"][0]["spec"]["engine"]):
        found = {item["name"]: item["value"] for item in engine["podTemplate"]["env"]}
        assert found == {name: shown for name, (_, shown) in SECRET_VARIABLES.items()} | PLAIN_VARIABLES
        assert f"--hf_token={REDACTED}" in engine["args"]
    assert "geheim" not in json.dumps(to_report(study, study.runs[0], study.runs[0].status.passes[0]))
    assert merged([from_document(raw), study]).benchmark.status.plan_hash == study.benchmark.status.plan_hash
    once = from_document(raw)
    assert document(once) == raw


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--api_key", "geheim", "geheim", "-tp", "4"], ["--api_key", REDACTED, REDACTED, "-tp", "4"]),
        (
            ["Basic block 7 failed: hf_quantizerBitsAndBytes4bit"],
            ["Basic block 7 failed: hf_quantizerBitsAndBytes4bit"],
        ),
        (["oci://vllm@sha256:00"], ["oci://vllm@sha256:00"]),
        (["--api-key geheim"], [f"--api-key {REDACTED}"]),
        (["--loader.secret_key=geheim"], [f"--loader.secret_key={REDACTED}"]),
        (["--endpoint", "grpc://u:geheim@otel:4317"], ["--endpoint", f"grpc://{REDACTED}@otel:4317"]),
        *(([plain], [plain]) for plain in ("--max-num-batched-tokens=8192", "--ssl-keyfile=/k", "--tokenizer=a/b")),
        (["--return-tokens-as-token-ids", "vllm:v1@sha256:00"], ["--return-tokens-as-token-ids", "vllm:v1@sha256:00"]),
    ],
)
def test_arguments_are_known_however_they_are_written(given: list[str], shown: list[str]) -> None:
    assert without_secrets(given) == shown


def test_words_of_a_log_are_searched_too() -> None:
    study = finished(summary="no answer from https://bob:geheim@hub.corp/api")
    first, *others = study.runs
    said = f"401 Client Error for https://bob:geheim@hub.corp, token hf_{'geheim' * 5}"
    verdict = Outcome(name=Verdict.FAILED, reason="Crashed", message="it ended", log_line=said)
    first = dataclasses.replace(first, status=first.status.model_copy(update={"verdict": verdict}))
    study = dataclasses.replace(study, runs=(first, *others))
    raw = document(study)
    assert "geheim" not in json.dumps(raw)
    shown = raw["runs"][0]["status"]["verdict"]["logLine"]
    assert shown == f"401 Client Error for https://{REDACTED}@hub.corp, token {REDACTED}"
    assert "geheim" not in to_markdown(build(study, "0"))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("kind", "List", "not an export of a study: kind QuantBenchmarkExport expected, 'List' found"),
        ("apiVersion", "v2", "apiVersion: quantbench.dev/v1alpha1 expected, 'v2' found"),
        ("runs", {}, "benchmark must be an object and runs a list"),
        ("benchmark.metadata", {"name": "x"}, "benchmark: metadata.namespace is missing"),
        (
            "benchmark.spec.targets.0.gpus",
            -1,
            "benchmark: spec.targets[0].gpus: Input should be greater than or equal to 0",
        ),
        ("runs.1.spec.block", 0, "runs[1]: spec.block: Input should be greater than or equal to 1"),
        ("runs.0", 7, "runs[0]: "),
    ],
)
def test_what_does_not_fit_is_named(path: str, value: object, said: str) -> None:
    raw = document(finished())
    *parents, last = path.split(".")
    node: Any = raw
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[int(last) if isinstance(node, list) else last] = value
    with pytest.raises(ExportError) as caught:
        from_document(raw)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("raw", [None, [], 3, "x", {}, {"kind": "QuantBenchmarkExport"}])
def test_anything_else_is_no_export(raw: object) -> None:
    with pytest.raises(ExportError):
        from_document(raw)


# --- several files -------------------------------------------------------------------------------------------------


def test_blocks_of_one_study_merge_to_what_one_cluster_would_say() -> None:
    whole = finished()
    first, second = finished(blocks=[1]), finished(blocks=[2, 3])
    assert first.benchmark.status.cells != whole.benchmark.status.cells
    together = merged([first, second])
    assert together.benchmark.status.cells == whole.benchmark.status.cells
    assert together.runs == whole.runs
    assert {row.ratio_starts for cell in together.benchmark.status.cells for row in cell.loads if row.ratio} == {3}


def test_the_same_runs_twice_are_the_same_study() -> None:
    study = finished()
    assert merged([study, study, study]) == merged([study]) == study


def test_an_ended_run_beats_its_earlier_state() -> None:
    study = finished(blocks=[1])
    early = dataclasses.replace(study, runs=tuple(
        dataclasses.replace(one, status=one.status.model_copy(update={"verdict": None, "passes": ()})) for one in study.runs
    ))  # fmt: skip
    assert merged([study, early]).runs == merged([early, study]).runs == study.runs


def test_two_measurements_of_one_block_are_refused() -> None:
    study = finished()
    other = Study(study.benchmark, tuple(dataclasses.replace(one, uid=f"other-{one.uid}") for one in study.runs))
    with pytest.raises(ExportError, match=r"two different runs of .* in block 1.*a block is measured once"):
        merged([study, other])


def test_one_run_with_two_truths_is_refused() -> None:
    with pytest.raises(ExportError, match="two different runs"):
        merged([finished(), finished(factor=1.1)])


def test_other_work_is_refused() -> None:
    with pytest.raises(ExportError, match="asked for other work"):
        merged([finished(), finished(spec_of(workload={"seed": 1}))])


# --- results of vllm bench serve -----------------------------------------------------------------------------------


def results_of(study: Study) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{one.name}/{measured.load}-run={measured.repeat - 1}.json", to_result(one, measured))
        for one in study.runs
        for measured in one.status.passes
    ]


def test_a_pass_becomes_a_result_file_and_back() -> None:
    study = finished(blocks=[1])
    files = results_of(study)
    assert all(is_result(json.loads(json.dumps(result, allow_nan=False))) for _, result in files)
    back = study_of_results("again", files)
    figures = {
        (cell.variant, row.load): row.total_tokens_per_second
        for cell in back.benchmark.status.cells
        for row in cell.loads
    }
    assert figures == {
        (cell.variant, row.load): row.total_tokens_per_second
        for cell in study.benchmark.status.cells
        for row in cell.loads
    }
    measured, original = back.runs[0].status.passes[0], None
    original = next(p for one in study.runs if one.spec.variant.name == back.runs[0].spec.variant.name
                    for p in one.status.passes if p.load == measured.load and p.repeat == 1)  # fmt: skip
    assert measured.ttft_milliseconds == original.ttft_milliseconds
    assert measured.started_at[:19] == original.started_at[:19]


# The keys and folders as vLLM 0.32 writes them: vllm/benchmarks/serve.py and vllm/benchmarks/sweep/serve.py.
RESULT = {
    "date": "20260102-030405", "endpoint_type": "openai-chat", "backend": "openai-chat", "label": None,
    "model_id": "Qwen/Qwen3-8B", "tokenizer_id": "Qwen/Qwen3-8B", "num_prompts": 100, "request_rate": "inf",
    "burstiness": 1.0, "max_concurrency": None, "duration": 10.0, "completed": 100, "failed": 0,
    "total_input_tokens": 20000, "total_output_tokens": 18000, "request_throughput": 10.0, "request_goodput": None,
    "output_throughput": 1800.0, "total_token_throughput": 3800.0, "mean_ttft_ms": 50.0, "median_ttft_ms": 45.0,
    "p99_ttft_ms": 120.0, "mean_tpot_ms": 8.0, "mean_itl_ms": 8.1, "mean_e2el_ms": 800.0,
}  # fmt: skip


def sweep(**changes: Any) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"20260102_030405/SERVE--quantization={quantization}-BENCH--max_concurrency={limit}/run={number}.json",
         RESULT | {"total_token_throughput": speed * limit + number, "max_concurrency": limit, "run_number": number} | changes)
        for quantization, speed in (("None", 100.0), ("fp8", 130.0))
        for limit in (8, 16)
        for number in range(3)
    ]  # fmt: skip


def test_a_sweep_is_a_study_of_one_start_each() -> None:
    study = study_of_results("sweep", sweep(), baseline="quantization-none")
    assert [(cell.variant, [row.load for row in cell.loads]) for cell in study.benchmark.status.cells] == [
        ("quantization-none", ["max-concurrency-8", "max-concurrency-16"]),
        ("quantization-fp8", ["max-concurrency-8", "max-concurrency-16"]),
    ]
    (row, _) = study.benchmark.status.cells[1].loads
    assert (row.starts, row.passes, row.difference) == (1, 3, "OneRun")
    assert row.ratio == pytest.approx((130 * 8 + 1) / (100 * 8 + 1), rel=1e-5)
    assert from_document(document(study)).benchmark.status.cells == study.benchmark.status.cells


@pytest.mark.parametrize(
    "lost", [{"completed": 99, "failed": 1}, {"completed": 0, "failed": 100, "total_output_tokens": 0}]
)
def test_failed_requests_count_for_nothing(lost: dict[str, Any]) -> None:
    files = sweep()
    files[-1][1].update(lost)  # one pass of fp8 at 16
    study = study_of_results("sweep", files, "quantization-none")
    row = study.benchmark.status.cells[1].loads[-1]
    assert (row.load, row.passes) == ("max-concurrency-16", 2)
    assert study.runs[1].status.verdict is not None
    assert study.runs[1].status.verdict.name == "Unstable"


def test_results_that_all_failed_give_no_figures() -> None:
    study = study_of_results("sweep", sweep(completed=0, failed=100), "quantization-none")
    assert not study.measured


def test_the_oldest_results_lack_failed() -> None:
    old = {key: value for key, value in RESULT.items() if key not in ("failed", "backend")}
    short = old | {"completed": 98}
    study = study_of_results("old", [("a/1.json", old), ("a/2.json", short)])
    assert [measured.valid for measured in study.runs[0].status.passes] == [True, False]


def test_results_without_latencies_have_none() -> None:
    """Of a backend that does not stream: no TTFT is not a TTFT of 0 ms."""
    files = [
        (path, {key: value for key, value in result.items() if "ttft" not in key and "tpot" not in key})
        for path, result in sweep()
    ]
    study = study_of_results("sweep", files, "quantization-none")
    rows = [row for cell in study.benchmark.status.cells for row in cell.loads]
    assert {(row.mean_ttft_milliseconds, row.mean_tpot_milliseconds, row.ttft_ratio) for row in rows} == {(None,) * 3}
    assert [row.ratio is not None for row in rows] == [False, False, True, True]
    assert from_document(document(study)).benchmark.status.cells == study.benchmark.status.cells
    assert "TTFT" not in str([finding.evidence for finding in study.benchmark.status.findings])
    assert build(study, "0").answer


@pytest.mark.parametrize("name", ["sweep", "tuesday"])
def test_results_of_two_days_are_two_starts_and_those_of_one_count_once(name: str) -> None:
    one = study_of_results("sweep", sweep(), "quantization-none")
    other = study_of_results(name, sweep(date="20260103-030405"), "quantization-none")
    both = merged([one, other]).benchmark.status.cells
    assert [row.starts for cell in both for row in cell.loads] == [2, 2, 2, 2]
    again = study_of_results(name, sweep(), "quantization-none")
    assert [row.starts for cell in merged([one, again]).benchmark.status.cells for row in cell.loads] == [1, 1, 1, 1]


def test_results_of_another_tool_have_ended_and_can_be_reported() -> None:
    study = study_of_results("sweep", sweep())
    assert study.ended
    assert study.condition(ConditionType.COMPLETE)[1:] == (
        "AllRunsEnded",
        f"read from {len(sweep())} results of vllm bench serve",
    )
    report = build(study, "1")
    assert (report.state, report.done) == ("finished, 2/2 runs", True)
    # What it does not say is not made up of defaults, nor offered to be applied.
    assert not {"Requests", "GPUs"} & set(dict(report.facts))
    assert not {"configuration", "rerun"} & {section.key for section in report.sections}
    assert {"configuration", "rerun"} <= {section.key for section in build(finished(), "1").sections}
    assert merged([study, study_of_results("other", sweep(date="20260103-030405"))]).ended


def test_folders_labels_and_models_name_variants() -> None:
    plain = study_of_results("x", [("bf16/a.json", RESULT), ("fp8/a.json", RESULT)])
    assert [cell.variant for cell in plain.benchmark.status.cells] == ["bf16", "fp8"]
    labelled = study_of_results("x", [("a.json", RESULT | {"label": "INT8"}), ("b.json", RESULT | {"label": "FP16"})])
    assert labelled.benchmark.spec.baseline == "fp16"
    alone = study_of_results("x", [("a.json", RESULT)])
    assert [cell.variant for cell in alone.benchmark.status.cells] == ["qwen3-8b"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"request_rate": -3}, "requestRate"),
        ({"duration": "long"}, "duration"),
        ({"completed": None}, "a.json: completed: a number of at least 0 expected"),
        ({"max_concurrency": 0}, "maxConcurrency"),
        ({"total_token_throughput": math.nan}, "total_token_throughput"),
    ],
)
def test_wrong_results_are_refused_by_field(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        study_of_results("x", [("a.json", RESULT | changes)])


def test_each_load_has_as_many_repeats_as_its_files() -> None:
    files = [(f"bf16/{n}.json", RESULT) for n in range(3)] + [("bf16/c8.json", RESULT | {"max_concurrency": 8})]
    spec = study_of_results("x", files).benchmark.spec
    assert spec.sampling.repeats == 3
    assert {load.name: load.repeats for load in spec.loads} == {"saturated": None, "c8": 1}


def test_more_than_a_study_holds_is_refused() -> None:
    with pytest.raises(ExportError, match="variants"):
        study_of_results("x", [(f"v{n}/a.json", RESULT) for n in range(40)])
    with pytest.raises(ExportError, match="repeats"):
        study_of_results("x", [(f"{n}.json", RESULT) for n in range(25)])
    with pytest.raises(ExportError, match="baseline 'fp4' is not among the variants"):
        study_of_results("x", [("a.json", RESULT)], "fp4")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_id": "RedHatAI/Qwen3-8B"}, "model_id is Qwen/Qwen3-8B and RedHatAI/Qwen3-8B"),
        ({"num_prompts": 1000, "completed": 1000}, "num_prompts is 100 and 1000"),
        ({"burstiness": 0.5}, "burstiness is 1.0 and 0.5"),
        ({"total_input_tokens": 819200}, "total_input_tokens per request is 200 and 8192"),
        ({"total_output_tokens": 1600}, "total_output_tokens per request is 180 and 16"),
    ],
)
def test_other_work_is_no_repeat(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=f"is not the same in a.json and b.json: {said};"):
        study_of_results("x", [("a.json", RESULT), ("b.json", RESULT | changes)])


def test_one_name_of_a_sweep_is_one_load_in_all_variants() -> None:
    files = sweep()
    files[-1][1]["max_concurrency"] = 64
    with pytest.raises(
        ExportError, match=r"load 'max-concurrency-16' is not the same in .*max_concurrency is 16 and 64"
    ):
        study_of_results("sweep", files)


def test_what_differs_between_samples_is_one_load() -> None:
    """Prompts of another seed, answers that end elsewhere, passes that lost requests."""
    other = [{"total_input_tokens": 24000}, {"total_output_tokens": 13000},
             {"completed": 2, "failed": 98, "total_input_tokens": 20, "total_output_tokens": 10}]  # fmt: skip
    files = [(f"{place}.json", RESULT | changes) for place, changes in enumerate([{}, *other])]
    assert [p.valid for p in study_of_results("x", files).runs[0].status.passes] == [True, True, True, False]


@pytest.mark.parametrize("tokens", [0, 90_000])
def test_a_damaged_variant_keeps_no_other_from_being_read(tokens: int) -> None:
    """It runs on, or says nothing; a model that generates nothing has no output at all."""
    damaged = RESULT | {"label": "awq", "total_output_tokens": tokens}
    files = [("a.json", RESULT | {"label": "bf16"}), ("b.json", damaged), ("c.json", damaged)]
    good, bad = study_of_results("x", files).runs
    assert good.status.passes[0].valid
    assert [one.valid for one in bad.status.passes] == [tokens > 0] * 2


@pytest.mark.parametrize("rate", [None, "inf"])
def test_a_rate_that_is_not_told_is_none(rate: str | None) -> None:
    (load,) = study_of_results("x", [("a.json", RESULT | {"request_rate": rate})]).benchmark.spec.loads
    assert (load.name, load.request_rate) == ("saturated", "inf")


def figures_of(study: Study) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    return {
        (cell.variant, cell.target, row.load): (row.starts, row.passes, row.total_tokens_per_second, row.difference)
        for cell in study.benchmark.status.cells
        for row in cell.loads
    }


def test_targets_and_starts_come_back() -> None:
    study = finished(spec_of(targets=[{"name": "h100"}, {"name": "a100"}]))
    back = study_of_results("again", results_of(study))
    assert figures_of(back) == figures_of(study)
    assert len({one.name for one in back.runs}) == len(study.runs)


def test_what_its_study_left_out_does_not_come_back_as_a_figure() -> None:
    study = finished(spec_of(starts=1))

    def wrong(one: Run) -> Run:
        first, second, *others = one.status.passes
        hit = first.model_copy(
            update={"valid": False, "invalid_reason": "PrefixCacheHit", "total_tokens_per_second": 1e6}
        )
        passes = (second.model_copy(update={"attempt": 1, "total_tokens_per_second": 1e6}), hit,
                  *(measured.model_copy(update={"attempt": 2}) for measured in (second, *others)))  # fmt: skip
        return dataclasses.replace(one, status=one.status.model_copy(update={"passes": passes, "attempt": 2}))

    back = study_of_results("again", results_of(Study(study.benchmark, tuple(map(wrong, study.runs)))))
    assert {row.total_tokens_per_second < 1e4 for cell in back.benchmark.status.cells for row in cell.loads} == {True}
    assert {p.invalid_reason for p in back.runs[0].status.passes} == {None, "PrefixCacheHit"}
    assert {row.passes for cell in back.benchmark.status.cells for row in cell.loads} == {1, 2}


def test_an_attempt_that_was_lost_is_no_part_of_the_next() -> None:
    study = finished(spec_of(starts=1))
    first, *others = study.runs
    lost, *rest = first.status.passes
    passes = (lost, *(one.model_copy(update={"attempt": 2}) for one in (lost, *rest)))
    retried = dataclasses.replace(first, status=first.status.model_copy(update={"passes": passes, "attempt": 2}))
    files = results_of(Study(study.benchmark, (retried, *others)))
    words = [to_report(study, retried, one)["run"]["keywords"][-1] for one in passes[:2]]
    assert words == ["invalid: EarlierAttempt", "valid"]
    back = study_of_results("again", files)
    assert figures_of(back) == figures_of(study)
    assert {str(run.status.verdict.name) for run in back.runs if run.status.verdict} == {"Measured"}
    with pytest.raises(ExportError, match="x: only passes of attempts that were lost"):
        study_of_results("x", [one for one in files if one[1]["quantbench_valid"] != "true"])


def test_runs_that_do_not_count_do_not_come_back_as_figures() -> None:
    study = finished(spec_of(starts=1))
    verdict = study.runs[1].status.verdict
    assert verdict is not None
    wrong = verdict.model_copy(update={"name": Verdict.CONFIGURATION_MISMATCH})
    status = study.runs[1].status.model_copy(update={"verdict": wrong})
    runs = (study.runs[0], dataclasses.replace(study.runs[1], status=status))
    back = study_of_results("again", results_of(Study(study.benchmark, runs)), study.runs[0].spec.variant.name)
    assert {cell.variant for cell in back.benchmark.status.cells if cell.loads} == {runs[0].spec.variant.name}


def test_two_measurements_of_one_study_are_no_repeats() -> None:
    files = results_of(finished(blocks=[1]))
    with pytest.raises(ExportError, match=r"in block 1 is not the same in .*quantbench import"):
        study_of_results("x", [(f"{day}/{path}", result) for day in ("mon", "tue") for path, result in files])


def test_a_block_must_be_a_number() -> None:
    with pytest.raises(ExportError, match=r"a.json: quantbench_block: a number from 1 to 25 expected, 'x' found"):
        study_of_results("x", [("a.json", RESULT | {"quantbench_block": "x"})])


# --- llm-d Benchmark Report ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dataset", [{"shareGPT": {"path": "/d"}}, {"shareGPT": None, "random": {"inputLen": 9, "rangeRatio": 0.5}}]
)
def test_every_pass_is_a_valid_benchmark_report(dataset: dict[str, Any]) -> None:
    loads = [{"name": "saturated"}, {"name": "r2", "requestRate": "2.5", "maxConcurrency": 4}]
    study = finished(spec_of(workload={"dataset": dataset}, loads=loads))
    reports = [to_report(study, one, measured) for one in study.runs for measured in one.status.passes]
    assert len({report["run"]["uid"] for report in reports}) == len(reports) == 24
    for report in reports:
        Draft202012Validator(SCHEMA).validate(yaml.safe_load(yaml.safe_dump(report)))
    (first, *_) = reports
    throughput = first["results"]["request_performance"]["aggregate"]["throughput"]
    passed = study.runs[0].status.passes[0]
    assert throughput["total_token_rate"] == {"units": "tokens/s", "mean": passed.total_tokens_per_second}
    assert throughput["input_token_rate"]["mean"] + throughput["output_token_rate"]["mean"] == pytest.approx(
        passed.total_tokens_per_second
    )


@pytest.mark.parametrize("path", ["run.uid", "scenario.load.standardized.source", "results"])
def test_the_schema_notices_what_is_missing(path: str) -> None:
    study = finished()
    report = copy.deepcopy(to_report(study, study.runs[0], study.runs[0].status.passes[0]))
    *parents, last = path.split(".")
    node: Any = report
    for part in parents:
        node = node[part]
    del node[last]
    assert not Draft202012Validator(SCHEMA).is_valid(report)
    assert not Draft202012Validator(SCHEMA).is_valid(
        to_report(study, study.runs[0], study.runs[0].status.passes[0]) | {"x": 1}
    )


# --- side by side --------------------------------------------------------------------------------------------------


def test_a_study_against_itself_is_within_noise() -> None:
    found = compare(finished(), finished())
    assert {row.word for row in found.rows} == {Word.WITHIN_NOISE}
    assert {row.ratio for row in found.rows} == {1.0}
    assert found.warnings == (
        "the two were measured at different times: what else changed in between is part of these ratios",
    )


def test_a_real_difference_is_said_both_ways() -> None:
    slow, fast = finished(), finished(factor=1.1)
    assert {row.word for row in compare(slow, fast).rows} == {Word.FASTER}
    assert {row.word for row in compare(fast, slow).rows} == {Word.SLOWER}
    row = compare(slow, fast).rows[0]
    assert row.low is not None
    assert row.high is not None
    assert row.low < 1.1 < row.high


def test_one_start_is_never_a_verdict() -> None:
    one, other = finished(spec_of(starts=1)), finished(spec_of(starts=1), factor=2.0)
    assert {row.word for row in compare(one, other).rows} == {Word.ONE_RUN}
    assert {row.word for row in compare(finished(), other).rows} == {Word.ONE_RUN}


def test_what_differs_beside_the_figures_is_warned_of() -> None:
    other = finished(spec_of(
        "bf16", "awq",
        model="Qwen/Qwen3-14B", engine={"image": "vllm/vllm-openai:v0.32.0"}, workload={"seed": 3},
        loads=[{"name": "saturated", "numPrompts": 10}, {"name": "c8", "maxConcurrency": 8}],
    ))  # fmt: skip
    lengthy = tuple(
        dataclasses.replace(one, status=one.status.model_copy(update={"passes": tuple(
            measured.model_copy(update={"total_output_tokens": 5000}) for measured in one.status.passes
        )}))
        for one in other.runs
    )  # fmt: skip
    found = compare(finished(), Study(other.benchmark, lengthy))
    said = "\n".join(found.warnings)
    for part in (
        "vLLM's version differs: 0.24.0 and 0.32.0",
        "the model differs: Qwen/Qwen3-8B and Qwen/Qwen3-14B",
        "workload.seed differs: 0 and 3",
        "load saturated differs:",
        "tokens per request (input+output) at saturated differ: 8+4 and 8+5",
    ):
        assert part in said, said
    assert [(row.variant, row.load) for row in found.rows] == [("bf16", "saturated")]
    assert "fp8 on h100 at saturated" in found.only_first
    assert "bf16 on h100 at c8" in found.only_second


def test_other_fingerprints_are_warned_of() -> None:
    def with_print(fingerprint: str) -> Study:
        study = finished()
        cells = tuple(cell.model_copy(update={"fingerprint": fingerprint, "effective": f"kernel {fingerprint}"})
                      for cell in study.benchmark.status.cells)  # fmt: skip
        status = study.benchmark.status.model_copy(update={"cells": cells})
        return Study(dataclasses.replace(study.benchmark, status=status), study.runs)

    assert (
        "bf16 on h100 ran another configuration: kernel a; then kernel b"
        in compare(with_print("a"), with_print("b")).warnings
    )
    assert len(compare(with_print("a"), with_print("a")).warnings) == 1


def test_rows_hold_every_figure_and_every_cell() -> None:
    study = finished(spec_of(starts=1))
    listed = list(rows(study))
    assert len(listed) == 4
    assert set(listed[0]) <= set(COLUMNS)
    assert listed[0]["totalTokensPerSecond"] == study.benchmark.status.cells[0].loads[0].total_tokens_per_second
    empty = Study(dataclasses.replace(study.benchmark, status=study.benchmark.status.model_copy(update={
        "cells": tuple(cell.model_copy(update={"loads": ()}) for cell in study.benchmark.status.cells)})), ())  # fmt: skip
    assert [row.get("load") for row in rows(empty)] == [None, None]
