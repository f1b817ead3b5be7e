"""The chart as a package: it lints, renders on the versions that it names, and describes itself truly."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart_support.bench import example
from chart_support.chart import (
    CHART,
    DEFAULTS,
    VALUE_SETS,
    helm,
    metadata,
    of_kind,
    one,
    operator_env,
    operator_pod,
    refusal,
    render,
    template,
)
from quantbench import __version__
from quantbench.api.benchmark import NEEDS_CHECKPOINT, QuantBenchmarkSpec
from quantbench.api.names import API_VERSION, VERSION
from quantbench.api.schema import KINDS
from quantbench.plan import make_plan

CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
every_set = pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_helm_lint_has_nothing_to_say(name: str) -> None:
    files = [] if name == "defaults" else ["--values", str(CHART / "ci" / f"{name}-values.yaml")]
    done = helm("lint", "--strict", str(CHART), *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


@every_set
def test_no_object_twice_and_every_namespaced_one_says_where(values: dict) -> None:
    documents = render(values)
    places = [(d["apiVersion"], d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in documents]
    assert len(set(places)) == len(places)
    for _, kind, namespace, name in places:
        assert (namespace is None) == (kind in CLUSTER_SCOPED), (kind, name)


def test_defaults_touch_the_cluster_only_with_definitions() -> None:
    kinds = {document["kind"] for document in render(DEFAULTS)}
    assert kinds & CLUSTER_SCOPED == {"CustomResourceDefinition"}


@pytest.mark.parametrize("version", ["1.29.0", "1.29.3-gke.1282000", "1.34.4", "1.36.0"])
def test_kubernetes_versions_that_can(version: str) -> None:
    assert template(DEFAULTS, kubernetes=version).returncode == 0


def test_versions_of_cloud_providers_are_let_in_by_every_helm() -> None:
    """Older Helm takes v1.29.3-gke.1 for a pre-release, which only a bound with a pre-release part lets in."""
    assert metadata()["kubeVersion"] == ">=1.29.0-0"


def test_kubernetes_versions_that_cannot() -> None:
    assert "kubeVersion" in refusal(DEFAULTS, kubernetes="1.28.15")


def test_names_of_digits_stay_names() -> None:
    """YAML reads an unquoted 123 as a number, which no name or label may be."""
    values = {"serviceAccount": {"name": "7"}, "leaderElection": {"leaseName": "8"}, "watch": {"namespaces": ["9"]}}
    documents = render({**values, "priorityClassName": "10"}, namespace="456", release="123")
    for document in documents:
        head = document["metadata"]
        strings = [head["name"], head.get("namespace", ""), *head.get("labels", {}).values()]
        assert all(isinstance(string, str) for string in strings), head
    assert operator_pod(documents)["spec"]["serviceAccountName"] == "7"
    assert operator_pod(documents)["spec"]["priorityClassName"] == "10"
    assert one(documents, "Role", namespace="456")["rules"][1]["resourceNames"] == ["8"]


def test_long_release_names_fit() -> None:
    documents = render(VALUE_SETS["full"] | {"nameOverride": ""}, release="r" * 53)
    assert max(len(document["metadata"]["name"]) for document in documents) <= 63
    for document in documents:
        assert all(len(value) <= 63 for value in document["metadata"].get("labels", {}).values())


def test_versions_agree() -> None:
    head = metadata()
    assert head["version"] == head["appVersion"] == __version__
    image = operator_env(render())["QUANTBENCH_OPERATOR_IMAGE"]
    assert image.endswith(f":{__version__}")
    assert [entry["image"] for entry in yaml.safe_load(head["annotations"]["artifacthub.io/images"])] == [image]


def test_artifact_hub_is_told_of_every_definition() -> None:
    told = yaml.safe_load(metadata()["annotations"]["artifacthub.io/crds"])
    assert {(crd["kind"], crd["version"], crd["name"]) for crd in told} == {
        (kind.kind, VERSION, f"{kind.plural}.quantbench.dev") for kind in KINDS
    }


def assert_can_be_run(manifest: dict[str, Any]) -> None:
    """A study with nothing to refuse: by its models, by its engine, or by the API server's rule on checkpoints."""
    assert (manifest["apiVersion"], manifest["kind"]) == (API_VERSION, "QuantBenchmark")
    spec = QuantBenchmarkSpec.model_validate(manifest["spec"])
    plan = make_plan(manifest["metadata"]["name"], "0-0", spec)
    assert plan.runs
    assert not [run for run in plan.runs if run.refusal]
    for variant in spec.variants:
        assert variant.model or f"'{variant.method}'" in NEEDS_CHECKPOINT, f"{variant.name} needs a checkpoint"


def test_the_example_is_a_study_that_can_be_run() -> None:
    assert_can_be_run(example())


def notes(tmp_path: Path, values: dict) -> str:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    where = ("--namespace", "here", "--dry-run=client", "--hide-notes=false", "--values", str(file))
    done = helm("install", "quantbench", str(CHART), *where)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\nNOTES:\n")[1]


def test_the_study_of_the_notes_can_be_run(tmp_path: Path) -> None:
    text = notes(tmp_path, {"watch": {"namespaces": ["team-a", "team-b"]}})
    manifest = yaml.safe_load(text.split("<<EOF\n")[1].split("   EOF\n")[0])
    assert manifest["metadata"]["namespace"] == "team-a"
    assert_can_be_run(manifest)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "localhost/quantbench/operator:0.1.0 is in no registry"),
        ({"watch": {"cluster": True}}, "no namespace of benchmarks gets network policies"),
        ({"metrics": {"podMonitor": {"enabled": True}}}, "let nobody scrape"),
        ({"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}}, "will be there twice"),
        ({"crds": {"install": False}}, "are not part of this release"),
    ],
)
def test_notes_warn(tmp_path: Path, values: dict, said: str) -> None:
    assert said in notes(tmp_path, values)
    quiet = {"image": {"repository": "registry.example/operator"}, "watch": {"namespaces": ["a"]}}
    assert "NOTE" not in notes(tmp_path, quiet).replace("NOTES", "")
    assert "WARNING" not in notes(tmp_path, quiet)


def test_the_package_holds_definitions_and_no_test_values(tmp_path: Path) -> None:
    done = helm("package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as packed:
        names = {name.removeprefix("quantbench/") for name in packed.getnames()}
    assert {f"files/crds/{kind.plural}.yaml" for kind in KINDS} <= names
    assert {"README.md", "values.schema.json", "templates/NOTES.txt"} <= names
    assert not [name for name in names if name.startswith("ci/")]


def test_only_toggles_decide_what_is_there() -> None:
    off = {
        "crds": {"install": False},
        "rbac": {"create": False},
        "serviceAccount": {"create": False},
        "networkPolicy": {"enabled": False},
    }
    documents = render(off)
    assert [document["kind"] for document in documents] == ["Deployment"]
    assert operator_pod(documents)["spec"]["serviceAccountName"] == "default"
    assert not of_kind(render({"metrics": {"service": {"enabled": False}}}), "Service")
