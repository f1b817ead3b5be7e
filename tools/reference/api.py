"""The field reference of the custom resources, and what each name in their status means."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quantbench.api.base import JsonObject
from quantbench.api.benchmark import IMMUTABLE
from quantbench.api.conditions import ConditionType, Reason, Stage
from quantbench.api.names import API_VERSION, Kernel, Method, Named, Verdict
from quantbench.api.run import MUTABLE, QuantBenchmarkRunSpec
from quantbench.api.schema import KINDS, QUANT_BENCHMARK, Kind, custom_resource_definition
from reference.markdown import code, page, table

ABOUT = f"""
Group and version: `{API_VERSION}`. Both kinds are namespaced.

Paths are written as `kubectl explain` takes them, with `[]` for the items of a list and `<key>` for those of a map.
Fields marked *fixed* cannot be changed once the object exists: create another one instead.
"""


@dataclass(frozen=True)
class Row:
    """One field."""

    path: str
    schema: JsonObject
    required: bool


def text() -> str:
    """The page."""
    parts = [ABOUT]
    for kind in KINDS:
        parts += _kind(kind)
    parts += [
        "## Names\n\n### Methods",
        _meanings(Method),
        "What each of them becomes on the command line of a vLLM version: [methods.md](methods.md).",
        "### Kernels",
        _meanings(Kernel),
        "### Verdicts",
        f"{_line(Verdict)}",
        _meanings(Verdict),
        "### Conditions",
        _meanings(ConditionType),
        "### Reasons of a QuantBenchmark's conditions",
        _meanings(Reason),
        "### Reasons of a QuantBenchmarkRun's condition Complete",
        "It is True once the verdict is stored; its reason is the stage that the run is in.",
        _meanings(Stage),
    ]
    return page("API reference", *parts)


def _kind(kind: Kind) -> list[str]:
    version = custom_resource_definition(kind)["spec"]["versions"][0]
    fields = version["schema"]["openAPIV3Schema"]["properties"]
    columns = ", ".join(column["name"] for column in version["additionalPrinterColumns"])
    return [
        f"## {kind.kind}",
        f"{kind.about} Short name `{kind.short}`; `kubectl get` shows {columns} (some with `-o wide` only).",
        "### spec",
        table(
            ("Field", "Type", "Default", "Bounds", "Fixed", "Description"),
            ((*_cells(row), _fixed(kind, row.path), _about(row)) for row in _rows(fields["spec"], "spec")),
        ),
        *_rules(fields["spec"]),
        "### status",
        table(
            ("Field", "Type", "Bounds", "Description"),
            (
                (name, kind_of, bounds, _about(row))
                for row in _rows(fields["status"], "status")
                for name, kind_of, _, bounds in [_cells(row)]
            ),
        ),
    ]


def _rows(schema: JsonObject, path: str) -> Iterator[Row]:
    """Every field below a schema, parents before children."""
    for name, child in schema.get("properties", {}).items():
        below = f"{path}.{name}"
        yield Row(below, child, name in schema.get("required", []))
        inner = child
        while True:
            if "items" in inner:
                below, inner = f"{below}[]", inner["items"]
            elif isinstance(inner.get("additionalProperties"), dict):
                below, inner = f"{below}.<key>", inner["additionalProperties"]
            else:
                break
        yield from _rows(inner, below)


def _cells(row: Row) -> tuple[str, str, str, str]:
    default = "**required**" if row.required else ""
    if "default" in row.schema:
        default = code(json.dumps(row.schema["default"], ensure_ascii=False))
    return code(row.path), _type(row.schema), default, _bounds(row.schema)


def _type(schema: JsonObject) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "items" in schema:
        keys = schema.get("x-kubernetes-list-map-keys")
        return f"list of {_type(schema['items'])}" + (f", one per {', '.join(keys)}" if keys else "")
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "object"))


def _bounds(schema: JsonObject) -> str:
    said = []
    if "enum" in schema:
        said.append(", ".join(code(value) for value in schema["enum"]))
    for key, sign, strict in (("minimum", "≥", ">"), ("maximum", "≤", "<")):
        if key in schema:
            exclusive = schema.get(f"exclusive{key.capitalize()}")
            said.append(f"{strict if exclusive else sign} {_number(schema[key])}")
    for low, high, unit in (
        ("minLength", "maxLength", "characters"),
        ("minItems", "maxItems", "items"),
        ("minProperties", "maxProperties", "keys"),
    ):
        if high in schema:
            said.append(f"{schema[low]} to {schema[high]} {unit}" if schema.get(low) else f"≤ {schema[high]} {unit}")
    if "pattern" in schema:
        said.append(code(schema["pattern"]))
    for part in ("items", "additionalProperties"):
        inner = schema.get(part)
        if isinstance(inner, dict) and "properties" not in inner and (bounds := _bounds(inner)):
            said.append(f"each {bounds}")
    return "; ".join(said)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fixed(kind: Kind, path: str) -> str:
    top = path.split(".")[1].removesuffix("[]")
    if kind is QUANT_BENCHMARK:
        return "fixed" if top in IMMUTABLE else ""
    assert kind.spec is QuantBenchmarkRunSpec
    return "" if top in MUTABLE else "fixed"


def _about(row: Row) -> str:
    return " ".join(str(row.schema.get("description", "")).split())


def _rules(schema: JsonObject, path: str = "spec") -> list[str]:
    found = sorted(set(_validations(schema, path)))
    return ["The API server also checks:", "\n".join(f"- {code(at)}: {message}" for at, message in found)]


def _validations(schema: JsonObject, path: str) -> Iterator[tuple[str, str]]:
    for validation in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in validation["rule"]:
            yield path + validation.get("fieldPath", ""), validation["message"]
    for row in _rows({"properties": schema.get("properties", {})}, path):
        for holder, suffix in ((row.schema, ""), (row.schema.get("items", {}), "[]")):
            for validation in holder.get("x-kubernetes-validations", []):
                yield row.path + suffix + validation.get("fieldPath", ""), validation["message"]


def _meanings(names: type[Named]) -> str:
    return table(("Name", "Meaning"), ((code(name), name.meaning) for name in names))


def _line(names: type[Named]) -> str:
    return (names.__doc__ or "").strip()
