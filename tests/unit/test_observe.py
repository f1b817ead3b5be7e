"""Raw objects → facts; and that no object, however odd, stops the operator."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core_support.objects import MINIMAL, at, benchmark_object, ended, merged, pass_json, run_raw, study
from core_support.pods import condition, deleted, job, pod, running, terminated, waiting
from quantbench.api.base import JsonObject
from quantbench.observe import (
    IMAGE_REASONS,
    LOSS_REASONS,
    Children,
    benchmark_status,
    children,
    owned_by,
    read_benchmark,
    read_job,
    read_pod,
    read_run,
)
from quantbench.resources import labels

# --- pods ------------------------------------------------------------------------------------------------------


def test_a_pod_without_a_node() -> None:
    unschedulable = condition("PodScheduled", 1, "False", reason="Unschedulable", message="0/3 nodes: no GPU")
    found = read_pod(pod(scheduled=None, changes={"status": {"conditions": [unschedulable]}}))
    assert (found.node, found.address, found.scheduled_at, found.started_at) == (None, None, None, None)
    assert found.unschedulable == "0/3 nodes: no GPU"
    assert (found.ended, found.lost, found.attempt) == (False, None, 1)


def test_a_ready_pod() -> None:
    found = read_pod(pod(state=running(20), ready=40))
    assert (found.node, found.address, found.phase) == ("node-1", "10.0.0.7", "Running")
    assert (found.scheduled_at, found.sandbox_ready_at) == (at(5).replace(".000", ""), at(7).replace(".000", ""))
    assert (found.started_at, found.ready_at) == (at(20).replace(".000", ""), at(40).replace(".000", ""))


def test_a_condition_that_is_false_says_no_time() -> None:
    found = read_pod(pod(state=running(), changes={"status": {"conditions": [condition("Ready", 9, "False")]}}))
    assert found.ready_at is None


def test_a_pod_that_ended() -> None:
    found = read_pod(pod(state=terminated(3, "Error", since=20, until=60, message="seal")))
    assert found.terminated is not None
    assert (found.terminated.exit_code, found.terminated.reason, found.terminated.message) == (3, "Error", "seal")
    assert found.started_at == at(20).replace(".000", "")
    assert found.ended
    assert found.lost is None


def test_an_injected_sidecar_is_not_the_server() -> None:
    sidecar = {"name": "istio-proxy", "state": running(1)}
    server = {"name": "vllm", "state": terminated(1)}
    found = read_pod(pod(state=running(), changes={"status": {"containerStatuses": [sidecar, server]}}))
    assert found.phase == "Running"  # the sidecar keeps the pod alive
    assert found.terminated is not None
    assert found.ended


@pytest.mark.parametrize("reason", sorted(LOSS_REASONS))
def test_losses_by_reason(reason: str) -> None:
    changes = {"status": {"phase": "Failed", "reason": reason, "message": "the node was low on memory"}}
    assert read_pod(pod(state=running(), changes=changes)).lost == f"{reason}: the node was low on memory"


def test_a_pod_that_fails_by_itself_is_not_lost() -> None:
    assert read_pod(pod(state=terminated(), changes={"status": {"reason": "DeadlineExceeded"}})).lost is None


@pytest.mark.parametrize("component", [labels.SERVER, labels.LOAD])
@pytest.mark.parametrize("end", [(255, "Unknown"), (137, "ContainerStatusUnknown")])
def test_a_container_that_its_node_has_lost(component: str, end: tuple[int, str]) -> None:
    """Such an end tells of the node, and nothing of what ran there."""
    wanted = f"its node has lost the container: {end[1]}"
    assert read_pod(pod(component, terminated(*end))).lost == wanted
    init = {"status": {"phase": "Failed", "initContainerStatuses": [{"name": "a", "state": terminated(*end)}]}}
    assert read_pod(pod(component, changes=init)).lost == wanted
    late = {"status": {"reason": "DeadlineExceeded"}}
    assert read_pod(pod(component, terminated(*end), changes=late)).lost is None


@pytest.mark.parametrize("state", [terminated(255), terminated(137), terminated(1, "Unknown")])
def test_ends_of_its_own_are_no_losses(state: JsonObject) -> None:
    assert read_pod(pod(state=state)).lost is None


def test_a_disruption_counts_once_the_pod_goes() -> None:
    disrupted = condition("DisruptionTarget", 9, message="preempted by a pod of higher priority")
    going = pod(state=running(), changes={"status": {"conditions": [disrupted]}})
    assert read_pod(going).lost is None
    assert read_pod(deleted(going, 10)).lost == "preempted by a pod of higher priority"
    gone = pod(state=terminated(137), changes={"status": {"conditions": [disrupted]}})
    assert read_pod(gone).lost == "preempted by a pod of higher priority"


def test_deleted_while_it_worked() -> None:
    assert read_pod(deleted(pod(state=running()), 30)).lost == "deleted by something else"
    # The deletion ended the container: that end says nothing about the server.
    assert read_pod(deleted(pod(state=terminated(143, until=31)), 30)).lost == "deleted by something else"


def test_deleted_after_it_had_crashed() -> None:
    assert read_pod(deleted(pod(state=terminated(1, until=20)), 30)).lost is None


@pytest.mark.parametrize("reason", sorted(IMAGE_REASONS))
def test_image_reasons(reason: str) -> None:
    found = read_pod(pod(state=waiting(reason, "dial tcp: i/o timeout"))).waiting
    assert found is not None
    assert found.image
    assert not found.configuration


@pytest.mark.parametrize(
    ("reason", "message", "hopeless"),
    [
        ("ErrImagePull", "rpc error: code = NotFound: failed to resolve reference: not found", True),
        ("ImagePullBackOff", 'Back-off pulling image "x": manifest unknown', True),
        ("ErrImagePull", "pull access denied, repository does not exist", True),
        ("ErrImagePull", "401 Unauthorized", True),
        ("InvalidImageName", 'couldn\'t parse image name "A"', True),
        ("ErrImageNeverPull", "image is not present with pull policy of Never", True),
        ("ErrImagePull", "dial tcp 192.0.2.1:443: i/o timeout", False),
        ("ImagePullBackOff", "503 Service Unavailable", False),
        ("CreateContainerConfigError", 'secret "hub" not found', False),
    ],
)
def test_which_pulls_are_hopeless(reason: str, message: str, hopeless: bool) -> None:
    found = read_pod(pod(state=waiting(reason, message))).waiting
    assert found is not None
    assert found.hopeless is hopeless


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_starting_is_not_waiting(reason: str) -> None:
    assert read_pod(pod(state=waiting(reason))).waiting is None


def test_init_containers_count() -> None:
    init = {
        "status": {
            "initContainerStatuses": [{"name": "a", "state": terminated(0)}, {"name": "b", "state": terminated(2)}]
        }
    }
    failed = read_pod(pod(labels.LOAD, changes=init)).failed_init
    assert failed is not None
    assert failed.exit_code == 2
    stuck = {"status": {"initContainerStatuses": [{"name": "a", "state": waiting("ErrImagePull", "not found")}]}}
    blocked = read_pod(pod(labels.LOAD, state=waiting("PodInitializing"), changes=stuck)).waiting
    assert blocked is not None
    assert blocked.hopeless


SIDECARS = {"spec": {"initContainers": [{"name": "installer"}, {"name": "istio-proxy", "restartPolicy": "Always"}]}}


def test_a_native_sidecar_is_no_init_container() -> None:
    """It is an init container that runs beside the others, and is killed once they have ended."""
    sidecar = {"name": "istio-proxy", "state": terminated(137)}
    ended = [{"name": "installer", "state": terminated(0)}, sidecar]
    killed = pod(labels.LOAD, terminated(0), changes=merged(SIDECARS, {"status": {"initContainerStatuses": ended}}))
    assert read_pod(killed).failed_init is None
    failed = [sidecar, {"name": "installer", "state": terminated(2)}]
    found = read_pod(pod(labels.LOAD, changes=merged(SIDECARS, {"status": {"initContainerStatuses": failed}})))
    assert found.failed_init is not None
    assert found.failed_init.exit_code == 2
    pulling = [{"name": "istio-proxy", "state": waiting("ErrImagePull", "not found")}]
    found = read_pod(pod(labels.LOAD, changes=merged(SIDECARS, {"status": {"initContainerStatuses": pulling}})))
    assert found.waiting is not None


# --- Jobs and ownership ----------------------------------------------------------------------------------------


def test_jobs() -> None:
    assert read_job(job()).over is None
    found = read_job(job(attempt=3, over="BackoffLimitExceeded"))
    assert (found.attempt, found.over) == (3, "BackoffLimitExceeded: it is over")


def test_owned_by_uid_not_by_name() -> None:
    assert owned_by(pod(), "run-0")
    assert not owned_by(pod(), "run-1")
    assert not owned_by({}, "run-0")


def sort(pods: list[JsonObject], jobs: list[JsonObject], attempt: int = 1) -> Children:
    return children(pods, jobs, "run-0", attempt)


def test_children_of_the_attempt() -> None:
    found = sort([pod(), pod(labels.LOAD)], [job()])
    assert found.server is not None
    assert found.load is not None
    assert found.job is not None
    assert (found.server.name, found.load.name, found.job.name) == ("demo-bf16-s1", "demo-bf16-l1", "demo-bf16-l1")
    assert (found.stale_pods, found.stale_jobs, found.gone) == ((), (), False)


def test_children_of_other_attempts_are_stale() -> None:
    found = sort([pod(), pod(labels.LOAD), pod(attempt=2)], [job(), job(attempt=2)], attempt=2)
    assert found.server is not None
    assert found.server.attempt == 2
    assert found.load is None
    assert {stale.name for stale in found.stale_pods} == {"demo-bf16-s1", "demo-bf16-l1"}
    assert [stale.uid for stale in found.stale_jobs] == ["job-1"]


@pytest.mark.parametrize("owners", [[], [{"kind": "QuantBenchmarkRun", "uid": "an-earlier-run"}]])
def test_children_of_a_namesake_are_stale(owners: list[JsonObject]) -> None:
    """A run that was deleted under way has the same name as the one that follows, and so have their children."""
    foreign = [merged(raw, {"metadata": {"ownerReferences": owners}}) for raw in (pod(), job())]
    found = sort(foreign[:1], foreign[1:])
    assert (found.server, found.job) == (None, None)
    assert [stale.name for stale in (*found.stale_pods, *found.stale_jobs)] == ["demo-bf16-s1", "demo-bf16-l1"]


def test_a_load_pod_without_its_job_is_still_the_runs() -> None:
    load, orphan = pod(labels.LOAD), pod(labels.LOAD, changes={"metadata": {"ownerReferences": []}})
    for raw in (load, orphan):
        found = sort([raw], [])
        assert found.load is not None
        assert not found.gone
        assert [stale.name for stale in sort([raw], [], attempt=2).stale_pods] == ["demo-bf16-l1"]
    # That of a namesake's Job is not, nor what a namesake has left.
    foreign = job()
    foreign["metadata"]["ownerReferences"][0]["uid"] = "an-earlier-run"
    found = sort([load], [foreign])
    assert (found.load, found.job, len(found.stale_pods), len(found.stale_jobs)) == (None, None, 1, 1)
    left = children([load], [], "run-0", 1, since=at(1).replace(".000", ""))
    assert (left.load, len(left.stale_pods)) == (None, 1)
    assert children([load], [], "run-0", 1, since=at(0).replace(".000", "")).load is not None


def test_the_newest_load_pod_counts() -> None:
    second = pod(labels.LOAD, changes={"metadata": {"name": "second", "creationTimestamp": at(50)}})
    for pods in ([pod(labels.LOAD), second], [second, pod(labels.LOAD)]):
        found = sort(pods, [job()])
        assert found.load is not None
        assert found.load.name == "second"


# --- custom resources ------------------------------------------------------------------------------------------


def test_a_benchmark() -> None:
    found = read_benchmark(benchmark_object(study(), generation=7))
    assert (found.name, found.namespace, found.generation, found.deleting) == ("demo", "bench", 7, False)
    assert found.spec == study()
    assert read_benchmark(benchmark_object(study(), deletionTimestamp=at())).deleting


def test_a_benchmark_that_does_not_fit() -> None:
    raw = benchmark_object(study())
    raw["spec"]["variants"] = "all"
    with pytest.raises(ValidationError):
        read_benchmark(raw)


@pytest.mark.parametrize("status", [{"cells": 5}, {"conditions": [{}]}, {"gpuHours": -1}])
def test_a_status_that_can_be_rebuilt_is_not_trusted_blindly(status: JsonObject) -> None:
    assert benchmark_status({"status": status}) == benchmark_status({})


def test_fields_of_a_newer_operator() -> None:
    raw = run_raw(study(), status={"attempt": 3, "fromTheFuture": {"a": 1}, "times": {"later": "x"}})
    raw["spec"]["fromTheFuture"] = True
    assert read_run(raw).status.attempt == 3
    assert benchmark_status({"status": {"progress": "1/2", "fromTheFuture": 1}}).progress == "1/2"


def test_a_runs_status_is_never_guessed() -> None:
    with pytest.raises(ValidationError):
        read_run(run_raw(study(), status={"attempt": "first"}))


def test_a_run_as_stored_is_a_run_as_read() -> None:
    found = read_run(run_raw(study(), status=ended(passes=[pass_json(), pass_json(repeat=2)])))
    assert [measured.key for measured in found.status.passes] == ["1/saturated/1", "1/saturated/2"]
    assert found.cell == ("bf16", "h100") or found.cell == ("control", "h100")
    assert found.status.to_json()["passes"][0] == {
        **pass_json(),
        "itlMilliseconds": {},
        "e2elMilliseconds": {},
        "server": {},
        "client": {},
    }


# --- anything --------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    [
        "metadata", "status", "spec", "conditions", "containerStatuses", "initContainerStatuses", "state", "terminated",
        "running", "waiting", "exitCode", "reason", "message", "startedAt", "finishedAt", "type", "lastTransitionTime",
        "labels", "ownerReferences", "uid", "name", "creationTimestamp", "deletionTimestamp", "phase", "podIP",
        "deletionGracePeriodSeconds", "nodeName", labels.ATTEMPT, labels.COMPONENT,
    ]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(
        ["True", "Ready", "PodScheduled", "DisruptionTarget", "Failed", "²", "12", "server", "run-0",
         "2026-11-01T12:00:00Z", "0001-01-01T00:00:00+14:00", "2026-11-01", "ErrImagePull", "Evicted"]
    ),
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
OBJECTS = st.dictionaries(KEYS, ANYTHING, max_size=5)


@given(raw=OBJECTS)
def test_no_pod_or_job_is_too_odd(raw: JsonObject) -> None:
    look_at(raw)


def look_at(raw: JsonObject) -> None:
    """Everything that is ever asked about a pod or Job."""
    found = read_pod(raw)
    assert isinstance(found.ended, bool)
    assert found.lost is None or isinstance(found.lost, str)
    assert found.waiting is None or isinstance(found.waiting.hopeless, bool)
    read_job(raw)
    assert isinstance(owned_by(raw, "run-0"), bool)
    assert isinstance(children([raw, pod()], [raw, job()], "run-0", 1).gone, bool)


RICH = deleted(
    pod(
        state={**terminated(1, message="x"), **running(), **waiting("ErrImagePull", "not found")},
        ready=9,
        changes={
            "status": {
                "reason": "Evicted",
                "initContainerStatuses": [{"name": "a", "state": terminated(2)}, {"name": "b", "state": waiting("X")}],
            }
        },
    ),
    30,
)
JOB = job(over="BackoffLimitExceeded")


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of everything in a document."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(found for key, item in below for found in places(item, (*path, key)))]


@settings(max_examples=400)
@given(where=st.sampled_from([*((RICH, path) for path in places(RICH)), *((JOB, path) for path in places(JOB))]), what=ANYTHING)  # fmt: skip
def test_no_part_of_a_real_object_is_too_odd(where: tuple[JsonObject, tuple[str | int, ...]], what: Any) -> None:
    raw, path = copy.deepcopy(where[0]), where[1]
    inner: Any = raw
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = what
    look_at(raw)


@given(raw=OBJECTS)
def test_no_status_of_a_benchmark_is_too_odd(raw: JsonObject) -> None:
    assert benchmark_status(raw).to_json() is not None
    assert read_benchmark(benchmark_object(study()) | {"status": raw.get("status")}).spec.model == MINIMAL["model"]
