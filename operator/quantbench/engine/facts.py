"""What vLLM makes of a variant beside the flags: facts and kernel choices that the rows of the tables hold.

A fact stands here once and is named by each row (range of versions) that it is true in. Which kernel is taken comes
from the priority lists in vLLM's ``kernels/mixed_precision/__init__.py`` (until 0.16) and
``kernels/linear/__init__.py``: Machete (compute capability 9.0 alone), AllSpark (8.0 … 8.9, 8-bit weights in one
group, until 0.30), Marlin, ExLlamaV2.
"""

from quantbench.engine.rows import Choice, Fact, Fate

HOPPER = 90

FP8_OLD_GPU = Fact(
    Fate.DEGRADED,
    "GPUs before compute capability 8.9 have no FP8 units: vLLM falls back to Marlin, which is W8A16",
    "read its figures as those of 8-bit weights with 16-bit activations, or use a GPU of 8.9 or newer",
    high=88,
)
MODELOPT_FP8 = Fact(
    Fate.SUPPORTED, "a ModelOpt checkpoint needs compute capability 8.9 until vLLM 0.24, and 8.0 on 0.33", high=88
)
ONE_AWQ = Fact(
    Fate.MERGED,
    "awq and awq_marlin are one class here; vLLM picks the kernel (Machete on Hopper, else Marlin)",
    "name a kernel to compare kernels",
)
ONE_GPTQ = Fact(
    Fate.MERGED,
    "gptq and gptq_marlin are one class here; vLLM picks the kernel (Machete on Hopper, else Marlin)",
    "name a kernel to compare kernels",
)
AWQ_CONVERTED_80 = Fact(
    Fate.MERGED,
    "from compute capability 8.0 on vLLM converts the checkpoint to awq_marlin by itself",
    "kernel Classic keeps awq",
    low=80,
)
AWQ_CONVERTED = Fact(
    Fate.MERGED, "vLLM converts the checkpoint to awq_marlin by itself", "kernel Classic keeps awq", low=75
)
AWQ_PICKS = Fact(
    Fate.MERGED,
    "vLLM converts the checkpoint to awq_marlin, which picks its kernel by itself: Machete on Hopper, else Marlin",
    "kernel Classic keeps awq",
)
AWQ_TURING = Fact(
    Fate.SUPPORTED,
    "before compute capability 8.0 vLLM keeps awq, which computes in float16: --dtype=float16 may be needed",
    high=79,
)
GPTQ_CONVERTED_80 = Fact(
    Fate.MERGED,
    "from compute capability 8.0 on vLLM converts the checkpoint to gptq_marlin by itself, which picks Machete on"
    " Hopper, else Marlin",
    "kernel ExLlamaV2 keeps gptq",
    low=80,
)
GPTQ_CONVERTED = Fact(
    Fate.MERGED,
    "from compute capability 7.5 on vLLM converts the checkpoint to gptq_marlin by itself, which picks Machete on"
    " Hopper, else Marlin",
    "kernel ExLlamaV2 keeps gptq",
    low=75,
)
GPTQ_OLD_GPU = Fact(
    Fate.SUPPORTED,
    "on GPUs too old for Marlin vLLM keeps gptq (ExLlamaV2), which computes in float16: --dtype=float16 may be needed",
    high=79,
)
MACHETE_092 = Fact(
    Fate.EXPECTED_TO_FAIL,
    "on Hopper vLLM 0.9.2 takes Machete for GPTQ and hands it zero points that it cannot take (vllm#20986)",
    "kernel Marlin or ExLlamaV2 avoids it, --enforce-eager does not; vLLM 0.10 mended it (vllm#21066)",
    low=HOPPER,
    high=HOPPER,
)
GGUF_QWEN3 = Fact(
    Fate.EXPECTED_TO_FAIL,
    "vLLM 0.9.2 asks transformers to read the GGUF file's head, which refuses architecture qwen3",
    "use another format, or an image of a newer vLLM",
    device=None,
    models="qwen3",
)
KV_OTHER_ATTENTION = Fact(
    Fate.SUPPORTED,
    "an FP8 KV cache can change the attention backend too: more than one thing differs from the baseline",
)
_V0 = "before 0.11 a GPU other than Hopper leaves the V1 engine for V0 with an FP8 KV cache"
_V0_HINT = "compare it with a baseline of the same engine, or use an image of vLLM 0.11 or newer"
KV_V0_FALLBACK = (
    Fact(Fate.DEGRADED, _V0, _V0_HINT, high=HOPPER - 1),
    Fact(Fate.DEGRADED, _V0, _V0_HINT, low=HOPPER + 1),
)
KV_E4M3_ATTENTION = (
    Fact(Fate.SUPPORTED, "on Hopper an e4m3 KV cache stays on FLASH_ATTN where FlashAttention 3 is there",
         low=HOPPER, high=HOPPER),
    Fact(Fate.SUPPORTED, "before Hopper an FP8 KV cache means FlashInfer, else Triton, for attention", high=HOPPER - 1),
    Fact(Fate.SUPPORTED, "from compute capability 10.0 on an FP8 KV cache means FlashInfer for attention", low=100),
)  # fmt: skip
KV_E5M2_ATTENTION = (
    Fact(Fate.SUPPORTED, "FlashAttention refuses fp8_e5m2: attention runs on FlashInfer, else Triton"),
)


def mixed_precision(low: int = 75, *, one_group: bool = False) -> tuple[Choice, ...]:
    """Choices of the list for 4-bit and 8-bit weight-only layers.

    ``low``: Marlin's own minimum; ``one_group``: 8-bit weights, for which AllSpark comes before Marlin if the
    checkpoint has one group per channel.
    """
    ampere = ("MarlinLinearKernel", "AllSparkLinearKernel") if one_group else ("MarlinLinearKernel",)
    below = [Choice(("MarlinLinearKernel",), low, 79)] if low < 80 else []
    return (
        *below,
        Choice(ampere, 80, HOPPER - 1),
        Choice(("MacheteLinearKernel",), HOPPER, HOPPER),
        Choice(("MarlinLinearKernel",), HOPPER + 1),
    )


FP8_MARLIN = Choice(("MarlinFP8ScaledMMLinearKernel",), 75, 88)
FP8_TENSOR_CORES = (
    FP8_MARLIN,
    Choice(("CutlassFP8ScaledMMLinearKernel",), 89, HOPPER),
    Choice(("FlashInferFP8ScaledMMLinearKernel",), 100),
)
"""Scales per tensor or channel; blocks have lists of their own."""
