"""QUANTBENCH_LOAD and QUANTBENCH_SERVER: what is taken, and what is refused with the name of the field."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from benchmarks.loadrunner.errors import LOAD_SPEC_INVALID, RunnerError
from benchmarks.loadrunner.spec import Random, ShareGPT, parse_server, parse_spec, parse_version

A_LOAD = {
    "name": "saturated",
    "requestRate": "inf",
    "maxConcurrency": None,
    "burstiness": 1.0,
    "numPrompts": 1000,
    "warmupPrompts": 100,
    "repeats": 3,
}
A_SPEC: dict[str, Any] = {
    "schema": 1,
    "engineVersion": "0.32.0",
    "model": "qwen3-8b",
    "tokenizer": "/models/qwen3-8b",
    "dataset": {"shareGPT": {"path": "/data/sharegpt.json"}},
    "ignoreEOS": True,
    "temperature": 0.0,
    "seed": 0,
    "percentiles": [50, 90, 99],
    "serverReadyTimeoutSeconds": 1200,
    "loads": [A_LOAD, {**A_LOAD, "name": "c16", "requestRate": "2.5", "maxConcurrency": 16}],
}
RANDOM = {"random": {"inputLen": 512, "outputLen": 128, "rangeRatio": 0.0}}


def with_load(**changes: Any) -> dict[str, Any]:
    return {"loads": [{**A_LOAD, **changes}]}


def test_a_whole_specification() -> None:
    spec = parse_spec(json.dumps(A_SPEC))
    assert spec.engine_version == (0, 32, 0)
    assert spec.dataset == ShareGPT("/data/sharegpt.json")
    assert spec.percentiles == (50.0, 90.0, 99.0)
    assert [load.name for load in spec.loads] == ["saturated", "c16"]
    assert math.isinf(spec.loads[0].request_rate)
    assert (spec.loads[1].request_rate, spec.loads[1].max_concurrency) == (2.5, 16)
    assert parse_spec(json.dumps({**A_SPEC, "dataset": RANDOM})).dataset == Random(512, 128, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema: 2 is not 1"),
        ({"schema": True}, "schema: a whole number"),
        ({"engineVersion": "latest"}, "engineVersion: a vLLM version"),
        ({"engineVersion": 32}, "engineVersion: a vLLM version"),
        ({"model": ""}, "model: a printable text"),
        ({"model": "a\nb"}, "model: a printable text"),
        ({"tokenizer": "x" * 5000}, "tokenizer: a printable text"),
        ({"dataset": {}}, "dataset: either shareGPT or random"),
        ({"dataset": [1]}, "dataset: an object is expected"),
        ({"dataset": {**RANDOM, "shareGPT": {"path": "/x"}}}, "dataset: either shareGPT or random"),
        ({"dataset": {"shareGPT": {"path": "/x", "split": "train"}}}, "dataset.shareGPT.split: unknown"),
        ({"dataset": {"random": {**RANDOM["random"], "rangeRatio": 1.0}}}, "dataset.random.rangeRatio: must be less"),
        ({"dataset": {"random": {**RANDOM["random"], "inputLen": 0}}}, "dataset.random.inputLen: a whole number"),
        ({"ignoreEOS": "true"}, "ignoreEOS: true or false"),
        ({"temperature": -0.1}, "temperature: a number from 0 to 2"),
        ({"temperature": float("nan")}, "temperature: a number from 0 to 2"),
        ({"temperature": 10**400}, "temperature: a number from 0 to 2"),
        ({"seed": -1}, "seed: a whole number from 0 to 4294967295"),
        ({"seed": 2**32}, "seed: a whole number from 0 to 4294967295"),
        ({"percentiles": []}, "percentiles: a list of 1 to 16"),
        ({"percentiles": [50, 100]}, r"percentiles[1]: a number between 0 to 100"),
        ({"percentiles": list(range(1, 18))}, "percentiles: a list of 1 to 16"),
        (with_load(repeats=0), "loads[0].repeats: a whole number"),
        (with_load(repeats=True), "loads[0].repeats: a whole number"),
        ({"loads": []}, "loads: a list of 1 to 64"),
        ({"loads": [A_LOAD, A_LOAD]}, "loads[1].name: 'saturated' is used twice"),
        ({"loads": ["saturated"]}, "loads[0]: an object is expected"),
        (with_load(name="C 16"), "loads[0].name: a DNS label"),
        (with_load(requestRate="0"), "loads[0].requestRate"),
        (with_load(requestRate="nan"), "loads[0].requestRate"),
        (with_load(requestRate="Infinity"), "loads[0].requestRate"),
        (with_load(requestRate="1_0"), "loads[0].requestRate"),
        (with_load(requestRate=5), "loads[0].requestRate"),
        (with_load(maxConcurrency=0), "loads[0].maxConcurrency"),
        (with_load(burstiness=0), "loads[0].burstiness: a number between"),
        (with_load(numPrompts=1.5), "loads[0].numPrompts"),
        (with_load(warmupPrompts=-1), "loads[0].warmupPrompts"),
        (with_load(rate="inf"), "loads[0].rate: unknown"),
        ({"repeat": 3}, "repeat: unknown"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RunnerError) as caught:
        parse_spec(json.dumps({**A_SPEC, **changes}))
    assert caught.value.reason == LOAD_SPEC_INVALID
    assert message in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("key", sorted(A_SPEC))
def test_a_missing_field_is_named(key: str) -> None:
    with pytest.raises(RunnerError, match=f"^{key}: missing"):
        parse_spec(json.dumps({name: value for name, value in A_SPEC.items() if name != key}))


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", "null", "\x00\ufffd", "[" * 100_000, '{"a":' * 50_000, "x" * 300_000, '"' + "a" * 300_000],
)
def test_garbage(text: str | None) -> None:
    with pytest.raises(RunnerError) as caught:
        parse_spec(text)
    assert caught.value.reason == LOAD_SPEC_INVALID
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.9.2", (0, 9, 2)),
        ("v0.24.0", (0, 24, 0)),
        ("0.32.0+cpu", (0, 32, 0)),
        ("0.24.1rc1.dev5+g0123abc", (0, 24, 1)),
        ("0.33", (0, 33, 0)),
        ("dev", None),
        ("", None),
        ("0.33.0; rm", None),
    ],
)
def test_versions(text: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(text) == version


def test_server() -> None:
    assert parse_server("http://198.18.128.7:8000/") == "http://198.18.128.7:8000"
    assert parse_server("https://[fd00::7]:8000") == "https://[fd00::7]:8000"


@pytest.mark.parametrize(
    "text", [None, "", "198.18.128.7:8000", "ftp://h", "http://", "http://h:99999", "http://h/v1", "http://h?x=1"]
)
def test_a_wrong_server(text: str | None) -> None:
    with pytest.raises(RunnerError, match="QUANTBENCH_SERVER"):
        parse_server(text)
