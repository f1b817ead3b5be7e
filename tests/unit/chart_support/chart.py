"""The chart as Helm renders it, and as its files stand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "quantbench"
OLDEST_KUBERNETES = "1.29.0"
NAMESPACE = "release-namespace"
RELEASE = "quantbench"

DEFAULTS: Mapping[str, Any] = {}
VALUE_SETS: Mapping[str, Mapping[str, Any]] = {
    "defaults": DEFAULTS,
    **{
        file.name.removesuffix("-values.yaml"): yaml.safe_load(file.read_text())
        for file in sorted((CHART / "ci").glob("*-values.yaml"))
    },
}
"""What tests of the whole chart go through: the defaults, and the value sets that chart-testing tools find in ci/."""

Document = dict[str, Any]


@cache
def helm_binary() -> str:
    """$HELM, the embedded cluster's helm, or the one on the PATH; an empty string where there is none."""
    own = ROOT / ".cluster" / "bin" / "helm"
    return os.environ.get("HELM") or (str(own) if own.exists() else "") or shutil.which("helm") or ""


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm, apart from the user's own settings, plugins and clusters."""
    binary = helm_binary()
    if not binary:
        lack = "no helm: set HELM, put it on the PATH, or run `python3 cluster binaries`"
        if os.environ.get("CI"):
            pytest.fail(lack)
        pytest.skip(lack)
    with tempfile.TemporaryDirectory() as home:
        folders = {f"HELM_{name}_HOME": f"{home}/{name}" for name in ("CACHE", "CONFIG", "DATA")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HELM", "KUBE"))}
        return subprocess.run(
            [binary, *arguments],
            env={**kept, **folders, "KUBECONFIG": os.devnull},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def template(
    values: Mapping[str, Any],
    *,
    namespace: str = NAMESPACE,
    release: str = RELEASE,
    kubernetes: str = OLDEST_KUBERNETES,
) -> subprocess.CompletedProcess[str]:
    """`helm template` with these values over the defaults."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        where = ("--namespace", namespace, "--kube-version", kubernetes)
        return helm("template", release, str(CHART), *where, "--values", file.name)


def render(
    values: Mapping[str, Any] = DEFAULTS, *, namespace: str = NAMESPACE, release: str = RELEASE
) -> list[Document]:
    """The objects that an installation with these values creates."""
    return json.loads(_rendered(json.dumps(values, sort_keys=True), namespace, release))


@cache
def _rendered(values: str, namespace: str, release: str) -> str:
    done = template(json.loads(values), namespace=namespace, release=release)
    assert done.returncode == 0, done.stderr
    return json.dumps([document for document in yaml.safe_load_all(done.stdout) if document])


def refusal(values: Mapping[str, Any], **options: str) -> str:
    """What Helm says against these values; the test fails where it says nothing."""
    done = template(values, **options)
    assert done.returncode != 0, "Helm took these values"
    return done.stderr


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def one(documents: list[Document], kind: str, name: str | None = None, namespace: str | None = None) -> Document:
    """The only object of this kind (and name, and namespace)."""
    found = [
        document
        for document in of_kind(documents, kind)
        if name in (None, document["metadata"]["name"]) and namespace in (None, document["metadata"].get("namespace"))
    ]
    assert len(found) == 1, f"{len(found)} × {kind} {name or ''}"
    return found[0]


def operator_pod(documents: list[Document]) -> Document:
    """Pod template of the operator's Deployment."""
    return one(documents, "Deployment")["spec"]["template"]


def operator_env(documents: list[Document]) -> dict[str, Any]:
    """Environment of the operator's container: name → value, or the object that says where it comes from."""
    (container,) = operator_pod(documents)["spec"]["containers"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


def chosen(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector of Kubernetes takes an object with these labels; matchLabels only."""
    assert set(selector) <= {"matchLabels"}, f"not understood here: {selector}"
    wanted = selector.get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items())


def values_file() -> dict[str, Any]:
    return yaml.safe_load((CHART / "values.yaml").read_text())


def schema() -> dict[str, Any]:
    return json.loads((CHART / "values.schema.json").read_text())


def metadata() -> dict[str, Any]:
    return yaml.safe_load((CHART / "Chart.yaml").read_text())


def leaves(values: Mapping[str, Any], node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any, str]]:
    """Path, default and description of each value: down to what the schema gives no named fields."""
    for name, default in values.items():
        below = node["properties"][name]
        here = f"{path}.{name}" if path else name
        if isinstance(default, dict) and default and "properties" in below:
            yield from leaves(default, below, here)
        else:
            yield here, default, below["description"]
