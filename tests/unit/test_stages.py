"""Where a run's time went, from its stage times."""

from __future__ import annotations

import time

import pytest

from core_support.objects import at, run, study
from quantbench.api.base import JsonObject
from quantbench.observe import Run
from quantbench.stages import gaps, usage


def a_run(place: int = 0, *, created: float = 0.0, attempt: int = 1, lost_seconds: float = 0.0, **times: float) -> Run:
    camel = {
        "server_created": "serverCreated",
        "sandbox_ready": "sandboxReady",
        "server_started": "serverStarted",
        "server_finished": "serverFinished",
        "load_created": "loadCreated",
        "first_pass": "firstPass",
        "last_pass": "lastPass",
        "load_finished": "loadFinished",
    }
    status: JsonObject = {
        "attempt": attempt,
        "times": {camel.get(name, name): at(moment) for name, moment in times.items()},
    }
    status["serverSeconds"] = lost_seconds
    return run(study(sampling={"starts": 3}), place, status=status, created=created)


WHOLE = {
    "server_created": 0.0,
    "sandbox_ready": 2.0,
    "load_created": 3.5,
    "server_started": 4.0,
    "ready": 64.0,
    "first_pass": 65.0,
    "last_pass": 95.0,
    "load_finished": 96.0,
    "stored": 96.5,
    "released": 100.0,
}


def test_usage() -> None:
    used = usage(a_run(**WHOLE))
    assert used is not None
    assert (used.existed, used.loading, used.measuring) == (100.0, 60.0, 30.0)
    assert used.share == pytest.approx(0.9)


def test_a_server_that_failed_was_loading_until_its_end() -> None:
    used = usage(a_run(server_created=0, server_started=4, stored=24, released=25))
    assert used is not None
    assert (used.loading, used.measuring, used.share) == (20.0, 0.0, 0.8)


def test_lost_servers_were_of_no_use() -> None:
    used = usage(a_run(attempt=2, lost_seconds=100.0, **WHOLE))
    assert used is not None
    assert (used.existed, used.share) == (200.0, pytest.approx(0.45))


def test_a_server_that_ended_by_itself_decides() -> None:
    crashed = {name: moment for name, moment in WHOLE.items() if name not in ("load_finished", "last_pass")}
    assert named([a_run(**{**crashed, "server_finished": 90.0})])["server ended → verdict stored"] == [6.5]
    under_load = named([a_run(**{**WHOLE, "server_finished": 90.0})])
    assert (under_load["server ended → verdict stored"], "load ended → verdict stored" in under_load) == ([6.5], False)
    afterwards = named([a_run(**{**WHOLE, "server_finished": 96.2})])
    assert (afterwards["load ended → verdict stored"], "server ended → verdict stored" in afterwards) == ([0.5], False)


def test_without_a_warm_up_measuring_begins_when_ready() -> None:
    used = usage(a_run(**{**WHOLE, "first_pass": 64.0}))
    assert used is not None
    assert used.measuring == 31.0
    none = usage(a_run(**{name: moment for name, moment in WHOLE.items() if name != "first_pass"}))
    assert none is not None
    assert none.measuring == 31.0


def test_a_run_that_still_holds_its_server_is_not_judged() -> None:
    assert usage(a_run(server_created=0, ready=5)) is None
    assert usage(a_run()) is None


def test_clocks_that_disagree_do_not_earn_time() -> None:
    used = usage(a_run(server_created=0, server_started=10, ready=9, first_pass=9, last_pass=8, released=0))
    assert used is not None
    assert (used.loading, used.measuring, used.share) == (0.0, 0.0, 0.0)


def named(runs: list[Run]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for gap in gaps(runs):
        found.setdefault(gap.between, []).append(gap.seconds)
    return found


def test_gaps_within_a_run() -> None:
    assert named([a_run(created=-1, **WHOLE)]) == {
        "run created → server created": [1.0],
        "server has an address → load created": [1.5],
        "load ended → verdict stored": [0.5],
    }


def test_only_the_first_attempt_follows_the_runs_creation() -> None:
    assert "run created → server created" not in named([a_run(created=-500, attempt=2, **WHOLE)])


def test_gaps_between_runs() -> None:
    first = a_run(0, created=0, **WHOLE)
    second = a_run(1, created=103, **{name: moment + 103 for name, moment in WHOLE.items()})
    third = a_run(2, created=203, **{name: moment + 203 for name, moment in WHOLE.items()})
    # Released at 100 and 203; created at 103 and 203.
    assert named([third, second, first])["last run released → this run created"] == [0.0, 3.0]


def test_a_runs_creation_is_known_to_the_second_only() -> None:
    first = a_run(0, created=0, **{**WHOLE, "released": 100.7})
    second = a_run(1, created=100, server_created=101)
    assert named([first, second])["last run released → this run created"] == [0.0]


def test_a_large_study_is_summed_up_quickly() -> None:
    one = a_run(**WHOLE)
    runs = [one] * 10_000
    started = time.process_time()
    assert len(gaps(runs)) >= 30_000
    assert time.process_time() - started < 1
