"""What the load generator reported, read with suspicion."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_support.logs import a_pass, event, payloads, seal, text, unix, whole
from core_support.objects import run, study
from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.run import RunLoadPlan
from quantbench.results import (
    MARKER,
    LoadLog,
    check_complete,
    missing_passes,
    parse_log,
    prompts,
    read_passes,
    warmup_prompts,
)
from quantbench.validity import Fault

TWO_LOADS = [{"name": "saturated"}, {"name": "c8", "numPrompts": 1000}]


def plan(**changes: Any) -> RunLoadPlan:
    return run(study(**{"loads": TWO_LOADS, "sampling": {"repeats": 2}, **changes})).spec.load


def fault(documents: list[JsonObject], message: str | None = None, *, log: str | None = None) -> Fault | None:
    """What is wrong with a log as a whole; its own seal by default."""
    return check_complete(
        parse_log(text(documents) if log is None else log), seal(documents) if message is None else message
    )


FOUR = whole(a_pass(), a_pass(repeat=2, at=120), a_pass("c8", at=140), a_pass("c8", repeat=2, at=160))

# --- the log as a whole ----------------------------------------------------------------------------------------


def test_a_whole_log() -> None:
    log = parse_log(text(FOUR))
    assert (len(log.passes), log.ended, log.garbage, log.lines, log.error) == (4, True, 0, len(FOUR), None)
    assert log.ready
    assert fault(FOUR) is None
    assert [p.key for p in read_passes(log, plan(), 1)] == ["1/saturated/1", "1/saturated/2", "1/c8/1", "1/c8/2"]


def test_the_runner_itself_writes_what_is_read(tmp_path: Path) -> None:
    from benchmarks.loadrunner.output import Output

    lines, termination = tmp_path / "lines", tmp_path / "termination"
    descriptor = os.open(lines, os.O_WRONLY | os.O_CREAT)
    output = Output(descriptor, str(termination))
    output.event("ready", unix(60), seconds=1.5)
    output.emit(a_pass(error="a\u2028b\x0bc\x1cd\x85e \U0001f600"))
    output.end(complete=True, passes=1)
    os.close(descriptor)
    log = parse_log("chatter\n" + lines.read_text())
    assert check_complete(log, termination.read_text()) is None
    assert [event.name for event in log.events] == ["ready", "pass"]
    assert log.passes[0]["error"] == "a\u2028b\x0bc\x1cd\x85e \U0001f600"


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85"])
def test_only_a_newline_ends_a_line(separator: str) -> None:
    # As a runner in another language might write it: JSON allows most of these characters unescaped.
    payload = json.dumps({"kind": "end", "complete": True, "note": f"a{separator}b"}, ensure_ascii=False)
    payload = payload.replace(json.dumps(separator)[1:-1], separator) if separator > "\x7f" else payload
    log = parse_log(f"{MARKER}{payload}\n")
    assert (log.lines, log.garbage, log.ended) == (1, 0, True)
    # Nor does chatter become a result line because it holds such a character.
    assert parse_log(f"tokens: {separator}" + MARKER + "not ours\n").lines == 0


def test_a_line_that_continues_a_cut_line_of_the_other_stream() -> None:
    # Container runtimes cut lines of 16 KiB; what other streams write meanwhile follows the cut without a newline.
    bar = "\r".join(f"{percent}%|###" for percent in range(100))
    log = text(FOUR[:2]) + bar + text(FOUR[2:], chatter="")
    assert check_complete(parse_log(log), seal(FOUR)) is None


def test_chatter_is_no_result() -> None:
    log = parse_log('QUANTBENCH_LOAD={"kind":"end"}\nQUANTBENCH\nquantbench {"kind":"pass"}\nQUANTBENCH pass\n')
    assert (log.lines, log.passes, log.ended) == (0, (), False)


@pytest.mark.parametrize(
    "garbage", ["{", '{"kind":"pass"', "{]}", '{"a":' * 5000, '{"kind": NaNa}', "{'kind': 'pass'}"]
)
def test_garbage_is_noticed(garbage: str) -> None:
    log = parse_log(text(FOUR) + MARKER + garbage + "\n")
    assert (log.garbage, len(log.passes)) == (1, 4)
    found = check_complete(log, seal(FOUR))
    assert found is not None
    assert found.reason == "ResultCorrupt"


@given(cut=st.integers(0, len(text(FOUR)) - 2))
def test_a_cut_log_never_passes_for_a_whole_one(cut: int) -> None:
    found = fault(FOUR, log=text(FOUR)[:cut])
    assert found is not None
    assert found.reason == "ResultCorrupt"


@settings(max_examples=60)
@given(drop=st.sets(st.integers(0, len(FOUR) - 1), min_size=1))
def test_missing_lines_are_noticed(drop: set[int]) -> None:
    rest = [document for place, document in enumerate(FOUR) if place not in drop]
    found = fault(FOUR, log=text(rest))
    assert found is not None
    assert found.reason == "ResultCorrupt"


@given(place=st.integers(0, len(FOUR) - 1))
def test_a_line_twice_is_noticed(place: int) -> None:
    found = fault(FOUR, log=text([*FOUR[: place + 1], *FOUR[place:]]))
    assert found is not None
    assert found.reason == "ResultCorrupt"


def test_changed_figures_are_noticed() -> None:
    found = fault(FOUR, log=text(FOUR).replace('"totalTokensPerSecond":3000.0', '"totalTokensPerSecond":9000.0', 1))
    assert found is not None
    assert found.reason == "ResultCorrupt"
    assert "does not match its seal" in found.message


def test_lines_in_another_order_are_noticed() -> None:
    assert fault(FOUR, log=text([*FOUR[:4], FOUR[5], FOUR[4], *FOUR[6:]])) is not None


@pytest.mark.parametrize("message", ["", "Killed", "[]", "null", "[" * 3000, '{"schema":1,'])
def test_no_seal(message: str) -> None:
    found = check_complete(parse_log(text(FOUR)), message)
    assert found is not None
    assert found.reason == "ResultMissing"
    assert check_complete(parse_log(text(FOUR)), None) == found


def test_an_error_without_a_seal_is_told() -> None:
    broken = whole(complete=False, error={"reason": "DatasetMissing", "message": "/data/x is not there"})
    assert check_complete(parse_log(text(broken)), None) == Fault("DatasetMissing", "/data/x is not there")


def test_the_runners_own_error() -> None:
    broken = whole(a_pass(), complete=False, error={"reason": "ServerDied", "message": "it died"})
    assert fault(broken) == Fault("ServerDied", "it died")
    # The termination message alone says it too.
    assert fault(broken, log="") == Fault("ServerDied", "it died")


def test_odd_errors_stay_texts() -> None:
    found = check_complete(parse_log(""), json.dumps({"error": {"reason": 5, "message": "\ud800" * 2000}}))
    assert found is not None
    assert (found.reason, len(found.message)) == ("5", 900)
    found.message.encode()


def test_not_finished() -> None:
    killed = whole(a_pass(), complete=False)
    found = fault(killed)
    assert found is not None
    assert found.reason == "ResultIncomplete"
    # The seal alone is not believed, nor is the log alone.
    assert fault(killed, seal(killed, complete=True)) == found
    done = whole(a_pass())
    assert fault(done, seal(done, complete=False)) == found


def test_too_large_and_unreadable() -> None:
    large = check_complete(parse_log(text(FOUR), truncated=True), seal(FOUR))
    gone = check_complete(parse_log(None), seal(FOUR))
    assert large is not None
    assert gone is not None
    assert (large.reason, gone.reason) == ("ResultTooLarge", "LogUnavailable")
    assert parse_log(None) != parse_log("")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_log(data: bytes) -> None:
    log = parse_log(data.decode(errors="replace"))
    assert log.passes == ()
    assert check_complete(log, data.decode(errors="replace")) is not None


# --- events ----------------------------------------------------------------------------------------------------


def test_events_have_begin_and_end() -> None:
    log = parse_log(text([event("warmup", 95, seconds=15.0), a_pass(at=100, seconds=10)]))
    assert [(e.name, e.began, e.ended) for e in log.events] == [
        ("warmup", times.from_unix(unix(80)), times.from_unix(unix(95))),
        ("pass", times.from_unix(unix(100)), times.from_unix(unix(110))),
    ]


@pytest.mark.parametrize(
    "time", ["NaN", "Infinity", "-Infinity", "1e300", "1" + "0" * 400, '"soon"', "null", "true", "[]"]
)
def test_events_without_a_readable_time(time: str) -> None:
    lines = [f'{{"kind":"event","name":"ready","time":{time}}}', f'{{"kind":"pass","startedAt":1,"finishedAt":{time}}}']
    assert parse_log("".join(f"{MARKER}{line}\n" for line in lines)).events == ()


@pytest.mark.parametrize("took", ["NaN", "Infinity", "1e300", "1" + "0" * 400, '"long"', "-5", "[]"])
def test_events_of_unreadable_length(took: str) -> None:
    (found,) = parse_log(f'{MARKER}{{"kind":"event","name":"warmup","time":{unix(5)},"seconds":{took}}}\n').events
    assert found.began == found.ended == times.from_unix(unix(5))


# --- passes ----------------------------------------------------------------------------------------------------


def only_pass(**changes: Any) -> Any:
    (measured,) = read_passes(parse_log(text(whole(a_pass(**changes)))), plan(), 1)
    return measured


def test_a_pass_in_full() -> None:
    measured = only_pass()
    assert measured.valid
    assert (measured.key, measured.attempt, measured.load, measured.repeat) == ("1/saturated/1", 1, "saturated", 1)
    assert (measured.asked, measured.completed, measured.failed) == (1000, 1000, 0)
    assert (measured.total_tokens_per_second, measured.requests_per_second) == (3000.0, 100.0)
    assert (measured.ttft_milliseconds.mean, measured.ttft_milliseconds.p99) == (50.5, 120.0)
    assert measured.server.requests_succeeded == 1000
    assert measured.server.mean_ttft_milliseconds == 50.0
    assert measured.server.mean_tpot_milliseconds == 8.0
    assert (measured.server.mean_queue_milliseconds, measured.server.peak_requests_waiting) == (2.0, 40)
    assert (measured.client.cpu_share, measured.client.max_event_loop_lag_milliseconds) == (0.1, 1.0)
    assert measured.gpu is None
    assert measured.started_at == times.render(times.from_unix(unix(100)))


GPU_SUMMARY = {
    "samples": 20,
    "meanSMClockMegahertz": 1700.25,
    "minSMClockMegahertz": 1125.0,
    "meanPowerWatts": 650.0,
    "maxPowerWatts": 701.5,
    "maxTemperatureCelsius": 66.0,
    "throttledShare": 0.4,
    "throttleReasons": ["SwPowerCap"],
}


def test_what_the_gpus_did() -> None:
    assert only_pass(gpu=GPU_SUMMARY).gpu.to_json() == GPU_SUMMARY
    withheld = only_pass(gpu={**dict.fromkeys(GPU_SUMMARY), "samples": 3, "throttleReasons": []}).gpu
    assert withheld.to_json() == {"samples": 3, "throttleReasons": []}


@pytest.mark.parametrize(
    "odd",
    [5, "hot", [], {}, {"samples": 0}, {"samples": -1}, {**GPU_SUMMARY, "meanPowerWatts": float("nan")},
     {**GPU_SUMMARY, "throttledShare": -1}, {**GPU_SUMMARY, "throttleReasons": ["x" * 41]}, {**GPU_SUMMARY, "more": 1}],
    ids=str,
)  # fmt: skip
def test_readings_that_cannot_be_read_cost_no_pass(odd: Any) -> None:
    measured = only_pass(gpu=odd)
    assert (measured.gpu, measured.valid) == (None, True)


def test_the_servers_gpus() -> None:
    h100 = {"name": "NVIDIA H100", "uuid": "GPU-0", "driver": "550.90.07", "computeCapability": "9.0"}
    mig = {"name": "NVIDIA A100", "uuid": None, "driver": None, "computeCapability": None}
    log = parse_log(text([event("gpus", 61, gpus=[h100, mig]), event("gpus", 62, gpus=[])]))
    assert [gpu.to_json() for gpu in log.gpus] == [h100, {"name": "NVIDIA A100"}]
    for odd in (None, "H100", [5], [{"uuid": "GPU-0"}], [{**h100, "name": "x" * 200}], {"0": h100}):
        assert parse_log(text([event("gpus", 61, gpus=odd)])).gpus == ()


def test_repeated_prompts() -> None:
    assert parse_log(text([event("dataset", 20, repeatedPrompts={"a": 0, "b": 7})])).repeated_prompts == {"b": 7}
    for odd in (None, 5, [], {"a": "many", "b": -2, "c": float("nan")}):
        assert parse_log(text([event("dataset", 20, repeatedPrompts=odd)])).repeated_prompts == {}


def test_the_attempt_is_part_of_the_key() -> None:
    (measured,) = read_passes(parse_log(text(whole(a_pass()))), plan(), 3)
    assert (measured.key, measured.attempt) == ("3/saturated/1", 3)


def test_foreign_passes_are_left_out() -> None:
    strange = [a_pass("other"), a_pass(repeat=3), a_pass(repeat=0), a_pass(repeat=-1), a_pass(load=5)]
    assert read_passes(parse_log(text(whole(*strange))), plan(), 1) == ()


def test_the_first_of_two_equal_passes_counts() -> None:
    log = parse_log(text(whole(a_pass(), a_pass(totalTokensPerSecond=9e9))))
    assert [p.total_tokens_per_second for p in read_passes(log, plan(), 1)] == [3000.0]


def test_missing_passes() -> None:
    passes = read_passes(parse_log(text(whole(a_pass(), a_pass("c8", repeat=2)))), plan(), 1)
    assert missing_passes(passes, plan()) == ["saturated/2", "c8/1"]
    once = plan(loads=[TWO_LOADS[0], {**TWO_LOADS[1], "repeats": 1}])
    assert once.passes == 3
    assert missing_passes(passes, once) == ["saturated/2", "c8/1"]
    assert [p.key for p in read_passes(parse_log(text(FOUR)), once, 1)] == ["1/saturated/1", "1/saturated/2", "1/c8/1"]
    assert missing_passes(read_passes(parse_log(text(FOUR)), once, 1), once) == []
    assert missing_passes(read_passes(parse_log(text(FOUR)), plan(), 1), plan()) == []


UNREADABLE = {
    "repeat": ["one", None, "Infinity", "NaN", [], {}, 2**70],
    "asked": [None, "many", "Infinity", [], -5],
    "startedAt": [None, "now", "NaN", 1e300, []],
    "completed": [-1, "NaN", "Infinity"],
    "durationSeconds": [-1.0, "NaN", "Infinity", "long", 1e300, []],
    "totalTokensPerSecond": ["NaN", "Infinity", -1.0, [1]],
    "ttftMilliseconds": [[1], "fast", {"mean": "NaN"}, {"mean": -1}],
    "server": [[1], "none", 5, {"ttftSeconds": {"count": "0", "sum": 1}}, {"requestsSucceeded": {"stop": "x"}}],
    "totalOutputTokens": ["NaN", [1], "many", 2**80],
    "expectedOutputTokens": ["some", [1], "1" + "0" * 400],
}
UNKNOWN = {
    "client": [None, 5, "calm", {}, {"cpuSeconds": "few"}, {"maxEventLoopLagSeconds": float("nan")}],
    "finishedAt": [None, "later", float("inf"), 0],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [pytest.param(f, v, id=f"{f}={str(v)[:20]}") for f, values in UNREADABLE.items() for v in values],
)
def test_an_unreadable_pass_is_left_out_or_invalid(field: str, value: Any) -> None:
    if isinstance(value, str) and value in ("NaN", "Infinity"):
        value = float(value)
    log = parse_log(text(whole(a_pass(**{field: value}))))
    assert all(not measured.valid for measured in read_passes(log, plan(), 1))


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in UNKNOWN.items() for value in values])
def test_a_client_that_says_nothing_of_itself(key: str, value: Any) -> None:
    measured = only_pass(**{key: value})
    assert measured.valid
    assert measured.client.cpu_share is None


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["mean", "sum", "count", "stop"]), inner)
    ),
    max_leaves=5,
)


@settings(max_examples=400)
@given(changes=st.dictionaries(st.sampled_from(sorted(a_pass())), ODD, min_size=1, max_size=4))
def test_no_pass_line_is_too_odd(changes: JsonObject) -> None:
    log = parse_log(text(whole({**a_pass(), **changes, "kind": "pass"})))
    for measured in read_passes(log, plan(), 1):
        # Whatever counts is finite and positive.
        if measured.valid:
            assert 0 < measured.total_tokens_per_second < 1e16
            assert 0 < measured.duration_seconds < 1e16
            assert measured.completed == measured.asked == 1000
        json.dumps(measured.to_json(), allow_nan=False)


def test_an_invalid_pass_is_kept_with_its_reason() -> None:
    measured = only_pass(completed=990, failed=10)
    assert (measured.valid, measured.invalid_reason) == (False, "RequestsFailed")
    assert measured.message == "990 of 1000 requests completed, 10 failed"
    long = only_pass(exitCode=1, error="x" * 5000)
    assert len(long.message) == 256


def test_a_failed_call_of_the_benchmark_is_kept() -> None:
    nothing: JsonObject = dict.fromkeys(
        ["durationSeconds", "totalInputTokens", "totalOutputTokens", "requestsPerSecond", "outputTokensPerSecond",
         "totalTokensPerSecond", "ttftMilliseconds", "expectedOutputTokens"]
    )  # fmt: skip
    measured = only_pass(**nothing, exitCode=1, completed=0, failed=0, server={}, error="argument --x")
    assert (measured.valid, measured.invalid_reason, measured.total_tokens_per_second) == (False, "ClientFailed", 0.0)


def test_prompts_of_a_load() -> None:
    asked = plan(
        loads=[{"name": "a"}, {"name": "b", "numPrompts": 30, "warmupPrompts": 0}],
        workload={"numPrompts": 70, "warmupPrompts": 9},
    )
    assert [prompts(load, asked.workload) for load in asked.loads] == [70, 30]
    assert [warmup_prompts(load, asked.workload) for load in asked.loads] == [9, 0]


def test_a_default_warm_up_is_no_larger_than_the_pass() -> None:
    for count in (1, 50, 5000):
        asked = plan(workload={"numPrompts": count})
        assert 1 <= warmup_prompts(asked.loads[0], asked.workload) <= min(count, 256)


def test_an_empty_log_says_nothing() -> None:
    assert parse_log("") == LoadLog(digest=parse_log("").digest)
    assert payloads([]) == []
