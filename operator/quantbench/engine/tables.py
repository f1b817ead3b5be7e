"""Which flags a variant needs, by vLLM version: data only, one row per range of versions.

Every row names the vLLM source that says so. To add a method: a key in ``METHODS`` (and, where a kernel can be
forced, in ``kernels``), rows from ``OLDEST`` on without gaps, and the facts as expected data in the tests.
"""

from collections.abc import Mapping
from dataclasses import replace

from quantbench.api.names import Granularity, KVCacheDType, Method
from quantbench.engine import facts
from quantbench.engine.rows import Choice, Row, plugin_missing, unsupported

COMPRESSED = ("compressed-tensors", "quark")
FP8_CHECKPOINT = ("compressed-tensors", "fp8", "fbgemm_fp8", "modelopt", "modelopt_mixed", "quark")

DESC_ACT = "checkpoints with desc_act=true and groups are refused at start since 0.30"
MethodKey = tuple[Method, Granularity | None]

_BNB = Row(
    "0.9.2",
    "0.28",
    "0.9.2 engine/arg_utils.py (load format is forced); 0.27 quantization/bitsandbytes.py",
    ("--quantization=bitsandbytes",),
    notes=("8-bit bitsandbytes runs without CUDA graphs",),
    quantization=("bitsandbytes",),
    min_capability=70,
)
_BNB_GONE = Row(
    "0.28",
    "",
    "0.28 quantization/__init__.py: name gone; vllm-bnb-plugin 0.0.3",
    refusal=plugin_missing(
        "bitsandbytes left vLLM in 0.28",
        "use an image of vLLM 0.27 or older, or one with vllm-bnb-plugin and "
        "method: Custom with args [--quantization=bitsandbytes]",
    ),
)
_GGUF_092 = Row(
    "0.9.2",
    "0.10",
    "0.9.2 engine/arg_utils.py: a .gguf file sets quantization and load format; log of 0.9.2: 'GGUF model with "
    "architecture qwen3 is not supported yet' (transformers/modeling_gguf_pytorch_utils.py)",
    notes=("vLLM's docs call GGUF support experimental; transformers may refuse the architecture",),
    facts=(facts.GGUF_QWEN3,),
    quantization=("gguf",),
    min_capability=60,
)
_GGUF = replace(
    _GGUF_092, since="0.10", until="0.24", source="0.10 engine/arg_utils.py: a .gguf file sets quantization", facts=()
)
_GGUF_GONE = Row(
    "0.24",
    "",
    "0.24 quantization/__init__.py: name gone; vllm-gguf-plugin 0.0.5",
    refusal=plugin_missing(
        "GGUF left vLLM in 0.24",
        "use an image of vLLM 0.23 or older, or one with vllm-gguf-plugin and method: Custom",
    ),
)


def _gptq_rows(*, eight_bit: bool) -> tuple[Row, ...]:
    """GPTQ without a forced kernel. 4-bit and 8-bit weights differ in AllSpark alone, which left in 0.31."""
    old = Choice(("GPTQLinearMethod",), 60, 79)
    converted = ("gptq", "gptq_marlin", "cpu_gptq", "gptq_bitblas", "ipex")
    one_class = ("auto_gptq", "gptq")
    return (
        Row("0.9.2", "0.10", "0.9.2 gptq_marlin.py, kernels/mixed_precision/machete.py; vllm#20986",
            facts=(facts.MACHETE_092, facts.GPTQ_CONVERTED_80, facts.GPTQ_OLD_GPU),
            choices=(old, *facts.mixed_precision(80, one_group=eight_bit)),
            quantization=("gptq", "gptq_marlin", "gptq_bitblas", "ipex"), min_capability=60),
        Row("0.10", "0.14", "0.10 gptq_marlin.py: converted at start", facts=(
                facts.GPTQ_CONVERTED_80, facts.GPTQ_OLD_GPU),
            choices=(old, *facts.mixed_precision(80, one_group=eight_bit)), quantization=converted, min_capability=60),
        Row("0.14", "0.22", "0.14 kernels/mixed_precision/marlin.py: minimum 75", facts=(facts.GPTQ_CONVERTED,),
            choices=(Choice(("GPTQLinearMethod",), 60, 74), *facts.mixed_precision(one_group=eight_bit)),
            quantization=converted, min_capability=60),
        Row("0.22", "0.30", "0.22 quantization/auto_gptq.py; verify_marlin_supported raises it to 75",
            facts=(facts.ONE_GPTQ,), choices=facts.mixed_precision(one_group=eight_bit), quantization=one_class,
            min_capability=75),
        Row("0.30", "0.31", "0.30 quantization/utils/gptq_utils.py", notes=(DESC_ACT,), facts=(facts.ONE_GPTQ,),
            choices=facts.mixed_precision(one_group=eight_bit), quantization=one_class, min_capability=75),
        Row("0.31", "", "0.31 kernels/linear/__init__.py: AllSpark is gone", notes=(DESC_ACT,), facts=(facts.ONE_GPTQ,),
            choices=facts.mixed_precision(), quantization=one_class, min_capability=75),
    )  # fmt: skip


METHODS: Mapping[MethodKey, tuple[Row, ...]] = {
    (Method.BF16, None): (
        Row("0.9.2", "", "0.9.2 v1/worker/gpu_worker.py: bfloat16 needs 8.0", ("--dtype=bfloat16",),
            quantization=("None",), min_capability=80),
    ),
    (Method.FP8_STATIC, None): (
        Row("0.9.2", "0.14", "0.9.2 compressed_tensors.py, fp8.py: Marlin W8A16 below 8.9",
            facts=(facts.FP8_OLD_GPU, facts.MODELOPT_FP8), quantization=FP8_CHECKPOINT, min_capability=80),
        Row("0.14", "0.19", "0.14 fp8.py: minimum 75",
            facts=(facts.FP8_OLD_GPU, facts.MODELOPT_FP8), quantization=FP8_CHECKPOINT, min_capability=75),
        Row("0.19", "0.24", "0.19.0 kernels/linear/scaled_mm/marlin.py",
            facts=(facts.FP8_OLD_GPU, facts.MODELOPT_FP8), choices=(facts.FP8_MARLIN,), quantization=FP8_CHECKPOINT,
            min_capability=75),
        Row("0.24", "", "0.24 kernels/linear/__init__.py; log of 0.24.0 on an H100",
            facts=(facts.FP8_OLD_GPU, facts.MODELOPT_FP8), choices=facts.FP8_TENSOR_CORES, quantization=FP8_CHECKPOINT,
            min_capability=75),
    ),
    (Method.FP8_DYNAMIC, None): (
        Row("0.9.2", "0.14", "0.9.2 compressed_tensors.py, fp8.py: Marlin W8A16 below 8.9",
            facts=(facts.FP8_OLD_GPU, facts.MODELOPT_FP8), quantization=FP8_CHECKPOINT, min_capability=80),
        Row("0.14", "", "0.14 quantization/__init__.py: fbgemm_fp8 checkpoints count as deprecated",
            ("--allow-deprecated-quantization",),
            facts=(facts.FP8_OLD_GPU, facts.MODELOPT_FP8), quantization=FP8_CHECKPOINT, min_capability=75),
    ),
    (Method.FP8_ONLINE, Granularity.PER_TENSOR): (
        Row("0.9.2", "0.14", "0.9.2 fp8.py: online when the checkpoint is not FP8", ("--quantization=fp8",),
            facts=(facts.FP8_OLD_GPU,), quantization=("fp8",), min_capability=80),
        Row("0.14", "0.20", "0.14 fp8.py: minimum 75", ("--quantization=fp8",),
            facts=(facts.FP8_OLD_GPU,), quantization=("fp8",), min_capability=75),
        Row("0.20", "0.24", "0.20 quantization/online; the name fp8 is a deprecated shim since 0.31",
            ("--quantization=fp8_per_tensor",), facts=(facts.FP8_OLD_GPU,), choices=(facts.FP8_MARLIN,),
            quantization=("fp8_per_tensor", "online"), min_capability=75),
        Row("0.24", "", "0.24 kernels/linear/__init__.py", ("--quantization=fp8_per_tensor",),
            facts=(facts.FP8_OLD_GPU,), choices=facts.FP8_TENSOR_CORES, quantization=("fp8_per_tensor", "online"),
            min_capability=75),
    ),
    (Method.FP8_ONLINE, Granularity.PER_CHANNEL): (
        Row("0.9.2", "0.24", "0.23 quantization/__init__.py: no such name", refusal=unsupported(
            "FP8Online with granularity PerChannel needs vLLM 0.24 or newer",
            "use granularity PerTensor, or PerBlock from 0.20 on, or a newer image")),
        Row("0.24", "", "0.24 config/quantization.py", ("--quantization=fp8_per_channel",),
            facts=(facts.FP8_OLD_GPU,), choices=facts.FP8_TENSOR_CORES, quantization=("fp8_per_channel", "online"),
            min_capability=75),
    ),
    (Method.FP8_ONLINE, Granularity.PER_BLOCK): (
        Row("0.9.2", "0.20", "0.19 quantization/__init__.py: no such name", refusal=unsupported(
            "FP8Online with granularity PerBlock needs vLLM 0.20 or newer",
            "use granularity PerTensor or a newer image")),
        Row("0.20", "", "0.20 config/quantization.py", ("--quantization=fp8_per_block",),
            facts=(facts.FP8_OLD_GPU,), quantization=("fp8_per_block", "online"), min_capability=75),
    ),
    (Method.INT8_W8A8, None): (
        Row("0.9.2", "0.24", "0.9.2 compressed_tensors_w8a8_int8.py: minimum 75; vLLM's docs: not from 10.0 on",
            quantization=COMPRESSED, min_capability=75, max_capability=90),
        Row("0.24", "", "0.24 kernels/linear/__init__.py; vLLM's docs: not from compute capability 10.0 on",
            choices=(Choice(("CutlassInt8ScaledMMLinearKernel",)),), quantization=COMPRESSED, min_capability=75,
            max_capability=90),
    ),
    (Method.W4A16, None): (
        Row("0.9.2", "0.12", "0.9.2 compressed_tensors_wNa16.py: minimum 80",
            choices=facts.mixed_precision(80), quantization=COMPRESSED, min_capability=80),
        Row("0.12", "0.14", "0.12 compressed_tensors_wNa16.py: minimum 75", choices=facts.mixed_precision(80),
            quantization=COMPRESSED, min_capability=75),
        Row("0.14", "", "0.14 kernels/mixed_precision/marlin.py: minimum 75", choices=facts.mixed_precision(),
            quantization=COMPRESSED, min_capability=75),
    ),
    (Method.AWQ, None): (
        Row("0.9.2", "0.14", "0.9.2 awq_marlin.py: converted at start, minimum 80",
            facts=(facts.AWQ_CONVERTED_80, facts.AWQ_TURING),
            choices=(Choice(("AWQLinearMethod",), 75, 79), Choice(("AWQMarlinLinearMethod",), 80)),
            quantization=("awq", "awq_marlin", "cpu_awq", "ipex"), min_capability=75),
        Row("0.14", "0.19", "0.14 awq_marlin.py: minimum 75", facts=(facts.AWQ_CONVERTED,),
            choices=(Choice(("AWQMarlinLinearMethod",), 75),),
            quantization=("awq", "awq_marlin", "cpu_awq", "ipex"), min_capability=75),
        Row("0.19", "0.24", "0.19.0 awq_marlin.py: choose_mp_linear_kernel", facts=(facts.AWQ_PICKS,),
            choices=facts.mixed_precision(), quantization=("awq", "awq_marlin", "cpu_awq"), min_capability=75),
        Row("0.24", "", "0.24 quantization/auto_awq.py", facts=(facts.ONE_AWQ,), choices=facts.mixed_precision(),
            quantization=("auto_awq", "awq"), min_capability=75),
    ),
    (Method.GPTQ_INT4, None): _gptq_rows(eight_bit=False),
    (Method.GPTQ_INT8, None): _gptq_rows(eight_bit=True),
    (Method.BITSANDBYTES, None): (_BNB, _BNB_GONE),
    (Method.GGUF, None): (_GGUF_092, _GGUF, _GGUF_GONE),
    (Method.CUSTOM, None): (Row("0.9.2", "", "the user's own args"),),
}  # fmt: skip
"""Flags of a method by itself, with vLLM's own choice of kernel."""


def _kv_rows(dtype: KVCacheDType) -> tuple[Row, ...]:
    args = (f"--kv-cache-dtype={dtype.value}",)
    attention = facts.KV_E5M2_ATTENTION if dtype is KVCacheDType.FP8_E5M2 else facts.KV_E4M3_ATTENTION
    common = facts.KV_OTHER_ATTENTION
    return (
        Row("0.9.2", "0.11", "0.9.2 engine/arg_utils.py _is_v1_supported_oracle", args,
            facts=(*facts.KV_V0_FALLBACK, common)),
        Row("0.11", "0.24", "0.24 v1/attention/backends, platforms/cuda.py", args, facts=(common,)),
        Row("0.24", "", "0.24 v1/attention/backends/flash_attn.py, platforms/cuda.py", args,
            facts=(common, *attention)),
    )  # fmt: skip


KV_CACHE: Mapping[KVCacheDType, tuple[Row, ...]] = {
    KVCacheDType.AUTO: (Row("0.9.2", "", "vLLM's default: the model's dtype"),),
    **{dtype: _kv_rows(dtype) for dtype in (KVCacheDType.FP8, KVCacheDType.FP8_E4M3, KVCacheDType.FP8_E5M2)},
}

_E5M2_HINT = "use kvCacheDType fp8_e4m3"
_E5M2_COMPRESSED = Row(
    "0.9.2", "0.24", "0.9.2 attention/layer.py; exception for compressed-tensors since 0.24 attention/attention.py",
    refusal=unsupported(
        "before 0.24 vLLM refuses kvCacheDType fp8_e5m2 with compressed-tensors and FP8 checkpoints", _E5M2_HINT),
)  # fmt: skip
_E5M2_FP8 = Row(
    "0.24", "", "0.24 attention/attention.py",
    notes=("fp8_e5m2 is refused at start if the checkpoint has quant_method fp8 or a kv_cache_scheme",),
)  # fmt: skip
_E5M2_ONLINE = Row(
    "0.9.2", "0.20", "0.9.2 attention/layer.py, fp8.py get_quant_method",
    refusal=unsupported("before 0.20 vLLM refuses kvCacheDType fp8_e5m2 with --quantization=fp8", _E5M2_HINT),
)  # fmt: skip

KV_CACHE_EXCEPTIONS: Mapping[tuple[Method, KVCacheDType], tuple[Row, ...]] = {
    (Method.FP8_STATIC, KVCacheDType.FP8_E5M2): (_E5M2_COMPRESSED, _E5M2_FP8),
    (Method.FP8_DYNAMIC, KVCacheDType.FP8_E5M2): (_E5M2_COMPRESSED, _E5M2_FP8),
    (Method.INT8_W8A8, KVCacheDType.FP8_E5M2): (_E5M2_COMPRESSED,),
    (Method.W4A16, KVCacheDType.FP8_E5M2): (_E5M2_COMPRESSED,),
    (Method.FP8_ONLINE, KVCacheDType.FP8_E5M2): (_E5M2_ONLINE,),
}
"""Rows in addition to those of ``KV_CACHE``; these need not cover every version."""
