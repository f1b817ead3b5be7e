"""Fields of raw objects, whatever they hold."""

from collections.abc import Mapping
from typing import Any

from quantbench import times


def mapping(parent: Any, key: str) -> Mapping[str, Any]:
    """A field that should hold an object; empty where it does not."""
    value = parent.get(key) if isinstance(parent, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def mappings(parent: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of a field that should hold a list of them."""
    items = parent.get(key)
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def text(parent: Mapping[str, Any], key: str) -> str | None:
    """A field's text, or None where it is empty or no text."""
    value = parent.get(key)
    return value if isinstance(value, str) and value else None


def moment(parent: Mapping[str, Any], key: str) -> str | None:
    """A timestamp as it stands, or None where there is none that can be read."""
    value = text(parent, key)
    return value if value and times.is_moment(value) else None
