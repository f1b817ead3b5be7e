"""Common flags, and those that users must leave to the operator."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.api.names import Kernel, Method
from quantbench.engine.flags import (
    CUSTOM_FLAGS,
    OWNED_ENV,
    OWNED_FLAGS,
    common_env,
    common_flags,
    owned_flag,
    refused_arguments,
)
from quantbench.engine.methods import EngineRequest, EngineSettings, server_settings
from quantbench.engine.version import EngineVersion
from test_engine_methods import VERSIONS, every_request


def settings(request: EngineRequest, version: str = "0.24.0") -> EngineSettings:
    found = server_settings(request, EngineVersion.parse(version))
    assert isinstance(found, EngineSettings)
    return found


@pytest.mark.parametrize(
    ("version", "logging"),
    [  # engine/arg_utils.py: on by default until 0.10.0, opt-in since 0.10.1, flag gone in 0.17
        ("0.9.2", True),
        ("0.10.0", True),
        ("0.10.1", False),
        ("0.17.0", False),
        ("0.33.0", False),
    ],
)
def test_common_flags(version: str, logging: bool) -> None:
    flags = common_flags(EngineVersion.parse(version))
    assert flags[:3] == ("--no-enable-prefix-caching", "--generation-config=vllm", "--disable-uvicorn-access-log")
    assert ("--disable-log-requests" in flags) is logging


def test_common_env() -> None:
    assert dict(common_env(EngineVersion.parse("0.13.0"))) == {"VLLM_NO_USAGE_STATS": "1"}
    assert dict(common_env(EngineVersion.parse("0.14.0")))["VLLM_LOG_MODEL_INSPECTION"] == "1"


@pytest.mark.parametrize(
    ("arg", "flag"),
    [
        ("--model", "--model"),
        ("--model=x", "--model"),
        ("--quantization=fp8", "--quantization"),
        ("--kv_cache_dtype=fp8", "--kv-cache-dtype"),
        ("--max_num-seqs", "--max-num-seqs"),
        ("-q", "--quantization"),
        ("-q=fp8", "--quantization"),
        ("-qfp8", "--quantization"),
        ("-tp", "--tensor-parallel-size"),
        ("-tp=2", "--tensor-parallel-size"),
        ("-t", "--tensor-parallel-size"),
        ("-n2", "--nnodes"),
        ("--quant", "--quantization"),
        ("--quanti=awq", "--quantization"),
        ("--served-model=x", "--served-model-name"),
        ("--kv-cache-dt", "--kv-cache-dtype"),
        ("--no-enable-pre", "--no-enable-prefix-caching"),
        ("--enable-prefix-caching", "--enable-prefix-caching"),
        ("--kernel-config.linear_backend=marlin", "--kernel-config"),
        ("--kernel_config.linear_backend", "--kernel-config"),
        ("--api-key", "--api-key"),
        ("--config", "--config"),
        ("--max-model-len=8192", None),
        ("--max-model-len", None),
        ("--tokenizer-mode=slow", None),
        ("--model-impl=transformers", None),
        ("--kv-cache-dtype-skip-layers", None),
        ("--kv-cache-memory-bytes=1G", None),
        ("--enforce-eager", None),
        ("--gpu-memory-utilization=0.9", None),
        ("--load-format=dummy", None),
        ("--hf-overrides={}", None),
        ("-O3", None),
        ("-dp=2", None),
        ("-pp", None),
        ("8192", None),
        ("-1", None),
        ("--", None),
        ("-", None),
        ("", None),
    ],
)
def test_owned_flag(arg: str, flag: str | None) -> None:
    assert owned_flag(arg) == flag


def test_owned_flags_come_with_advice() -> None:
    assert all(OWNED_FLAGS.values())
    assert all(OWNED_ENV.values())
    assert set(OWNED_FLAGS) >= CUSTOM_FLAGS


def test_one_host_is_for_users() -> None:
    """Where pods have IPv6 addresses the server must be told."""
    args = ["--host=::", "--host=::1", "--host", "::"]
    found = refused_arguments(args, settings(EngineRequest(Method.BF16)), Method.BF16)
    assert [(one.index, one.flag) for one in found] == [(1, "--host"), (2, "--host")]
    assert "--host=::" in found[0].advice


def test_refused_arguments_say_where_and_what_instead() -> None:
    args = ["--max-model-len", "8192", "--quantization", "fp8", "--port=1"]
    found = refused_arguments(args, settings(EngineRequest(Method.BF16)), Method.BF16)
    assert [(one.index, one.flag) for one in found] == [(2, "--quantization"), (4, "--port")]
    assert "method" in found[0].advice


def test_custom_takes_quantization_flags_but_no_others() -> None:
    args = [
        "--quantization=fp8",
        "-q",
        "x",
        "--kv-cache-dtype=nvfp4",
        "--linear-backend=triton",
        "--dtype=float16",
        "--port=1",
    ]
    found = refused_arguments(args, settings(EngineRequest(Method.CUSTOM)), Method.CUSTOM)
    assert [one.flag for one in found] == ["--port"]


def test_what_the_method_sets_cannot_be_set_again() -> None:
    exllama = settings(EngineRequest(Method.GPTQ_INT4, Kernel.EXLLAMA_V2))
    assert [one.flag for one in refused_arguments(["--dtype=bfloat16"], exllama, Method.GPTQ_INT4)] == ["--dtype"]
    marlin = settings(EngineRequest(Method.GPTQ_INT4, Kernel.MARLIN))
    assert refused_arguments(["--dtype=bfloat16"], marlin, Method.GPTQ_INT4) == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_operator_itself_gives_no_flag_twice(version: str) -> None:
    parsed = EngineVersion.parse(version)
    common = [arg.split("=")[0] for arg in common_flags(parsed)]
    assert len(common) == len(set(common))
    for request in every_request():
        found = server_settings(request, parsed)
        if isinstance(found, EngineSettings):
            assert not {arg.split("=")[0] for arg in found.args} & set(common)
            assert not {name for name, _ in found.env} & {name for name, _ in common_env(parsed)}


@given(st.text(max_size=80))
def test_any_word_is_owned_or_not(word: str) -> None:
    flag = owned_flag(word)
    assert flag is None or flag in OWNED_FLAGS


@given(st.sampled_from(sorted(OWNED_FLAGS)), st.text(max_size=20), st.data())
def test_no_spelling_slips_through(flag: str, value: str, data: st.DataObject) -> None:
    spelled = "--" + "".join(data.draw(st.sampled_from("-_")) if letter == "-" else letter for letter in flag[2:])
    assert owned_flag(spelled) == flag
    assert owned_flag(f"{spelled}={value}") == flag
