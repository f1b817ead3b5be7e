"""The generated CRDs keep the conventions that API servers and people rely on."""

from __future__ import annotations

import re
from typing import Any

import pytest

from core_support.crd import nodes, part, root
from quantbench.api.base import JsonObject
from quantbench.api.schema import KINDS, QUANT_BENCHMARK, QUANT_BENCHMARK_RUN, Kind, custom_resource_definition

# Every keyword that a structural schema of ours may use; $ref, oneOf, not, nullable and the like are not among them.
KEYWORDS = {
    "type", "description", "properties", "required", "items", "additionalProperties", "default", "enum", "pattern",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems",
    "minProperties", "maxProperties", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations",
    "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip
INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
YAML_TRAPS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "~"}
# Lists of objects that are no list-maps, each with its reason.
PLAIN_LISTS = {
    "spec.engine.podTemplate.tolerations": "tolerations have no key: two may differ in any field",
    "status.findings": "sentences in order of importance; nothing tells two apart but all that they say",
    "status.crossovers": "one pair of variants can cross more than once",
    "status.attestation.gpus": "a driver may give no UUID",
}
# Objects whose contents the schema leaves open, each with its reason.
OPEN = {
    "spec.engine.podTemplate.affinity": "Kubernetes' own type, several hundred lines long; plan.py bounds its size",
}

BOTH = pytest.mark.parametrize("kind", KINDS, ids=[kind.kind for kind in KINDS])
EVERY = [
    pytest.param(path, schema, id=f"{kind.short}:{path}")
    for kind in KINDS
    for name in ("spec", "status")
    for path, schema in nodes(part(kind, name), name)
]


def violations(path: str, schema: JsonObject) -> list[str]:
    """What is wrong with one node."""
    kind = schema.get("type")
    wrong = []
    if schema.get("x-kubernetes-int-or-string"):
        wrong += [f"unknown keyword {key}" for key in set(schema) - KEYWORDS - {"x-kubernetes-int-or-string", "anyOf"}]
        wrong += [] if schema.get("anyOf") == INT_OR_STRING else ["anyOf other than integer or string"]
        wrong += [] if {"pattern", "maxLength", "minimum"} <= set(schema) else ["unbounded"]
        return wrong
    wrong += [f"unknown keyword {key}" for key in set(schema) - KEYWORDS]
    if kind == "string":
        wrong += [] if "maxLength" in schema or "enum" in schema else ["unbounded"]
    elif kind == "array":
        wrong += [] if "maxItems" in schema else ["unbounded"]
        wrong += _list_violations(path, schema)
    elif kind in ("integer", "number"):
        wrong += [] if "minimum" in schema and "maximum" in schema else ["unbounded"]
    elif kind == "object":
        wrong += _object_violations(path, schema)
    elif kind != "boolean":
        wrong.append(f"type {kind!r}")
    if "enum" in schema and "default" in schema and schema["default"] not in schema["enum"]:
        wrong.append("default not among the values")
    return wrong


def _object_violations(path: str, schema: JsonObject) -> list[str]:
    wrong = []
    if "properties" in schema and "additionalProperties" in schema:
        wrong.append("properties beside additionalProperties")
    elif isinstance(schema.get("additionalProperties"), dict) and "maxProperties" not in schema:
        wrong.append("unbounded")
    elif schema.get("x-kubernetes-preserve-unknown-fields"):
        wrong += [] if path in OPEN else ["contents left open"]
    elif "properties" not in schema and "additionalProperties" not in schema:
        wrong.append("no properties")
    return wrong + [
        f"required {name} is no property"
        for name in schema.get("required", [])
        if name not in schema.get("properties", {})
    ]


def _list_violations(path: str, schema: JsonObject) -> list[str]:
    items = schema["items"]
    if items.get("type") != "object":
        return []
    if schema.get("x-kubernetes-list-type") != "map":
        return [] if path in PLAIN_LISTS else ["a list of objects that is no list-map"]
    wrong = []
    for key in schema["x-kubernetes-list-map-keys"]:
        field = items["properties"].get(key, {})
        if key not in items.get("required", []) and "default" not in field:
            wrong.append(f"key {key} is neither required nor has it a default")
        if field.get("type") not in ("string", "integer", "boolean"):
            wrong.append(f"key {key} is no scalar")
    return wrong


@pytest.mark.parametrize(("path", "schema"), EVERY)
def test_bounded_and_structural(path: str, schema: JsonObject) -> None:
    assert violations(path, schema) == []


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({"type": "string"}, "unbounded"),
        ({"type": "array", "items": {"type": "string", "maxLength": 1}}, "unbounded"),
        (
            {"type": "array", "maxItems": 1, "items": {"type": "object", "properties": {}}},
            "a list of objects that is no list-map",
        ),
        ({"type": "integer", "minimum": 0}, "unbounded"),
        ({"type": "number"}, "unbounded"),
        ({"type": "object", "additionalProperties": {"type": "string", "maxLength": 1}}, "unbounded"),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, "contents left open"),
        ({"$ref": "#/$defs/X"}, "unknown keyword $ref"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "unknown keyword anyOf"),
        ({"type": "string", "enum": ["a"], "default": "b"}, "default not among the values"),
        (
            {
                "type": "array",
                "maxItems": 1,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 1}}},
            },
            "key name is neither required nor has it a default",
        ),
    ],
)
def test_the_lint_itself_finds(schema: JsonObject, wrong: str) -> None:
    assert wrong in violations("spec.x", schema)


def test_exceptions_are_still_needed() -> None:
    paths = {path for kind in KINDS for name in ("spec", "status") for path, _ in nodes(part(kind, name), name)}
    assert set(PLAIN_LISTS) <= paths
    assert set(OPEN) <= paths


@pytest.mark.parametrize(("path", "schema"), EVERY)
def test_names_and_descriptions(path: str, schema: JsonObject) -> None:
    for name, child in schema.get("properties", {}).items():
        assert re.fullmatch(r"[a-z][A-Za-z0-9]{0,62}", name), f"{path}.{name} is not camelCase"
        assert name.lower() not in YAML_TRAPS, f"{path}.{name} is a boolean in YAML 1.1"
        assert name != "phase", f"{path}.{name}: states are conditions"
        about = child.get("description", "")
        assert 3 <= len(about) <= 300, f"{path}.{name} needs a description"
    assert isinstance(schema.get("description", "text"), str)


@BOTH
def test_envelope(kind: Kind) -> None:
    crd = custom_resource_definition(kind)
    spec = crd["spec"]
    version = spec["versions"][0]
    assert crd["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert (spec["scope"], len(spec["versions"])) == ("Namespaced", 1)
    assert (version["served"], version["storage"], version["subresources"]) == (True, True, {"status": {}})
    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == ([kind.short], ["quantbench"])
    assert root(kind)["required"] == ["spec"]


def test_short_names() -> None:
    assert [kind.short for kind in KINDS] == ["qb", "qbr"]


@BOTH
def test_conditions_are_a_list_map(kind: Kind) -> None:
    conditions = part(kind, "status")["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    fields = conditions["items"]
    assert {"type", "status", "reason", "lastTransitionTime"} <= set(fields["required"])
    assert {"message", "observedGeneration"} <= set(fields["properties"])


@BOTH
def test_a_status_has_no_defaults(kind: Kind) -> None:
    assert [path for path, schema in nodes(part(kind, "status"), "status") if "default" in schema] == []


def resolve(schema: JsonObject, path: str) -> Any:
    """The schema at a printer column's JSONPath."""
    for step in re.findall(r"\.([A-Za-z]+)((?:\[[^]]*\])?)", path):
        name, condition = step
        schema = schema["properties"][name]
        if condition:
            assert re.fullmatch(r'\[\?\(@\.type=="[A-Z][A-Za-z]+"\)\]', condition)
            schema = schema["items"]
    return schema


@pytest.mark.parametrize(
    ("kind", "column"),
    [pytest.param(kind, column, id=f"{kind.short}:{column.name}") for kind in KINDS for column in kind.columns],
)
def test_printer_columns_show_existing_fields(kind: Kind, column: Any) -> None:
    if column.path == ".metadata.creationTimestamp":
        assert column.type == "date"
        return
    found = resolve(root(kind), column.path)
    assert found["type"] == column.type


def test_conditions_in_columns_exist() -> None:
    from quantbench.api.conditions import ConditionType

    shown = {name for kind in KINDS for column in kind.columns for name in re.findall(r'"([A-Za-z]+)"', column.path)}
    assert shown <= set(ConditionType)


def test_every_row_of_the_answer_can_be_told_apart() -> None:
    cells = part(QUANT_BENCHMARK, "status")["properties"]["cells"]
    assert cells["x-kubernetes-list-map-keys"] == ["variant", "target"]
    assert cells["items"]["properties"]["loads"]["x-kubernetes-list-map-keys"] == ["load"]
    assert part(QUANT_BENCHMARK_RUN, "status")["properties"]["passes"]["x-kubernetes-list-map-keys"] == ["key"]


def rules(kind: Kind) -> dict[str, str]:
    """CEL rules of the specification by their message."""
    return {rule["message"]: rule["rule"] for rule in part(kind, "spec")["x-kubernetes-validations"]}


def test_plan_fields_are_immutable_and_only_they() -> None:
    fixed = {
        match[1]
        for rule in rules(QUANT_BENCHMARK).values()
        if (match := re.fullmatch(r"self\.(\w+) == oldSelf\.(\w+)", rule)) and match[1] == match[2]
    }
    changeable = {"suspend", "limits", "ttlSecondsAfterFinished"}
    assert fixed == set(part(QUANT_BENCHMARK, "spec")["properties"]) - changeable


def test_a_run_is_immutable_but_for_limits_and_suspend() -> None:
    fixed = {
        name
        for validation in part(QUANT_BENCHMARK_RUN, "spec")["x-kubernetes-validations"]
        for name in re.findall(r"self\.(\w+) == oldSelf\.\1\b", validation["rule"])
    }
    assert fixed == set(part(QUANT_BENCHMARK_RUN, "spec")["properties"]) - {"limits", "suspend"}
