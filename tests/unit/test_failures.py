"""Every way in which a server is known to fail, one by one: verdict, reason, first telling line, what to change.

Texts of vLLM are quoted as its versions print them; where a real log is at hand, ``test_engine_diagnosis`` reads it.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from core_support.objects import at, later, run, study
from core_support.pods import condition, deleted, pod, running, terminated, waiting
from quantbench.api.base import JsonObject
from quantbench.api.names import Verdict
from quantbench.api.run import Outcome
from quantbench.decide.causes import image_hint, loss_hint, reference_hint, unschedulable_hint
from quantbench.decide.run import Evidence, decide_run
from quantbench.decide.verdicts import cannot_start, server_ended, start_timeout
from quantbench.engine.diagnosis import diagnose, find_cause
from quantbench.observe import Children, read_pod
from quantbench.resources.load import RunnerImage

V = Verdict
LOADING = "INFO 07-15 12:49:50 [config.py:1472] non-default args: {}\n"
LOADED = LOADING + "INFO 07-15 12:49:58 [gpu_model_runner.py:1801] Model loading took 15.2683 GiB and 4.3 seconds\n"
PROFILED = LOADED + "INFO 07-15 12:50:20 [gpu_worker.py:232] Available KV cache memory: 5.62 GiB\n"
CAPTURING = PROFILED + "Capturing CUDA graphs (PIECEWISE):   0%|          | 0/51 [00:00<?, ?it/s]\n"
EAGER = (
    PROFILED
    + "INFO 07-15 12:50:24 [core.py:172] init engine (profile, create kv cache, warmup model) took 26 seconds\n"
)
SERVING = CAPTURING + "INFO:     Application startup complete.\n"
OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 594.00 MiB. GPU 0 has a total capacity of 23.64 GiB"
)
OLD_OOM = OOM.replace("torch.OutOf", "torch.cuda.OutOf")
NO_KV = (
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the"
    " engine."
)
KV_SMALL = (
    "ValueError: To serve at least one request with the models's max seq len (40960), (5.62 GiB KV cache is needed,"
    " which is larger than the available KV cache memory (2.11 GiB). Based on the available memory, the estimated"
    " maximum model length is 15360. Try increasing `gpu_memory_utilization` or decreasing `max_model_len`."
)
WNA16 = (
    "ValueError: Failed to find a kernel that can implement the WNA16 linear layer. Reasons: \n"
    " MacheteLinearKernel cannot implement due to: Machete only supports compute capability of 90\n"
    " MarlinLinearKernel disabled by environment variable\n"
)

VLLM = {
    # name: (log, verdict, reason, what the line holds, what the hint holds)
    "GPU too old for the method": (
        "ValueError: The quantization method awq_marlin is not supported for the current GPU. Minimum capability: 80."
        " Current capability: 75.", V.UNSUPPORTED, "GPUTooOld", "awq_marlin", "capability 80, the GPU has 75"),
    "GPU too old for a scheme": (
        "RuntimeError: Quantization scheme is not supported for the current GPU. Min capability: 89. Current"
        " capability: 80.", V.UNSUPPORTED, "GPUTooOld", "Min capability: 89", "capability 89, the GPU has 80"),
    "GPU too old for a scheme, a tuple until 0.24": (
        "RuntimeError: ('Quantization scheme is not supported for ', 'the current GPU. Min capability: 89. Current"
        " capability: 80.')", V.UNSUPPORTED, "GPUTooOld",
        "Quantization scheme is not supported for the current GPU. Min capability: 89", "89, the GPU has 80"),
    "bfloat16 on a T4": (
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has"
        " compute capability 7.5.", V.UNSUPPORTED, "GPUTooOld", "Tesla T4", "8.0"),
    "dtype": (
        "ValueError: torch.bfloat16 is not supported for quantization method gptq. Supported dtypes: [torch.float16]",
        V.UNSUPPORTED, "DTypeUnsupported", "torch.bfloat16", "--dtype=float16"),
    "checkpoint and flag differ": (
        "  Value error, Quantization method specified in the model config (awq) does not match the quantization method"
        " specified in the `quantization` argument (gptq). [type=value_error, input_value=ArgsKwargs()]",
        V.CONFIGURATION_MISMATCH, "CheckpointMismatch", "(awq)", "is awq, the method asked for gptq"),
    "method without checkpoint configuration": (
        "ValueError: Cannot find the config file for awq", V.CONFIGURATION_MISMATCH, "CheckpointMismatch", "awq",
        "not quantized with awq"),
    "unknown method": (
        "ValueError: Unknown quantization method: hqq. Must be one of ['awq']", V.UNSUPPORTED, "UnknownMethod", "hqq",
        "no method hqq"),
    "bitsandbytes without plugin": (
        "ValueError: Unknown quantization method: bitsandbytes. Must be one of ['awq']", V.PLUGIN_MISSING,
        "PluginMissing", "bitsandbytes", "vllm-bnb-plugin"),
    "bitsandbytes not installed": (
        "ImportError: Please install bitsandbytes>=0.45.3 via `pip install bitsandbytes>=0.45.3` to use bitsandbytes"
        " quantizer.", V.PLUGIN_MISSING, "PluginMissing", "bitsandbytes", "image"),
    "gguf without plugin": (
        "ValueError: Unknown quantization method: gguf. Must be one of ['awq']", V.PLUGIN_MISSING, "PluginMissing",
        "gguf", "vllm-gguf-plugin"),
    "deprecated method, its name not filled in": (
        "  Value error, The quantization method %s is deprecated and will be removed in future versions of vLLM. To"
        " bypass, set --allow-deprecated-quantization.", V.UNSUPPORTED, "DeprecatedMethod", "deprecated",
        "--allow-deprecated-quantization"),
    "no kernel": (WNA16, V.UNSUPPORTED, "KernelMissing", "Machete only supports compute capability of 90", "kernel"),
    "no FP8 kernel": (
        "ValueError: Failed to find a kernel that can implement the ScaledMM linear layer. Reasons: \n", V.UNSUPPORTED,
        "KernelMissing", "ScaledMM", "kernel"),
    "no NVFP4 kernel": (
        "ValueError: Failed to find a kernel that can implement the NVFP4 linear layer. Reasons: \n", V.UNSUPPORTED,
        "KernelMissing", "NVFP4", "kernel"),
    "Marlin": (
        "ValueError: Marlin does not support weight_bits = uint8b128. Only types = [] are supported (for group_size ="
        " 128, device_capability = -1, zp = False).", V.UNSUPPORTED, "KernelMissing", "uint8b128", "kernel"),
    "Marlin below 7.5 since 0.22": (
        "ValueError: Marlin does not support weight_bits = uint4b8. Only types = [] are supported", V.UNSUPPORTED,
        "KernelMissing", "uint4b8", "device"),
    "Marlin and tensor parallelism": (
        "ValueError: Weight output_size_per_partition = 96 is not divisible by  min_thread_n = 64.".replace("  ", " "),
        V.UNSUPPORTED, "TensorParallelSize", "min_thread_n", "fewer gpus"),
    "AWQ and tensor parallelism": (
        "ValueError: The input size is not aligned with the quantized weight shape. This can be caused by too large"
        " tensor parallel size.", V.UNSUPPORTED, "TensorParallelSize", "not aligned", "fewer gpus"),
    "FP8 blocks and tensor parallelism": (
        "ValueError: Weight input_size_per_partition = 1472 is not divisible by weight quantization block_k = 128.",
        V.UNSUPPORTED, "TensorParallelSize", "block_k", "fewer gpus"),
    "forced backend until 0.28": (
        "ValueError: --linear-backend=machete was requested but no 'machete' kernel exists for Fp8 layers",
        V.UNSUPPORTED, "KernelMissing", "machete", "Auto"),
    "desc_act since 0.30": (
        "ValueError: GPTQ group activation ordering (desc_act=True) is no longer supported", V.UNSUPPORTED,
        "CheckpointUnsupported", "desc_act", "0.29"),
    "GGUF architecture": (
        "ValueError: GGUF model with architecture qwen3 is not supported yet.", V.UNSUPPORTED,
        "ArchitectureUnsupported", "qwen3", "newer"),
    "Machete under torch.compile, vllm#20986": (
        "INFO 07-15 12:49:50 [gptq_marlin.py:266] Using MacheteLinearKernel for GPTQMarlinLinearMethod\n"
        "ERROR 07-15 12:50:26 [core.py:586] torch._dynamo.exc.Unsupported: Attempted to call function marked as skipped",
        V.KERNEL_BROKEN, "CompilationFailed", "marked as skipped", "Marlin"),
    "Machete without torch.compile, vllm#20986": (
        "ERROR 07-15 12:50:26 [core.py:586] NotImplementedError: machete_mm(..) is not implemented for a_type=BFloat16,"
        " b_type=uint4b8, out_type=BFloat16, with_group_scale_type=BFloat16, with_group_zeropoint_type=Int",
        V.KERNEL_BROKEN, "KernelMissing", "zeropoint_type=Int", "Marlin"),
    "e5m2 with an FP8 checkpoint": (
        "ValueError: fp8_e5m2 kv-cache is not supported with fp8 checkpoints.", V.UNSUPPORTED,
        "KVCacheDTypeUnsupported", "fp8_e5m2", "fp8_e4m3"),
    "FP8 KV cache with V1 forced in 0.9.2": (
        "NotImplementedError: VLLM_USE_V1=1 is not supported with --kv-cache-dtype.", V.UNSUPPORTED,
        "EngineUnsupported", "--kv-cache-dtype", "VLLM_USE_V1"),
    "FP8 per tensor on CPU": (
        "RuntimeError: _C::static_scaled_fp8_quant() expected at most 0 argument(s) but received 4 argument(s).",
        V.KERNEL_BROKEN, "OperatorMissing", "static_scaled_fp8_quant", "build"),
    "memory: loading weights": (LOADING + OOM, V.OUT_OF_MEMORY, "AtLoad", "594.00 MiB", "weights do not fit"),
    "memory: loading weights, old torch": (LOADING + OLD_OOM, V.OUT_OF_MEMORY, "AtLoad", "594.00 MiB", "weights"),
    "memory: loading weights since 0.24": (
        LOADING + "ERROR 07-15 12:50:26 [gpu_model_runner.py:1] Failed to load model - not enough GPU memory. Try"
        " lowering --gpu-memory-utilization to free memory for weights, increasing --tensor-parallel-size",
        V.OUT_OF_MEMORY, "AtLoad", "not enough GPU memory", "weights do not fit"),
    "memory: profiling": (LOADED + OOM, V.OUT_OF_MEMORY, "WarmUp", "594.00 MiB", "engine.maxNumSeqs"),
    "memory: taking the KV cache": (PROFILED + OOM, V.OUT_OF_MEMORY, "KVCache", "594.00", "--gpu-memory-utilization"),
    "memory: CUDA graphs": (CAPTURING + OOM, V.OUT_OF_MEMORY, "WarmUp", "594.00 MiB", "engine.maxNumSeqs"),
    "memory: after the warm-up without graphs": (EAGER + OOM, V.OUT_OF_MEMORY, "WarmUp", "594.00", "maxNumSeqs"),
    "memory: sampler": (
        PROFILED + "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please"
        " try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine.", V.OUT_OF_MEMORY,
        "WarmUp", "1024 dummy requests", "engine.maxNumSeqs"),
    "memory: under load": (SERVING + OOM, V.OUT_OF_MEMORY, "UnderLoad", "594.00 MiB", "engine.maxNumBatchedTokens"),
    "memory: none for the KV cache": (LOADED + NO_KV, V.OUT_OF_MEMORY, "KVCache", "No available memory", "fewer bits"),
    "memory: KV cache for one request in 0.9.2": (
        LOADED + KV_SMALL, V.OUT_OF_MEMORY, "KVCache", "max seq len (40960)", "--max-model-len=15360 or less"),
    "memory: KV cache for one request": (
        LOADED + KV_SMALL.replace("models's", "model's"), V.OUT_OF_MEMORY, "KVCache", "estimated maximum", "=15360 or"),
    "memory: KV cache for one request, V0": (
        "ValueError: The model's max seq len (40960) is larger than the maximum number of tokens that can be stored in"
        " KV cache (12288). Try increasing `gpu_memory_utilization`", V.OUT_OF_MEMORY, "KVCache", "40960",
        "--max-model-len=12288"),
    "memory: GPU shared in 0.9.2": (
        "ValueError: Free memory on device (59.32/79.15 GiB) on startup is less than desired GPU memory utilization"
        " (0.9, 71.23 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
        V.OUT_OF_MEMORY, "GPUMemoryTaken", "59.32/79.15", "of 79.15 GiB 59.32 are free"),
    "memory: GPU shared": (
        "ValueError: Free memory on device cuda:0 (59.32/79.15 GiB) on startup is less than desired GPU memory"
        " utilization (0.92, 72.82 GiB).", V.OUT_OF_MEMORY, "GPUMemoryTaken", "cuda:0", "79.15 GiB 59.32 are free"),
    "memory: GPU shared while profiling": (
        "AssertionError: Error in memory profiling. Initial free memory 20.1 GiB, current free memory 22.3 GiB.",
        V.OUT_OF_MEMORY, "GPUMemoryTaken", "Initial free memory", "GPU of its own"),
    "max_model_len": (
        "  Value error, User-specified max_model_len (99999) is greater than the derived max_model_len"
        " (max_position_embeddings=40960 or model_max_length=None in model's config.json).", V.FAILED, "MaxModelLen",
        "99999", "--max-model-len=40960 or less"),
    "max_model_len of other models": (
        "ValueError: User-specified max_model_len (9999) is greater than the derived max_model_len (seq_length=2048.0"
        " or model_max_length=None in model's config.json).", V.FAILED, "MaxModelLen", "9999",
        "--max-model-len=2048 or less"),
    "model absent offline": (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in the disk cache and outgoing"
        " traffic has been disabled.", V.MODEL_UNAVAILABLE, "NotCached", "disk cache", "HF_HUB_OFFLINE"),
    "model path missing": (
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name':"
        " '/models/x'.", V.MODEL_UNAVAILABLE, "PathMissing", "/models/x", "podTemplate"),
    "configuration without weights": (
        "RuntimeError: Cannot find any model weights with `/models/x`", V.MODEL_UNAVAILABLE, "WeightsMissing",
        "/models/x", "no weights"),
    "gated": (
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1)", V.MODEL_UNAVAILABLE, "Gated",
        "GatedRepoError", "HF_TOKEN"),
    "gated, by url": (
        "Cannot access gated repo for url https://huggingface.co/m/resolve/main/config.json.", V.MODEL_UNAVAILABLE,
        "Gated", "config.json", "HF_TOKEN"),
    "gated, not accepted": (
        "Access to model meta/m is restricted and you are not in the authorized list. Visit the page to ask.",
        V.MODEL_UNAVAILABLE, "Gated", "meta/m", "HF_TOKEN"),
    "gated, without a token": (
        "Access to model meta/m is restricted. You must have access to it and be authenticated to access it.",
        V.MODEL_UNAVAILABLE, "Gated", "meta/m", "HF_TOKEN"),
    "unauthorized": (
        "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: x", V.MODEL_UNAVAILABLE,
        "Unauthorized", "401", "HF_TOKEN"),
    "not found": (
        "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: x", V.MODEL_UNAVAILABLE, "NotFound", "404",
        "model of the variant"),
    "a mirror that does not answer": (
        "OSError: We couldn't connect to 'https://mirror.example' to load the files", V.MODEL_UNAVAILABLE,
        "HubUnreachable", "mirror.example", "network"),
    "no name resolution": (
        "httpx.ConnectError: [Errno -3] Temporary failure in name resolution", V.MODEL_UNAVAILABLE, "HubUnreachable",
        "Errno -3", "network"),
    "architecture": (
        "  Value error, Model architectures ['Qwen9ForCausalLM'] are not supported for now. Supported architectures: x",
        V.UNSUPPORTED, "ArchitectureUnsupported", "Qwen9ForCausalLM", "newer"),
    "architecture that left the tree": (
        "ValueError: Model architecture X is not supported in-tree anymore. Please install the plugin at example.",
        V.PLUGIN_MISSING, "PluginMissing", "plugin at example", "plugin"),
    "wrapped twice": (
        f"{LOADED}ERROR 07-15 12:50:26 [core.py:586] EngineCore failed to start.\n"
        f"ERROR 07-15 12:50:26 [core.py:586] {NO_KV}\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}",
        V.OUT_OF_MEMORY, "KVCache", "No available memory", "--gpu-memory-utilization"),
    "wrapped by pydantic": (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n"
        "  Value error, Something is odd. [type=value_error, input_value=ArgsKwargs(), input_type=ArgsKwargs]",
        V.FAILED, "ValidationError", "Something is odd.", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", VLLM)
def test_what_vllm_says(name: str) -> None:
    log, verdict, reason, line, hint = VLLM[name]
    found = diagnose(log, 1)
    assert (found.verdict, found.reason) == (verdict, reason)
    assert line in found.line
    assert hint in found.hint
    assert "{" not in found.hint


def test_fp8_without_fp8_units_is_no_failure() -> None:
    warning = (
        "WARNING 07-15 12:50:26 [marlin_utils_fp8.py:82] Your GPU does not have native support for FP8 computation but"
        " FP8 quantization is being used. Weight-only FP8 compression will be used leveraging the Marlin kernel."
    )
    assert find_cause(warning, None) is None


def test_exit_codes() -> None:
    """1: an error with its text; 2: the command line; 0: asked to stop, whatever the log says afterwards."""
    assert diagnose(LOADED + NO_KV, 1).reason == "KVCache"
    usage = "vllm serve: error: argument --kv-cache-dtype: invalid choice: 'fp7'"
    assert diagnose(usage, 2).reason == "InvalidFlagValue"
    stopped = (
        f"{SERVING}INFO 07-15 12:50:26 [launcher.py:1] [shutdown] API server: shutdown triggered\n"
        "ERROR 07-15 12:50:27 [async_llm.py:1] AsyncLLM output_handler failed.\n"
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.\n"
    )
    assert diagnose(stopped, 0).reason == "Stopped"


# --- Kubernetes' own reasons -------------------------------------------------------------------------------------

RUN = run(study(limits={"retries": 0}))
LIMITS = RUN.spec.limits
MINUTE = timedelta(minutes=1)


def unscheduled(message: str, reason: str = "Unschedulable") -> JsonObject:
    why = condition("PodScheduled", 1, "False", reason=reason, message=message)
    return pod(scheduled=None, changes={"status": {"conditions": [why]}})


BLOCKED = {
    "ErrImagePull, no such tag": (waiting("ErrImagePull", "failed to resolve reference: x:1: not found"), 6,
        "ImageUnavailable", "ErrImagePull", "no such image or tag"),
    "ErrImagePull, private": (waiting("ErrImagePull", "pull access denied, repository does not exist or may require"
        " authorization"), 6, "ImageUnavailable", "ErrImagePull", "imagePullSecrets"),
    "ErrImagePull, unauthorized": (waiting("ErrImagePull", "401 Unauthorized"), 6,
        "ImageUnavailable", "ErrImagePull", "imagePullSecrets"),
    "ErrImagePull, another architecture": (waiting("ErrImagePull", "no match for platform in manifest: not found"), 6,
        "ImageUnavailable", "ErrImagePull", "CPU architecture"),
    "ErrImagePull, registry away": (waiting("ErrImagePull", "dial tcp 192.0.2.1:443: i/o timeout"), 1210,
        "ImageUnavailable", "ErrImagePull", "reach the registry"),
    "ImagePullBackOff": (waiting("ImagePullBackOff", 'Back-off pulling image "x": manifest unknown'), 6,
        "ImageUnavailable", "ImagePullBackOff", "no such image or tag"),
    "ImagePullBackOff, rate limit": (waiting("ImagePullBackOff", "toomanyrequests: too many requests"), 1210,
        "ImageUnavailable", "ImagePullBackOff", "limits pulls"),
    "InvalidImageName": (waiting("InvalidImageName", 'couldn\'t parse image name "A b"'), 6,
        "ImageUnavailable", "InvalidImageName", "registry/name:tag"),
    "ErrImageNeverPull": (waiting("ErrImageNeverPull", "image is not present with pull policy of Never"), 6,
        "ImageUnavailable", "ErrImageNeverPull", "imagePullPolicy"),
    "CreateContainerConfigError, secret": (waiting("CreateContainerConfigError", 'secret "hub" not found'), 66,
        "Failed", "CreateContainerConfigError", "create secret hub"),
    "CreateContainerConfigError, config map": (waiting("CreateContainerConfigError", 'configmap "hub" not found'), 66,
        "Failed", "CreateContainerConfigError", "create configmap hub"),
    "CreateContainerConfigError, key": (waiting("CreateContainerConfigError", "couldn't find key token in Secret"
        " bench/hub"), 66, "Failed", "CreateContainerConfigError", "add key token to Secret bench/hub"),
    "CreateContainerError": (waiting("CreateContainerError", "context deadline exceeded"), 1210,
        "Failed", "CreateContainerError", "kubectl describe pod"),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKED)
def test_containers_that_never_run(name: str) -> None:
    state, now, verdict, reason, hint = BLOCKED[name]
    found = cannot_start(read_pod(pod(state=state)), later(now), MINUTE, LIMITS, at(5))
    assert found is not None
    assert (str(found.name), found.reason) == (verdict, reason)
    assert hint in (found.hint or "")
    assert Outcome.model_validate(found.to_json()) == found


SCHEDULER = {
    "GPUs taken": ("0/5 nodes are available: 2 Insufficient nvidia.com/gpu, 3 node(s) didn't match Pod's node"
        " affinity/selector. preemption: 0/5 nodes are available: 5 No preemption victims found.",
        ["too few free nvidia.com/gpu", "nodeSelector"]),
    "memory": ("0/1 nodes are available: 1 Insufficient memory.", ["lower memory in engine.podTemplate.resources"]),
    "taint": ("0/1 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: present}.",
        ["toleration of nvidia.com/gpu"]),
    "claim": ('0/1 nodes are available: persistentvolumeclaim "data" not found.', ["claims"]),
    "unbound claim": ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", ["claims"]),
    "volume elsewhere": ("0/2 nodes are available: 2 node(s) had volume node affinity conflict.", ["claims"]),
    "affinity": ("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.", ["affinity"]),
    "cordoned": ("0/2 nodes are available: 2 node(s) were unschedulable.", ["cordoned"]),
    "something new": ("0/2 nodes are available: 2 node(s) are too far away.", ["nodeSelector"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULER)
def test_unschedulable(name: str) -> None:
    message, hints = SCHEDULER[name]
    found = cannot_start(read_pod(unscheduled(message)), later(901), MINUTE, LIMITS)
    assert found is not None
    assert (found.name, found.reason) == (V.UNSCHEDULABLE, "NoNode")
    assert message[:200] in found.message
    for hint in hints:
        assert hint in (found.hint or "")


def test_a_control_planes_taint_is_no_advice() -> None:
    assert "a toleration of" not in unschedulable_hint(
        "1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }"
    )


def test_a_pod_that_a_queue_holds_back() -> None:
    gated = read_pod(unscheduled("Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated"))
    found = cannot_start(gated, later(901), MINUTE, LIMITS)
    assert found is not None
    assert "SchedulingGated" in found.message
    assert "queue" in (found.hint or "")


def lost(raw: JsonObject) -> Outcome:
    """The verdict over a server pod that is lost, where nothing is tried again."""
    decision = decide_run(RUN, Children(server=read_pod(raw)), Evidence(), RunnerImage("x"), later(100))
    assert decision.status is not None
    return Outcome.model_validate(decision.status["verdict"])


def failed_pod(reason: str, message: str = "") -> JsonObject:
    return pod(changes={"status": {"phase": "Failed", "reason": reason, "message": message}})


def disrupted(reason: str, message: str) -> JsonObject:
    why = condition("DisruptionTarget", 9, reason=reason, message=message)
    return deleted(pod(state=running(), changes={"status": {"conditions": [why]}}), 50)


LOST = {
    "Evicted for memory": (failed_pod("Evicted", "The node was low on resource: memory. Container vllm was using 60Gi"),
        "low on resource", "memory in engine.podTemplate.resources.requests"),
    "Evicted for disk": (failed_pod("Evicted", "Pod ephemeral local storage usage exceeds the total limit of"
        " containers 10Gi."), "ephemeral", "raise ephemeral-storage"),
    "Preempted": (disrupted("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority"
        " pod"), "PreemptionByScheduler", "priorityClassName"),
    "Preempted by the kubelet": (failed_pod("Preempting", "Preempted in order to admit critical pod"), "Preempting",
        "priorityClassName"),
    "drained": (disrupted("EvictionByEvictionAPI", "Eviction API: evicting"), "EvictionByEvictionAPI", "drains nodes"),
    "node lost": (disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
        "DeletionByTaintManager", "the node went away"),
    "node gone": (disrupted("DeletionByPodGC", "PodGC: node no longer exists"), "PodGC", "the node went away"),
    "NodeLost": (failed_pod("NodeLost", "Node n which was running pod p is unresponsive"), "NodeLost", "node went away"),
    "node shut down": (failed_pod("Terminated", "Pod was terminated in response to imminent node shutdown."),
        "node shutdown", "a node that stays"),
    "GPU taken by another pod": (failed_pod("OutOfnvidia.com/gpu", "Node didn't have enough resource: nvidia.com/gpu"),
        "OutOfnvidia.com/gpu", "took the node's nvidia.com/gpu first"),
    "device plugin away": (failed_pod("UnexpectedAdmissionError", "Allocate failed due to no healthy devices present"),
        "no healthy devices", "limits.retries"),
    "node rebooted": (pod(state=terminated(255, "Unknown")), "has lost the container: Unknown", "the node was restarted"),
    "container gone": (pod(state=terminated(137, "ContainerStatusUnknown", message="The container could not be located"
        " when the pod was terminated")), "could not be located", "the node was restarted"),
    "deleted by someone": (deleted(pod(state=running()), 50), "deleted by something else", "what deletes pods"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_pods_that_are_lost(name: str) -> None:
    raw, message, hint = LOST[name]
    found = lost(raw)
    assert (found.name, found.reason) == (V.EVICTED, "PodLost")
    assert message in found.message
    assert hint in (found.hint or "")


@pytest.mark.parametrize("name", LOST)
def test_a_lost_pod_is_tried_again_where_the_limits_allow(name: str) -> None:
    again = run(study(limits={"retries": 1}))
    decision = decide_run(again, Children(server=read_pod(LOST[name][0])), Evidence(), RunnerImage("x"), later(100))
    assert decision.status is not None
    assert decision.status["attempt"] == 2
    assert "verdict" not in decision.status


ENDED = {
    "OOMKilled": (pod(state=terminated(137, "OOMKilled")), "OutOfMemory", "ContainerMemory", "resources.limits.memory"),
    "DeadlineExceeded": (pod(state=terminated(137), changes={"status": {"reason": "DeadlineExceeded"}}), "TimedOut",
        "ServerDeadline", "limits.startTimeout"),
    "StartError, no command": (pod(state=terminated(128, "StartError", message="failed to create containerd task: exec:"
        ' "vllm": executable file not found in $PATH: unknown')), "Failed", "CommandNotFound", "no vllm"),
    "StartError, old driver": (pod(state=terminated(128, "StartError", message="nvidia-container-cli: requirement error:"
        " unsatisfied condition: cuda>=12.9, please update your driver")), "Failed", "DriverTooOld", "newer driver"),
    "StartError, broken driver": (pod(state=terminated(128, "StartError", message="nvidia-container-cli: initialization"
        " error: driver rpc error: timed out")), "Failed", "GPUUnavailable", "another node"),
    "ContainerCannotRun": (pod(state=terminated(127, "ContainerCannotRun", message="something odd")), "Failed",
        "ContainerCannotRun", "kubectl describe pod"),
    "not admitted": (failed_pod("TopologyAffinityError", "Resources cannot be allocated with Topology locality"),
        "Failed", "TopologyAffinityError", "kubectl describe pod"),
    "init container, memory": (pod(changes={"status": {"phase": "Failed", "initContainerStatuses": [
        {"state": terminated(137, "OOMKilled")}]}}), "OutOfMemory", "InitContainerMemory", "copies some files"),
    "init container": (pod(changes={"status": {"phase": "Failed", "initContainerStatuses": [
        {"state": terminated(3)}]}}), "Failed", "InitContainerFailed", "kubectl describe pod"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDED)
def test_servers_that_ended(name: str) -> None:
    raw, verdict, reason, hint = ENDED[name]
    found = server_ended(read_pod(raw), None, ready=False)
    assert found is not None
    assert (str(found.name), found.reason) == (verdict, reason)
    assert hint in (found.hint or "")


def test_a_container_that_could_not_be_started_needs_no_log() -> None:
    raw = pod(state=terminated(128, "StartError", until=60, message="exec: no such file"))
    assert server_ended(read_pod(raw), None, ready=False) is not None


def test_a_volume_that_is_never_mounted() -> None:
    found = start_timeout(read_pod(pod()), None, LIMITS)
    assert (found.name, found.reason) == (V.TIMED_OUT, "ContainerNotCreated")
    assert "volume" in (found.hint or "")


LONG = "x" * 5000


@pytest.mark.parametrize("text", [LONG, f"Insufficient {'a' * 300}.io/{'b' * 300}", "secret " * 1000, "taint {" * 1000])
def test_hints_are_bounded(text: str) -> None:
    for hint in (unschedulable_hint(text), image_hint("ErrImagePull", text), reference_hint(text), loss_hint(text)):
        assert 0 < len(hint) <= 512
