"""The way of one run, stage by stage: what is decided for what is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core_support.logs import a_pass, event, seal, server_log, text, unix, whole
from core_support.objects import RUNNER, at, ended, later, merged, pass_json, run, study
from core_support.pods import condition, deleted, job, pod, running, terminated, waiting
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.run import QuantBenchmarkRunStatus
from quantbench.decide.actions import Apply, Decision, Delete, Emit
from quantbench.decide.run import Evidence, Wanted, decide_run, wanted_logs
from quantbench.observe import Children, Run, children
from quantbench.resources import labels
from quantbench.results import parse_log

ONE_PASS = study(sampling={"repeats": 1, "control": False})
HEALTHY = server_log("h100-0.24-bf16-s2.log")
RECORDED: JsonObject = {"server": {"name": "demo-bf16-s1", "uid": "uid-demo-bf16-s1"}}


def seen(*raws: JsonObject, attempt: int = 1) -> Children:
    pods = [raw for raw in raws if raw["kind"] == "Pod"]
    jobs = [raw for raw in raws if raw["kind"] == "Job"]
    return children(pods, jobs, "run-0", attempt)


def decide(
    *raws: JsonObject,
    spec: QuantBenchmarkSpec = ONE_PASS,
    status: JsonObject | None = None,
    now: float = 10,
    load_log: str | None = "",
    server_log: str | None = "",
    rejection: str | None = None,
    final: bool = False,
    server_head: str | None = HEALTHY,
    unread: bool = False,
    **changes: Any,
) -> Decision:
    """The decision about a run with these children."""
    of = run(spec, status=status, **changes)
    evidence = Evidence(parse_log(load_log), server_log, rejection, final, server_head, unread)
    return decide_run(of, seen(*raws, attempt=of.status.attempt), evidence, RUNNER, later(now))


def next_status(decision: Decision) -> QuantBenchmarkRunStatus:
    """The status that a decision wants stored."""
    assert decision.status is not None
    return QuantBenchmarkRunStatus.model_validate(decision.status)


def stage(decision: Decision) -> tuple[str, str, str]:
    (complete,) = next_status(decision).conditions
    assert complete.type == "Complete"
    return complete.status, complete.reason, complete.message


def created(decision: Decision) -> list[str]:
    return [action.manifest["kind"] for action in decision.actions if isinstance(action, Apply)]


def removed(decision: Decision) -> list[tuple[str, str]]:
    return [(action.kind, action.name) for action in decision.actions if isinstance(action, Delete)]


def verdict(decision: Decision) -> tuple[str, str] | None:
    found = next_status(decision).verdict
    return (str(found.name), found.reason) if found else None


LOADING = (pod(state=running(), ready=40), job(), pod(labels.LOAD, running(15)))
GOOD = whole(a_pass())
DONE = (LOADING[0], job(), pod(labels.LOAD, terminated(0, "Completed", since=15, until=120, message=seal(GOOD))))

# --- forwards --------------------------------------------------------------------------------------------------


def test_a_new_run_gets_its_server() -> None:
    decision = decide()
    assert created(decision) == ["Pod"]
    assert stage(decision) == ("False", "Scheduling", "creating the server pod")
    assert next_status(decision).times.requested == at(10)
    again = decide(status=decision.status, now=99)
    assert created(again) == ["Pod"]  # harmless: the same name
    assert next_status(again).times.requested == at(10)


def test_the_server_is_recorded_before_anything_else() -> None:
    decision = decide(pod(scheduled=None), now=3)
    server = next_status(decision).server
    assert server is not None
    assert (server.name, server.uid, server.node) == ("demo-bf16-s1", "uid-demo-bf16-s1", None)
    assert created(decision) == []
    assert stage(decision) == ("False", "Scheduling", "waiting for a node")


def test_why_there_is_no_node_is_shown() -> None:
    why = condition("PodScheduled", 1, "False", reason="Unschedulable", message="0/3 nodes: no GPU")
    decision = decide(pod(scheduled=None, changes={"status": {"conditions": [why]}}))
    assert stage(decision) == ("False", "Scheduling", "0/3 nodes: no GPU")


def test_the_load_job_follows_the_address() -> None:
    decision = decide(pod())
    assert created(decision) == ["Job"]
    assert stage(decision) == ("False", "Starting", "the server is starting")
    without = decide(pod(changes={"status": {"podIP": None}}))
    assert created(without) == []


def test_what_the_server_waits_for_is_shown() -> None:
    decision = decide(pod(state=waiting("ErrImagePull", "503")), job())
    assert stage(decision) == ("False", "Starting", "ErrImagePull: 503")


def test_loading() -> None:
    decision = decide(*LOADING, now=70, load_log=text(whole()[:3]))
    assert stage(decision) == ("False", "Loading", "0 of 1 passes")
    waiting_for_it = decide(LOADING[0], job(), now=50)
    assert stage(waiting_for_it)[2] == "waiting for the load generator"
    blocked = decide(LOADING[0], job(), pod(labels.LOAD, waiting("ErrImagePull", "503")), now=50)
    assert stage(blocked)[2] == "load generator: ErrImagePull: 503"


def test_passes_are_stored_as_they_come() -> None:
    two = study(sampling={"repeats": 2, "control": False})
    first = decide(*LOADING, spec=two, now=115, load_log=text(whole(a_pass())[:-1]))
    assert [p.key for p in next_status(first).passes] == ["1/saturated/1"]
    # The log is gone; what was stored stays.
    for log in (None, "", "garbage"):
        second = decide(*LOADING, spec=two, now=118, load_log=log, status=first.status)
        assert next_status(second).passes == next_status(first).passes


def test_stage_times() -> None:
    documents = [event("ready", 60.5), event("warmup", 95.25, seconds=15.0), a_pass(at=100, seconds=10.5)]
    times = next_status(
        decide(*LOADING, spec=study(sampling={"repeats": 2, "control": False}), now=115, load_log=text(documents))
    ).times
    whole_seconds = {
        "server_created": 0,
        "scheduled": 5,
        "sandbox_ready": 7,
        "server_started": 20,
        "load_created": 8,
    }
    for name, seconds in whole_seconds.items():
        assert getattr(times, name) == at(seconds).replace(".000", ""), name
    assert (times.ready, times.first_pass, times.last_pass) == (at(60.5), at(80.25), at(110.5))


def test_the_kubelet_says_ready_first_and_the_load_generator_exactly() -> None:
    by_kubelet = decide(*LOADING, now=70)
    assert next_status(by_kubelet).times.ready == at(40).replace(".000", "")
    by_runner = decide(*LOADING, now=70, load_log=text([event("ready", 40.7)]), status=by_kubelet.status)
    assert next_status(by_runner).times.ready == at(40.7)
    log_gone = decide(*LOADING, now=70, load_log=None, status=by_runner.status)
    assert next_status(log_gone).times.ready == at(40.7)


def test_measured() -> None:
    decision = decide(*DONE, now=121, load_log=text(GOOD))
    assert verdict(decision) == ("Measured", "AllPassesValid")
    assert stage(decision)[:2] == ("True", "Releasing")
    assert removed(decision) == []  # stored first
    assert [type(action) for action in decision.actions] == [Emit]
    head = next_status(decision).headline
    assert head is not None
    assert (head.load, head.total_tokens_per_second, head.mean_ttft_milliseconds) == ("saturated", 3000.0, 50.5)
    times = next_status(decision).times
    assert (times.stored, times.load_finished, times.released) == (at(121), at(120).replace(".000", ""), None)


def test_release() -> None:
    status = decide(*DONE, now=121, load_log=text(GOOD)).status
    decision = decide(*DONE, now=122, status=status)
    assert removed(decision) == [("Pod", "demo-bf16-s1"), ("Pod", "demo-bf16-l1"), ("Job", "demo-bf16-l1")]
    assert verdict(decision) == ("Measured", "AllPassesValid")
    going = [deleted(raw, 122, grace=1) if raw["kind"] == "Pod" else raw for raw in DONE]
    assert removed(decide(*going, now=123, status=status)) == [("Job", "demo-bf16-l1")]
    gone = decide(now=124, status=status)
    assert stage(gone)[:2] == ("True", "Ended")
    assert next_status(gone).times.released == at(124)
    assert gone.requeue_after is None
    assert decide(now=999, status=gone.status) == Decision()


def test_a_node_that_never_answers_does_not_hold_the_study_for_ever() -> None:
    status = decide(*DONE, now=121, load_log=text(GOOD)).status
    server, load = (deleted(raw, 122, grace=1) for raw in (DONE[0], DONE[2]))
    waited = decide(server, now=423, status=status)
    assert stage(waited)[:2] == ("True", "Releasing")
    given_up = decide(server, now=424, status=status)
    assert next_status(given_up).times.released == at(424)
    assert stage(given_up) == (
        "True",
        "Ended",
        "pod demo-bf16-s1 on node node-1 was deleted and does not end: its GPU may still be taken; 1 passes, all valid",
    )
    assert verdict(given_up) == ("Measured", "AllPassesValid")
    # Each of them has its own time, stale ones of an earlier attempt too.
    assert stage(decide(server, deleted(load, 300), now=500, status=status))[1] == "Releasing"
    assert stage(decide(server, DONE[1], now=500, status=status))[1] == "Releasing"
    late = decide(server, deleted(pod(attempt=2), 122), now=500, status=status)
    assert "pod demo-bf16-s1 on node node-1, pod demo-bf16-s2 on node node-1 was deleted" in stage(late)[2]


def test_a_released_run_removes_what_reappears() -> None:
    decision = decide(pod(attempt=2), status=ended())
    assert decision.status is None
    assert removed(decision) == [("Pod", "demo-bf16-s2")]


# --- ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raws", "more", "wanted"),
    [
        ((pod(state=terminated(1)),), {}, ("Failed", "Unknown")),
        ((pod(state=terminated(137, "OOMKilled")), job()), {}, ("OutOfMemory", "ContainerMemory")),
        ((pod(state=waiting("ErrImagePull", "manifest unknown")),), {}, ("ImageUnavailable", "ErrImagePull")),
        ((pod(scheduled=None),), {"now": 901}, ("Unschedulable", "NoNode")),
        ((pod(state=running()), job()), {"now": 1206}, ("TimedOut", "StartTimeout")),
        ((LOADING[0], job(), pod(labels.LOAD, waiting("ErrImageNeverPull", "not present"))), {}, ("ImageUnavailable", "ErrImageNeverPull")),
        ((LOADING[0], job(), pod(labels.LOAD, waiting("CreateContainerConfigError", "no secret"))), {"now": 99, "status": {"times": {"blocked": at(38)}}}, ("Failed", "CreateContainerConfigError")),
        ((LOADING[0], job(), pod(labels.LOAD, scheduled=None)), {"now": 901}, ("Unschedulable", "NoNodeForLoad")),
        ((pod(state=terminated(1)), job(over="BackoffLimitExceeded")), {}, ("Failed", "Unknown")),
        (LOADING, {"now": 1841}, ("TimedOut", "LoadTimeout")),
        ((LOADING[0], job(), pod(labels.LOAD, terminated(1, until=60))), {"now": 61}, ("Failed", "ResultMissing")),
        ((LOADING[0], job(), pod(labels.LOAD, terminated(137, "OOMKilled"))), {"now": 61}, ("Failed", "LoadOutOfMemory")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) and isinstance(value[0], str) else "",
)  # fmt: skip
def test_how_runs_end(raws: tuple[JsonObject, ...], more: dict[str, Any], wanted: tuple[str, str]) -> None:
    decision = decide(*raws, **more)
    assert verdict(decision) == wanted
    assert removed(decision) == []
    assert created(decision) == []
    assert stage(decision)[:2] == ("True", "Releasing")
    (said,) = decision.actions
    assert isinstance(said, Emit)
    assert (said.reason, said.warning) == (wanted[0], True)


def test_a_missing_object_has_its_minute_after_a_long_pull() -> None:
    """The kubelet looks for what a container refers to once its image is there."""
    missing = pod(state=waiting("CreateContainerConfigError", 'secret "hub" not found'))
    first = decide(missing, now=600)
    assert (verdict(first), next_status(first).times.blocked) == (None, at(600))
    again = decide(missing, now=660, status=first.status)
    assert (verdict(again), next_status(again).times.blocked) == (None, at(600))
    assert verdict(decide(missing, now=661, status=first.status)) == ("Failed", "CreateContainerConfigError")
    # Once it runs, the next wait is a new one.
    mended = decide(pod(state=running()), now=610, status=first.status)
    assert next_status(mended).times.blocked is None


@pytest.mark.parametrize("reason", ["CreateContainerError", "RunContainerError"])
def test_what_a_runtime_fails_at_may_pass(reason: str) -> None:
    failing = pod(state=waiting(reason, "context deadline exceeded"))
    first = decide(failing, now=300)
    assert verdict(decide(failing, now=1205, status=first.status)) is None
    assert verdict(decide(failing, now=1206, status=first.status)) == ("Failed", reason)


def test_a_refused_run_ends_at_once_without_a_pod() -> None:
    decision = decide(refusal={"verdict": "PluginMissing", "reason": "PluginMissing", "message": "use 0.23"})
    assert verdict(decision) == ("PluginMissing", "PluginMissing")
    assert created(decision) == []
    assert stage(decision) == ("True", "Ended", "use 0.23")
    assert next_status(decision).times.released == at(10)


def test_progress_puts_the_load_timeout_off() -> None:
    log = text([event("ready", 60), event("warmup", 1800, seconds=3), a_pass(at=1801, seconds=10)])
    assert verdict(decide(*LOADING, now=1841, load_log=log, spec=study(sampling={"repeats": 2}))) is None
    late = decide(*LOADING, now=1811 + 1801, load_log=log, spec=study(sampling={"repeats": 2}))
    assert verdict(late) == ("TimedOut", "LoadTimeout")
    assert "1 were finished before" in stage(late)[2]


def test_a_clock_that_is_far_ahead_puts_nothing_off() -> None:
    log = text([event("ready", 60), event("warmup", 10_000_000)])
    assert verdict(decide(*LOADING, now=1900, load_log=log)) == ("TimedOut", "LoadTimeout")


@pytest.mark.parametrize("time", ["NaN", "1e300", "-1e300", "1" + "0" * 400])
def test_odd_times_in_the_log_stop_nothing(time: str) -> None:
    log = "".join(
        f"QUANTBENCH {line}\n"
        for line in (
            f'{{"kind":"event","name":"ready","time":{time}}}',
            f'{{"kind":"pass","load":"saturated","repeat":1,"startedAt":{unix(1)},"finishedAt":{time}}}',
        )
    )
    assert stage(decide(*LOADING, now=70, load_log=log))[1] == "Loading"


def test_a_load_pod_that_the_job_controller_may_not_make() -> None:
    server = pod(state=running(), ready=40)
    assert stage(decide(server, job(), now=68))[2] == "waiting for the load generator"
    missing = "the Job controller made no pod: quota or admission policy, see kubectl describe job demo-bf16-l1"
    assert stage(decide(server, job(), now=69))[2] == missing
    assert stage(decide(pod(state=running()), job(), now=69))[1:] == ("Starting", missing)
    # A GPU waits from when the server is ready, so the limit for scheduling counts only as far as it is short.
    for limits, until in (({}, 340), ({"scheduleTimeoutSeconds": 100}, 140), ({"scheduleTimeoutSeconds": 1}, 68)):
        assert verdict(decide(server, job(), now=until, limits=limits)) is None
        late = decide(server, job(), now=until + 1, limits=limits)
        assert verdict(late) == ("Unschedulable", "LoadPodMissing")
        assert stage(late)[2] == missing
    # While the model loads, no load pod is needed; one that is asked for late has its time as well.
    assert verdict(decide(pod(state=running()), job(), now=1000)) is None
    assert verdict(decide(server, job(created=200), now=500)) is None
    assert verdict(decide(server, job(created=200), now=501)) == ("Unschedulable", "LoadPodMissing")


# --- losses ----------------------------------------------------------------------------------------------------


def evicted(raw: JsonObject) -> JsonObject:
    return {**raw, "status": {**raw["status"], "phase": "Failed", "reason": "Evicted", "message": "low on memory"}}


LOSSES = {
    "server evicted": ((evicted(LOADING[0]), job()), RECORDED),
    "load evicted": ((LOADING[0], job(), evicted(LOADING[2])), RECORDED),
    "server deleted": ((deleted(LOADING[0], 60), job()), RECORDED),
    "server deleted, and ended by that": ((deleted(pod(state=terminated(143, until=61)), 60), job()), RECORDED),
    "load deleted": ((LOADING[0], job(), deleted(LOADING[2], 60)), RECORDED),
    # A Job that tries nothing again is over without a pod only where the pod was removed.
    "load gone, and done": ((LOADING[0], job(over="CompletionsReached")), RECORDED),
    "load gone": ((LOADING[0], job(over="BackoffLimitExceeded")), RECORDED),
    "server gone": ((job(),), RECORDED),
    "server replaced": ((LOADING[0],), {"server": {"name": "demo-bf16-s1", "uid": "another"}}),
    "job gone": ((LOADING[0],), {**RECORDED, "loadJob": "demo-bf16-l1"}),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_pod_means_another_attempt(loss: str) -> None:
    raws, status = LOSSES[loss]
    decision = decide(*raws, status=status, now=70)
    after = next_status(decision)
    assert (after.attempt, after.lost, after.server, after.load_job) == (2, 1, None, None)
    assert after.verdict is None
    assert after.times.server_created is None
    assert stage(decision)[1] == "Pending"
    assert decision.actions == ()  # the new attempt is stored first
    following = decide(*raws, status=decision.status, now=71)
    assert created(following) == []
    assert len(removed(following)) == sum(1 for raw in raws if "deletionTimestamp" not in raw["metadata"])
    assert stage(following)[2] == "waiting for the pods of the last attempt to end"
    assert created(decide(status=following.status, now=72)) == ["Pod"]


def test_the_next_server_waits_until_the_last_one_is_gone() -> None:
    """A pod that is asked to go still holds its GPU."""
    lost = {"attempt": 2, "lost": 1}
    going = deleted(pod(state=running()), 60)
    waiting_for_it = decide(going, status=lost, now=70)
    assert (created(waiting_for_it), removed(waiting_for_it)) == ([], [])
    assert stage(waiting_for_it)[:2] == ("False", "Pending")
    assert created(decide(status=lost, now=70)) == ["Pod"]
    # On a node that does not answer it stays for ever.
    assert created(decide(going, status=lost, now=390)) == []
    stuck = decide(going, status=lost, now=391)
    assert created(stuck) == ["Pod"]
    assert "pod demo-bf16-s1 on node node-1" in stage(stuck)[2]


def of_a_namesake(raw: JsonObject) -> JsonObject:
    return merged(raw, {"metadata": {"ownerReferences": [{"kind": "QuantBenchmarkRun", "uid": "an-earlier-run"}]}})


def test_what_a_deleted_run_has_left_goes_before_a_server_is_made() -> None:
    """Its children have the names of the next ones: applied over, they would be taken for the new run's."""
    left = [of_a_namesake(raw) for raw in LOADING[:2]]
    decision = decide(*left, LOADING[2], now=70)
    assert (created(decision), stage(decision)[1]) == ([], "Pending")
    assert removed(decision) == [("Job", "demo-bf16-l1"), ("Pod", "demo-bf16-s1"), ("Pod", "demo-bf16-l1")]
    going = [deleted(raw, 71, grace=1) for raw in left[:1]]
    assert decide(*going, now=72, status=decision.status).actions == ()
    fresh = decide(now=73, status=decision.status)
    assert (created(fresh), next_status(fresh).attempt, next_status(fresh).lost) == (["Pod"], 1, 0)


def test_a_server_of_a_deleted_run_that_does_not_end_keeps_its_name() -> None:
    stuck = deleted(of_a_namesake(pod(state=running())), 60, grace=1)
    aside = decide(stuck, now=362)
    assert (aside.actions, next_status(aside).attempt, next_status(aside).lost) == ((), 2, 0)
    (apply,) = decide(stuck, now=363, status=aside.status).actions
    assert isinstance(apply, Apply)
    assert apply.manifest["metadata"]["name"].endswith("-s2")


def test_what_lost_servers_cost_is_counted() -> None:
    before = {**RECORDED, "serverSeconds": 100.0, "times": {"serverCreated": at(-60), "scheduled": at(0)}}
    assert next_status(decide(job(), status=before, now=70)).server_seconds == 170.0
    # Waiting for a node costs nothing, and a clock that goes backwards earns nothing.
    pending = {**before, "times": {"serverCreated": at(-60)}}
    assert next_status(decide(job(), status=pending, now=70)).server_seconds == 100.0
    assert next_status(decide(job(), status=before, now=-70)).server_seconds == 100.0


def test_given_up_after_too_many_losses() -> None:
    decision = decide(job(), status={**RECORDED, "lost": 2}, now=70)
    assert verdict(decision) == ("Evicted", "PodLost")
    assert "given up after 3 attempts" in stage(decision)[2]
    once = decide(job(), status=RECORDED, now=70, limits={"retries": 0})
    assert verdict(once) == ("Evicted", "PodLost")


def test_a_server_lost_after_the_last_pass_loses_nothing() -> None:
    decision = decide(evicted(DONE[0]), *DONE[1:], status=RECORDED, now=121, load_log=text(GOOD))
    assert verdict(decision) == ("Measured", "AllPassesValid")


ONCE = {**RECORDED, "loadJob": "demo-bf16-l1", "times": {"serverCreated": at(0), "scheduled": at(5), "ready": at(40)}}
AFTERWARDS = {
    "the server is gone": (DONE[1], DONE[2]),
    "the server is another": (pod(changes={"metadata": {"uid": "another"}}), *DONE[1:]),
    "the Job is gone": (DONE[0], DONE[2]),
    "all is gone but the load pod": (DONE[2],),
    "all is gone and the load pod goes": (deleted(DONE[2], 125),),
}


@pytest.mark.parametrize("what", AFTERWARDS)
def test_a_finished_measurement_is_judged_first(what: str) -> None:
    """What happens to the other pods while the operator is away does not matter."""
    raws = AFTERWARDS[what]
    assert wanted(*raws, status=ONCE).load
    decision = decide(*raws, status=ONCE, now=130, load_log=text(GOOD))
    assert verdict(decision) == ("Measured", "AllPassesValid")
    assert next_status(decision).times.server_created == at(0).replace(".000", "" if raws[0] is DONE[0] else ".000")
    assert removed(decision) == []
    server = next_status(decision).server
    assert server is not None
    assert server.uid == RECORDED["server"]["uid"]


def test_a_finished_measurement_whose_log_went_with_its_node_is_lost() -> None:
    waiting_for_it = decide(DONE[2], status=ONCE, now=130, load_log=None, unread=True)
    assert verdict(waiting_for_it) is None
    assert next_status(waiting_for_it).attempt == 1
    assert next_status(decide(DONE[2], status=ONCE, now=130, load_log=None, unread=True, suspend=True)).attempt == 1
    lost = decide(DONE[2], status=waiting_for_it.status, now=190, load_log=None, unread=True)
    assert (next_status(lost).attempt, next_status(lost).lost) == (2, 1)


def test_a_log_that_is_late_once_costs_nothing_however_long_ago_the_pod_ended() -> None:
    """An operator that comes back has looked once only, and the log holds all that was measured."""
    looked = decide(*DONE, status=ONCE, now=9000, load_log=None, unread=True)
    assert (verdict(looked), next_status(looked).attempt, next_status(looked).times.unread) == (None, 1, at(9000))
    still = decide(*DONE, status=looked.status, now=9059, load_log=None, unread=True)
    assert (verdict(still), next_status(still).attempt, next_status(still).times.unread) == (None, 1, at(9000))
    read = decide(*DONE, status=still.status, now=9059, load_log=text(GOOD))
    assert verdict(read) == ("Measured", "AllPassesValid")
    assert next_status(read).times.unread is None


def test_a_log_that_is_late_is_no_load_timeout() -> None:
    """What the load generator has done since its last pass stands in its log alone."""
    ready = {**ONCE, "times": {"ready": at(40)}}
    late = decide(*LOADING, status=ready, now=5000, load_log=None, unread=True)
    assert verdict(late) is None
    for_long = decide(*LOADING, status=late.status, now=5061, load_log=None, unread=True)
    assert verdict(for_long) == ("TimedOut", "LoadTimeout")


UNTOLD = whole(complete=False, error={"reason": "ServerDied", "message": "not healthy: timed out"})
NOTHING_TOLD: dict[str, tuple[tuple[JsonObject, ...], dict[str, Any], str]] = {
    "the server answers no more": (
        (LOADING[0], job(), pod(labels.LOAD, terminated(1, since=15, until=60, message=seal(UNTOLD)))),
        {"load_log": text(UNTOLD), "server_log": None},
        "ServerDied",
    ),
    "the log of the load generator": (DONE, {"load_log": None}, "LogUnavailable"),
    "the log of a dead server": ((pod(state=terminated(1)), job()), {"server_log": None}, "LogUnavailable"),
}


@pytest.mark.parametrize("what", NOTHING_TOLD)
def test_what_a_silent_node_may_have_done_is_tried_again(what: str) -> None:
    """A node that goes away shows minutes later; a server that hangs does it again."""
    raws, more, reason = NOTHING_TOLD[what]
    again = decide(*raws, status=ONCE, now=200, **more)
    assert (verdict(again), next_status(again).attempt, next_status(again).lost) == (None, 2, 1)
    last = decide(*raws, status={**ONCE, "lost": 2}, now=200, **more)
    assert verdict(last) == ("Failed", reason)
    assert stage(last)[2].endswith("given up after 3 attempts")


def test_a_load_pod_that_nobody_owns_is_removed() -> None:
    """What `kubectl delete job --cascade=orphan` leaves behind."""
    orphan = pod(labels.LOAD, running(15), changes={"metadata": {"ownerReferences": []}})
    lost = decide(LOADING[0], orphan, status=ONCE, now=70)
    assert (next_status(lost).attempt, removed(lost)) == (2, [])
    following = decide(orphan, status=lost.status, now=71)
    assert removed(following) == [("Pod", "demo-bf16-l1")]
    assert removed(decide(orphan, status=ended())) == [("Pod", "demo-bf16-l1")]


def test_passes_of_an_earlier_attempt_do_not_count() -> None:
    first = [pass_json(attempt=1, tps=99.0)]
    raws = [pod(state=running(), ready=40, attempt=2), job(attempt=2)]
    done = pod(labels.LOAD, terminated(0, "Completed", until=120, message=seal(GOOD)), attempt=2)
    decision = decide(*raws, done, status={"attempt": 2, "passes": first}, now=121, load_log=text(GOOD))
    after = next_status(decision)
    assert [p.key for p in after.passes] == ["1/saturated/1", "2/saturated/1"]
    assert after.headline is not None
    assert after.headline.total_tokens_per_second == 3000.0


# --- suspension ------------------------------------------------------------------------------------------------


def test_suspended_before_it_began() -> None:
    decision = decide(suspend=True)
    assert stage(decision) == ("False", "Suspended", "suspended")
    assert decision.actions == ()


def test_suspended_while_it_runs() -> None:
    decision = decide(*LOADING, now=70, suspend=True)
    assert (next_status(decision).attempt, next_status(decision).lost) == (2, 0)
    assert decision.actions == ()
    following = decide(*LOADING, now=71, suspend=True, status=decision.status)
    assert removed(following) == [("Job", "demo-bf16-l1"), ("Pod", "demo-bf16-s1"), ("Pod", "demo-bf16-l1")]
    assert next_status(following).attempt == 2
    assert created(decide(now=99, status=following.status)) == ["Pod"]


def test_a_finished_measurement_is_kept_although_suspended() -> None:
    assert verdict(decide(*DONE, now=121, load_log=text(GOOD), suspend=True)) == ("Measured", "AllPassesValid")


# --- a spent budget ---------------------------------------------------------------------------------------------

SPENT = {"budgetSpent": True}
NO_BUDGET = ("False", "BudgetSpent", "limits.gpuHours is spent: raise it to go on")


@pytest.mark.parametrize("how", ["new", "lost", "resumed"])
def test_no_server_is_started_while_the_budget_is_spent(how: str) -> None:
    status = {
        "new": None,
        "lost": decide(job(), status=RECORDED, now=70, limits=SPENT).status,
        "resumed": decide(status={"attempt": 2}, now=70, suspend=True, limits=SPENT).status,
    }[how]
    waiting_for_it = decide(status=status, now=80, limits=SPENT)
    assert (stage(waiting_for_it), waiting_for_it.actions) == (NO_BUDGET, ())
    assert waiting_for_it.requeue_after is not None
    assert waiting_for_it.requeue_after >= 60, "a study that has ended costs the API server next to nothing"
    # Raised a day later, it has the whole time for scheduling again.
    raised = decide(status=waiting_for_it.status, now=86400)
    assert created(raised) == ["Pod"]
    assert next_status(raised).times.requested == at(86400)


def test_a_server_without_a_node_is_taken_back_when_the_budget_is_spent() -> None:
    back = decide(pod(scheduled=None), status=RECORDED, limits=SPENT)
    assert (next_status(back).attempt, next_status(back).lost, back.actions) == (2, 0, ())
    following = decide(pod(scheduled=None), status=back.status, now=11, limits=SPENT)
    assert (stage(following), removed(following)) == (NO_BUDGET, [("Pod", "demo-bf16-s1")])
    # One that has a node is finished.
    assert created(decide(pod(), limits=SPENT)) == ["Job"]
    assert verdict(decide(*DONE, now=121, load_log=text(GOOD), limits=SPENT)) == ("Measured", "AllPassesValid")


def test_time_without_budget_is_no_time_without_quota() -> None:
    refused = {"times": {"requested": at(0)}}
    for held in (decide(status=refused, now=800, limits=SPENT), decide(status=refused, now=800, suspend=True)):
        raised = decide(status=held.status, now=9000)
        assert verdict(decide(status=raised.status, now=9001, rejection="exceeded quota")) is None


# --- refusals of the API server --------------------------------------------------------------------------------


def test_a_pod_that_breaks_a_rule() -> None:
    assert verdict(decide(rejection="spec.x: invalid", final=True)) == ("Failed", "PodRejected")


def test_a_refused_load_job_does_not_make_two_messages_take_turns() -> None:
    """Each write of the status is a reason to look again: alternating ones would follow each other without a pause."""
    server = pod(state=running(), ready=40)
    refused = decide(server, now=50, rejection="exceeded quota: pods")
    assert stage(refused)[2] == "exceeded quota: pods"
    assert refused.status is not None
    again = decide(server, now=51, status=refused.status)
    assert [type(action).__name__ for action in again.actions] == ["Apply"]
    assert stage(again)[2] == "exceeded quota: pods"


def test_a_quota_may_become_free() -> None:
    first = decide(rejection="exceeded quota", status={"times": {"requested": at(0)}})
    assert stage(first) == ("False", "Scheduling", "exceeded quota")
    late = decide(rejection="exceeded quota", status={"times": {"requested": at(0)}}, now=901)
    assert verdict(late) == ("Unschedulable", "PodForbidden")


@pytest.mark.parametrize("limits", [{}, {"scheduleTimeoutSeconds": 12 * 3600}])
def test_a_refused_load_job_has_the_time_that_a_ready_server_may_wait(limits: JsonObject) -> None:
    """However long the server itself has waited for its node, and may."""
    placed = {"requested": at(0), "serverCreated": at(0), "scheduled": at(895)}
    loads: JsonObject = {**RECORDED, "times": placed}
    assert verdict(decide(pod(scheduled=895), status=loads, now=901, rejection="webhook away", limits=limits)) is None
    serves = {**RECORDED, "times": {**placed, "ready": at(1000)}}
    for now, expected in ((1300, None), (1301, ("Unschedulable", "PodForbidden"))):
        refused = decide(pod(scheduled=895), status=serves, now=now, rejection="denied", limits=limits)
        assert verdict(refused) == expected


def test_a_resumed_run_has_the_whole_time_again() -> None:
    # Created hours ago, suspended, and resumed just now.
    decision = decide(rejection="exceeded quota", status={"attempt": 2, "times": {"requested": at(9000)}}, now=9010)
    assert verdict(decision) is None


def test_no_gpu_waits_for_a_server_that_nobody_can_reach() -> None:
    six = pod(state=running(), changes={"status": {"podIP": "fd00::7"}})
    decision = decide_run(run(ONE_PASS), seen(six), Evidence(), RUNNER, later(30))
    assert decision.status is not None
    assert decision.status["verdict"]["reason"] == "IPv6Address"
    assert not [action for action in decision.actions if isinstance(action, Apply)]


# --- what is read ----------------------------------------------------------------------------------------------


def wanted(*raws: JsonObject, status: JsonObject | None = None, now: float = 70) -> Wanted:
    of = run(ONE_PASS, status=status)
    return wanted_logs(of, seen(*raws), later(now))


def test_logs_are_read_only_when_they_matter() -> None:
    assert wanted() == Wanted()
    assert wanted(pod()) == Wanted()
    assert wanted(*LOADING) == Wanted(load=True, attestation=True)
    assert wanted(*LOADING, status={"attestation": {"engineVersion": "0.24.0"}}) == Wanted(load=True)
    assert wanted(pod(state=running()), job(), pod(labels.LOAD, running(15))) == Wanted(load=True), "not ready yet"
    assert wanted(*LOADING, status=ended()) == Wanted()
    assert wanted(*DONE) == Wanted(load=True, server=True, attestation=True)
    assert wanted(pod(state=terminated())) == Wanted(server=True)
    assert wanted(pod(state=running()), job(), now=1206) == Wanted(server=True)
    served: JsonObject = {"times": {"ready": at(40)}}
    assert wanted(pod(state=terminated()), status=served) == Wanted(server=True, attestation=True)


def test_a_run_that_is_being_deleted_is_left_alone() -> None:
    going: Run = replace(run(ONE_PASS), deleting=True)
    assert decide_run(going, seen(*LOADING), Evidence(), RUNNER, later(70)) == Decision()
    assert wanted_logs(going, seen(*LOADING), later(70)) == Wanted()


def test_conditions_keep_their_transition_time() -> None:
    first = decide(pod(scheduled=None), now=3)
    second = decide(pod(), now=9, status=first.status)
    third = decide(pod(state=terminated()), now=70, status=second.status)
    moments = [next_status(decision).conditions[0].last_transition_time for decision in (first, second, third)]
    assert moments == [at(3), at(3), at(70)]
    assert next_status(third).conditions[0].observed_generation == 1
    assert next_status(third).verdict is not None
