"""Which flags a variant needs, by vLLM version: data only, one row per range of versions.

Every row names the vLLM source that says so. To add a method: a key in ``METHODS`` (and, where a kernel can be
forced, in ``KERNELS``), rows from ``OLDEST`` on without gaps, and the facts as expected data in the tests.
"""

from collections.abc import Mapping

from quantbench.api.names import Granularity, Kernel, KVCacheDType, Method
from quantbench.engine.rows import Row, plugin_missing, unsupported

COMPRESSED = ("compressed-tensors", "quark")
FP8_CHECKPOINT = ("compressed-tensors", "fp8", "fbgemm_fp8", "modelopt", "modelopt_mixed", "quark")

WNA16_KERNELS = (
    "CutlassW4A8LinearKernel",
    "MacheteLinearKernel",
    "AllSparkLinearKernel",
    "MarlinLinearKernel",
    "Dynamic4bitLinearKernel",
    "BitBLASLinearKernel",
    "ConchLinearKernel",
    "ExllamaLinearKernel",
)
"""Every mixed-precision kernel class of 0.9.2 … 0.21 (kernels/mixed_precision/__init__.py, from 0.17 on
kernels/linear/__init__.py). Versions ignore names that they do not have."""


def only(kernel: str) -> tuple[tuple[str, str], ...]:
    """Environment that leaves ``kernel`` as the one choice, so that vLLM fails instead of taking another."""
    return (("VLLM_DISABLED_KERNELS", ",".join(name for name in WNA16_KERNELS if name != kernel)),)


def kernel_row(
    since: str,
    until: str,
    source: str,
    kernel: str,
    *args: str,
    notes: tuple[str, ...] = (),
    low: int,
    high: int | None = None,
) -> Row:
    """A forced mixed-precision kernel: by ``--linear-backend`` where it is among ``args``, else by exclusion."""
    env = () if any(arg.startswith("--linear-backend") for arg in args) else only(kernel)
    return Row(since, until, source, args, env, notes, kernels=(kernel,), min_capability=low, max_capability=high)


NO_BACKEND_FLAG = "before 0.22 vLLM has no --linear-backend: all other kernels are disabled instead"
EXLLAMA_FP16 = "ExLlamaV2 computes in float16 only: compare its figures with that in mind"
ONE_AWQ = "awq and awq_marlin are one class here; vLLM picks the kernel (Machete on Hopper, else Marlin)"
ONE_GPTQ = "gptq and gptq_marlin are one class here; vLLM picks the kernel (Machete on Hopper, else Marlin)"
DESC_ACT = "checkpoints with desc_act=true and groups are refused at start since 0.30"
MACHETE_092 = (
    "on Hopper vLLM 0.9.2 takes Machete for GPTQ, and torch.compile fails on it (vllm#20986): "
    "kernel Marlin or ExLlamaV2, or --enforce-eager, avoid it"
)
FP8_OLD_GPU = "GPUs before compute capability 8.9 have no FP8 units: vLLM falls back to Marlin, which is W8A16"

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
_GGUF = Row(
    "0.9.2",
    "0.24",
    "0.9.2 engine/arg_utils.py: a .gguf file sets quantization and load format",
    notes=(
        "vLLM's docs call GGUF support experimental; transformers may refuse the architecture "
        "(0.9.2: 'GGUF model with architecture qwen3 is not supported yet')",
    ),
    quantization=("gguf",),
    min_capability=60,
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

METHODS: Mapping[MethodKey, tuple[Row, ...]] = {
    (Method.BF16, None): (
        Row("0.9.2", "", "0.9.2 v1/worker/gpu_worker.py: bfloat16 needs 8.0", ("--dtype=bfloat16",),
            quantization=("None",), min_capability=80),
    ),
    (Method.FP8_STATIC, None): (
        Row("0.9.2", "0.14", "0.9.2 compressed_tensors.py, fp8.py: Marlin W8A16 below 8.9",
            cuda_notes=(FP8_OLD_GPU,), quantization=FP8_CHECKPOINT, min_capability=80),
        Row("0.14", "", "0.14 fp8.py: minimum 75",
            cuda_notes=(FP8_OLD_GPU,), quantization=FP8_CHECKPOINT, min_capability=75),
    ),
    (Method.FP8_DYNAMIC, None): (
        Row("0.9.2", "0.14", "0.9.2 compressed_tensors.py, fp8.py: Marlin W8A16 below 8.9",
            cuda_notes=(FP8_OLD_GPU,), quantization=FP8_CHECKPOINT, min_capability=80),
        Row("0.14", "", "0.14 quantization/__init__.py: fbgemm_fp8 checkpoints count as deprecated",
            ("--allow-deprecated-quantization",),
            cuda_notes=(FP8_OLD_GPU,), quantization=FP8_CHECKPOINT, min_capability=75),
    ),
    (Method.FP8_ONLINE, Granularity.PER_TENSOR): (
        Row("0.9.2", "0.14", "0.9.2 fp8.py: online when the checkpoint is not FP8", ("--quantization=fp8",),
            cuda_notes=(FP8_OLD_GPU,), quantization=("fp8",), min_capability=80),
        Row("0.14", "0.20", "0.14 fp8.py: minimum 75", ("--quantization=fp8",),
            cuda_notes=(FP8_OLD_GPU,), quantization=("fp8",), min_capability=75),
        Row("0.20", "", "0.20 quantization/online; the name fp8 is a deprecated shim since 0.31",
            ("--quantization=fp8_per_tensor",),
            cuda_notes=(FP8_OLD_GPU,), quantization=("fp8_per_tensor", "online"), min_capability=75),
    ),
    (Method.FP8_ONLINE, Granularity.PER_CHANNEL): (
        Row("0.9.2", "0.24", "0.23 quantization/__init__.py: no such name", refusal=unsupported(
            "FP8Online with granularity PerChannel needs vLLM 0.24 or newer",
            "use granularity PerTensor, or PerBlock from 0.20 on, or a newer image")),
        Row("0.24", "", "0.24 config/quantization.py", ("--quantization=fp8_per_channel",),
            cuda_notes=(FP8_OLD_GPU,), quantization=("fp8_per_channel", "online"), min_capability=75),
    ),
    (Method.FP8_ONLINE, Granularity.PER_BLOCK): (
        Row("0.9.2", "0.20", "0.19 quantization/__init__.py: no such name", refusal=unsupported(
            "FP8Online with granularity PerBlock needs vLLM 0.20 or newer",
            "use granularity PerTensor or a newer image")),
        Row("0.20", "", "0.20 config/quantization.py", ("--quantization=fp8_per_block",),
            cuda_notes=(FP8_OLD_GPU,), quantization=("fp8_per_block", "online"), min_capability=75),
    ),
    (Method.INT8_W8A8, None): (
        Row("0.9.2", "", "0.9.2 compressed_tensors_w8a8_int8.py: minimum 75",
            cuda_notes=("vLLM's docs say that INT8 W8A8 is not supported on compute capability 10.0 and above",),
            quantization=COMPRESSED, min_capability=75),
    ),
    (Method.W4A16, None): (
        Row("0.9.2", "0.12", "0.9.2 compressed_tensors_wNa16.py: minimum 80", quantization=COMPRESSED,
            min_capability=80),
        Row("0.12", "", "0.12 compressed_tensors_wNa16.py: minimum 75", quantization=COMPRESSED, min_capability=75),
    ),
    (Method.AWQ, None): (
        Row("0.9.2", "0.19", "0.9.2 awq_marlin.py: converted at start",
            cuda_notes=("vLLM converts the checkpoint to awq_marlin by itself where Marlin supports it",),
            quantization=("awq", "awq_marlin", "cpu_awq", "ipex"), min_capability=75),
        Row("0.19", "0.24", "0.19.0 awq_marlin.py: choose_mp_linear_kernel",
            cuda_notes=("awq_marlin picks its kernel by itself: Machete on Hopper, else Marlin",),
            quantization=("awq", "awq_marlin", "cpu_awq"), min_capability=75),
        Row("0.24", "", "0.24 quantization/auto_awq.py", cuda_notes=(ONE_AWQ,), quantization=("auto_awq", "awq"),
            min_capability=75),
    ),
    **{
        (method, None): (
            Row("0.9.2", "0.10", "0.9.2 gptq_marlin.py, kernels/mixed_precision/__init__.py; vllm#20986",
                cuda_notes=(MACHETE_092,),
                quantization=("gptq", "gptq_marlin", "gptq_bitblas", "ipex"), min_capability=60),
            Row("0.10", "0.22", "0.10 gptq_marlin.py: converted at start", cuda_notes=(
                "vLLM converts the checkpoint to gptq_marlin by itself, which picks Machete on Hopper, else Marlin",),
                quantization=("gptq", "gptq_marlin", "cpu_gptq", "gptq_bitblas", "ipex"), min_capability=60),
            Row("0.22", "0.30", "0.22 quantization/auto_gptq.py; verify_marlin_supported raises it to 75",
                cuda_notes=(ONE_GPTQ,), quantization=("auto_gptq", "gptq"), min_capability=75),
            Row("0.30", "", "0.30 quantization/utils/gptq_utils.py",
                notes=(DESC_ACT,), cuda_notes=(ONE_GPTQ,), quantization=("auto_gptq", "gptq"), min_capability=75),
        )
        for method in (Method.GPTQ_INT4, Method.GPTQ_INT8)
    },
    (Method.BITSANDBYTES, None): (_BNB, _BNB_GONE),
    (Method.GGUF, None): (_GGUF, _GGUF_GONE),
    (Method.CUSTOM, None): (Row("0.9.2", "", "the user's own args"),),
}  # fmt: skip
"""Flags of a method by itself, with vLLM's own choice of kernel."""

_AWQ_CLASSIC = (
    Row("0.9.2", "0.24", "0.9.2 awq.py: float16 only; from 256 tokens a step on it dequantizes and calls cuBLAS",
        ("--quantization=awq", "--dtype=float16"), quantization=("awq",), min_capability=75),
    Row("0.24", "", "0.24 quantization/auto_awq.py get_quant_method", refusal=unsupported(
        "AWQ's classic kernel cannot be reached since vLLM 0.24: awq and awq_marlin became one class",
        "use kernel Auto, Marlin or Machete, or an image of vLLM 0.23 or older")),
)  # fmt: skip
_AWQ_MARLIN = (
    Row("0.9.2", "0.14", "0.9.2 awq_marlin.py: Marlin without a choice; logs no kernel", ("--quantization=awq_marlin",),
        quantization=("awq_marlin",), min_capability=80),
    Row("0.14", "0.19", "0.14 awq_marlin.py: minimum 75", ("--quantization=awq_marlin",),
        quantization=("awq_marlin",), min_capability=75),
    kernel_row("0.19", "0.22", "0.19.0 awq_marlin.py: choose_mp_linear_kernel", "MarlinLinearKernel",
               "--quantization=awq_marlin", notes=(NO_BACKEND_FLAG,), low=75),
    kernel_row("0.22", "0.24", "0.22 config/kernel.py, kernels/linear/__init__.py", "MarlinLinearKernel",
               "--quantization=awq_marlin", "--linear-backend=marlin", low=75),
    kernel_row("0.24", "", "0.24 quantization/auto_awq.py, kernels/linear/__init__.py", "MarlinLinearKernel",
               "--linear-backend=marlin", low=75),
)  # fmt: skip
_AWQ_MACHETE = (
    Row("0.9.2", "0.19", "0.18.1 awq_marlin.py: no choice of kernel", refusal=unsupported(
        "Machete serves AWQ from vLLM 0.19 on; older versions always run it on Marlin",
        "use kernel Marlin, or an image of vLLM 0.19 or newer")),
    kernel_row("0.19", "0.22", "0.19.0 awq_marlin.py: choose_mp_linear_kernel", "MacheteLinearKernel",
               "--quantization=awq_marlin", notes=(NO_BACKEND_FLAG,), low=90, high=90),
    kernel_row("0.22", "0.24", "0.22 config/kernel.py, kernels/linear/__init__.py", "MacheteLinearKernel",
               "--quantization=awq_marlin", "--linear-backend=machete", low=90, high=90),
    kernel_row("0.24", "", "0.24 kernels/linear/mixed_precision/machete.py", "MacheteLinearKernel",
               "--linear-backend=machete", low=90, high=90),
)  # fmt: skip
_GPTQ_EXLLAMA = (
    Row("0.9.2", "0.22", "0.9.2 gptq.py: float16 only; gptq_gemm is the ExLlamaV2 kernel; logs no kernel",
        ("--quantization=gptq", "--dtype=float16"), notes=(EXLLAMA_FP16,), quantization=("gptq",), min_capability=60),
    kernel_row("0.22", "", "0.22 auto_gptq.py, mixed_precision/exllama.py: float16, group_size > 0",
               "ExllamaLinearKernel",
               "--linear-backend=exllama", "--dtype=float16", notes=(EXLLAMA_FP16,), low=75),
)  # fmt: skip
_GPTQ_MARLIN = (
    kernel_row("0.9.2", "0.14", "0.9.2 gptq_marlin.py, kernels/mixed_precision", "MarlinLinearKernel",
               "--quantization=gptq_marlin", notes=(NO_BACKEND_FLAG,), low=80),
    kernel_row("0.14", "0.22", "0.14 kernels/mixed_precision/marlin.py: minimum 75", "MarlinLinearKernel",
               "--quantization=gptq_marlin", notes=(NO_BACKEND_FLAG,), low=75),
    kernel_row("0.22", "", "0.22 auto_gptq.py, kernels/linear/__init__.py", "MarlinLinearKernel",
               "--linear-backend=marlin", low=75),
)  # fmt: skip
_GPTQ_MACHETE = (
    kernel_row("0.9.2", "0.10", "vllm#20986: torch._dynamo.exc.Unsupported", "MacheteLinearKernel",
               "--quantization=gptq_marlin", notes=(NO_BACKEND_FLAG, MACHETE_092), low=90, high=90),
    kernel_row("0.10", "0.22", "0.10 gptq_marlin.py, mixed_precision/machete.py", "MacheteLinearKernel",
               "--quantization=gptq_marlin", notes=(NO_BACKEND_FLAG,), low=90, high=90),
    kernel_row("0.22", "", "0.22 auto_gptq.py, mixed_precision/machete.py", "MacheteLinearKernel",
               "--linear-backend=machete", low=90, high=90),
)  # fmt: skip
_W4A16_EXLLAMA = (
    kernel_row("0.9.2", "0.22", "0.9.2 compressed_tensors_wNa16.py, exllama.py", "ExllamaLinearKernel",
               "--dtype=float16", notes=(NO_BACKEND_FLAG, EXLLAMA_FP16), low=75),
    kernel_row("0.22", "", "0.22 kernels/linear/mixed_precision/exllama.py", "ExllamaLinearKernel",
               "--linear-backend=exllama", "--dtype=float16", notes=(EXLLAMA_FP16,), low=75),
)  # fmt: skip
_W4A16_MARLIN = (
    kernel_row("0.9.2", "0.14", "0.9.2 compressed_tensors_wNa16.py, marlin.py", "MarlinLinearKernel",
               notes=(NO_BACKEND_FLAG,), low=80),
    kernel_row("0.14", "0.22", "0.14 kernels/mixed_precision/marlin.py: minimum 75", "MarlinLinearKernel",
               notes=(NO_BACKEND_FLAG,), low=75),
    kernel_row("0.22", "", "0.22 kernels/linear/__init__.py", "MarlinLinearKernel", "--linear-backend=marlin", low=75),
)  # fmt: skip
_W4A16_MACHETE = (
    kernel_row("0.9.2", "0.22", "0.9.2 compressed_tensors_wNa16.py, machete.py", "MacheteLinearKernel",
               notes=(NO_BACKEND_FLAG,), low=90, high=90),
    kernel_row("0.22", "", "0.22 kernels/linear/__init__.py", "MacheteLinearKernel",
               "--linear-backend=machete", low=90, high=90),
)  # fmt: skip
_FORCE_FP8 = (("VLLM_TEST_FORCE_FP8_MARLIN", "1"),)
_MARLIN_W8A16 = "Marlin is weight-only: this is W8A16, not W8A8"
_FP8_MARLIN = (
    Row("0.9.2", "0.19", "0.9.2 fp8.py: use_marlin; compressed_tensors.py does not read the variable; logs no kernel",
        env=_FORCE_FP8, notes=(
            _MARLIN_W8A16,
            "before 0.19 only checkpoints with quant_method fp8 obey; compressed-tensors keeps its own kernel "
            "on GPUs with FP8 units")),
    Row("0.19", "0.22", "0.19.0 kernels/linear/scaled_mm/marlin.py", env=_FORCE_FP8, notes=(_MARLIN_W8A16,),
        kernels=("MarlinFP8ScaledMMLinearKernel",)),
    Row("0.22", "0.29", "0.22 kernels/linear/__init__.py; the variable is still asked for from 8.9 on",
        ("--linear-backend=marlin",), _FORCE_FP8, (_MARLIN_W8A16,),
        kernels=("MarlinFP8ScaledMMLinearKernel",)),
    Row("0.29", "", "0.29 envs.py: variable gone; scaled_mm/marlin.py",
        ("--linear-backend=marlin",), notes=(_MARLIN_W8A16,),
        kernels=("MarlinFP8ScaledMMLinearKernel",)),
)  # fmt: skip

KERNELS: Mapping[tuple[Method, Kernel], tuple[Row, ...]] = {
    (Method.AWQ, Kernel.CLASSIC): _AWQ_CLASSIC,
    (Method.AWQ, Kernel.MARLIN): _AWQ_MARLIN,
    (Method.AWQ, Kernel.MACHETE): _AWQ_MACHETE,
    **{(m, Kernel.EXLLAMA_V2): _GPTQ_EXLLAMA for m in (Method.GPTQ_INT4, Method.GPTQ_INT8)},
    **{(m, Kernel.MARLIN): _GPTQ_MARLIN for m in (Method.GPTQ_INT4, Method.GPTQ_INT8)},
    **{(m, Kernel.MACHETE): _GPTQ_MACHETE for m in (Method.GPTQ_INT4, Method.GPTQ_INT8)},
    (Method.W4A16, Kernel.EXLLAMA_V2): _W4A16_EXLLAMA,
    (Method.W4A16, Kernel.MARLIN): _W4A16_MARLIN,
    (Method.W4A16, Kernel.MACHETE): _W4A16_MACHETE,
    **{(m, Kernel.MARLIN): _FP8_MARLIN for m in (Method.FP8_STATIC, Method.FP8_DYNAMIC, Method.FP8_ONLINE)},
}
"""What forces a kernel other than vLLM's own choice, on CUDA. A pair that is not here has no such kernel."""

NO_SUCH_KERNEL: Mapping[tuple[Method, Kernel], str] = {
    (Method.AWQ, Kernel.EXLLAMA_V2): "vLLM's ExLlamaV2 kernel takes GPTQ's symmetric types only, not AWQ's zero points",
    **{
        (m, Kernel.CLASSIC): "vLLM's original GPTQ kernel is ExLlamaV2: ask for it by that name"
        for m in (Method.GPTQ_INT4, Method.GPTQ_INT8)
    },
}
"""Why, where more can be said than that the kernel does not exist."""

_V0_FALLBACK = "before 0.11 a GPU other than Hopper leaves the V1 engine for V0 with an FP8 KV cache"
_OTHER_ATTENTION = "an FP8 KV cache can change the attention backend too: more than one thing differs from the baseline"


def _kv_rows(dtype: KVCacheDType) -> tuple[Row, ...]:
    args = (f"--kv-cache-dtype={dtype.value}",)
    return (
        Row(
            "0.9.2",
            "0.11",
            "0.9.2 engine/arg_utils.py _is_v1_supported_oracle",
            args,
            cuda_notes=(_V0_FALLBACK, _OTHER_ATTENTION),
        ),
        Row("0.11", "", "0.24 v1/attention/backends, platforms/cuda.py", args, cuda_notes=(_OTHER_ATTENTION,)),
    )


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

CPU_INT4: tuple[Row, ...] = (
    Row("0.9.2", "0.20", "0.20 envs.py: VLLM_CPU_INT4_W4A8 is new there"),
    Row("0.20", "", "0.20 envs.py; kernels/linear/mixed_precision/cpu.py", env=(("VLLM_CPU_INT4_W4A8", "0"),), notes=(
        "on CPUs with AMX vLLM would compute 4-bit weights with INT8 activations (W4A8); switched off, "
        "so that the figures are of what the method is called",)),
)  # fmt: skip
"""Added on CPU to the 4-bit weight-only methods."""
