"""The record of one pass: honest counts, and null instead of a number that nobody measured."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.loadrunner.engine import Outcome, Window
from benchmarks.loadrunner.passes import Passed, pass_record
from benchmarks.loadrunner.spec import Load

LOAD = Load("c16", 2.5, 16, 1.0, 4, 0, 1)


def result(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"duration": 2.0, "completed": 4, "failed": 0, "total_output_tokens": 12}
    for name in ("ttft", "tpot", "itl", "e2el"):
        for statistic in ("mean", "median", "std", "p50", "p99.9"):
            values[f"{statistic}_{name}_ms"] = 1.5
    return {**values, **changes}


def passed(values: dict[str, Any], details: dict[str, Any] | None = None, **changes: Any) -> Passed:
    window = Window(started_at=10.0, finished_at=12.0, cpu_started=1.0, cpu_finished=1.5, max_lag=0.01)
    window.total_lag, window.beats = 0.2, 100
    window.expected_output_lens = [3, 3, 3, 3]
    window.result = details
    fields = {"asked": 4, "outcome": Outcome(0, None), "server": {}, "error": None, **changes}
    return Passed(window=window, result=values, **fields)


def record(values: dict[str, Any], details: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return pass_record(LOAD, 2, (50.0, 99.9), passed(values, details, **changes))


def test_a_good_pass() -> None:
    line = record(result(), {"output_lens": [3, 3, 3, 3], "itls": [[0.1, 0.1]] * 4})
    assert (line["load"], line["repeat"], line["startedAt"], line["finishedAt"]) == ("c16", 2, 10.0, 12.0)
    assert (line["asked"], line["completed"], line["failed"], line["exitCode"]) == (4, 4, 0, 0)
    assert line["ttftMilliseconds"] == {"mean": 1.5, "median": 1.5, "std": 1.5, "p50": 1.5, "p99.9": 1.5}
    assert line["expectedOutputTokens"] == 12
    assert line["client"] == {
        "cpuSeconds": 0.5,
        "meanEventLoopLagSeconds": 0.002,
        "maxEventLoopLagSeconds": 0.01,
    }
    assert (line["inputTokensByUsage"], line["gpu"]) == (False, None)
    assert line["error"] is None


@pytest.mark.parametrize("completed", [0, 3, 4])
def test_a_version_that_does_not_say_how_many_failed(completed: int) -> None:
    values = result(completed=completed)
    del values["failed"]
    assert record(values)["failed"] == 4 - completed


def test_nothing_completed() -> None:
    line = record(result(completed=0, failed=4), error="Not Found " * 100)
    for name in ("ttft", "tpot", "itl", "e2el"):
        assert set(line[f"{name}Milliseconds"].values()) == {None}
    assert len(line["error"]) == 500


def test_one_token_each_has_no_time_per_further_token() -> None:
    line = record(result(), {"output_lens": [1, 1, 1, 1], "itls": [[], [], [], []]})
    assert line["ttftMilliseconds"]["mean"] == 1.5
    assert line["tpotMilliseconds"]["mean"] is None
    assert line["itlMilliseconds"]["p50"] is None


def test_no_result_at_all() -> None:
    line = record({}, outcome=Outcome(1, "ValueError: x"))
    assert (line["exitCode"], line["asked"], line["completed"], line["failed"]) == (1, 4, 0, 4)
    assert line["durationSeconds"] is None


def test_counts_that_are_no_numbers() -> None:
    line = record(result(completed=float("nan"), failed="x"))
    assert (line["completed"], line["failed"]) == (0, 4)


def test_what_the_version_and_the_gpus_say() -> None:
    line = record(result(), prompts_by_usage=True, gpu={"samples": 3}, server={"peakRequestsWaiting": 7})
    assert (line["inputTokensByUsage"], line["gpu"], line["server"]["peakRequestsWaiting"]) == (True, {"samples": 3}, 7)
