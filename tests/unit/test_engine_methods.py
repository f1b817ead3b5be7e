"""Flags of every method and kernel, against what vLLM's sources say of each version.

The expected data below is written down a second time, from the sources, not derived from the tables: a wrong
boundary in ``quantbench.engine.tables`` shows here.
"""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.api.names import Device, Granularity, Kernel, KVCacheDType, Method, Verdict
from quantbench.engine.methods import EngineRequest, EngineSettings, Refusal, server_settings
from quantbench.engine.version import EngineVersion

Q, LB, F16 = "--quantization=", "--linear-backend=", "--dtype=float16"
M, K = Method, Kernel
VERSIONS = [
    "0.9.2",
    "0.9.2.post2",
    "0.10.0",
    "0.10.1",
    "0.10.2",
    "0.11.0",
    "0.12.0",
    "0.13.0",
    "0.14.0",
    "0.15.0",
    "0.16.0",
    "0.17.0",
    "0.18.1",
    "0.19.0",
    "0.19.1",
    "0.20.0",
    "0.21.0",
    "0.22.0",
    "0.22.1",
    "0.23.0",
    "0.24.0",
    "0.25.1",
    "0.26.0",
    "0.27.1",
    "0.28.0",
    "0.29.0",
    "0.30.0",
    "0.31.0",
    "0.32.0",
    "0.33.0",
    "0.34.0",
    "1.2.0",
]


def settings(request: EngineRequest, version: str) -> EngineSettings:
    found = server_settings(request, EngineVersion.parse(version))
    assert isinstance(found, EngineSettings), found
    return found


def refusal(request: EngineRequest, version: str) -> Refusal:
    found = server_settings(request, EngineVersion.parse(version))
    assert isinstance(found, Refusal), found
    return found


@pytest.mark.parametrize(
    ("method", "kernel", "version", "args"),
    [
        # BF16: the baseline is bfloat16 whatever the checkpoint's own dtype.
        (M.BF16, K.AUTO, "0.9.2", ["--dtype=bfloat16"]),
        (M.BF16, K.AUTO, "0.33.0", ["--dtype=bfloat16"]),
        # Checkpoints name their own method (config.json quantization_config).
        (M.FP8_STATIC, K.AUTO, "0.9.2", []),
        (M.FP8_STATIC, K.AUTO, "0.33.0", []),
        (M.FP8_DYNAMIC, K.AUTO, "0.13.0", []),
        (M.INT8_W8A8, K.AUTO, "0.9.2", []),
        (M.INT8_W8A8, K.AUTO, "0.33.0", []),
        (M.W4A16, K.AUTO, "0.9.2", []),
        (M.W4A16, K.AUTO, "0.33.0", []),
        # quantization/__init__.py: fbgemm_fp8 is on the list of deprecated methods since 0.14.0.
        (M.FP8_DYNAMIC, K.AUTO, "0.14.0", ["--allow-deprecated-quantization"]),
        (M.FP8_DYNAMIC, K.AUTO, "0.33.0", ["--allow-deprecated-quantization"]),
        # fp8.py until 0.19; config/quantization.py from 0.20: the name fp8 is going (shim in 0.31).
        (M.FP8_ONLINE, K.AUTO, "0.9.2", [Q + "fp8"]),
        (M.FP8_ONLINE, K.AUTO, "0.19.1", [Q + "fp8"]),
        (M.FP8_ONLINE, K.AUTO, "0.20.0", [Q + "fp8_per_tensor"]),
        (M.FP8_ONLINE, K.AUTO, "0.33.0", [Q + "fp8_per_tensor"]),
        # awq.py until 0.23: without the flag the checkpoint becomes awq_marlin; float16 only.
        (M.AWQ, K.AUTO, "0.9.2", []),
        (M.AWQ, K.AUTO, "0.33.0", []),
        (M.AWQ, K.CLASSIC, "0.9.2", [Q + "awq", F16]),
        (M.AWQ, K.CLASSIC, "0.23.0", [Q + "awq", F16]),
        # awq_marlin.py: always Marlin until 0.18, choose_mp_linear_kernel from 0.19.0; auto_awq.py from 0.24.
        (M.AWQ, K.MARLIN, "0.9.2", [Q + "awq_marlin"]),
        (M.AWQ, K.MARLIN, "0.18.1", [Q + "awq_marlin"]),
        (M.AWQ, K.MARLIN, "0.19.0", [Q + "awq_marlin"]),
        (M.AWQ, K.MARLIN, "0.21.0", [Q + "awq_marlin"]),
        (M.AWQ, K.MARLIN, "0.22.0", [Q + "awq_marlin", LB + "marlin"]),
        (M.AWQ, K.MARLIN, "0.23.0", [Q + "awq_marlin", LB + "marlin"]),
        (M.AWQ, K.MARLIN, "0.24.0", [LB + "marlin"]),
        (M.AWQ, K.MARLIN, "0.33.0", [LB + "marlin"]),
        (M.AWQ, K.MACHETE, "0.19.0", [Q + "awq_marlin"]),
        (M.AWQ, K.MACHETE, "0.22.1", [Q + "awq_marlin", LB + "machete"]),
        (M.AWQ, K.MACHETE, "0.24.0", [LB + "machete"]),
        # gptq.py until 0.21 (float16 only); auto_gptq.py from 0.22.0 on, where the names are aliases.
        (M.GPTQ_INT4, K.AUTO, "0.9.2", []),
        (M.GPTQ_INT8, K.AUTO, "0.33.0", []),
        (M.GPTQ_INT4, K.EXLLAMA_V2, "0.9.2", [Q + "gptq", F16]),
        (M.GPTQ_INT8, K.EXLLAMA_V2, "0.21.0", [Q + "gptq", F16]),
        (M.GPTQ_INT4, K.EXLLAMA_V2, "0.22.0", [LB + "exllama", F16]),
        (M.GPTQ_INT8, K.EXLLAMA_V2, "0.33.0", [LB + "exllama", F16]),
        (M.GPTQ_INT4, K.MARLIN, "0.9.2", [Q + "gptq_marlin"]),
        (M.GPTQ_INT8, K.MARLIN, "0.21.0", [Q + "gptq_marlin"]),
        (M.GPTQ_INT4, K.MARLIN, "0.22.0", [LB + "marlin"]),
        (M.GPTQ_INT8, K.MARLIN, "0.33.0", [LB + "marlin"]),
        (M.GPTQ_INT4, K.MACHETE, "0.9.2", [Q + "gptq_marlin"]),
        (M.GPTQ_INT4, K.MACHETE, "0.33.0", [LB + "machete"]),
        # compressed_tensors_wNa16.py asks choose_mp_linear_kernel in every version.
        (M.W4A16, K.MARLIN, "0.9.2", []),
        (M.W4A16, K.MARLIN, "0.22.0", [LB + "marlin"]),
        (M.W4A16, K.MACHETE, "0.9.2", []),
        (M.W4A16, K.MACHETE, "0.33.0", [LB + "machete"]),
        (M.W4A16, K.EXLLAMA_V2, "0.21.0", [F16]),
        (M.W4A16, K.EXLLAMA_V2, "0.22.0", [LB + "exllama", F16]),
        # VLLM_TEST_FORCE_FP8_MARLIN until 0.28; --linear-backend from 0.22.
        (M.FP8_STATIC, K.MARLIN, "0.21.0", []),
        (M.FP8_STATIC, K.MARLIN, "0.22.0", [LB + "marlin"]),
        (M.FP8_ONLINE, K.MARLIN, "0.28.0", [Q + "fp8_per_tensor", LB + "marlin"]),
        (M.FP8_ONLINE, K.MARLIN, "0.29.0", [Q + "fp8_per_tensor", LB + "marlin"]),
        # engine/arg_utils.py sets the load format itself, for both.
        (M.BITSANDBYTES, K.AUTO, "0.9.2", [Q + "bitsandbytes"]),
        (M.BITSANDBYTES, K.AUTO, "0.27.1", [Q + "bitsandbytes"]),
        (M.GGUF, K.AUTO, "0.9.2", []),
        (M.GGUF, K.AUTO, "0.23.0", []),
        (M.CUSTOM, K.AUTO, "0.9.2", []),
        (M.CUSTOM, K.AUTO, "0.33.0", []),
    ],
)
def test_flags_on_cuda(method: Method, kernel: Kernel, version: str, args: list[str]) -> None:
    assert list(settings(EngineRequest(method, kernel), version).args) == args


@pytest.mark.parametrize(
    ("method", "kernel", "version", "verdict", "word"),
    [
        (M.AWQ, K.CLASSIC, "0.24.0", Verdict.UNSUPPORTED, "0.24"),  # auto_awq.py get_quant_method
        (M.AWQ, K.CLASSIC, "0.33.0", Verdict.UNSUPPORTED, "0.24"),
        (M.AWQ, K.MACHETE, "0.18.1", Verdict.UNSUPPORTED, "0.19"),  # awq_marlin.py of 0.18.1 has no choice
        (M.AWQ, K.EXLLAMA_V2, "0.33.0", Verdict.UNSUPPORTED, "zero points"),  # exllama.py: uint4b8, uint8b128
        (M.GPTQ_INT4, K.CLASSIC, "0.9.2", Verdict.UNSUPPORTED, "ExLlamaV2"),
        (M.GPTQ_INT8, K.CLASSIC, "0.33.0", Verdict.UNSUPPORTED, "ExLlamaV2"),
        (M.W4A16, K.CLASSIC, "0.33.0", Verdict.UNSUPPORTED, "Classic"),
        (M.BF16, K.MARLIN, "0.33.0", Verdict.UNSUPPORTED, "BF16"),
        (M.INT8_W8A8, K.MACHETE, "0.33.0", Verdict.UNSUPPORTED, "INT8W8A8"),
        (M.FP8_STATIC, K.MACHETE, "0.33.0", Verdict.UNSUPPORTED, "Machete"),
        (M.CUSTOM, K.MARLIN, "0.33.0", Verdict.UNSUPPORTED, "args"),
        (M.BITSANDBYTES, K.AUTO, "0.28.0", Verdict.PLUGIN_MISSING, "0.28"),  # quantization/__init__.py
        (M.BITSANDBYTES, K.AUTO, "0.33.0", Verdict.PLUGIN_MISSING, "0.28"),
        (M.GGUF, K.AUTO, "0.24.0", Verdict.PLUGIN_MISSING, "0.24"),
        (M.GGUF, K.AUTO, "0.33.0", Verdict.PLUGIN_MISSING, "0.24"),
        (M.BF16, K.AUTO, "0.9.1", Verdict.UNSUPPORTED, "0.9.2"),
        (M.BF16, K.AUTO, "0.8.5.post1", Verdict.UNSUPPORTED, "0.9.2"),
    ],
)
def test_refusals_on_cuda(method: Method, kernel: Kernel, version: str, verdict: Verdict, word: str) -> None:
    found = refusal(EngineRequest(method, kernel), version)
    assert found.verdict is verdict
    assert word in found.message
    assert found.hint


@pytest.mark.parametrize(
    ("granularity", "version", "flag"),
    [  # config/quantization.py of 0.20.0 and 0.24.0
        (Granularity.PER_TENSOR, "0.9.2", "fp8"),
        (Granularity.PER_TENSOR, "0.20.0", "fp8_per_tensor"),
        (Granularity.PER_BLOCK, "0.19.1", None),
        (Granularity.PER_BLOCK, "0.20.0", "fp8_per_block"),
        (Granularity.PER_CHANNEL, "0.23.0", None),
        (Granularity.PER_CHANNEL, "0.24.0", "fp8_per_channel"),
        (Granularity.PER_CHANNEL, "0.33.0", "fp8_per_channel"),
    ],
)
def test_granularity(granularity: Granularity, version: str, flag: str | None) -> None:
    request = EngineRequest(Method.FP8_ONLINE, granularity=granularity)
    if flag is None:
        assert granularity.value in refusal(request, version).message
    else:
        assert settings(request, version).args == (Q + flag,)


def test_granularity_belongs_to_online_fp8() -> None:
    assert "FP8Online" in refusal(EngineRequest(Method.BF16, granularity=Granularity.PER_BLOCK), "0.33.0").hint


@pytest.mark.parametrize(
    ("method", "dtype", "version", "runs"),
    [
        (M.BF16, KVCacheDType.FP8, "0.9.2", True),
        (M.BF16, KVCacheDType.FP8_E4M3, "0.33.0", True),
        (M.BF16, KVCacheDType.FP8_E5M2, "0.9.2", True),
        (M.FP8_STATIC, KVCacheDType.FP8_E4M3, "0.9.2", True),
        # attention/layer.py: every compressed-tensors checkpoint until 0.23, FP8 only from 0.24.
        (M.FP8_STATIC, KVCacheDType.FP8_E5M2, "0.23.0", False),
        (M.FP8_STATIC, KVCacheDType.FP8_E5M2, "0.24.0", True),
        (M.INT8_W8A8, KVCacheDType.FP8_E5M2, "0.23.0", False),
        (M.INT8_W8A8, KVCacheDType.FP8_E5M2, "0.24.0", True),
        (M.W4A16, KVCacheDType.FP8_E5M2, "0.9.2", False),
        (M.W4A16, KVCacheDType.FP8_E5M2, "0.33.0", True),
        (M.AWQ, KVCacheDType.FP8_E5M2, "0.9.2", True),  # AWQ and GPTQ have no KV cache method
        (M.GPTQ_INT4, KVCacheDType.FP8_E5M2, "0.9.2", True),
        (M.FP8_ONLINE, KVCacheDType.FP8_E5M2, "0.19.1", False),  # fp8.py: Fp8KVCacheMethod; online/base.py has none
        (M.FP8_ONLINE, KVCacheDType.FP8_E5M2, "0.20.0", True),
    ],
)
def test_kv_cache_dtype(method: Method, dtype: KVCacheDType, version: str, runs: bool) -> None:
    request = EngineRequest(method, kv_cache_dtype=dtype)
    if runs:
        assert f"--kv-cache-dtype={dtype.value}" in settings(request, version).args
    else:
        assert "fp8_e4m3" in refusal(request, version).hint


def test_automatic_kv_cache_dtype_needs_no_flag() -> None:
    assert not any("kv-cache" in arg for arg in settings(EngineRequest(Method.BF16), "0.33.0").args)


@pytest.mark.parametrize(
    ("method", "kernel", "version", "left"),
    [
        (M.AWQ, K.MARLIN, "0.19.1", "MarlinLinearKernel"),
        (M.AWQ, K.MACHETE, "0.21.0", "MacheteLinearKernel"),
        (M.GPTQ_INT4, K.MARLIN, "0.9.2", "MarlinLinearKernel"),
        (M.GPTQ_INT8, K.MACHETE, "0.21.0", "MacheteLinearKernel"),
        (M.W4A16, K.EXLLAMA_V2, "0.9.2", "ExllamaLinearKernel"),
    ],
)
def test_before_the_backend_flag_all_other_kernels_are_disabled(
    method: Method, kernel: Kernel, version: str, left: str
) -> None:
    found = settings(EngineRequest(method, kernel), version)
    disabled = dict(found.env)["VLLM_DISABLED_KERNELS"].split(",")
    # What 0.9.2 … 0.21 choose from (mixed_precision/__init__.py, kernels/linear/__init__.py).
    choices = {"CutlassW4A8LinearKernel", "MacheteLinearKernel", "AllSparkLinearKernel", "MarlinLinearKernel",
               "BitBLASLinearKernel", "Dynamic4bitLinearKernel", "ConchLinearKernel",
               "ExllamaLinearKernel"}  # fmt: skip
    assert set(disabled) == choices - {left}
    assert found.kernels == (left,)


@pytest.mark.parametrize(
    ("version", "env"),
    [
        ("0.9.2", {"VLLM_TEST_FORCE_FP8_MARLIN": "1"}),
        ("0.21.0", {"VLLM_TEST_FORCE_FP8_MARLIN": "1"}),
        ("0.28.0", {"VLLM_TEST_FORCE_FP8_MARLIN": "1"}),
        ("0.29.0", {}),
    ],
)
def test_forced_fp8_marlin(version: str, env: dict[str, str]) -> None:
    found = settings(EngineRequest(Method.FP8_ONLINE, Kernel.MARLIN), version)
    assert dict(found.env) == env
    assert any("W8A16" in note for note in found.notes)


@pytest.mark.parametrize(
    ("method", "kernel", "version", "low", "high"),
    [  # get_min_capability of the classes; machete.py: Hopper only
        (M.BF16, K.AUTO, "0.33.0", 80, None),
        (M.AWQ, K.CLASSIC, "0.9.2", 75, None),
        (M.AWQ, K.MARLIN, "0.9.2", 80, None),
        (M.AWQ, K.MARLIN, "0.13.0", 80, None),
        (M.AWQ, K.MARLIN, "0.14.0", 75, None),
        (M.AWQ, K.MACHETE, "0.33.0", 90, 90),
        (M.GPTQ_INT4, K.EXLLAMA_V2, "0.9.2", 60, None),
        (M.GPTQ_INT4, K.EXLLAMA_V2, "0.33.0", 75, None),
        (M.W4A16, K.AUTO, "0.11.2", 80, None),
        (M.W4A16, K.AUTO, "0.12.0", 75, None),
        (M.FP8_STATIC, K.AUTO, "0.13.0", 80, None),
        (M.FP8_STATIC, K.MARLIN, "0.14.0", 75, None),
        (M.INT8_W8A8, K.AUTO, "0.9.2", 75, 90),  # docs: "not supported on compute capability >= 10.0"
        (M.BITSANDBYTES, K.AUTO, "0.24.0", 70, None),
        (M.GGUF, K.AUTO, "0.9.2", 60, None),
        (M.CUSTOM, K.AUTO, "0.33.0", None, None),
    ],
)
def test_compute_capability(method: Method, kernel: Kernel, version: str, low: int | None, high: int | None) -> None:
    found = settings(EngineRequest(method, kernel), version)
    assert (found.min_capability, found.max_capability) == (low, high)


@pytest.mark.parametrize(
    ("method", "kernel", "version", "names"),
    [  # engine lines of real runs: 0.24.0 on an H100, 0.32.0 on CPU
        (M.BF16, K.AUTO, "0.24.0", "None"),
        (M.FP8_STATIC, K.AUTO, "0.24.0", "compressed-tensors"),
        (M.AWQ, K.AUTO, "0.32.0", "awq"),
        (M.AWQ, K.AUTO, "0.32.0", "auto_awq"),
        (M.AWQ, K.CLASSIC, "0.9.2", "awq"),
        (M.GPTQ_INT4, K.AUTO, "0.32.0", "auto_gptq"),
        (M.FP8_ONLINE, K.AUTO, "0.32.0", "fp8_per_tensor"),
    ],
)
def test_expected_quantization(method: Method, kernel: Kernel, version: str, names: str) -> None:
    assert names in settings(EngineRequest(method, kernel), version).quantization


def test_classic_awq_is_not_mistaken_for_marlin() -> None:
    assert settings(EngineRequest(Method.AWQ, Kernel.CLASSIC), "0.9.2").quantization == ("awq",)


def test_only_gguf_brings_no_tokenizer() -> None:
    without = {method for method in Method if settings(EngineRequest(method), "0.9.2").needs_tokenizer}
    assert without == {Method.GGUF}


@pytest.mark.parametrize(
    ("request_", "version", "words"),
    [
        (EngineRequest(M.GPTQ_INT4), "0.9.2", "20986"),
        (EngineRequest(M.GPTQ_INT8, K.MACHETE), "0.9.2", "20986"),
        (EngineRequest(M.AWQ), "0.24.0", "awq and awq_marlin are one class"),
        (EngineRequest(M.GPTQ_INT4), "0.22.0", "gptq and gptq_marlin are one class"),
        (EngineRequest(M.GPTQ_INT4), "0.30.0", "desc_act"),
        (EngineRequest(M.BF16, kv_cache_dtype=KVCacheDType.FP8), "0.9.2", "V0"),
        (EngineRequest(M.BF16, kv_cache_dtype=KVCacheDType.FP8), "0.33.0", "attention backend"),
        (EngineRequest(M.AWQ, K.MARLIN), "0.28.0", "only warns"),
        (EngineRequest(M.BF16), "0.34.0", "newer than 0.33"),
        (EngineRequest(M.FP8_STATIC), "0.33.0", "8.9"),
    ],
)
def test_notes(request_: EngineRequest, version: str, words: str) -> None:
    assert any(words in note for note in settings(request_, version).notes)


@pytest.mark.parametrize(
    ("request_", "version", "words"),
    [
        (EngineRequest(M.GPTQ_INT4, K.MARLIN), "0.9.2", "20986"),
        (EngineRequest(M.GPTQ_INT4), "0.10.0", "20986"),
        (EngineRequest(M.AWQ, K.MARLIN), "0.33.0", "one class"),
        (EngineRequest(M.GPTQ_INT4), "0.29.0", "desc_act"),
        (EngineRequest(M.AWQ, K.MARLIN), "0.27.1", "only warns"),
        (EngineRequest(M.BF16), "0.33.9", "newer"),
        (EngineRequest(M.AWQ, device=Device.CPU), "0.33.0", "Hopper"),
    ],
)
def test_notes_that_do_not_apply(request_: EngineRequest, version: str, words: str) -> None:
    assert not any(words in note for note in settings(request_, version).notes)


CPU = Device.CPU


@pytest.mark.parametrize(
    ("method", "version", "args", "env"),
    [
        (M.BF16, "0.32.0", ["--dtype=bfloat16"], {}),
        (M.INT8_W8A8, "0.32.0", [], {}),
        (M.W4A16, "0.32.0", [], {"VLLM_CPU_INT4_W4A8": "0"}),  # envs.py: since 0.20
        (M.AWQ, "0.20.0", [], {"VLLM_CPU_INT4_W4A8": "0"}),
        (M.GPTQ_INT4, "0.19.1", [], {}),
        (M.GPTQ_INT8, "0.32.0", [], {}),  # fails at start, and is tried so that its own log line says why
        (M.FP8_ONLINE, "0.32.0", [Q + "fp8_per_tensor"], {}),
        (M.BITSANDBYTES, "0.27.1", [Q + "bitsandbytes"], {}),
    ],
)
def test_flags_on_cpu(method: Method, version: str, args: list[str], env: dict[str, str]) -> None:
    found = settings(EngineRequest(method, device=CPU), version)
    assert list(found.args) == args
    assert dict(found.env) == env
    assert found.min_capability is None
    assert found.kernels == ()


def test_refusals_on_cpu() -> None:
    for method, kernel in ((M.AWQ, K.MARLIN), (M.GPTQ_INT4, K.EXLLAMA_V2), (M.W4A16, K.MACHETE), (M.AWQ, K.CLASSIC)):
        assert "CUDA" in refusal(EngineRequest(method, kernel, device=CPU), "0.23.0").message
    assert refusal(EngineRequest(M.BITSANDBYTES, device=CPU), "0.32.0").verdict is Verdict.PLUGIN_MISSING
    assert refusal(EngineRequest(M.GGUF, device=CPU), "0.32.0").verdict is Verdict.PLUGIN_MISSING


def every_request() -> list[EngineRequest]:
    plain = [
        EngineRequest(method, kernel, dtype, None, device)
        for method, kernel, dtype, device in itertools.product(Method, Kernel, KVCacheDType, Device)
    ]
    online = [
        replace(request, granularity=granularity)
        for request in plain
        if request.method is Method.FP8_ONLINE
        for granularity in Granularity
    ]
    return plain + online


@pytest.mark.parametrize("version", VERSIONS)
def test_every_combination_has_settings_or_a_reason(version: str) -> None:
    parsed = EngineVersion.parse(version)
    for request in every_request():
        found = server_settings(request, parsed)
        if isinstance(found, Refusal):
            assert found.verdict in (Verdict.UNSUPPORTED, Verdict.PLUGIN_MISSING), request
            assert found.message, request
            assert found.hint, request
            continue
        names = [arg.split("=")[0] for arg in found.args]
        assert len(names) == len(set(names)), (request, found.args)
        assert all(arg.startswith("--") for arg in found.args), request
        assert len({name for name, _ in found.env}) == len(found.env), request
        assert all(found.notes), request
        assert found.sources, request
        if request.device is Device.CPU:
            assert not any(arg.startswith("--linear-backend") for arg in found.args), request
        low, high = found.min_capability, found.max_capability
        assert low is None or high is None or low <= high, request


def test_every_method_of_the_published_study_runs_on_its_version() -> None:
    study = [
        EngineRequest(M.BF16), EngineRequest(M.AWQ, K.CLASSIC), EngineRequest(M.AWQ, K.MARLIN),
        EngineRequest(M.GPTQ_INT8, K.EXLLAMA_V2), EngineRequest(M.GPTQ_INT8, K.MARLIN),
        EngineRequest(M.GPTQ_INT4, K.EXLLAMA_V2), EngineRequest(M.GPTQ_INT4, K.MARLIN),
        EngineRequest(M.BITSANDBYTES), EngineRequest(M.GGUF), EngineRequest(M.FP8_STATIC), EngineRequest(M.FP8_DYNAMIC),
        EngineRequest(M.W4A16), EngineRequest(M.BF16, kv_cache_dtype=KVCacheDType.FP8_E4M3),
    ]  # fmt: skip
    found = [settings(request, "0.9.2") for request in study]
    # No two rows of the study may be the same server (as AWQ and AWQ Marlin would be without flags).
    keys = [(request.method, one.args, one.env) for request, one in zip(study, found, strict=True)]
    assert len(set(keys)) == len(keys)


@given(
    request=st.sampled_from(every_request()),
    major=st.integers(0, 3),
    minor=st.integers(0, 80),
    patch=st.integers(0, 9),
)
def test_any_version_has_an_answer(request: EngineRequest, major: int, minor: int, patch: int) -> None:
    version = EngineVersion(major, minor, patch)
    found = server_settings(request, version)
    if version < EngineVersion(0, 9, 2):
        assert isinstance(found, Refusal)
    assert found == server_settings(request, version)
