"""The chart's CustomResourceDefinitions are those of crds/, kept when the release goes."""

from __future__ import annotations

import pytest
import yaml

from chart_support.chart import CHART, ROOT, of_kind, render
from quantbench.api.schema import KINDS

NAMES = [f"{kind.plural}.yaml" for kind in KINDS]


def test_as_many_as_kinds() -> None:
    assert sorted(file.name for file in (CHART / "files" / "crds").iterdir()) == sorted(NAMES)
    assert not (CHART / "crds").exists(), "Helm never upgrades what is in a chart's crds folder"


@pytest.mark.parametrize("name", NAMES)
def test_the_copy_is_identical(name: str) -> None:
    assert (CHART / "files" / "crds" / name).read_bytes() == (ROOT / "crds" / name).read_bytes(), "run `make generate`"


@pytest.mark.parametrize("name", NAMES)
def test_rendering_adds_one_annotation_and_changes_nothing(name: str) -> None:
    """Helm reads YAML and writes it again: a bound that lost digits, or a key read as a boolean, would show here."""
    source = yaml.safe_load((ROOT / "crds" / name).read_text())
    (rendered,) = [
        document
        for document in of_kind(render(), "CustomResourceDefinition")
        if document["metadata"]["name"] == source["metadata"]["name"]
    ]
    assert rendered["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert rendered == source
    for there, here in _pairs(rendered, source):
        # Python takes True for 1, and 1.0 for 1; only the latter is the same to Kubernetes.
        assert isinstance(there, bool) == isinstance(here, bool), f"{here!r} became {there!r}"


def _pairs(one: object, other: object) -> list[tuple[object, object]]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [pair for key in one for pair in _pairs(one[key], other[key])]
    if isinstance(one, list) and isinstance(other, list):
        return [pair for items in zip(one, other, strict=True) for pair in _pairs(*items)]
    return [(one, other)]


def test_the_toggle_leaves_them_out() -> None:
    assert not of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition")
