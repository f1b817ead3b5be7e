"""Studies as users write them: what is read, what is filled in, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from pydantic import ValidationError

from core_support.crd import defaulted, nodes, part, without_empty_maps
from core_support.objects import FULL, MINIMAL, RANDOM_DATASET, merged, run, run_raw, study
from quantbench.api.base import DURATION, JsonObject, seconds, six_digits
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.conditions import ConditionType, Reason, Stage
from quantbench.api.names import Kernel, Method, Named, Verdict
from quantbench.api.run import QuantBenchmarkRunSpec
from quantbench.api.schema import QUANT_BENCHMARK, QUANT_BENCHMARK_RUN

SCHEMA = part(QUANT_BENCHMARK, "spec")
# OpenAPI v3.0 has exclusive bounds as switches, as JSON Schema draft 4 has.
VALIDATOR = Draft4Validator(SCHEMA)


def test_a_minimal_study() -> None:
    spec = QuantBenchmarkSpec.model_validate(MINIMAL)
    assert (spec.baseline, spec.targets[0].gpus, spec.targets[0].gpu_resource_name) == ("bf16", 1, "nvidia.com/gpu")
    assert [load.name for load in spec.loads] == ["saturated"]
    assert (spec.sampling.starts, spec.sampling.repeats, spec.sampling.control) == (2, 3, True)
    assert (spec.workload.num_prompts, spec.workload.ignore_eos, spec.workload.temperature) == (1000, True, 0.0)
    assert (spec.limits.parallelism, spec.limits.gpu_hours, spec.suspend) == (1, None, False)


@pytest.mark.parametrize(
    "given_spec", [FULL, merged(FULL, {"workload": {"dataset": {"shareGPT": None, **RANDOM_DATASET}}})]
)
def test_a_full_study_survives_reading_and_writing(given_spec: JsonObject) -> None:
    spec = QuantBenchmarkSpec.model_validate(given_spec)
    written = spec.to_json()
    assert QuantBenchmarkSpec.model_validate(written) == spec
    assert list(VALIDATOR.iter_errors(written)) == []
    for path, value in leaves(given_spec):
        assert value_at(written, path) == value, path


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    """Every scalar of a document with its path."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for place, item in enumerate(value) for leaf in leaves(item, (*path, place))]
    return [(path, value)]


def value_at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def test_the_full_study_names_every_field() -> None:
    said = {
        field_path(path)
        for spec in (FULL, merged(FULL, {"workload": {"dataset": RANDOM_DATASET}}))
        for path in paths(spec)
    }
    known = {
        path.removeprefix("spec.").replace("[]", "")
        for path, _ in nodes(SCHEMA, "spec")
        if not path.endswith(("[]", "<key>"))
    }
    assert known - {"spec"} <= said


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in below for found in paths(item, (*path, key)))]


def field_path(path: tuple[str | int, ...]) -> str:
    return ".".join(step for step in path if isinstance(step, str))


@pytest.mark.parametrize(
    "document", [MINIMAL, FULL, merged(MINIMAL, {"engine": {"podTemplate": {"env": []}}, "loads": [{"name": "a"}]})]
)
def test_the_api_server_fills_in_the_models_defaults(document: JsonObject) -> None:
    by_server = defaulted(SCHEMA, document)
    by_model = QuantBenchmarkSpec.model_validate(document)
    assert QuantBenchmarkSpec.model_validate(by_server) == by_model
    assert without_empty_maps(by_server) == without_empty_maps(by_model.to_json())


def test_defaults_of_runs_agree_too() -> None:
    document = run_raw(study())["spec"]
    by_server = defaulted(part(QUANT_BENCHMARK_RUN, "spec"), document)
    assert without_empty_maps(by_server) == without_empty_maps(QuantBenchmarkRunSpec.model_validate(document).to_json())
    assert list(Draft4Validator(part(QUANT_BENCHMARK_RUN, "spec")).iter_errors(by_server)) == []


BIG = "x" * 1_000_000
REFUSED: list[tuple[str, JsonObject]] = [
    ("unknown method", {"variants": [{"name": "a", "method": "INT3"}]}),
    ("unknown kernel", {"variants": [{"name": "a", "method": "AWQ", "kernel": "Triton"}]}),
    ("unknown KV cache type", {"variants": [{"name": "a", "method": "BF16", "kvCacheDType": "int4"}]}),
    ("no variants", {"variants": []}),
    ("too many variants", {"variants": [{"name": f"v{i}", "method": "BF16"} for i in range(33)]}),
    ("variant without a method", {"variants": [{"name": "a"}]}),
    ("bad name", {"variants": [{"name": "-a", "method": "BF16"}]}),
    ("upper case name", {"baseline": "BF16"}),
    ("long name", {"baseline": "a" * 41}),
    ("no targets", {"targets": []}),
    ("negative GPUs", {"targets": [{"name": "a", "gpus": -1}]}),
    ("many GPUs", {"targets": [{"name": "a", "gpus": 65}]}),
    ("GPUs as text", {"targets": [{"name": "a", "gpus": "one"}]}),
    ("zero prompts", {"workload": {"numPrompts": 0}}),
    ("negative prompts", {"loads": [{"name": "a", "numPrompts": -5}]}),
    ("huge prompts", {"workload": {"numPrompts": 10**12}}),
    ("negative warm-up", {"workload": {"warmupPrompts": -1}}),
    ("relative dataset path", {"workload": {"dataset": {"shareGPT": {"path": "sharegpt.json"}}}}),
    ("zero length", {"workload": {"dataset": {"shareGPT": None, "random": {"inputLen": 0}}}}),
    ("range ratio of one", {"workload": {"dataset": {"shareGPT": None, "random": {"rangeRatio": 1}}}}),
    ("negative temperature", {"workload": {"temperature": -0.1}}),
    ("negative seed", {"workload": {"seed": -1}}),
    ("no loads", {"loads": []}),
    ("rate as text", {"loads": [{"name": "a", "requestRate": "fast"}]}),
    ("negative rate", {"loads": [{"name": "a", "requestRate": -1}]}),
    ("zero concurrency", {"loads": [{"name": "a", "maxConcurrency": 0}]}),
    ("zero burstiness", {"loads": [{"name": "a", "burstiness": 0}]}),
    ("zero starts", {"sampling": {"starts": 0}}),
    ("zero repeats", {"sampling": {"repeats": 0}}),
    ("zero parallelism", {"limits": {"parallelism": 0}}),
    ("no GPU-hours", {"limits": {"gpuHours": 0}}),
    ("duration without a unit", {"limits": {"startTimeout": "20"}}),
    ("negative duration", {"limits": {"startTimeout": "-5m"}}),
    ("duration in days", {"limits": {"loadTimeout": "1d"}}),
    ("many retries", {"limits": {"retries": 11}}),
    ("negative TTL", {"ttlSecondsAfterFinished": -1}),
    ("huge TTL", {"ttlSecondsAfterFinished": 2**31}),
    ("root user", {"engine": {"podTemplate": {"runAsUser": 0}}}),
    ("1 MB model", {"model": BIG}),
    ("1 MB argument", {"engine": {"args": [BIG]}}),
    ("1 MB value", {"engine": {"podTemplate": {"env": [{"name": "A", "value": BIG}]}}}),
    ("1 MB label", {"engine": {"podTemplate": {"labels": {"a": BIG}}}}),
    ("bad variable name", {"engine": {"podTemplate": {"env": [{"name": "A-B"}]}}}),
    ("mount path with a colon", {"engine": {"podTemplate": {"volumeMounts": [{"name": "a", "mountPath": "/a:b"}]}}}),
    ("zero sequences", {"engine": {"maxNumSeqs": 0}}),
    ("no model", {"model": None}),
    ("no engine", {"engine": None}),
]


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in REFUSED])
def test_the_api_server_and_the_operator_refuse_alike(changes: JsonObject) -> None:
    document = merged(MINIMAL, changes)
    assert list(VALIDATOR.iter_errors(document)) != []
    with pytest.raises(ValidationError):
        QuantBenchmarkSpec.model_validate(document)


@pytest.mark.parametrize(
    "changes",
    [
        {"modle": "typing error"},
        {"engine": {"podTemplate": {"hostNetwork": True}}},
        {"engine": {"podTemplate": {"securityContext": {"privileged": True}}}},
        {"engine": {"podTemplate": {"serviceAccountName": "admin"}}},
        {"engine": {"podTemplate": {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}}},
        {"engine": {"podTemplate": {"initContainers": []}}},
    ],
    ids=str,
)
def test_fields_off_the_allow_list_do_not_exist(changes: JsonObject) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        study(**changes)


@pytest.mark.parametrize("rate", ["inf", "2.5", "0.001", 1, 9_999_999])
def test_request_rates(rate: int | str) -> None:
    assert study(loads=[{"name": "a", "requestRate": rate}]).loads[0].request_rate == rate


@pytest.mark.parametrize("rate", [0, -1, "0", "0.0", "-2", "", "nan", "1e3", 10_000_000, "inf ", 2.5])
def test_request_rates_that_mean_nothing(rate: Any) -> None:
    with pytest.raises(ValidationError, match="requestRate"):
        study(loads=[{"name": "a", "requestRate": rate}])


@pytest.mark.parametrize(
    ("text", "wanted"), [("0s", 0), ("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1h1m1s", 3661), ("5m5m", 600)]
)
def test_durations(text: str, wanted: int) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "5", "m", "5d", "5 m", "-5m", "1.5h", "5m3"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        seconds(text)


@given(st.from_regex(DURATION, fullmatch=True))
def test_every_text_that_the_pattern_allows_is_a_duration(text: str) -> None:
    if text.isascii():
        assert seconds(text) >= 0


@given(st.floats(min_value=0, max_value=1e15))
def test_six_digits(value: float) -> None:
    rounded = six_digits(value)
    assert abs(rounded - value) <= 5e-6 * value
    assert six_digits(rounded) == rounded


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        run().spec.suspend = True  # type: ignore[misc]


@pytest.mark.parametrize("names", [Method, Kernel, Verdict, ConditionType, Reason, Stage])
def test_every_name_has_its_meaning(names: type[Named]) -> None:
    for name in names:
        assert name.meaning.endswith("."), name
        assert name == str(name) == names(name.value)
    assert len({name.meaning for name in names}) == len(names)
