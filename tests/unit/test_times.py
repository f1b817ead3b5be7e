"""Timestamps: what is read, what is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench import times


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.678Z", datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
    ],
)
def test_reading(text: str, wanted: datetime) -> None:
    assert times.parse(text) == wanted
    assert times.is_moment(text)


@pytest.mark.parametrize("text", ["", "now", "2026-01-02", "2026-01-02T03:04:05", "0001-01-01T00:00:00+14:00", "²"])
def test_what_is_no_moment(text: str) -> None:
    assert not times.is_moment(text)


def test_a_time_without_a_zone_is_not_taken_for_a_local_one() -> None:
    with pytest.raises(ValueError, match="zone"):
        times.parse("2026-01-02T03:04:05")


def test_writing() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=timezone(timedelta(hours=2)))
    assert times.render(moment) == "2026-01-02T01:04:05.678Z"


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_what_is_written_is_read(moment: datetime) -> None:
    assert abs(times.parse(times.render(moment)) - moment) < timedelta(milliseconds=1)
    assert times.from_unix(moment.timestamp()) - moment < timedelta(milliseconds=1)
    assert len(times.render(moment)) <= 32


@given(st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.lists(st.integers()))
def test_any_value_may_stand_where_a_time_is_expected(value: Any) -> None:
    found = times.read_unix(value)
    assert found is None or found == times.from_unix(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, 10**400, True, "5", None])
def test_what_is_no_unix_time(value: Any) -> None:
    assert times.read_unix(value) is None


def test_seconds_between() -> None:
    assert times.seconds_between("2026-01-02T00:00:00Z", "2026-01-02T00:01:00.500Z") == 60.5
    assert times.seconds_between("2026-01-02T00:00:01Z", "2026-01-02T00:00:00Z") == -1.0
    assert times.seconds_between(None, "2026-01-02T00:00:00Z") is None
    assert times.seconds_between("2026-01-02T00:00:00Z", None) is None
