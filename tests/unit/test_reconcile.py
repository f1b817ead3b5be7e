"""One look and one step: what is read, what is decided with it, and what happens when something is odd."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from rich.console import Console

from core_support.fake_kube import FakeKube
from core_support.objects import (
    RUNNER,
    UID,
    at,
    benchmark_object,
    ended,
    later,
    merged,
    run_raw,
    several,
    stored,
    study,
)
from core_support.pods import pod, running, terminated
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.cli.read import study as read_study
from quantbench.cli.tables import results
from quantbench.kube import ApiError
from quantbench.reconcile import Key, Reconciler, field_errors

STUDY = Key("QuantBenchmark", "bench", "demo")


def operator(*objects: JsonObject) -> tuple[Reconciler, FakeKube]:
    kube = FakeKube()
    kube.objects |= {(raw["kind"], raw["metadata"]["name"]): stored(raw) for raw in objects}
    return Reconciler(kube, RUNNER, lambda: later(kube.seconds)), kube  # type: ignore[arg-type]


def conditions(kube: FakeKube) -> dict[str, tuple[str, str, str]]:
    status = kube.objects["QuantBenchmark", "demo"]["status"]
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}


async def test_an_object_that_is_gone() -> None:
    of, kube = operator()
    assert await of.reconcile(STUDY) is None
    assert await of.reconcile(Key("QuantBenchmarkRun", "bench", "x")) is None
    assert kube.writes == []


async def test_a_study_is_accepted_and_started() -> None:
    of, kube = operator(benchmark_object(several("a", "b")))
    assert await of.reconcile(STUDY) is not None
    assert [verb for verb, _, _ in kube.writes] == ["patch status", "apply"]
    assert conditions(kube)["Accepted"][:2] == ("True", "Valid")
    (run,) = [raw for (kind, _), raw in kube.objects.items() if kind == "QuantBenchmarkRun"]
    assert run["metadata"]["ownerReferences"][0]["uid"] == UID
    # What was written can be read, and leads to a server.
    await of.reconcile(Key("QuantBenchmarkRun", "bench", run["metadata"]["name"]))
    assert [kind for kind, _ in kube.objects if kind == "Pod"] == ["Pod"]


async def test_an_idle_study_is_not_written() -> None:
    of, kube = operator(benchmark_object(several("a", "b")))
    for _ in range(2):  # the second look sees the run that the first has created
        await of.reconcile(STUDY)
    written = len(kube.writes)
    kube.seconds = 30
    await of.reconcile(STUDY)
    assert len(kube.writes) == written == 3


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"baseline": "nothing"}, "spec.baseline"),
        ({"engine": {"image": "mine:latest"}}, "spec.engine.version"),
        ({"engine": {"args": ["--port=1"]}}, "spec.engine.args[0]"),
        ({"variants": [{"name": "a", "method": "FP2"}]}, "spec.variants[0].method"),
        ({"workload": {"numPrompts": 0}}, "spec.workload.numPrompts"),
        ({"loads": [{"name": "a", "requestRate": "-1"}]}, "spec.loads[0].requestRate"),
        ({"variants": "all"}, "spec.variants"),
        ({"modle": "x"}, "spec.modle"),
    ],
)
async def test_a_wrong_study_is_shown_never_a_crash(changes: JsonObject, path: str) -> None:
    raw = benchmark_object(study())
    raw["spec"] = merged(raw["spec"], changes)
    of, kube = operator(raw)
    assert await of.reconcile(STUDY) is None
    status, reason, message = conditions(kube)["Accepted"]
    assert (status, reason) == ("False", "InvalidSpec")
    assert message.startswith(f"{path}: ")
    assert [verb for verb, _, _ in kube.writes] == ["patch status"]


async def test_a_status_that_cannot_be_read_is_built_anew() -> None:
    of, kube = operator(benchmark_object(several("a"), status={"cells": "many", "conditions": [{"type": 5}]}))
    await of.reconcile(STUDY)
    assert conditions(kube)["Accepted"][0] == "True"
    assert isinstance(kube.objects["QuantBenchmark", "demo"]["status"]["cells"], list)


async def test_runs_of_an_earlier_namesake_are_not_ours() -> None:
    foreign = run_raw(several("a"))
    foreign["metadata"]["ownerReferences"][0]["uid"] = "an-earlier-study"
    of, kube = operator(benchmark_object(several("a"), uid="the-new-study"), foreign)
    await of.reconcile(STUDY)
    assert kube.objects["QuantBenchmark", "demo"]["status"]["progress"] == "0/2"


async def test_a_run_that_cannot_be_read_is_left_alone() -> None:
    broken = run_raw(study(), status={"attempt": "first"})
    of, kube = operator(broken)
    with pytest.raises(ValidationError):
        await of.reconcile(Key("QuantBenchmarkRun", "bench", broken["metadata"]["name"]))
    assert kube.writes == []


def from_another_version(spec: QuantBenchmarkSpec, *, released: bool) -> JsonObject:
    """A run whose verdict this version does not know."""
    status = merged(ended(), {"verdict": {"name": "Enchanted"}, "times": {} if released else {"released": None}})
    return run_raw(spec, status=status)


async def test_a_run_of_another_version_stops_no_other() -> None:
    spec = several("a", "b", sampling={"starts": 1})
    odd = from_another_version(spec, released=True)
    of, kube = operator(benchmark_object(spec), odd)
    await of.reconcile(STUDY)
    runs = [name for kind, name in kube.objects if kind == "QuantBenchmarkRun"]
    assert len(runs) == 2
    assert kube.objects["QuantBenchmarkRun", odd["metadata"]["name"]] == odd  # neither made anew nor changed
    status, reason, message = conditions(kube)["Accepted"]
    assert (status, reason) == ("True", "Valid")
    assert f"cannot read run {odd['metadata']['name']} (verdict.name: Input should be" in message


async def test_a_run_of_another_version_may_still_hold_a_gpu() -> None:
    spec = several("a", "b", sampling={"starts": 1})
    of, kube = operator(benchmark_object(spec), from_another_version(spec, released=False))
    await of.reconcile(STUDY)
    assert len([name for kind, name in kube.objects if kind == "QuantBenchmarkRun"]) == 1
    assert conditions(kube)["Complete"] == ("False", "NotStarted", "2 runs are left")
    suspended = benchmark_object(several("a", "b", suspend=True))
    of, kube = operator(suspended, from_another_version(spec, released=False), run_raw(spec, 1))
    await of.reconcile(STUDY)
    assert ("patch spec", "QuantBenchmarkRun", run_raw(spec, 1)["metadata"]["name"]) in kube.writes


@pytest.mark.parametrize("changes", [{"engine": {"args": ["--port=1"]}}, {"modle": "x"}])
async def test_runs_under_way_obey_a_study_that_cannot_be_planned_any_more(changes: JsonObject) -> None:
    """As after an upgrade that knows better."""
    spec = several("a", "b", "c")
    raw = benchmark_object(spec)
    raw["spec"] = merged(raw["spec"], {**changes, "suspend": True, "limits": {"loadTimeout": "5m"}})
    under_way, over = run_raw(spec, 0), run_raw(spec, 1, status=ended())
    of, kube = operator(raw, under_way, over)
    await of.reconcile(STUDY)
    await of.reconcile(STUDY)
    changed = kube.objects["QuantBenchmarkRun", under_way["metadata"]["name"]]["spec"]
    assert changed["suspend"] is True
    assert changed["limits"]["loadTimeoutSeconds"] == (300 if "engine" in changes else 1800)
    assert kube.objects["QuantBenchmarkRun", over["metadata"]["name"]] == over
    assert conditions(kube)["Complete"] == ("False", "InvalidSpec", "1 runs are left, and no other is started")
    assert [verb for verb, _, _ in kube.writes] == ["patch status", "patch spec"]


async def test_a_study_that_was_complete_stays_so() -> None:
    raw = benchmark_object(several("a"), status={"conditions": [complete := {
        "type": "Complete", "status": "True", "reason": "AllRunsEnded", "message": "", "lastTransitionTime": at(0)
    }]})  # fmt: skip
    raw["spec"]["engine"]["args"] = ["--port=1"]
    of, kube = operator(raw)
    await of.reconcile(STUDY)
    assert conditions(kube)["Complete"] == (complete["status"], complete["reason"], "")
    assert conditions(kube)["Accepted"][0] == "False"


async def test_the_command_line_shows_the_other_runs() -> None:
    spec = several("a", "b", sampling={"starts": 1})
    odd = from_another_version(spec, released=True)
    _, kube = operator(benchmark_object(spec), odd, run_raw(spec, 1, status=ended()))
    shown = await read_study(kube, "bench", "demo")  # type: ignore[arg-type]
    assert len(shown.runs) == 1
    assert [run.name for run in shown.unreadable] == [odd["metadata"]["name"]]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(results(shown))
    assert f"run {odd['metadata']['name']} cannot be read: verdict.name" in captured.get()


@pytest.mark.parametrize(
    ("refusal", "verdict"),
    [
        (ApiError(422, "Invalid", "spec.containers[0].x: Invalid value"), ("Failed", "PodRejected")),
        (
            ApiError(500, "", "failed to create typed patch object: field not declared in schema"),
            ("Failed", "PodRejected"),
        ),
        (ApiError(403, "Forbidden", "exceeded quota: gpus"), None),
    ],
)
async def test_a_refused_pod_is_a_finding(refusal: ApiError, verdict: tuple[str, str] | None) -> None:
    raw = run_raw(study())
    of, kube = operator(raw)
    kube.refusal = refusal
    again = await of.reconcile(Key("QuantBenchmarkRun", "bench", raw["metadata"]["name"]))
    status = kube.objects["QuantBenchmarkRun", raw["metadata"]["name"]]["status"]
    found = status.get("verdict")
    assert (verdict is None) == (found is None)
    assert status["conditions"][0]["message"] == refusal.message
    if found:
        assert (found["name"], found["reason"]) == verdict
    else:
        assert again == 5.0


async def test_an_api_server_that_does_not_answer_is_the_queues_business() -> None:
    raw = run_raw(study())
    of, kube = operator(raw)
    kube.refusal = ApiError(503, "ServiceUnavailable", "try later", retry_after=3)
    with pytest.raises(ApiError):
        await of.reconcile(Key("QuantBenchmarkRun", "bench", raw["metadata"]["name"]))


class Asked(FakeKube):
    """Notes which logs are read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str, int, int | None]] = []

    async def log(
        self, namespace: str, pod: str, container: str, *, limit_bytes: int, tail_lines: int | None = None
    ) -> str | None:
        self.asked.append((pod, container, limit_bytes, tail_lines))
        return await super().log(namespace, pod, container, limit_bytes=limit_bytes, tail_lines=tail_lines)


class Serving:
    """A run whose server is ready and under load at 50 s."""

    def __init__(self) -> None:
        raw = run_raw(study())
        self.name = raw["metadata"]["name"]
        self.kube = Asked()
        self.kube.objects["QuantBenchmarkRun", self.name] = raw
        labelled = {"metadata": {"labels": {"quantbench.dev/run": self.name}}}
        self.server, load = pod(state=running(), ready=40, changes=labelled), pod("load", running(15), changes=labelled)
        for child in (self.server, load):
            child["metadata"]["ownerReferences"][0]["uid"] = raw["metadata"]["uid"]
            self.kube.objects["Pod", child["metadata"]["name"]] = child
        self.kube.seconds = 50

    async def look(self) -> JsonObject:
        """One step; the verdict after it."""
        of = Reconciler(self.kube, RUNNER, lambda: later(self.kube.seconds))  # type: ignore[arg-type]
        await of.reconcile(Key("QuantBenchmarkRun", "bench", self.name))
        verdict: JsonObject = self.kube.objects["QuantBenchmarkRun", self.name]["status"].get("verdict", {})
        return verdict


async def test_logs_are_read_with_bounds_and_only_when_needed() -> None:
    serving = Serving()
    load, head = ("demo-bf16-l1", "load", 4 * 1024 * 1024, None), ("demo-bf16-s1", "vllm", 1024 * 1024, None)
    await serving.look()
    assert serving.kube.asked == [load, head]
    serving.server["status"] |= {"phase": "Failed"}
    await serving.look()
    assert serving.kube.asked[2:] == [load, head], "a log that was read as a whole needs no second look at its end"


STARTED = """\
(EngineCore pid=9) INFO 11-28 10:00:00 [core.py:1] Initializing a V1 LLM engine (v0.24.0) with config: dtype=torch.bfloat16
(EngineCore pid=9) INFO 11-28 10:00:20 [m.py:1] Model loading took 15.3 GiB and 5.1 seconds
(APIServer pid=1) INFO:     Application startup complete.
"""
OOM = "(EngineCore pid=9) ERROR 11-28 10:10:00 [core.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."
STREAM = """\
(APIServer pid=1) ERROR 11-28 10:10:00 [serving.py:1] Error in chat completion stream generator.
(APIServer pid=1) ERROR 11-28 10:10:00 [serving.py:1] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.
"""
MANY_STREAMS = STREAM * 5000
"""What vLLM says of each request in flight when its engine dies, after the cause: 1.3 MB here."""


@pytest.mark.parametrize(
    ("log", "where"),
    [
        (f"{STARTED}{OOM}\n{MANY_STREAMS}", "at the beginning"),
        (f"{STARTED}{MANY_STREAMS}{OOM}\n", "at the end"),
        (f"{MANY_STREAMS}{OOM}\n", "at the end, and the kubelet has rotated the beginning away"),
        (f"{OOM}\n{MANY_STREAMS}", "at the beginning of what the kubelet has kept"),
    ],
)
async def test_the_cause_is_found_before_or_after_what_each_stream_says(log: str, where: str) -> None:
    serving = Serving()
    serving.kube.logs["demo-bf16-s1"] = STARTED
    await serving.look()
    serving.kube.logs["demo-bf16-s1"] = log
    serving.server["status"]["containerStatuses"][0]["state"] = terminated(1, since=20, until=49)
    serving.server["status"]["phase"] = "Failed"
    verdict = await serving.look()
    assert (verdict["name"], verdict["reason"]) == ("OutOfMemory", "UnderLoad"), where


def test_paths_as_kubectl_prints_them() -> None:
    with pytest.raises(ValidationError) as caught:
        study(engine={"podTemplate": {"env": [{"name": "A B"}]}}, targets=[{"name": "a", "gpus": -1}])
    paths = {error.path for error in field_errors(caught.value)}
    assert paths >= {"spec.engine.podTemplate.env[0].name", "spec.targets[0].gpus"}
