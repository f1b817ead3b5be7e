"""Every fixed name of the API: group, kinds, methods, kernels, verdicts, and what they mean.

They stand in one module without imports of ours so that each other room can use them.
"""

from enum import StrEnum
from typing import Self

GROUP = "quantbench.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Named(StrEnum):
    """Names whose meanings stand beside them; the reference is generated from both."""

    _value_: str
    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Method(Named):
    """How the weights (and activations) are quantized; the names are those of vLLM's documentation."""

    BF16 = "BF16", "Weights and activations in bfloat16, not quantized: the usual baseline."
    FP8_STATIC = "FP8Static", "FP8 checkpoint with scales for weights and activations, calibrated beforehand."
    FP8_DYNAMIC = "FP8Dynamic", "FP8 checkpoint; activations are scaled while serving."
    FP8_ONLINE = "FP8Online", "FP8 weights made at start from the unquantized model, scaled as granularity says."
    INT8_W8A8 = "INT8W8A8", "Weights and activations in 8-bit integers: a compressed-tensors checkpoint."
    W4A16 = "W4A16", "4-bit weights, 16-bit activations: a compressed-tensors checkpoint."
    AWQ = "AWQ", "4-bit weights by activation-aware weight quantization: an AWQ checkpoint."
    GPTQ_INT4 = "GPTQInt4", "4-bit weights: a GPTQ checkpoint."
    GPTQ_INT8 = "GPTQInt8", "8-bit weights: a GPTQ checkpoint."
    BITSANDBYTES = "BitsAndBytes", "Weights quantized by bitsandbytes when the model is loaded."
    GGUF = "GGUF", "A GGUF file, as llama.cpp uses them."
    CUSTOM = "Custom", "Whatever the variant's args say: the way to use what vLLM adds next."


class Kernel(Named):
    """The linear-layer kernel asked for."""

    AUTO = "Auto", "vLLM chooses."
    CLASSIC = "Classic", "The kernel that the method came with."
    EXLLAMA_V2 = "ExLlamaV2", "ExLlamaV2; computes in float16."
    MARLIN = "Marlin", "Marlin, a weight-only kernel: with FP8 weights it makes W8A16."
    MACHETE = "Machete", "Machete, for Hopper GPUs."


class KVCacheDType(StrEnum):
    """vLLM's ``--kv-cache-dtype``."""

    AUTO = "auto"
    FP8 = "fp8"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"


class Granularity(StrEnum):
    """Scale granularity of FP8Online."""

    PER_TENSOR = "PerTensor"
    PER_CHANNEL = "PerChannel"
    PER_BLOCK = "PerBlock"


class Device(StrEnum):
    """What vLLM computes on: a target with ``gpus: 0`` is ``cpu``."""

    CUDA = "cuda"
    CPU = "cpu"


class Verdict(Named):
    """How a run ended; every run ends in exactly one."""

    MEASURED = "Measured", "Every pass is valid."
    DUPLICATE = "Duplicate", "The server ran with the same effective configuration as another variant."
    UNSUPPORTED = "Unsupported", "This vLLM version or this device has no code for the variant."
    PLUGIN_MISSING = "PluginMissing", "The method needs a vLLM plugin that the image does not hold."
    OUT_OF_MEMORY = "OutOfMemory", "The memory of the GPU, the KV cache, the container or the node did not suffice."
    KERNEL_BROKEN = "KernelBroken", "A kernel failed to compile or to run."
    NOT_QUANTIZED = "NotQuantized", "Quantization was asked for, and no layer is quantized."
    CONFIGURATION_MISMATCH = "ConfigurationMismatch", "The server ran something else than what the variant asked for."
    CLIENT_BOUND = "ClientBound", "The load generator set the pace, not the server."
    INCONSISTENT = "Inconsistent", "Client and server disagree about the work, or the work was not what was asked for."
    UNSTABLE = "Unstable", "Some passes are invalid, but every load has a valid one."
    CUT_OFF = "CutOff", "In exports read as they stand only: the run had not ended, and its finished passes count."
    IMAGE_UNAVAILABLE = "ImageUnavailable", "An image cannot be pulled."
    MODEL_UNAVAILABLE = "ModelUnavailable", "The model, its checkpoint or its tokenizer cannot be read."
    UNSCHEDULABLE = "Unschedulable", "No node took the server pod in time."
    TIMED_OUT = "TimedOut", "A stage took longer than limits allow."
    EVICTED = "Evicted", "Pods were evicted, preempted or lost more often than limits.retries allows."
    FAILED = "Failed", "Anything else: the reason and the log line say what."


class Difference(Named):
    """What the figures of one row say about the variant against the baseline."""

    FASTER = "Faster", "Better than the baseline in the figure that decides, significantly."
    SLOWER = "Slower", "Worse than the baseline in the figure that decides, significantly."
    NOT_DISTINGUISHABLE = "NotDistinguishable", "No more starts follow, and what was seen can be chance."
    UNDECIDED = "Undecided", "More starts follow."
    ONE_RUN = "OneRun", "One start each: a ratio, but no statement about better or worse."
    SAME_CONFIGURATION = "SameConfiguration", "The server ran what another variant's server ran: no comparison."


class Metric(Named):
    """A figure in which variants can be compared."""

    THROUGHPUT = "Throughput", "Total tokens per second: more is better."
    TTFT = "TTFT", "Mean time to first token: less is better."
    TPOT = "TPOT", "Mean time per output token: less is better."


class FindingKind(Named):
    """What a finding is about."""

    DIFFERENCE = "Difference", "A variant is faster or slower than the baseline."
    NO_DIFFERENCE = "NoDifference", "A variant cannot be told from the baseline."
    ONE_RUN = "OneRun", "Figures rest on one server start: shown, not judged."
    CONTROL = "Control", "How far the repeated baseline lies from the baseline: the noise floor."
    DUPLICATE = "Duplicate", "Variants ran the same effective configuration."
    MISMATCH = "Mismatch", "A server ran something else than what was asked for, or no quantized layer at all."
    DEGRADED = "Degraded", "A variant runs, but not as its name says, e.g. FP8 as weight-only."
    CROSSOVER = "Crossover", "From some load on, another variant is the faster one."
    SATURATED = "Saturated", "More load brought no more throughput: TTFT is the length of a queue."
    API_SERVER_BOUND = "APIServerBound", "vLLM's API server, not the engine, set the pace of a load."
    STARTS_DISAGREE = "StartsDisagree", "Server starts of one configuration lie far apart under a load."
    EXCLUDED = "Excluded", "Passes were left out of the figures, and why."
    THROTTLED = "Throttled", "The GPU lowered its clocks while measuring."
    FAILED = "Failed", "A variant has no figures, and why."


class Axis(Named):
    """Along which loads are ordered."""

    MAX_CONCURRENCY = "maxConcurrency", "Most requests in flight."
    REQUEST_RATE = "requestRate", "Requests per second."
