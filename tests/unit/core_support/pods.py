"""Pods and Jobs as a kubelet and the Job controller report them."""

from __future__ import annotations

from typing import Any

from core_support.objects import at, merged, stored
from quantbench.api.base import JsonObject
from quantbench.resources import labels


def _whole(seconds: float) -> str:
    """A time as Kubernetes writes it: whole seconds."""
    return at(int(seconds)).replace(".000", "")


def condition(kind: str, since: float, status: str = "True", **more: Any) -> JsonObject:
    """One condition of a pod."""
    return {"type": kind, "status": status, "lastTransitionTime": _whole(since), **more}


def head(name: str, component: str, *, attempt: int = 1, owner: str = "run-0", created: float = 0.0) -> JsonObject:
    """The metadata of a child."""
    kind = "Job" if component == labels.LOAD and owner.startswith("job") else "QuantBenchmarkRun"
    return {
        "name": name,
        "namespace": "bench",
        "uid": f"uid-{name}",
        "creationTimestamp": _whole(created),
        "labels": {labels.RUN: "demo-bf16", labels.COMPONENT: component, labels.ATTEMPT: str(attempt)},
        "ownerReferences": [{"kind": kind, "name": owner, "uid": owner, "controller": True}],
    }


def terminated(
    code: int = 1, reason: str = "Error", *, since: float = 20, until: float = 60, message: str = ""
) -> JsonObject:
    """The state of a container that ended."""
    ended = {"exitCode": code, "reason": reason, "startedAt": _whole(since), "finishedAt": _whole(until)}
    return {"terminated": {**ended, **({"message": message} if message else {})}}


def running(since: float = 20) -> JsonObject:
    """The state of a container that runs."""
    return {"running": {"startedAt": _whole(since)}}


def waiting(reason: str, message: str = "") -> JsonObject:
    """The state of a container that waits."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def pod(
    component: str = labels.SERVER,
    state: JsonObject | None = None,
    *,
    attempt: int = 1,
    scheduled: float | None = 5,
    ready: float | None = None,
    changes: JsonObject | None = None,
) -> JsonObject:
    """A server or load pod whose main container is in a state."""
    name = f"demo-bf16-{'s' if component == labels.SERVER else 'l'}{attempt}"
    owner = "run-0" if component == labels.SERVER else f"job-{attempt}"
    conditions = []
    if scheduled is not None:
        conditions += [condition("PodScheduled", scheduled), condition("PodReadyToStartContainers", scheduled + 2)]
    if ready is not None:
        conditions.append(condition("Ready", ready))
    phase = "Pending"
    if state and "running" in state:
        phase = "Running"
    elif state and "terminated" in state:
        phase = "Succeeded" if state["terminated"]["exitCode"] == 0 else "Failed"
    container = "vllm" if component == labels.SERVER else "load"
    raw: JsonObject = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": head(name, component, attempt=attempt, owner=owner),
        "spec": {"nodeName": "node-1"} if scheduled is not None else {},
        "status": {
            "phase": phase,
            "conditions": conditions,
            **({"podIP": "10.0.0.7"} if scheduled is not None else {}),
            **({"containerStatuses": [{"name": container, "state": state}]} if state else {}),
        },
    }
    return stored(merged(raw, changes or {}))


def job(*, attempt: int = 1, over: str | None = None, created: float = 8) -> JsonObject:
    """A load Job."""
    raw: JsonObject = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **head(f"demo-bf16-l{attempt}", labels.LOAD, attempt=attempt, created=created),
            "uid": f"job-{attempt}",
        },
    }
    if over:
        kind = "Complete" if over == "CompletionsReached" else "Failed"
        raw["status"] = {"conditions": [{"type": kind, "status": "True", "reason": over, "message": "it is over"}]}
    return stored(raw)


def deleted(raw: JsonObject, asked: float, *, grace: int = 30) -> JsonObject:
    """The same pod after someone asked for its deletion."""
    return merged(raw, {"metadata": {"deletionTimestamp": _whole(asked + grace), "deletionGracePeriodSeconds": grace}})
