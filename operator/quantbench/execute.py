"""Carry out a decision: the status first, then the actions in order.

A failure anywhere leaves the rest undone; the next look at the world decides again. Because the status goes first,
nothing is ever deleted whose result is not stored.
"""

import hashlib
import logging
from datetime import UTC, datetime
from typing import Any, Protocol

from quantbench.api.base import JsonObject
from quantbench.decide.actions import Apply, Decision, Delete, Emit, PatchSpec
from quantbench.kube import WEBHOOK_AWAY, ApiError

log = logging.getLogger(__name__)


class Rejected(Exception):
    """The API server refused a child object: by validation, admission or quota.

    Attributes:
        status: HTTP status.
        message: its explanation.
        final: whether asking again is useless.
    """

    def __init__(self, error: ApiError) -> None:
        super().__init__(str(error))
        self.status, self.message = error.status, error.message
        # A quota may become free and a webhook come back; a pod that breaks a rule will break it again.
        passing = error.status == 403 or WEBHOOK_AWAY in error.message
        self.final = not passing or "violates PodSecurity" in error.message


class Api(Protocol):
    """What execution needs of `quantbench.kube.Kube`."""

    async def apply(self, manifest: JsonObject) -> JsonObject: ...
    async def delete(
        self, kind: str, namespace: str, name: str, uid: str, grace_seconds: int | None = None
    ) -> None: ...
    async def patch(
        self, kind: str, namespace: str, name: str, patch: JsonObject, subresource: str = ""
    ) -> JsonObject: ...


def merge_patch(old: Any, new: JsonObject) -> JsonObject:
    """The JSON merge patch (RFC 7386) that turns ``old`` into ``new``; empty when they are equal."""
    if not isinstance(old, dict):
        return new
    patch: JsonObject = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(old[key], dict):
            inner = merge_patch(old[key], value)
            if inner:
                patch[key] = inner
        elif old[key] != value:
            patch[key] = value
    return patch


async def execute(api: Api, raw: JsonObject, decision: Decision) -> None:
    """Write the status of the object ``raw`` if it changed, then act.

    Raises:
        ApiError: the API server did not answer, or refused; 409 when someone else changed the object meanwhile.
        Rejected: it refused a child object for what the object is.
    """
    head, kind = raw["metadata"], raw["kind"]
    if decision.status is not None:
        patch = merge_patch(raw.get("status"), decision.status)
        if patch:
            guarded = {"metadata": {"resourceVersion": head["resourceVersion"]}, "status": patch}
            await api.patch(kind, head["namespace"], head["name"], guarded, "status")
    for action in decision.actions:
        match action:
            case Apply(manifest):
                await _apply(api, manifest)
            case Delete(child_kind, name, uid, grace_seconds):
                await api.delete(child_kind, head["namespace"], name, uid, grace_seconds)
            case PatchSpec(name, patch):
                await api.patch("QuantBenchmarkRun", head["namespace"], name, {"spec": patch})
            case Emit():
                await _post(api, event(raw, action, datetime.now(UTC)))


async def _apply(api: Api, manifest: JsonObject) -> None:
    try:
        await api.apply(manifest)
    except ApiError as error:
        if error.rejected:
            raise Rejected(error) from error
        raise


async def _post(api: Api, manifest: JsonObject) -> None:
    try:
        await api.apply(manifest)
    except ApiError as error:
        # An Event is a courtesy; work must not stop for want of it.
        log.warning("event not posted: %s", error)


def event(raw: JsonObject, emit: Emit, now: datetime) -> JsonObject:
    """A core/v1 Event about an object. Its name follows from its content, so that saying it twice makes one."""
    head = raw["metadata"]
    digest = hashlib.sha256(f"{head['uid']}{emit.reason}{emit.message}".encode()).hexdigest()[:12]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{head['name'][:200]}.{digest}", "namespace": head["namespace"]},
        "involvedObject": {
            "apiVersion": raw["apiVersion"],
            "kind": raw["kind"],
            "name": head["name"],
            "namespace": head["namespace"],
            "uid": head["uid"],
        },
        "reason": emit.reason[:128],
        "message": emit.message[:1024],
        "type": "Warning" if emit.warning else "Normal",
        "firstTimestamp": now.isoformat(timespec="seconds"),
        "lastTimestamp": now.isoformat(timespec="seconds"),
        "count": 1,
        "source": {"component": "quantbench"},
        "reportingComponent": "quantbench",
    }
