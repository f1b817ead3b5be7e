"""Carrying out decisions: the status first, the rest in order, and nothing after a failure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_support.fake_kube import applied
from core_support.objects import NOW, run_raw, study
from quantbench.api.base import JsonObject
from quantbench.decide.actions import Apply, Decision, Delete, Emit, PatchSpec
from quantbench.execute import Rejected, event, execute, merge_patch
from quantbench.kube import ApiError

SCALARS = st.none() | st.integers(-2, 2) | st.text("ab", max_size=2)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


def without_nulls(value: Any) -> Any:
    """What a status is made of: absent fields instead of nulls, except inside lists."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


OBJECTS = st.dictionaries(st.sampled_from("abc"), DOCUMENTS, max_size=3).map(without_nulls)


@settings(max_examples=500)
@given(old=OBJECTS | st.none(), new=OBJECTS)
def test_applying_the_patch_gives_the_new_document(old: JsonObject | None, new: JsonObject) -> None:
    assert applied(old, merge_patch(old, new)) == new


@given(document=OBJECTS)
def test_no_difference_no_patch(document: JsonObject) -> None:
    assert merge_patch(document, document) == {}


@given(old=OBJECTS, new=OBJECTS)
def test_a_patch_is_empty_only_without_a_difference(old: JsonObject, new: JsonObject) -> None:
    assert (merge_patch(old, new) == {}) == (old == new)


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"b": 3}),
        ({"a": 1}, {}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        (None, {"a": {}}, {"a": {}}),
        ({}, {"a": {}}, {"a": {}}),
        ({"a": 5}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_patches(old: JsonObject | None, new: JsonObject, patch: JsonObject) -> None:
    assert merge_patch(old, new) == patch


class Recorder:
    """An API that notes what it is asked for, and fails where it is told to."""

    def __init__(self, **failures: ApiError) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failures = failures

    async def apply(self, manifest: JsonObject) -> JsonObject:
        self.calls.append(("apply", manifest["kind"], manifest["metadata"]["name"]))
        if error := self.failures.get(f"apply_{manifest['kind']}"):
            raise error
        return manifest

    async def delete(self, kind: str, namespace: str, name: str, uid: str, grace_seconds: int | None = None) -> None:
        self.calls.append(("delete", kind, namespace, name, uid, grace_seconds))

    async def patch(self, kind: str, namespace: str, name: str, patch: JsonObject, subresource: str = "") -> JsonObject:
        self.calls.append(("patch", kind, namespace, name, subresource, patch))
        if error := self.failures.get("patch"):
            raise error
        return patch


RAW = run_raw(study(), status={"attempt": 1, "lost": 1})
POD: JsonObject = {"kind": "Pod", "metadata": {"name": "p", "namespace": "bench"}}
EVERYTHING = Decision(
    {"attempt": 2},
    (Apply(POD), Delete("Job", "j", "uid-j", 1), PatchSpec("r", {"suspend": True}), Emit("Evicted", "it was", True)),
)


async def test_the_status_goes_first_and_the_rest_in_order() -> None:
    api = Recorder()
    await execute(api, RAW, EVERYTHING)
    name = RAW["metadata"]["name"]
    guard = {"metadata": {"resourceVersion": "1"}, "status": {"attempt": 2, "lost": None}}
    assert api.calls[:4] == [
        ("patch", "QuantBenchmarkRun", "bench", name, "status", guard),
        ("apply", "Pod", "p"),
        ("delete", "Job", "bench", "j", "uid-j", 1),
        ("patch", "QuantBenchmarkRun", "bench", "r", "", {"spec": {"suspend": True}}),
    ]
    assert api.calls[4][:2] == ("apply", "Event")


@pytest.mark.parametrize("status", [None, {"attempt": 1, "lost": 1}])
async def test_an_unchanged_status_is_not_written(status: JsonObject | None) -> None:
    api = Recorder()
    await execute(api, RAW, Decision(status))
    assert api.calls == []


async def test_nothing_is_done_when_the_status_cannot_be_stored() -> None:
    api = Recorder(patch=ApiError(409, "Conflict", "someone else"))
    with pytest.raises(ApiError):
        await execute(api, RAW, EVERYTHING)
    assert len(api.calls) == 1


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (ApiError(422, "Invalid", "spec.x"), True),
        (ApiError(400, "BadRequest", "what?"), True),
        (ApiError(403, "Forbidden", "exceeded quota: gpus"), False),
        (ApiError(403, "Forbidden", 'pods "p" is forbidden: violates PodSecurity "restricted"'), True),
        (
            ApiError(500, "", "failed to create typed patch object: .spec.affinity.x: field not declared in schema"),
            True,
        ),
    ],
)
async def test_refused_children(error: ApiError, final: bool) -> None:
    api = Recorder(apply_Pod=error)
    with pytest.raises(Rejected) as caught:
        await execute(api, RAW, EVERYTHING)
    assert (caught.value.final, caught.value.message) == (final, error.message)
    assert len(api.calls) == 2  # the rest is left to the next look


@pytest.mark.parametrize("status", [0, 409, 429, 500, 503])
async def test_other_errors_are_for_the_queue(status: int) -> None:
    with pytest.raises(ApiError):
        await execute(Recorder(apply_Pod=ApiError(status, "Sometimes", "so")), RAW, EVERYTHING)


async def test_work_does_not_stop_for_want_of_an_event() -> None:
    api = Recorder(apply_Event=ApiError(403, "Forbidden", "no events for you"))
    await execute(api, RAW, Decision(None, (Emit("A", "b"), Delete("Pod", "p", "u"))))
    assert [call[0] for call in api.calls] == ["apply", "delete"]


def test_events_say_the_same_thing_once() -> None:
    first, again = (event(RAW, Emit("Measured", "all valid"), NOW) for _ in range(2))
    assert first == again
    assert first["metadata"]["name"] != event(RAW, Emit("Measured", "another"), NOW)["metadata"]["name"]
    assert (first["type"], first["involvedObject"]["uid"]) == ("Normal", "run-0")
    long = event({**RAW, "metadata": {**RAW["metadata"], "name": "n" * 253}}, Emit("R" * 200, "m" * 5000, True), NOW)
    assert len(long["metadata"]["name"]) <= 253
    assert (len(long["reason"]), len(long["message"]), long["type"]) == (128, 1024, "Warning")
