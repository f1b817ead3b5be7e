"""Kubernetes timestamps: RFC 3339 in UTC. Nothing here reads a clock."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any


def parse(text: str) -> datetime:
    """``2026-01-02T03:04:05[.678]Z`` as an aware datetime.

    Raises:
        ValueError: not such a text.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without its zone: {text!r}")
    return moment.astimezone(UTC)


def render(moment: datetime) -> str:
    """With milliseconds: stages of a run can be shorter than the second that Kubernetes' own times resolve."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_moment(text: str) -> bool:
    """Whether `parse` can read it."""
    try:
        parse(text)
    except (ValueError, OverflowError):
        return False
    return True


def moments(texts: Iterable[str]) -> Iterator[datetime]:
    """Those of some texts that `parse` can read."""
    return (parse(text) for text in texts if is_moment(text))


def from_unix(seconds: float) -> datetime:
    """Seconds since 1970 as an aware datetime.

    Raises:
        ValueError: outside the years that a datetime can hold.
    """
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"not a time: {seconds}") from error


def read_unix(value: Any) -> datetime | None:
    """Seconds since 1970 from a JSON document, or None where the value is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return from_unix(value)
    except ValueError:
        return None


def seconds_between(start: str | None, end: str | None) -> float | None:
    """``end`` - ``start`` [s], or None where one of them is missing."""
    if start is None or end is None:
        return None
    return (parse(end) - parse(start)) / timedelta(seconds=1)
