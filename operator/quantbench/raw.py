"""Fields of raw objects, whatever they hold."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from quantbench import times
from quantbench.api.base import MAX_SECONDS, JsonObject


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


def label(raw: JsonObject, key: str) -> str:
    """A label; empty where there is none."""
    return str(mapping(mapping(raw, "metadata"), "labels").get(key, ""))


def since(conditions: Mapping[str, Mapping[str, Any]], kind: str) -> str | None:
    """Since when a condition is true, or None where it is not."""
    condition = conditions.get(kind, {})
    return moment(condition, "lastTransitionTime") if condition.get("status") == "True" else None


def deletion_asked(metadata: Mapping[str, Any]) -> str | None:
    """When a pod's deletion was asked for; its deletionTimestamp is when the grace period ends."""
    ends, grace = moment(metadata, "deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    if ends is None or not isinstance(grace, int) or not 0 <= grace <= MAX_SECONDS:
        return ends
    try:
        return times.render(times.parse(ends) - timedelta(seconds=grace))
    except OverflowError:
        return ends
