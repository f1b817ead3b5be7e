"""An API server in memory: as much of it as one reconcile needs, with a clock of its own and planned failures.

What it cannot do (admission, field ownership, garbage collection) is tested on a real one in tests/integration.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

from jsonschema import Draft4Validator

from core_support.crd import part
from core_support.objects import at, stored
from quantbench.api.base import JsonObject
from quantbench.api.schema import KINDS
from quantbench.kube import ApiError

STATUS = {kind.kind: Draft4Validator(part(kind, "status")) for kind in KINDS}


class Crash(BaseException):
    """The operator's process dies here."""


def applied(target: Any, patch: Any) -> Any:
    """RFC 7386, as its pseudocode has it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = applied(result.get(key), value)
    return result


class FakeKube:
    """Objects by kind and name, in one namespace."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], JsonObject] = {}
        self.logs: dict[str, str | None] = {}
        self.seconds = 0.0
        self.writes: list[tuple[str, str, str]] = []
        self.crash_before: int | None = None
        """How many more writes succeed before the process dies; None: all."""
        self.refusal: ApiError | None = None
        """What pods and Jobs are refused with."""
        self._versions = itertools.count(1)

    # --- what the operator calls ---------------------------------------------------------------------------------

    async def get(self, kind: str, namespace: str, name: str) -> JsonObject | None:
        found = self.objects.get((kind, name))
        return copy.deepcopy(found) if found else None

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> list[JsonObject]:
        wanted = dict(pair.split("=") for pair in selector.split(",") if pair)
        return [
            copy.deepcopy(raw)
            for (a_kind, _), raw in self.objects.items()
            if a_kind == kind and wanted.items() <= raw["metadata"].get("labels", {}).items()
        ]

    async def log(
        self, namespace: str, pod: str, container: str, *, limit_bytes: int, tail_lines: int | None = None
    ) -> str | None:
        found = self.logs.get(pod, "")
        if found is None:
            return None
        part = found if tail_lines is None else "".join(found.splitlines(keepends=True)[-tail_lines:])
        return part.encode()[:limit_bytes].decode(errors="replace")

    async def apply(self, manifest: JsonObject) -> JsonObject:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind in ("Pod", "Job") and self.refusal:
            raise self.refusal
        self._write("apply", kind, name)
        old = self.objects.get((kind, name), {})
        head = old.get("metadata") or {"uid": f"uid-{next(self._versions)}", "creationTimestamp": self.now()}
        raw = stored(applied(old, manifest))
        raw["metadata"] = {**raw["metadata"], **head, "resourceVersion": str(next(self._versions))}
        self.objects[kind, name] = raw
        return raw

    async def patch(self, kind: str, namespace: str, name: str, patch: JsonObject, subresource: str = "") -> JsonObject:
        raw = self.objects.get((kind, name))
        if raw is None:
            raise ApiError(404, "NotFound", name)
        guard = patch.get("metadata", {}).get("resourceVersion")
        if guard not in (None, raw["metadata"]["resourceVersion"]):
            raise ApiError(409, "Conflict", name)
        self._write(f"patch {subresource or 'spec'}", kind, name)
        part_of = subresource or "spec"
        changed = stored({**raw, part_of: applied(raw.get(part_of), patch[part_of])})
        if subresource == "status":
            wrong = [f"{list(error.path)}: {error.message}" for error in STATUS[kind].iter_errors(changed["status"])]
            if wrong:
                raise AssertionError(f"the API server would refuse this status: {wrong}")
        changed["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[kind, name] = changed
        return changed

    async def delete(self, kind: str, namespace: str, name: str, uid: str, grace_seconds: int | None = None) -> None:
        raw = self.objects.get((kind, name))
        if raw is None or raw["metadata"]["uid"] != uid:
            return
        self._write("delete", kind, name)
        if kind == "Pod":
            self.ask_for_deletion(name, grace_seconds if grace_seconds is not None else 30)
        else:
            del self.objects[kind, name]

    # --- what the cluster does -----------------------------------------------------------------------------------

    def now(self) -> str:
        """The time as Kubernetes writes it."""
        return at(int(self.seconds)).replace(".000", "")

    def ask_for_deletion(self, pod: str, grace: int) -> None:
        """Mark a pod as being deleted; a second deletion does not put it off."""
        head = self.objects["Pod", pod]["metadata"]
        head.setdefault("deletionTimestamp", at(int(self.seconds) + grace).replace(".000", ""))
        head.setdefault("deletionGracePeriodSeconds", grace)

    def _write(self, verb: str, kind: str, name: str) -> None:
        if self.crash_before is not None:
            if self.crash_before == 0:
                raise Crash
            self.crash_before -= 1
        self.writes.append((verb, kind, name))
