"""``quantbench plan``: every rule of the API without an API server, and what a study would do."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft4Validator
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from core_support.objects import FULL, MINIMAL, RANDOM_DATASET, merged, study
from quantbench.api.benchmark import MAX_PASSES, MAX_ROWS, QuantBenchmarkSpec
from quantbench.api.rules import violations
from quantbench.api.schema import QUANT_BENCHMARK, custom_resource_definition
from quantbench.cli import app
from quantbench.cli.plan import written_spec
from quantbench.preview import Assumptions, pass_seconds, preview

ROOT = Path(__file__).parents[2]
LIMITS = "spec.engine.podTemplate.resources.limits"
YAMLS = sorted(path for path in (ROOT / "benchmarks" / "studies").glob("*.yaml"))


def plan(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments], input=text, env={"COLUMNS": "200"})


def document(spec: dict[str, Any], name: str = "demo") -> str:
    head = {"apiVersion": "quantbench.dev/v1alpha1", "kind": "QuantBenchmark", "metadata": {"name": name}}
    return yaml.safe_dump({**head, "spec": spec})


# --- what is shipped can be applied --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.name)
def test_shipped_studies_pass(path: Path) -> None:
    result = plan("-f", str(path))
    assert (result.exit_code, result.stderr) == (0, "")


def test_studies_in_the_readme_pass() -> None:
    found = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    studies = [text for text in found if "kind: QuantBenchmark\n" in text]
    assert studies
    for text in studies:
        result = plan("-f", "-", text=text)
        assert (result.exit_code, result.stderr) == (0, "")


# --- rules ---------------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "baseline must be the name of one of the variants": ({"baseline": "fp16"}, "spec.baseline"),
    f"variants (with the control) × targets × loads must not exceed {MAX_ROWS}: split the study": (
        {"targets": [{"name": f"t{n}"} for n in range(16)], "loads": [{"name": f"l{n}"} for n in range(32)]}, "spec"),
    f"the repeats of all loads must not exceed {MAX_PASSES} together": (
        {"loads": [{"name": f"l{n}", "repeats": 20} for n in range(11)], "sampling": {"repeats": 1}}, "spec"),
    "give one of value and valueFrom": (
        {"engine": {"podTemplate": {"env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}}},
        "spec.engine.podTemplate.env[0]"),
    "give one of secretKeyRef and configMapKeyRef": (
        {"engine": {"podTemplate": {"env": [{"name": "A", "valueFrom": {}}]}}}, "spec.engine.podTemplate.env[0].valueFrom"),
    "give exactly one of persistentVolumeClaim, configMap, secret, emptyDir": (
        {"engine": {"podTemplate": {"volumes": [{"name": "v"}]}}}, "spec.engine.podTemplate.volumes[0]"),
    "this method reads a quantized checkpoint: say which one": (
        {"variants": [{"name": "bf16", "method": "BF16"}, {"name": "awq", "method": "AWQ"}]}, "spec.variants[1].model"),
    "granularity belongs to method FP8Online": (
        {"variants": [{"name": "bf16", "method": "BF16", "granularity": "PerBlock"}]}, "spec.variants[0].granularity"),
    "the name control is taken by the repeated baseline": (
        {"variants": [{"name": "bf16", "method": "BF16"}, {"name": "control", "method": "BF16"}]}, "spec.variants[1].name"),
    "give one of shareGPT and random": (
        {"workload": {"dataset": {"random": {"inputLen": 9}}}}, "spec.workload.dataset"),
}  # fmt: skip
BY_MODEL = {"requestRate must be a positive number of at most seven digits, or inf"}
"""Rules that the models themselves check."""


def rules(node: Any) -> set[str]:
    found = {rule["message"] for rule in node.get("x-kubernetes-validations", []) if "oldSelf" not in rule["rule"]}
    for child in [*node.get("properties", {}).values(), *([node["items"]] if "items" in node else [])]:
        found |= rules(child)
    return found


def lists(node: Any, path: str) -> set[str]:
    found = {path} if node.get("x-kubernetes-list-type") == "map" else set()
    for name, child in node.get("properties", {}).items():
        found |= lists(child, f"{path}.{name}")
    return found | (lists(node["items"], f"{path}[]") if "items" in node else set())


SCHEMA = custom_resource_definition(QUANT_BENCHMARK)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][
    "spec"
]


def test_every_rule_of_the_crd_has_its_counterpart() -> None:
    assert rules(SCHEMA) == set(BROKEN) | BY_MODEL


@pytest.mark.parametrize("message", BROKEN)
def test_broken_rules_are_named_with_their_path(message: str) -> None:
    changes, path = BROKEN[message]
    result = plan("-f", "-", text=document(merged(MINIMAL, changes)))
    assert result.exit_code == 2
    assert f"quantbench: standard input: {path}: {message}\n" in result.stderr


TWICE = {
    "spec.variants": {"variants": [{"name": "bf16", "method": "BF16"}] * 2},
    "spec.targets": {"targets": [{"name": "a"}] * 2},
    "spec.loads": {"loads": [{"name": "a"}] * 2},
    "spec.engine.podTemplate.env": {"engine": {"podTemplate": {"env": [{"name": "A", "value": "x"}] * 2}}},
    "spec.engine.podTemplate.volumes": {"engine": {"podTemplate": {"volumes": [{"name": "v", "emptyDir": {}}] * 2}}},
    "spec.engine.podTemplate.volumeMounts": {
        "engine": {"podTemplate": {"volumeMounts": [{"name": "v", "mountPath": "/v"}] * 2}}},
    "spec.engine.podTemplate.imagePullSecrets": {"engine": {"podTemplate": {"imagePullSecrets": [{"name": "s"}] * 2}}},
}  # fmt: skip


def test_every_keyed_list_is_checked_for_duplicates() -> None:
    assert lists(SCHEMA, "spec") == set(TWICE)
    for path, changes in TWICE.items():
        spec = QuantBenchmarkSpec.model_validate(merged(MINIMAL, changes))
        assert path + "[1]" in [where for where, message in violations(spec) if message.startswith("Duplicate")], path


def test_good_specifications_break_no_rule() -> None:
    for spec in (MINIMAL, FULL):
        assert violations(QuantBenchmarkSpec.model_validate(spec)) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("variants.0.method", "INT3", "spec.variants[0].method: Input should be 'BF16'"),
        ("variants.0.kernal", "Auto", "spec.variants[0].kernal: unknown field"),
        ("targets.0.gpus", -1, "spec.targets[0].gpus: Input should be greater than or equal to 0"),
        ("loads", [{"name": "a", "requestRate": "fast"}], "spec.loads[0].requestRate: "),
        ("engine.image", "vllm/vllm-openai:latest", "spec.engine.version: cannot tell vLLM's version from image"),
        ("engine.args", ["--port=1"], "spec.engine.args[0]: "),
        ("model", None, "spec.model: "),
        # What only a lenient reader takes, and the API server does not.
        ("engine.podTemplate", {"resources": {"limits": {"memory": "64GB"}}},
         'spec.engine.podTemplate.resources.limits.memory: give an amount such as 4, "500m" or "128Gi"'),
        ("engine.podTemplate", {"resources": {"limits": {"memory": "128 Gi"}}}, f"{LIMITS}.memory: give an amount"),
        ("engine.podTemplate", {"resources": {"limits": {"cpu": "two"}}}, f"{LIMITS}.cpu: give an amount"),
        ("engine.podTemplate", {"resources": {"limits": {"cpu": -1}}}, f"{LIMITS}.cpu: give an amount"),
        ("engine.podTemplate", {"resources": {"limits": {"cpu": 0.5}}}, f'{LIMITS}.cpu: write it as a string, "0.5"'),
        ("engine.podTemplate", {"env": [{"name": "A", "value": 1}]},
         "spec.engine.podTemplate.env[0].value: write it as a string, in quotes"),
        ("workload.numPrompts", "200", "spec.workload.numPrompts: Input should be a valid integer"),
        ("workload.num_prompts", 200, "spec.workload.num_prompts: unknown field"),
        ("sampling", {"control": "no"}, "spec.sampling.control: Input should be a valid boolean"),
        ("suspend", 0, "spec.suspend: Input should be a valid boolean"),
        ("limits", {"gpuHours": float("inf")}, "spec.limits.gpuHours: Input should be a finite number"),
        ("targets.0.computeCapability", 9.0, "spec.targets[0].computeCapability: write it as a string, in quotes"),
        ("loads", [{"name": "a", "requestRate": True}],
         "spec.loads[0].requestRate: a whole number or a string is expected"),
        ("loads", [{"name": "a", "requestRate": 2.5}], 'spec.loads[0].requestRate: write it as a string, "2.5"'),
        ("loads", [], "spec.loads: Tuple should have at least 1 item"),
    ],
)  # fmt: skip
def test_wrong_fields_end_in_two_with_their_path(path: str, value: object, said: str) -> None:
    spec = copy.deepcopy(MINIMAL)
    put(spec, path.split("."), value)
    result = plan("-f", "-", text=document(spec))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"quantbench: standard input: {said}")
    assert result.stderr.count("\n") == 1, "and nothing else is wrong"


def put(spec: Any, path: Sequence[str | int], value: object) -> None:
    *parents, last = path
    for part in parents:
        spec = spec[int(part)] if isinstance(spec, list) else spec[part]
    spec[last] = value


ODD = (
    True,
    False,
    0,
    1,
    -1,
    2.5,
    200,
    "",
    "1",
    "1.0",
    "true",
    "no",
    "inf",
    "1h",
    "64GB",
    " 1",
    "é",
    "١",
    "a" * 5000,
    [],
    {},
    [1],
)


def test_what_is_read_is_what_the_schema_of_the_crd_takes() -> None:
    spec = merged(FULL, {"workload": {"dataset": RANDOM_DATASET}})
    for path in below(spec):
        field = str(path[0])
        validator = Draft4Validator(SCHEMA["properties"][field])
        if "affinity" in path[:-1]:
            continue  # any object
        for value in ODD:
            changed = spec | {field: copy.deepcopy(spec[field])}
            put(changed, path, value)
            try:
                written_spec(changed)
            except ValidationError:
                accepted = False
            else:
                accepted = True
            # That a rate is positive is a rule beside the schema.
            taken = validator.is_valid(changed[field]) and not (path[-1] == "requestRate" and value == 0)
            assert accepted == taken, (path, value)


def below(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from below(item, (*path, key))


def test_what_kubectl_and_the_api_server_forgive_is_forgiven() -> None:
    forgiven = {
        "engine": {
            "maxNumSeqs": None,
            "podTemplate": {"env": None, "resources": {"limits": {"cpu": 4.0, "memory": "1.5Gi"}}},
        },
        "loads": [{"name": "a", "requestRate": 2.0, "maxConcurrency": 16.0}],
        "limits": None,
    }
    spec = json.loads(json.dumps(MINIMAL))
    spec["engine"] |= forgiven.pop("engine")
    result = plan("-f", "-", text=document(spec | forgiven))
    assert (result.exit_code, result.stderr) == (0, "")


def test_fields_beside_the_specification_are_unknown() -> None:
    result = plan("-f", "-", text=document(MINIMAL) + "limits: {gpuHours: 1}\n")
    assert (result.exit_code, result.stderr) == (2, "quantbench: standard input: limits: unknown field\n")


@pytest.mark.parametrize("text", ["model: &a [*a]", "model: !!binary //4="])
def test_what_json_cannot_hold_is_told(text: str) -> None:
    result = plan("-f", "-", text=document(MINIMAL).replace("model: Qwen/Qwen3-8B", text))
    assert result.exit_code == 2
    assert result.stderr.startswith("quantbench: standard input: spec: cannot be written as JSON")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no document"),
        ("a: [", "not YAML"),
        ("- 1", "not an object"),
        ("kind: Pod\napiVersion: v1\nmetadata: {name: x}", "apiVersion: quantbench.dev/v1alpha1 expected, 'v1' found"),
        ("apiVersion: quantbench.dev/v1alpha1\nkind: QuantBenchmark\nspec: {}", "metadata.name: a name is needed"),
    ],
)
def test_anything_else_ends_in_two(text: str, said: str) -> None:
    result = plan("-f", "-", text=text)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_missing_file_ends_in_two(tmp_path: Path) -> None:
    result = plan("-f", str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert "No such file" in result.stderr


def test_one_wrong_document_of_several_is_named() -> None:
    text = document(MINIMAL, "one") + "---\n" + document(merged(MINIMAL, {"baseline": "x"}), "two")
    result = plan("-f", "-", text=text)
    assert result.exit_code == 2
    assert result.stderr.startswith("quantbench: standard input, document 2: spec.baseline: ")
    assert "one: vLLM 0.24.0" in result.stdout


# --- what it would do ----------------------------------------------------------------------------------------------

SEVERAL = merged(
    MINIMAL,
    {
        "variants": [
            {"name": "bf16", "method": "BF16"},
            {"name": "awq", "method": "AWQ", "model": "Qwen/Qwen3-8B-AWQ"},
            {"name": "gguf", "method": "GGUF", "model": "/m.gguf", "tokenizer": "Qwen/Qwen3-8B"},
        ],
        "sampling": {"starts": 2, "repeats": 3, "control": False},
        "limits": {"gpuHours": 1},
    },
)


def planned(*arguments: str, spec: dict[str, Any] = SEVERAL) -> dict[str, Any]:
    result = plan("-f", "-", "-o", "json", *arguments, text=document(spec))
    assert result.exit_code == 0, result.stderr
    (made,) = json.loads(result.stdout)
    found: dict[str, Any] = made
    return found


def test_passes_are_counted_load_by_load() -> None:
    loads = [{"name": "a", "warmupPrompts": 0}, {"name": "b", "warmupPrompts": 0, "repeats": 1}]
    one = planned("--pass-seconds", "36", spec=merged(SEVERAL, {"loads": loads[:1]}))["cells"][0]
    two = planned("--pass-seconds", "36", spec=merged(SEVERAL, {"loads": loads}))["cells"][0]
    assert two["estimatedGPUHoursPerStart"] - one["estimatedGPUHoursPerStart"] == pytest.approx(0.01)


def test_json_says_cells_order_flags_and_cost() -> None:
    made = planned()
    cells = {cell["variant"]: cell for cell in made["cells"]}
    assert made["engineVersion"] == "0.24.0"
    assert "--dtype=bfloat16" in cells["bf16"]["args"]
    assert cells["awq"]["model"] == "Qwen/Qwen3-8B-AWQ"
    assert cells["bf16"]["serverStarts"] == {"least": 2, "most": 5}
    assert {(run["block"], run["variant"]) for run in made["order"]} >= {
        (1, "bf16"),
        (2, "bf16"),
        (1, "awq"),
        (2, "awq"),
    }
    assert made["serverStarts"]["least"] == len(made["order"])


def test_what_if_asks_for_another_version() -> None:
    now, then = planned("--engine-version", "0.9.2"), planned("--engine-version", "0.33.0")
    fates = [{cell["variant"]: cell["fate"] for cell in made["cells"]} for made in (now, then)]
    assert then["engineVersion"] == "0.33.0"
    assert fates[0]["gguf"] == "ExpectedToFail"
    assert fates[1]["gguf"] == "PluginNeeded"
    gguf = next(cell for cell in then["cells"] if cell["variant"] == "gguf")
    assert gguf["serverStarts"] == {"least": 0, "most": 0}
    assert not [run for run in then["order"] if run["variant"] == "gguf"]
    assert "plugin" in gguf["message"]
    assert plan("-f", "-", "--engine-version", "0.8", text=document(SEVERAL)).exit_code == 2


def test_the_estimate_follows_from_the_assumptions() -> None:
    made = planned("--start-seconds", "100", "--pass-seconds", "50")
    # Each start: 100 s, a warm-up of 256 of 1000 prompts, 3 passes, 30 s of ending.
    seconds = 100 + 50 * 0.256 + 3 * 50 + 30
    starts = made["serverStarts"]["least"]
    assert made["estimatedGPUHours"]["least"] == pytest.approx(starts * seconds / 3600, rel=1e-3)
    assert made["estimatedHours"]["most"] == pytest.approx(made["serverStarts"]["most"] * seconds / 3600, rel=1e-3)
    assert made["assumptions"] == {"start_seconds": 100.0, "request_seconds": 10.0, "pass_seconds": 50.0}


@pytest.mark.parametrize(
    ("load", "seconds"),
    [
        ({"name": "a"}, 1000 / 256 * 10),  # in waves of max_num_seqs
        ({"name": "a", "maxConcurrency": 16}, 1000 / 16 * 10),
        ({"name": "a", "requestRate": 2}, 500),  # the rate sets the pace
        ({"name": "a", "requestRate": 1000, "maxConcurrency": 10}, 1000),  # the limit does
        ({"name": "a", "numPrompts": 10}, 10),
    ],
)
def test_a_pass_takes_as_long_as_its_load_says(load: dict[str, Any], seconds: float) -> None:
    spec = study(loads=[load])
    (one,) = spec.loads
    asked = one.num_prompts or 1000
    assert pass_seconds(spec, one, asked, Assumptions(request_seconds=10)) == pytest.approx(seconds)


def test_parallelism_shortens_and_the_cpu_is_free() -> None:
    alone = preview("x", study(), Assumptions())
    four = preview("x", study(limits={"parallelism": 4}), Assumptions())
    cpu = preview("x", study(targets=[{"name": "cpu", "gpus": 0}]), Assumptions())
    assert four.hours[0] == pytest.approx(alone.hours[0] / 4)
    assert four.gpu_hours == alone.gpu_hours
    assert cpu.gpu_hours == (0, 0)


def long_requests(common: list[str], own: list[str], **lengths: float) -> list[str]:
    variants = [{"name": "bf16", "method": "BF16"}, {"name": "fp8", "method": "FP8Online", "args": own}]
    dataset = {"random": {"inputLen": 4000, "outputLen": 128, **lengths}}
    changed = study(variants=variants, workload={"dataset": {"shareGPT": None, **dataset}}, engine={"args": common})
    return [warning for warning in preview("x", changed, Assumptions()).warnings if "--max-model-len" in warning]


@pytest.mark.parametrize(
    ("common", "own", "over"),
    [
        (["--max-model-len=4096"], [], ["4096 of bf16, fp8"]),
        (["--max_model_len", "4127"], [], ["4127 of bf16, fp8"]),
        (["--max-model-len=4k"], ["--max-model-len=4K"], ["4000 of bf16", "4096 of fp8"]),
        (["--max-model-len=8192"], ["--max-model-len", "4.1k"], ["4100 of fp8"]),
        (["--max-model-len=4096"], ["--max-model-len=8192"], ["4096 of bf16"]),
        (["--max-model-len=4128"], [], []),
        (["--max-model-len=auto"], ["--max-model-len=-1"], []),
        ([], [], []),
    ],
)
def test_requests_that_no_server_takes_are_warned_of(common: list[str], own: list[str], over: list[str]) -> None:
    start = "spec.workload.dataset.random: inputLen 4000 + outputLen 128 do not fit --max-model-len="
    end = ": vLLM refuses such requests or cuts their outputs"
    assert long_requests(common, own) == [f"{start}{each}{end}" for each in over]


def test_lengths_that_vary_are_taken_at_their_mean() -> None:
    assert long_requests(["--max-model-len=4128"], [], rangeRatio=0.5) == []
    assert long_requests(["--max-model-len=4127"], [], rangeRatio=0.5) != []


def test_people_read_the_same() -> None:
    result = plan("-f", "-", text=document(SEVERAL))
    for part in ("demo: vLLM 0.24.0", "awq on h100: vllm serve Qwen/Qwen3-8B-AWQ", "block 1 on h100:", "block 2 on h100:",
                 "assumed, not measured: 300 s per server start, 10 s per request", "! limits.gpuHours is 1"):  # fmt: skip
        assert part in result.stdout, result.stdout
