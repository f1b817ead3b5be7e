"""Values: every one described, nothing else let in, and README's table true."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from chart_support.chart import CHART, VALUE_SETS, leaves, refusal, schema, values_file

README = CHART / "README.md"
BEGIN = "<!-- values: written by `UPDATE_GOLDEN=1 make unit` from values.yaml and values.schema.json -->\n"
END = "<!-- /values -->\n"

FREE = {
    "global",
    "affinity.nodeAffinity",
    "affinity.podAffinity",
    "affinity.podAntiAffinity",
    "networkPolicy.monitoring[].namespaceSelector",
    "networkPolicy.monitoring[].podSelector",
    "extraEnv[].valueFrom",
}
"""Objects of Kubernetes that are handed on as they are; the API server checks them."""


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and schema of every value."""
    yield path, node
    for name, below in node.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}" if path else name)
    if isinstance(node.get("items"), dict):
        yield from nodes(node["items"], f"{path}[]")


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(schema())


@pytest.mark.parametrize(("path", "node"), list(nodes(schema())), ids=[path or "values" for path, _ in nodes(schema())])
def test_every_value_is_described_and_closed(path: str, node: dict[str, Any]) -> None:
    if path != "networkPolicy.monitoring[].ipBlock.except[]":
        assert node.get("description", "").endswith("."), "a sentence"
    assert "type" in node
    if node["type"] != "object":
        return
    more = node["additionalProperties"]
    if path in FREE:
        assert more is True
    elif "properties" in node:
        assert more is False
    else:
        assert more["type"] in ("string", ["string", "number"])


def test_the_file_holds_every_value_and_no_other() -> None:
    said = {path for path, _, _ in leaves(values_file(), schema())}
    open_ended = ("affinity", "resources")
    known = {
        path
        for path, node in nodes(schema())
        if "properties" not in node and "[]" not in path and path != "global" and not path.startswith("affinity.")
    }
    assert said - set(open_ended) == known


@pytest.mark.parametrize("name", VALUE_SETS)
def test_value_sets_are_valid(name: str) -> None:
    jsonschema.validate({**values_file(), **VALUE_SETS[name]}, schema())


def test_every_value_has_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    wanted = {path for path, _, _ in leaves(values_file(), schema())}
    seen = set()
    for path, line in _keys(yaml.compose((CHART / "values.yaml").read_text())):
        if path in wanted:
            seen.add(path)
            assert lines[line - 1].lstrip().startswith("# "), f"{path} has no comment above it"
    assert seen == wanted


def _keys(node: Any, path: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = f"{path}.{key.value}" if path else key.value
            yield here, key.start_mark.line
            yield from _keys(value, here)


def table() -> str:
    """README's table of values."""
    rows = ["| value | default | what it is |", "|---|---|---|"]
    for path, default, description in leaves(values_file(), schema()):
        rows.append(f"| `{path}` | `{json.dumps(default)}` | {description} |")
    return "\n".join(rows) + "\n"


def test_readme_shows_every_value() -> None:
    text = README.read_text()
    before, rest = text.split(BEGIN)
    shown, after = rest.split(END)
    if os.environ.get("UPDATE_GOLDEN"):
        README.write_text(before + BEGIN + "\n" + table() + "\n" + END + after)
        return
    assert shown.strip() == table().strip(), "run `UPDATE_GOLDEN=1 make unit`"


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"unknown": 1}, "unknown"),
        ({"watch": {"namespace": "a"}}, "namespace"),
        ({"image": {"repo": "x"}}, "repo"),
        ({"image": {"repository": ""}}, "repository"),
        ({"image": {"tag": 1.0}}, "tag"),
        ({"image": {"digest": "sha256:abc"}}, "digest"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"replicas": "1"}, "replicas"),
        ({"replicas": -1}, "replicas"),
        ({"workers": 0}, "workers"),
        ({"workers": 2.5}, "workers"),
        ({"httpPort": 80}, "httpPort"),
        ({"logFormat": "xml"}, "logFormat"),
        ({"strategy": "Never"}, "strategy"),
        ({"watch": {"namespaces": "team-a"}}, "namespaces"),
        ({"watch": {"namespaces": ["a,b"]}}, "namespaces"),
        ({"watch": {"namespaces": ["a", "a"]}}, "namespaces"),
        ({"watch": {"namespaces": [""]}}, "namespaces"),
        ({"watch": {"cluster": "yes"}}, "cluster"),
        ({"crds": {"install": "false"}}, "install"),
        ({"networkPolicy": {"monitoring": [{}]}}, "monitoring"),
        ({"networkPolicy": {"monitoring": [{"from": []}]}}, "from"),
        ({"metrics": {"serviceMonitor": {"interval": "30"}}}, "interval"),
        ({"tolerations": [{"effect": "NoSchedul"}]}, "effect"),
        ({"affinity": {"nodes": {}}}, "nodes"),
        ({"resources": {"cpu": 1}}, "cpu"),
        ({"extraEnv": [{"value": "x"}]}, "name"),
        ({"podLabels": {"a": 1}}, "podLabels"),
        ({"podAnnotations": {"a": True}}, "podAnnotations"),
        ({"leaderElection": {"leaseName": "The Lease"}}, "leaseName"),
        ({"fullnameOverride": "x" * 47}, "fullnameOverride"),
    ],
    ids=json.dumps,
)
def test_wrong_values_are_refused_by_name(values: dict, where: str) -> None:
    said = refusal(values)
    assert "values don't meet the specifications" in said
    assert where in said
