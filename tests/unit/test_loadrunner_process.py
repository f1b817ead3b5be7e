"""The load runner as a process, against a stand-in for vLLM and a small HTTP server that counts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadrunner_support.harness import FakeServer, Run, Runner, a_load, a_spec, conversations, prompt_of, serving


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as running:
        yield running


def run(tmp_path: Path, server: FakeServer | str, spec: Any, **environ: str) -> Run:
    return Runner(tmp_path, server if isinstance(server, str) else server.url, spec, **environ).wait()


def share_gpt(tmp_path: Path, count: int = 30) -> dict[str, Any]:
    path = tmp_path / "sharegpt.json"
    path.write_text(json.dumps(conversations(count)))
    return {"shareGPT": {"path": str(path)}}


def wait_for_requests(server: FakeServer, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(server.requests) < count:
        assert time.monotonic() < deadline, "the load runner sent nothing"
        time.sleep(0.005)


def the_error(result: Run) -> dict[str, Any]:
    """The one error line, also in the termination message, with exit status 1 and a last line that says so."""
    assert result.status == 1
    (error,) = result.kind("error")
    assert result.records[-1] == {"kind": "end", "complete": False, "passes": len(result.kind("pass"))}
    assert result.termination["error"] == {"reason": error["reason"], "message": error["message"]}
    assert result.termination["complete"] is False
    result.assert_whole()
    return error


def test_two_loads_with_their_repeats_and_warm_up(tmp_path: Path, server: FakeServer) -> None:
    server.count_delay = 0.05
    loads = [a_load(warmupPrompts=3, repeats=2), a_load("c2", maxConcurrency=2, numPrompts=4)]
    trace = tmp_path / "trace"
    spec = a_spec(dataset=share_gpt(tmp_path), loads=loads)
    result = run(tmp_path, server, spec, FAKE_TRACE=str(trace), HTTP_PROXY="http://127.0.0.1:9")

    assert result.status == 0, result.stderr
    result.assert_whole()
    assert result.termination["complete"] is True
    assert result.records[-1] == {"kind": "end", "complete": True, "passes": 3}
    order = [record.get("name", record["kind"]) for record in result.records]
    assert order == [
        "started",
        "imported",
        "dataset",
        "ready",
        "server",
        "warmup",
        "pass",
        "pass",
        "pass",
        "end",
    ]
    (said,) = (event for event in result.kind("event") if event["name"] == "server")
    assert (said["version"], said["cacheConfig"]["enable_prefix_caching"]) == ("0.32.0", "False")
    assert [(p["load"], p["repeat"]) for p in result.kind("pass")] == [
        ("saturated", 1),
        ("saturated", 2),
        ("c2", 1),
    ]
    for line in result.kind("pass"):
        assert (line["exitCode"], line["failed"], line["completed"]) == (0, 0, line["asked"])
        counted = line["server"]
        assert counted["promptTokens"] == line["totalInputTokens"] > 0
        assert counted["generationTokens"] == line["totalOutputTokens"] == line["expectedOutputTokens"] > 0
        assert counted["requestsSucceeded"] == {"length": line["asked"]}
        assert line["startedAt"] < line["finishedAt"] <= time.time()
        assert line["inputTokensByUsage"] is True
        assert line["gpu"] is None
        assert line["ttftMilliseconds"].keys() == {"mean", "median", "std", "p50", "p90", "p99.9"}

    # The same prompts in the same order for each repeat; every request id once; all settings on the wire.
    prompts = [prompt_of(request) for request in server.requests]
    assert len(prompts) == 3 + 6 + 6 + 4
    assert sorted(prompts[3:9]) == sorted(prompts[9:15])
    assert len({request["id"] for request in server.requests}) == len(prompts)
    assert {(request["temperature"], request["ignore_eos"]) for request in server.requests} == {(0.0, True)}
    # One tokenizer; prompts drawn once for each number of them, from a file that the stand-in never parsed itself.
    assert sorted(trace.read_text().split()) == ["parsed"] * 3 + ["samples"] * 3 + ["tokenizer"]
    # What the engine prints, also through descriptor 1, is not in the results.
    assert "Serving Benchmark Result" in result.stderr
    assert "from a C library" in result.stderr


def test_raw_results_are_kept(tmp_path: Path, server: FakeServer) -> None:
    raw = tmp_path / "raw" / "here"
    result = run(tmp_path, server, a_spec(loads=[a_load(warmupPrompts=2, repeats=2)]), QUANTBENCH_RAW_DIR=str(raw))
    assert result.status == 0
    assert sorted(path.name for path in raw.iterdir()) == [
        "saturated-1.json",
        "saturated-2.json",
        "saturated-warmup.json",
    ]
    first, second = (json.loads((raw / f"saturated-{repeat}.json").read_text()) for repeat in (1, 2))
    assert first["output_lens"] == [3] * 6
    assert (first["order"], first["jitter"]) == (second["order"], second["jitter"])


def test_a_raw_folder_that_cannot_be_written_loses_nothing(tmp_path: Path, server: FakeServer) -> None:
    (tmp_path / "file").touch()
    result = run(tmp_path, server, a_spec(), QUANTBENCH_RAW_DIR=str(tmp_path / "file" / "raw"))
    assert result.status == 0
    assert result.kind("pass")[0]["completed"] == 6
    assert "raw results of saturated 1 are not kept" in result.stderr


def test_every_request_fails(tmp_path: Path, server: FakeServer) -> None:
    result = run(tmp_path, server, a_spec(model="other", loads=[a_load(repeats=2)]))
    assert result.status == 0, "the operator judges; the server is there"
    for line in result.kind("pass"):
        assert (line["exitCode"], line["asked"], line["completed"], line["failed"]) == (0, 6, 0, 6)
        assert line["error"] == "Not Found"
        assert line["ttftMilliseconds"]["mean"] is None
        assert line["server"]["generationTokens"] == 0


def test_the_unmeasured_request_of_old_versions_is_not_counted(tmp_path: Path, server: FakeServer) -> None:
    result = run(tmp_path, server, a_spec(engineVersion="0.9.2"), FAKE_VLLM_VERSION="0.9.2")
    assert result.status == 0, result.stderr
    (line,) = result.kind("pass")
    assert len(server.requests) == 7
    assert (line["asked"], line["completed"], line["failed"]) == (6, 6, 0)
    assert line["server"]["generationTokens"] == line["totalOutputTokens"] == 18
    assert result.kind("event")[1]["engineVersion"] == "0.9.2"
    assert line["inputTokensByUsage"] is False


def test_an_old_version_whose_first_request_fails(tmp_path: Path, server: FakeServer) -> None:
    result = run(tmp_path, server, a_spec(model="other"), FAKE_VLLM_VERSION="0.10.0")
    error = the_error(result)
    assert error["reason"] == "EngineBenchmarkFailed"
    assert "Initial test run failed" in error["message"]
    (line,) = result.kind("pass")
    assert (line["exitCode"], line["completed"], line["failed"]) == (1, 0, 6)


def test_the_server_dies_during_a_pass(tmp_path: Path, server: FakeServer) -> None:
    server.dies_at_request = 9
    result = run(tmp_path, server, a_spec(loads=[a_load(maxConcurrency=1, repeats=3)]))
    error = the_error(result)
    assert error["reason"] == "ServerDied"
    first, second = result.kind("pass")
    assert first["failed"] == 0
    assert (second["completed"], second["failed"]) == (2, 4)
    assert second["error"] == "aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected"


def test_a_dead_engine_behind_requests_that_seem_complete(tmp_path: Path, server: FakeServer) -> None:
    server.delay = 0.3
    runner = Runner(tmp_path, server.url, a_spec(loads=[a_load(repeats=3)]))
    wait_for_requests(server, 6)
    server.healthy = False
    result = runner.wait()
    assert the_error(result)["reason"] == "ServerDied"
    assert [line["failed"] for line in result.kind("pass")] == [0]


def test_the_server_is_never_ready(tmp_path: Path, server: FakeServer) -> None:
    server.healthy = False
    result = run(tmp_path, server, a_spec(serverReadyTimeoutSeconds=0.3))
    error = the_error(result)
    assert error["reason"] == "ServerNotReady"
    assert error["message"].endswith("is not healthy after 0.3 s: GET /health answered 503")


def test_the_server_becomes_ready_later(tmp_path: Path, server: FakeServer) -> None:
    server.healthy = False
    runner = Runner(tmp_path, server.url, a_spec())
    runner.wait_for_lines(3)
    time.sleep(0.3)
    assert server.requests == []
    server.healthy = True
    ready = time.time()
    result = runner.wait()
    (event,) = [e for e in result.kind("event") if e["name"] == "ready"]
    assert 0 <= event["time"] - ready < 2


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("exit-3", "vllm bench serve exited: 3"),
        ("raise", "ValueError: Unknown backend; caused by KeyError: 'openai-chat'"),
        ("save-error", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_the_benchmark_itself_fails(tmp_path: Path, server: FakeServer, behaviour: str, message: str) -> None:
    result = run(tmp_path, server, a_spec(loads=[a_load(repeats=2)]), FAKE_BEHAVIOUR=behaviour)
    error = the_error(result)
    assert error["reason"] == "EngineBenchmarkFailed"
    assert error["message"] == f"repeat 1 of saturated: {message}"
    (line,) = result.kind("pass")
    assert line["exitCode"] == (3 if behaviour == "exit-3" else 1)
    assert line["error"] == message
    # What was measured before saving failed is told all the same.
    assert line["completed"] == (6 if behaviour == "save-error" else 0)


def test_no_result_file(tmp_path: Path, server: FakeServer) -> None:
    result = run(tmp_path, server, a_spec(), FAKE_BEHAVIOUR="no-result")
    assert result.status == 0
    assert result.kind("pass")[0]["completed"] == 6


def test_not_a_number(tmp_path: Path, server: FakeServer) -> None:
    result = run(tmp_path, server, a_spec(), FAKE_BEHAVIOUR="nan")
    assert result.status == 0
    assert set(result.kind("pass")[0]["tpotMilliseconds"].values()) == {None}


def test_a_blocked_event_loop_is_seen(tmp_path: Path, server: FakeServer) -> None:
    calm = run(tmp_path, server, a_spec()).kind("pass")[0]["client"]
    server.delay = 0.1
    blocked = run(tmp_path, server, a_spec(), FAKE_BEHAVIOUR="block-loop").kind("pass")[0]["client"]
    assert calm["maxEventLoopLagSeconds"] >= 0
    assert 0.25 < blocked["maxEventLoopLagSeconds"] < 10
    assert calm["cpuSeconds"] > 0
    assert blocked["meanEventLoopLagSeconds"] > 0.02 > calm["meanEventLoopLagSeconds"]


def test_requests_that_wait_and_gpus_are_told(tmp_path: Path, server: FakeServer) -> None:
    server.delay = 1.5  # longer than the period of looking
    server.waiting = 12
    server.gpus = {
        "gpus": [{"name": "NVIDIA L4", "uuid": "GPU-0", "driver": "550.1", "computeCapability": "8.9"}],
        "summary": {"samples": 4, "meanSMClockMegahertz": 2040.0},
        "error": None,
    }
    result = run(tmp_path, server, a_spec(), QUANTBENCH_GPU_MONITOR=server.url)
    assert result.status == 0, result.stderr
    result.assert_whole()
    (line,) = result.kind("pass")
    assert line["server"]["peakRequestsWaiting"] == 12
    assert line["gpu"] == {"samples": 4, "meanSMClockMegahertz": 2040.0}
    assert (server.since, server.until) == (line["startedAt"], line["finishedAt"])
    (event,) = [event for event in result.kind("event") if event["name"] == "gpus"]
    assert event["gpus"] == server.gpus["gpus"]
    assert [record.get("name", record["kind"]) for record in result.records] == [
        "started", "imported", "dataset", "ready", "server", "gpus", "pass", "end"
    ]  # fmt: skip


def test_a_gpu_monitor_that_is_gone_costs_nothing(tmp_path: Path, server: FakeServer) -> None:
    result = run(tmp_path, server, a_spec(), QUANTBENCH_GPU_MONITOR="http://127.0.0.1:9")
    assert result.status == 0
    assert [event["name"] for event in result.kind("event")] == ["started", "imported", "dataset", "ready", "server"]
    assert result.kind("pass")[0]["gpu"] is None
    assert result.stderr.count("loadrunner: GPU monitor: ") == 1


def test_a_version_without_the_names_that_are_wrapped(tmp_path: Path, server: FakeServer) -> None:
    result = run(tmp_path, server, a_spec(), FAKE_BEHAVIOUR="no-hooks")
    assert result.status == 0, result.stderr
    (line,) = result.kind("pass")
    assert (line["asked"], line["completed"], line["failed"]) == (6, 6, 0)
    assert line["expectedOutputTokens"] is None
    assert line["client"]["maxEventLoopLagSeconds"] is None
    assert line["server"]["generationTokens"] is None
    assert line["finishedAt"] >= line["startedAt"]


def test_a_benchmark_that_cannot_be_imported(tmp_path: Path, server: FakeServer) -> None:
    error = the_error(run(tmp_path, server, a_spec(), FAKE_BEHAVIOUR="refuse-import"))
    assert error["reason"] == "EngineBenchmarkFailed"
    assert "libsomething.so.1" in error["message"]


def test_no_vllm_at_all(tmp_path: Path, server: FakeServer) -> None:
    error = the_error(run(tmp_path, server, a_spec(), PYTHONPATH=""))
    assert error["message"].startswith("cannot import vllm.benchmarks.serve: ModuleNotFoundError")


@pytest.mark.parametrize(
    ("spec", "message"),
    [("{", "not JSON"), ({}, "schema: missing"), (a_spec(engineVersion="0.8.5"), "vLLM before 0.9.2")],
)
def test_a_wrong_specification(tmp_path: Path, spec: Any, message: str) -> None:
    error = the_error(run(tmp_path, "http://127.0.0.1:9", spec))
    assert error["reason"] == "LoadSpecInvalid"
    assert message in error["message"]


def test_a_wrong_server_address(tmp_path: Path) -> None:
    assert the_error(run(tmp_path, "127.0.0.1", a_spec()))["reason"] == "LoadSpecInvalid"


def test_a_missing_dataset_is_told_before_anything_is_imported(tmp_path: Path, server: FakeServer) -> None:
    result = run(tmp_path, server, a_spec(dataset={"shareGPT": {"path": "/nowhere/x.json"}}))
    assert the_error(result)["reason"] == "DatasetMissing"
    assert [record.get("name") for record in result.kind("event")] == ["started"]


def test_a_dataset_without_a_usable_prompt(tmp_path: Path, server: FakeServer) -> None:
    dataset = share_gpt(tmp_path)
    data = [{"conversations": [{"value": "question"}, {"value": "short"}]}]
    Path(dataset["shareGPT"]["path"]).write_text(json.dumps(data))
    error = the_error(run(tmp_path, server, a_spec(dataset=dataset)))
    assert error["reason"] == "DatasetInvalid"
    assert server.requests == []


def test_a_dataset_with_too_few_prompts_is_used_and_told(tmp_path: Path, server: FakeServer) -> None:
    loads = [a_load("few", numPrompts=3), a_load("many", numPrompts=10)]
    result = run(tmp_path, server, a_spec(dataset=share_gpt(tmp_path, 4), loads=loads))
    assert result.status == 0, result.stderr
    (event,) = [e for e in result.kind("event") if e["name"] == "dataset"]
    assert event["conversations"] == 4
    assert event["repeatedPrompts"] == {"few": 0, "many": 6}
    assert [line["asked"] for line in result.kind("pass")] == [3, 10]


def test_termination_during_a_pass(tmp_path: Path, server: FakeServer) -> None:
    runner = Runner(tmp_path, server.url, a_spec(loads=[a_load(repeats=2)]))
    wait_for_requests(server, 6)
    server.delay = 20
    wait_for_requests(server, 12)
    runner.signal(signal.SIGTERM)
    result = runner.wait()
    assert result.status == 143
    assert result.seconds_after_signal is not None
    assert result.seconds_after_signal < 5
    assert [line["repeat"] for line in result.kind("pass")] == [1]
    assert (result.termination["complete"], result.termination["error"]) == (False, None)
    result.assert_whole()


def test_a_kill_loses_only_the_pass_in_flight(tmp_path: Path, server: FakeServer) -> None:
    runner = Runner(tmp_path, server.url, a_spec(loads=[a_load(repeats=2)]))
    wait_for_requests(server, 6)
    server.delay = 20
    wait_for_requests(server, 12)
    runner.signal(signal.SIGKILL)
    result = runner.wait()
    assert result.status == -signal.SIGKILL
    assert [line["repeat"] for line in result.kind("pass")] == [1]
    result.assert_whole()


def test_termination_while_waiting_for_the_server(tmp_path: Path, server: FakeServer) -> None:
    server.healthy = False
    runner = Runner(tmp_path, server.url, a_spec())
    runner.wait_for_lines(3)
    runner.signal(signal.SIGTERM)
    result = runner.wait()
    assert result.status == 143
    assert [record["name"] for record in result.records] == ["started", "imported", "dataset"]
    result.assert_whole()
