"""Walking over the schemas of the CRDs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from quantbench.api.base import JsonObject
from quantbench.api.schema import Kind, custom_resource_definition


def root(kind: Kind) -> JsonObject:
    """The schema of the whole object."""
    schema: JsonObject = custom_resource_definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def part(kind: Kind, name: str) -> JsonObject:
    """The schema of spec or status."""
    schema: JsonObject = root(kind)["properties"][name]
    return schema


def nodes(schema: JsonObject, path: str) -> Iterator[tuple[str, JsonObject]]:
    """Every schema below and with this one, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}.<key>")


def defaulted(schema: JsonObject, value: Any) -> Any:
    """What the API server makes of a value: defaults filled in, from the outside inwards."""
    if isinstance(value, dict):
        value = dict(value)
        for name, child in schema.get("properties", {}).items():
            if name not in value and "default" in child:
                value[name] = copy.deepcopy(child["default"])
            if name in value:
                value[name] = defaulted(child, value[name])
        return value
    if isinstance(value, list) and "items" in schema:
        return [defaulted(schema["items"], item) for item in value]
    return value


def without_empty_maps(value: Any) -> Any:
    """A value without its empty objects, which mean the same as absent ones."""
    if isinstance(value, dict):
        kept = {key: without_empty_maps(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item != {}}
    if isinstance(value, list):
        return [without_empty_maps(item) for item in value]
    return value
