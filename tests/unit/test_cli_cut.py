"""``quantbench cut``: what one sitting measures, and that its exports fit together again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from core_support.studies import finished
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.cli import app
from quantbench.exports import Study, merged

STUDY = Path(__file__).parents[2] / "benchmarks" / "studies" / "published-study-h100.yaml"
WHOLE = yaml.safe_load(STUDY.read_text())


def cut(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["cut", *arguments], input=text, env={"COLUMNS": "200"})


def printed(*arguments: str) -> dict[str, Any]:
    result = cut("-f", str(STUDY), *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    made: dict[str, Any] = yaml.safe_load(result.stdout)
    return made


def test_some_variants_and_so_many_starts() -> None:
    made = printed("--variants", "awq, fp8-static", "--starts", "2")
    # In the study's order, with the baseline that nobody named.
    assert [variant["name"] for variant in made["spec"]["variants"]] == ["bf16", "fp8-static", "awq"]
    assert made["spec"]["sampling"] == WHOLE["spec"]["sampling"] | {"starts": 2, "maxStarts": 2}
    assert made["metadata"] == {"name": "published-study-h100-fp8-static-awq", "namespace": "quantbench"}
    same = {key: value for key, value in made["spec"].items() if key not in ("variants", "sampling")}
    assert same == {key: value for key, value in WHOLE["spec"].items() if key not in ("variants", "sampling")}


def test_a_sitting_may_do_without_the_control() -> None:
    assert WHOLE["spec"]["sampling"].get("control", True)
    assert printed("--no-control")["spec"]["sampling"] == WHOLE["spec"]["sampling"] | {"control": False}


def test_what_is_not_asked_for_stays() -> None:
    assert printed("--name", "evening") == {**WHOLE, "metadata": WHOLE["metadata"] | {"name": "evening"}}


def test_a_sitting_never_takes_the_name_of_the_study() -> None:
    assert printed("--variants", "bf16")["metadata"]["name"] == "published-study-h100-bf16"


def test_what_the_cluster_wrote_into_an_object_stays_out() -> None:
    kept = {"labels": {"team": "serving"}, "annotations": {"note": "x"}}
    applied = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    head = WHOLE["metadata"] | {"uid": "1", "resourceVersion": "2", "generation": 1} | kept
    head["annotations"] = kept["annotations"] | applied
    made = yaml.safe_load(cut("-f", "-", text=yaml.safe_dump(WHOLE | {"metadata": head, "status": {}})).stdout)
    assert [*made] == ["apiVersion", "kind", "metadata", "spec"]
    assert made["metadata"] == WHOLE["metadata"] | kept | {"name": made["metadata"]["name"]}


def test_long_names_are_cut_and_still_differ() -> None:
    every = [variant["name"] for variant in WHOLE["spec"]["variants"][1:]]
    names = {printed("--variants", ",".join(some))["metadata"]["name"] for some in (every, every[1:], every[:-1])}
    assert len(names) == 3
    assert all(len(name) <= 63 for name in names)


def test_a_cut_study_can_be_cut_and_planned_again() -> None:
    once = cut("-f", str(STUDY), "--variants", "awq,w4a16", "--name", "a").stdout
    again = cut("-f", "-", "--variants", "awq", "--name", "b", text=once)
    assert [v["name"] for v in yaml.safe_load(again.stdout)["spec"]["variants"]] == ["bf16", "awq"]
    planned = CliRunner().invoke(app, ["plan", "-f", "-"], input=again.stdout)
    assert planned.exit_code == 0


def test_the_sittings_fit_together() -> None:
    parts = []
    for place, variants in enumerate(("fp8-static", "awq,w4a16")):
        made = printed("--variants", variants, "--starts", "1", "--name", f"sitting-{place}")
        study = finished(QuantBenchmarkSpec.model_validate(made["spec"]))
        runs = tuple(dataclasses.replace(run, uid=f"{place}-{run.uid}") for run in study.runs)
        parts.append(Study(dataclasses.replace(study.benchmark, uid=f"uid-{place}"), runs))
    whole = merged(parts).benchmark
    assert [variant.name for variant in whole.spec.variants] == ["bf16", "fp8-static", "w4a16", "awq"]
    assert all(cell.loads for cell in whole.status.cells)


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (("--variants", "awq,nope,none"), None, "--variants: no nope, none in "),
        (("--starts", "26"), None, "or equal to 25"),
        (("--name", "A_b"), None, "metadata.name"),
        ((), "kind: Pod", "kind: QuantBenchmark expected, 'Pod' found"),
        ((), "---\na: 1\n---\nb: 1\n", "2 documents: give one study"),
    ],
)
def test_what_cannot_be_cut_is_said(arguments: tuple[str, ...], text: str | None, said: str) -> None:
    result = cut("-f", "-" if text else str(STUDY), *arguments, text=text)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
