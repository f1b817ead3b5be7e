"""What forces a linear kernel other than vLLM's own choice: data only, rows as in ``tables``."""

from collections.abc import Mapping

from quantbench.api.names import Kernel, Method
from quantbench.engine.facts import MACHETE_092
from quantbench.engine.rows import Choice, Fact, Row, unsupported

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
    facts: tuple[Fact, ...] = (),
    low: int,
    high: int | None = None,
) -> Row:
    """A forced mixed-precision kernel: by ``--linear-backend`` where it is among ``args``, else by exclusion."""
    env = () if any(arg.startswith("--linear-backend") for arg in args) else only(kernel)
    return Row(
        since, until, source, args, env, notes, facts, kernels=(kernel,), min_capability=low, max_capability=high
    )


NO_BACKEND_FLAG = "before 0.22 vLLM has no --linear-backend: all other kernels are disabled instead"
EXLLAMA_FP16 = "ExLlamaV2 computes in float16 only: compare its figures with that in mind"

_AWQ_CLASSIC = (
    Row("0.9.2", "0.24", "0.9.2 awq.py: float16 only; from 256 tokens a step on it dequantizes and calls cuBLAS",
        ("--quantization=awq", "--dtype=float16"), choices=(Choice(("AWQLinearMethod",)),), quantization=("awq",),
        min_capability=75),
    Row("0.24", "", "0.24 quantization/auto_awq.py get_quant_method", refusal=unsupported(
        "AWQ's classic kernel cannot be reached since vLLM 0.24: awq and awq_marlin became one class",
        "use kernel Auto, Marlin or Machete, or an image of vLLM 0.23 or older")),
)  # fmt: skip
_AWQ_DIRECT = (Choice(("AWQMarlinLinearMethod",)),)
_AWQ_MARLIN = (
    Row("0.9.2", "0.14", "0.9.2 awq_marlin.py: Marlin without a choice; logs no kernel", ("--quantization=awq_marlin",),
        choices=_AWQ_DIRECT, quantization=("awq_marlin",), min_capability=80),
    Row("0.14", "0.19", "0.14 awq_marlin.py: minimum 75", ("--quantization=awq_marlin",),
        choices=_AWQ_DIRECT, quantization=("awq_marlin",), min_capability=75),
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
        ("--quantization=gptq", "--dtype=float16"), notes=(EXLLAMA_FP16,),
        choices=(Choice(("GPTQLinearMethod",)),), quantization=("gptq",), min_capability=60),
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
    kernel_row("0.9.2", "0.10", "0.9.2 mixed_precision/machete.py: passes qzeros on; vllm#20986", "MacheteLinearKernel",
               "--quantization=gptq_marlin", notes=(NO_BACKEND_FLAG,), facts=(MACHETE_092,), low=90, high=90),
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
