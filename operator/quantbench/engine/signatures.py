"""Texts of a failed vLLM server and what they mean: data only.

A signature is a substring of a log line; the first line of a log that holds any of them decides. Within one
line the first signature of the table wins, so the special stands before the general. Texts were read in vLLM's
source from 0.9.2 to 0.33.0, or taken from real logs (``tests/data/engine/logs``). To add one: a row here, and a
log or a line of one in the tests.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from quantbench.api.names import Verdict


class Stage(StrEnum):
    """How far the server had come; the values are the reasons of an out-of-memory verdict."""

    LOAD = "AtLoad"
    KV_CACHE = "KVCache"
    WARM_UP = "WarmUp"
    SERVING = "UnderLoad"


MEMORY_HINTS = {
    Stage.LOAD: "the weights do not fit: more gpus in the target, or a checkpoint with fewer bits",
    Stage.KV_CACHE: "lower --gpu-memory-utilization: the KV cache took what profiling thought free",
    Stage.WARM_UP: "lower --gpu-memory-utilization, engine.maxNumSeqs or engine.maxNumBatchedTokens",
    Stage.SERVING: "lower --gpu-memory-utilization or engine.maxNumBatchedTokens: serving takes more than warm-up did",
}
SERVER_STARTED = "Application startup complete"
STAGE_MARKS = (
    ("Model loading took", Stage.WARM_UP),
    ("Available KV cache memory", Stage.KV_CACHE),
    ("Capturing CUDA graph", Stage.WARM_UP),
    ("init engine (profile", Stage.WARM_UP),
    (SERVER_STARTED, Stage.SERVING),
)
"""Lines that end a stage, with the stage that they begin. The first stage is ``LOAD``; profiling and CUDA graphs, which
stand before and after the taking of the KV cache, are one."""


@dataclass(frozen=True)
class Signature:
    """A telling text."""

    needle: str
    """Substring of the line, as vLLM prints it."""
    verdict: Verdict
    reason: str
    """CamelCase; empty: the stage's (``Stage``), and its hint."""
    hint: str = ""
    """What to change; ``{name}`` stands for a group of ``pattern``."""
    pattern: re.Pattern[str] | None = None
    """Where the hint's groups come from; the signature holds without a match too, with ``plain`` as its hint."""
    plain: str = ""
    seen: str = ""
    """Lower-case text that this line or an earlier one must hold as well."""


def _find(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


_UNSUPPORTED, _MODEL, _MEMORY = Verdict.UNSUPPORTED, Verdict.MODEL_UNAVAILABLE, Verdict.OUT_OF_MEMORY
_BROKEN, _FAILED, _PLUGIN = Verdict.KERNEL_BROKEN, Verdict.FAILED, Verdict.PLUGIN_MISSING
_OTHER_GPU = "use a target with a newer GPU, or another method"
_OTHER_CHECKPOINT = "check that model of the variant is a checkpoint of its method"
_PATH = "check model of the variant and the volumes of engine.podTemplate"
_ACCESS = "give the pod a HF_TOKEN that may read it (engine.podTemplate.env), or mount the checkpoint"
_NETWORK = "mount the checkpoint, or open the network"
_KV_HINT = "set --max-model-len={longest} or less, or raise --gpu-memory-utilization"
_ARCHITECTURE = "use a newer vLLM image, or another model"
_DRIVER = "use a node with a newer driver, or an image built for an older CUDA"
_FEWER_GPUS = "the weights cannot be split so often: fewer gpus in the target, or a checkpoint with other groups"
_NODE = "the node's GPU is at fault, not the variant: try another node"

COMMAND_LINE = (
    Signature(": error: unrecognized arguments:", _FAILED, "UnknownFlag",
              "this vLLM does not know {flag}: remove it from args",
              _find(r"unrecognized arguments: (?P<flag>[^\s=]{1,128})"), "remove the flag from args"),
    Signature(": error: ambiguous option:", _FAILED, "UnknownFlag", "write {flag} in full",
              _find(r"ambiguous option: (?P<flag>[^\s=]{1,128})"), "write flags in full"),
    Signature(": error: argument ", _FAILED, "InvalidFlagValue", "correct {flag} in args",
              _find(r"error: argument (?P<flag>[^:]{1,128}):"), "correct the flag in args"),
    Signature(": error: the following arguments are required", _FAILED, "MissingArgument", "complete args"),
)  # fmt: skip

QUANTIZATION = (
    Signature("Unknown quantization method: bitsandbytes", _PLUGIN, "PluginMissing",
              "bitsandbytes left vLLM in 0.28: use an older image or one with vllm-bnb-plugin"),
    Signature("Unknown quantization method: gguf", _PLUGIN, "PluginMissing",
              "GGUF left vLLM in 0.24: use an older image or one with vllm-gguf-plugin"),
    Signature("Unknown quantization method: ", _UNSUPPORTED, "UnknownMethod",
              "this vLLM has no method {name}: use another image",
              _find(r"Unknown quantization method: (?P<name>[\w-][\w.-]{0,63})"), "use another image"),
    Signature("does not match the quantization method specified in the `quantization` argument",
              Verdict.CONFIGURATION_MISMATCH, "CheckpointMismatch",
              "the checkpoint is {found}, the method asked for {asked}",
              _find(r"model config \((?P<found>[\w.-]{1,64})\).{1,120}argument \((?P<asked>[\w.-]{1,64})\)"),
              _OTHER_CHECKPOINT),
    Signature("Cannot find the config file for ", Verdict.CONFIGURATION_MISMATCH, "CheckpointMismatch",
              "the checkpoint is not quantized with {name}", _find(r"config file for (?P<name>[\w.-]{1,64})"),
              _OTHER_CHECKPOINT),
    Signature("is deprecated and will be removed in future versions of vLLM. To bypass, set", _UNSUPPORTED,
              "DeprecatedMethod",
              "add --allow-deprecated-quantization to args of the variant"),
    Signature("is not supported for the current GPU. Minimum", _UNSUPPORTED, "GPUTooOld",
              "it needs compute capability {need}, the GPU has {has} (times ten): use a newer GPU",
              _find(r"[Cc]apability: (?P<need>\d{1,4})\. Current capability: (?P<has>\d{1,4})"), _OTHER_GPU),
    Signature("Quantization scheme is not supported for", _UNSUPPORTED, "GPUTooOld",
              "it needs compute capability {need}, the GPU has {has} (times ten): use a newer GPU",
              _find(r"[Cc]apability: (?P<need>\d{1,4})\. Current capability: (?P<has>\d{1,4})"), _OTHER_GPU),
    Signature("is not supported for quantization method", _UNSUPPORTED, "DTypeUnsupported",
              "{method} computes in {dtypes}: add --dtype={dtypes} to args of the variant",
              _find(r"quantization method (?P<method>[\w.-]{1,64}). Supported dtypes: \[torch\.(?P<dtypes>\w{1,32})\]"),
              "set a --dtype that the message names"),
    Signature("Bfloat16 is only supported on GPUs", _UNSUPPORTED, "GPUTooOld", "bfloat16 needs compute capability 8.0"),
    Signature("GPTQ group activation ordering (desc_act=True)", _UNSUPPORTED, "CheckpointUnsupported",
              "use a checkpoint with desc_act=false, or vLLM 0.29 or older"),
    Signature("Failed to find a kernel that can implement", _UNSUPPORTED, "KernelMissing",
              "no kernel of this vLLM takes this checkpoint on this device: another kernel, device or version may"),
    Signature("Marlin does not support", _UNSUPPORTED, "KernelMissing",
              "no kernel of this vLLM takes this checkpoint on this device: another kernel, device or version may"),
    Signature("was requested but no '", _UNSUPPORTED, "KernelMissing", "use kernel Auto for this method"),
    Signature("fp8_e5m2 kv-cache is not supported with fp8 checkpoints", _UNSUPPORTED, "KVCacheDTypeUnsupported",
              "use kvCacheDType fp8_e4m3"),
    Signature("No valid attention backend found", _UNSUPPORTED, "AttentionBackendMissing",
              "no attention backend takes this KV cache dtype on this device: use kvCacheDType auto"),
    Signature("VLLM_USE_V1=1 is not supported with", _UNSUPPORTED, "EngineUnsupported",
              "leave VLLM_USE_V1 out of engine.podTemplate.env"),
    Signature("to use bitsandbytes quantizer", _PLUGIN, "PluginMissing", "use an image that holds bitsandbytes"),
    Signature("kv_cache_dtype not supported", _UNSUPPORTED, "KVCacheDTypeUnsupported", "use kvCacheDType auto"),
)  # fmt: skip

KERNEL_BROKEN = (
    Signature("torch._dynamo.exc.Unsupported", _BROKEN, "CompilationFailed",
              "vLLM 0.9.2 hands GPTQ's zero points to Machete (vllm#20986): use kernel Marlin, or vLLM 0.10 or newer",
              seen="machete"),
    # csrc/quantization/machete/generate.py: no kernel of these types, e.g. vllm#20986 with --enforce-eager
    Signature("machete_mm(..) is not implemented for", _BROKEN, "KernelMissing",
              "Machete has no kernel for this checkpoint's types: use kernel Marlin, or another vLLM version"),
    Signature("torch._dynamo.exc.", _FAILED, "CompilationFailed",
              "add --enforce-eager to args, or use another vLLM version"),
    Signature("torch._inductor.exc.", _FAILED, "CompilationFailed",
              "add --enforce-eager to args, or use another vLLM version"),
    Signature("has no attribute 'init_cpu_memory_env'", _FAILED, "ImageIncomplete", "the image lacks libnuma1"),
    Signature("'_OpNamespace' '", _BROKEN, "OperatorMissing",
              "vLLM's compiled part lacks this operator: use another image"),
    Signature("_quant() expected at most", _BROKEN, "OperatorMissing",
              "this build has the operator in name only: use another method, device or version"),
    Signature("() expected at most 0 argument(s)", _BROKEN, "OperatorMissing",
              "this build has the operator in name only: use another method, device or version"),
    Signature("no kernel image is available for execution on the device", _UNSUPPORTED, "GPUUnsupported",
              "the image was not built for this GPU"),
    Signature("triton.runtime.errors.OutOfResources", _BROKEN, "OutOfResources",
              "a kernel needs more than this GPU has: use another kernel"),
    Signature("CUDA error: an illegal memory access", _BROKEN, "IllegalMemoryAccess",
              "use another kernel or vLLM version"),
    Signature("CUDA error: an illegal instruction", _BROKEN, "IllegalInstruction",
              "use another kernel or vLLM version"),
    Signature("CUDA error: misaligned address", _BROKEN, "IllegalMemoryAccess", "use another kernel or vLLM version"),
    Signature("CUDA error: device-side assert triggered", _BROKEN, "DeviceAssertion",
              "use another kernel or vLLM version"),
)  # fmt: skip

MEMORY = (
    Signature("To serve at least one request with the model", _MEMORY, "KVCache",
              _KV_HINT,
              _find(r"estimated maximum model length is (?P<longest>\d{1,12})"),
              "lower --max-model-len or raise --gpu-memory-utilization"),
    Signature("The model's max seq len (", _MEMORY, "KVCache",
              _KV_HINT,
              _find(r"stored in KV cache \((?P<longest>\d{1,12})\)"),
              "lower --max-model-len or raise --gpu-memory-utilization"),
    Signature("No available memory for the cache blocks", _MEMORY, "KVCache",
              "nothing is left for the KV cache: raise --gpu-memory-utilization, or use more gpus or fewer bits"),
    Signature("Available memory on node ", _MEMORY, "HostMemoryTaken",
              "lower --gpu-memory-utilization (it counts on CPU too) or set VLLM_CPU_KVCACHE_SPACE"),
    Signature("Free memory on device", _MEMORY, "GPUMemoryTaken",
              "something else holds memory of this GPU, of {total} GiB {free} are free: free it, or lower"
              " --gpu-memory-utilization",
              _find(r"\((?P<free>[0-9.]{1,12})/(?P<total>[0-9.]{1,12}) GiB\)"),
              "something else holds memory of this GPU: free it, or lower --gpu-memory-utilization"),
    Signature("Error in memory profiling", _MEMORY, "GPUMemoryTaken",
              "something else used this GPU while vLLM measured it: give the server a GPU of its own"),
    Signature("out of memory occurred when warming up", _MEMORY, Stage.WARM_UP, MEMORY_HINTS[Stage.WARM_UP]),
    Signature("Failed to load model - not enough GPU memory", _MEMORY, Stage.LOAD, MEMORY_HINTS[Stage.LOAD]),
    Signature("CUDA out of memory", _MEMORY, ""),
    Signature("CUDA error: out of memory", _MEMORY, ""),
    Signature("torch.OutOfMemoryError", _MEMORY, ""),
    Signature("torch.cuda.OutOfMemoryError", _MEMORY, ""),
    Signature("CUBLAS_STATUS_ALLOC_FAILED", _MEMORY, ""),
    Signature("DefaultCPUAllocator: can't allocate memory", _MEMORY, "HostMemory", "raise the pod's memory limit"),
    Signature("MemoryError: Unable to allocate", _MEMORY, "HostMemory", "raise the pod's memory limit"),
    Signature("std::bad_alloc", _MEMORY, "HostMemory", "raise the pod's memory limit"),
    Signature("Cannot allocate memory", _MEMORY, "HostMemory", "raise the pod's memory limit"),
    Signature("unable to mmap", _MEMORY, "HostMemory", "raise the pod's memory limit"),
    Signature("insufficient shared memory (shm)", _FAILED, "SharedMemory",
              "mount a larger emptyDir with medium Memory at /dev/shm"),
)  # fmt: skip

MODEL = (
    Signature("GatedRepoError", _MODEL, "Gated", _ACCESS),
    Signature("You are trying to access a gated repo", _MODEL, "Gated", _ACCESS),
    Signature("Cannot access gated repo", _MODEL, "Gated", _ACCESS),
    Signature("is restricted. You must", _MODEL, "Gated", _ACCESS),
    Signature("is restricted and you are not in the authorized list", _MODEL, "Gated", _ACCESS),
    Signature("RepositoryNotFoundError", _MODEL, "NotFound",
              "check model of the variant; a private one needs a HF_TOKEN"),
    Signature("RevisionNotFoundError", _MODEL, "NotFound", "check the revision of the model"),
    Signature("is not a valid model identifier listed on", _MODEL, "NotFound", _PATH),
    Signature("401 Client Error", _MODEL, "Unauthorized", _ACCESS),
    Signature("403 Client Error", _MODEL, "Unauthorized", _ACCESS),
    Signature("404 Client Error", _MODEL, "NotFound", "check model of the variant, and its revision"),
    Signature("429 Client Error", _MODEL, "RateLimited", "mount the checkpoint, or wait"),
    Signature("An error happened while trying to locate the file", _MODEL, "HubUnreachable", _NETWORK),
    Signature("LocalEntryNotFoundError", _MODEL, "NotCached",
              "the pod may not, or cannot, download: mount the checkpoint, or unset HF_HUB_OFFLINE"),
    Signature("couldn't connect to 'http", _MODEL, "HubUnreachable", _NETWORK),
    Signature("HTTPSConnectionPool(host=", _MODEL, "HubUnreachable", _NETWORK),
    Signature("Temporary failure in name resolution", _MODEL, "HubUnreachable", _NETWORK),
    Signature("httpx.ConnectError", _MODEL, "HubUnreachable", _NETWORK),
    Signature("Consistency check failed: file should be of size", _MODEL, "WeightsDamaged",
              "a download was cut: fetch the checkpoint again"),
    Signature("OfflineModeIsEnabled", _MODEL, "NotCached", "mount the checkpoint, or unset HF_HUB_OFFLINE"),
    Signature("Repo id must be in the form", _MODEL, "PathMissing", _PATH),
    Signature("Repo id must use alphanumeric", _MODEL, "PathMissing", _PATH),
    Signature("Incorrect path_or_model_id", _MODEL, "PathMissing", _PATH),
    Signature("Invalid repository ID or local directory specified", _MODEL, "ConfigMissing", _PATH),
    Signature("does not appear to have a file named", _MODEL, "ConfigMissing", _PATH),
    Signature("Cannot find any model weights with", _MODEL, "WeightsMissing",
              "the folder holds no weights that vLLM reads"),
    Signature("Error while deserializing header", _MODEL, "WeightsDamaged",
              "a weights file is cut or damaged: fetch it again"),
    Signature("MemoryError", _MODEL, "WeightsDamaged",
              "a weights file is cut, or a Git LFS pointer instead of weights: fetch it again",
              seen="parse_safetensors_file_metadata"),
    Signature("is not a valid JSON file", _MODEL, "ConfigDamaged",
              "config.json of the checkpoint is damaged: fetch it again"),
    Signature("Can't load tokenizer for", _MODEL, "TokenizerMissing", "set tokenizer of the variant"),
    Signature("GGUF model with architecture", _UNSUPPORTED, "ArchitectureUnsupported", _ARCHITECTURE),
    Signature("is not supported in-tree anymore", _PLUGIN, "PluginMissing",
              "use an image that holds the plugin which the line names"),
    Signature("are not supported for now", _UNSUPPORTED, "ArchitectureUnsupported", _ARCHITECTURE),
    Signature("does not recognize this architecture", _UNSUPPORTED, "ArchitectureUnsupported", _ARCHITECTURE),
    Signature("Cannot find model module.", _UNSUPPORTED, "ArchitectureUnsupported", _ARCHITECTURE),
    Signature("contains custom code which must be executed", _FAILED, "RemoteCode",
              "add --trust-remote-code to engine.args if you trust the model's code"),
    Signature("requires you to execute the configuration file", _FAILED, "RemoteCode",
              "add --trust-remote-code to engine.args if you trust the model's code"),
)  # fmt: skip

SURROUNDINGS = (
    Signature("is greater than the derived max_model_len", _FAILED, "MaxModelLen",
              "set --max-model-len={longest} or less",
              _find(r"derived max_model_len \((?:\w{1,40}=)?(?P<longest>\d{1,12})"), "lower --max-model-len"),
    Signature("is smaller than max_model_len", _FAILED, "MaxNumBatchedTokens",
              "raise engine.maxNumBatchedTokens or lower --max-model-len"),
    Signature("appears to be a URI", _FAILED, "ServiceLinks",
              "a Service named vllm injects VLLM_PORT: rename it, or set enableServiceLinks: false on the pod"),
    Signature("is larger than the number of available GPUs", _FAILED, "TooFewGPUs",
              "the pod sees fewer GPUs than gpus of the target"),
    Signature("is not divisible by min_thread_", _UNSUPPORTED, "TensorParallelSize", _FEWER_GPUS),
    Signature("is not aligned with the quantized weight shape", _UNSUPPORTED, "TensorParallelSize", _FEWER_GPUS),
    Signature("is not divisible by weight quantization block_", _UNSUPPORTED, "TensorParallelSize", _FEWER_GPUS),
    Signature("unsatisfied condition: cuda", _FAILED, "DriverTooOld", _DRIVER),
    Signature("nvidia-container-cli: initialization error", _FAILED, "GPUUnavailable", _NODE),
    Signature("executable file not found in $PATH", _FAILED, "CommandNotFound", "the image has no vllm on its PATH"),
    Signature("must be divisible by tensor parallel size", _FAILED, "TensorParallelSize",
              "choose gpus that divide the attention heads"),
    Signature("CUDA driver version is insufficient", _FAILED, "DriverTooOld", _DRIVER),
    Signature("The NVIDIA driver on your system is too old", _FAILED, "DriverTooOld", _DRIVER),
    Signature("forward compatibility was attempted on non supported HW", _FAILED, "DriverTooOld", _DRIVER),
    Signature("Found no NVIDIA driver on your system", _FAILED, "NoGPU",
              "the pod got no GPU: check gpuResourceName and runtimeClassName"),
    Signature("No CUDA GPUs are available", _FAILED, "NoGPU",
              "the pod got no GPU: check gpuResourceName and runtimeClassName"),
    Signature("Failed to infer device type", _FAILED, "NoGPU", "the pod got no GPU that this image can use"),
    Signature("device(s) is/are busy or unavailable", _FAILED, "GPUUnavailable", _NODE),
    Signature("uncorrectable ECC error", _FAILED, "GPUDefect", _NODE),
    Signature("GPU has fallen off the bus", _FAILED, "GPUDefect", _NODE),
    Signature("CUDA unknown error", _FAILED, "GPUUnavailable", _NODE),
    Signature("NCCL error", _FAILED, "Communication",
              "GPUs of this node cannot talk to each other: see NCCL_DEBUG=INFO"),
    Signature("Failed to find C compiler", _FAILED, "ImageIncomplete",
              "the image lacks a C compiler: add --enforce-eager"),
    Signature("Address already in use", _FAILED, "PortInUse", "another process of the pod holds the port"),
    Signature("No space left on device", _FAILED, "DiskFull",
              "give the pod more ephemeral storage, or mount the checkpoint"),
    Signature("[Errno 30] Read-only file system", _FAILED, "ReadOnlyFileSystem",
              "point HOME and VLLM_CACHE_ROOT to a writable volume"),
    Signature("PermissionError: [Errno 13]", _FAILED, "PermissionDenied", "the pod's user may not read or write there"),
    Signature("Segfault encountered", _FAILED, "SegmentationFault", "use another vLLM version"),
    Signature("Segmentation fault", _FAILED, "SegmentationFault", "use another vLLM version"),
)  # fmt: skip

SIGNATURES = COMMAND_LINE + QUANTIZATION + KERNEL_BROKEN + MEMORY + MODEL + SURROUNDINGS

WRAPPERS = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "EngineCore failed to start",
    "WorkerProc failed to start",
    "EngineCore encountered",
    "EngineDeadError",
    "engine core exited unexpectedly",
    "EngineGenerateError",
    "AsyncLLM output_handler failed",
    "died unexpectedly",
    "BrokenPipeError",
    "ConnectionResetError",
    "CancelledError",
    "KeyboardInterrupt",
    "SystemExit",
)
"""Texts of lines that only report that something else failed."""
DIED_SERVING = "engine core exited unexpectedly"
"""The one shutdown line that does not belong to a shutdown that was asked for (vLLM 0.32 then exits with 0)."""


HANDLED = (
    ", retrying ",
    "thrown while requesting ",
    "Error retrieving ",
    "Error parsing config for ",
    "Error saving model info cache",  # 0.32 models/registry.py: goes on after its traceback
)
"""Texts of lines about an attempt that is repeated or done without: if it mattered, an exception follows."""

EXIT_CODES: dict[int, Signature] = {
    code: Signature("", verdict, reason, hint)
    for code, verdict, reason, hint in (
        (2, _FAILED, "UsageError", "vLLM did not accept its command line"),
        (126, _FAILED, "CommandNotFound", "the image's vllm cannot be executed"),
        (127, _FAILED, "CommandNotFound", "the image has no vllm on its PATH"),
        (132, _UNSUPPORTED, "IllegalInstruction", "the node's CPU lacks instructions that the image was built for"),
        (134, _FAILED, "Aborted", "use another vLLM version"),
        (135, _FAILED, "SharedMemory", "mount a larger emptyDir with medium Memory at /dev/shm"),
        (137, _FAILED, "Killed", "the pod was killed; if Kubernetes says OOMKilled, raise its memory limit"),
        (139, _FAILED, "SegmentationFault", "use another vLLM version"),
        (143, _FAILED, "Terminated", "something asked the server to stop"),
    )
}
"""What an exit status says by itself, where the log says nothing: 128 + n is death by signal n."""
