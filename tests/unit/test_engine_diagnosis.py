"""Verdicts from real logs of failed servers, and from texts of vLLM's sources where no GPU was at hand."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.api.names import Verdict
from quantbench.engine.diagnosis import LONGEST_LINE, Diagnosis, diagnose, find_cause
from quantbench.engine.signatures import EXIT_CODES, SIGNATURES, WRAPPERS, Signature, Stage

LOGS = Path(__file__).parents[1] / "data/engine/logs"
V = Verdict

FAILED = [
    # log, exit status, verdict, reason, what the line holds, what the hint holds
    ("gptq-int8", 1, V.UNSUPPORTED, "KernelMissing", "Marlin does not support weight_bits = uint8b128", "kernel"),
    ("handled-error", 1, V.UNSUPPORTED, "KernelMissing", "Marlin does not support weight_bits = uint8b128", "kernel"),
    ("w8a16", 1, V.UNSUPPORTED, "KernelMissing", "CPUWNA16LinearKernel cannot implement due to", "kernel"),
    (
        "disabled-kernels",
        1,
        V.UNSUPPORTED,
        "KernelMissing",
        "CPUWNA16LinearKernel disabled by environment variable",
        "kernel",
    ),
    ("fp8-online-block", 1, V.UNSUPPORTED, "KernelMissing", "requires AMX", "device"),
    ("fp8-static", 1, V.KERNEL_BROKEN, "OperatorMissing", "_C::static_scaled_fp8_quant() expected at most", "build"),
    ("fp8-online-tensor", 1, V.KERNEL_BROKEN, "OperatorMissing", "_C::static_scaled_fp8_quant()", "build"),
    (
        "bitsandbytes",
        1,
        V.PLUGIN_MISSING,
        "PluginMissing",
        "Unknown quantization method: bitsandbytes",
        "vllm-bnb-plugin",
    ),
    ("gguf", 1, V.PLUGIN_MISSING, "PluginMissing", "Unknown quantization method: gguf", "vllm-gguf-plugin"),
    ("deprecated-method", 1, V.UNSUPPORTED, "DeprecatedMethod", "fbgemm_fp8", "--allow-deprecated-quantization"),
    ("gptq-desc-act", 1, V.UNSUPPORTED, "CheckpointUnsupported", "desc_act=True", "0.29"),
    (
        "quantization-mismatch",
        1,
        V.CONFIGURATION_MISMATCH,
        "CheckpointMismatch",
        "(awq)",
        "is awq, the method asked for gptq",
    ),
    ("quantization-without-config", 1, V.CONFIGURATION_MISMATCH, "CheckpointMismatch", "config file for awq", "awq"),
    ("unknown-architecture", 1, V.UNSUPPORTED, "ArchitectureUnsupported", "Qwen99ForCausalLM", "newer"),
    ("unknown-flag", 2, V.FAILED, "UnknownFlag", "unrecognized arguments: --no-such-flag=1", "know --no-such-flag:"),
    ("abbreviation", 2, V.FAILED, "UnknownFlag", "ambiguous option", "--quanti in full"),
    ("invalid-kv-dtype", 2, V.FAILED, "InvalidFlagValue", "invalid choice: 'fp7'", "--kv-cache-dtype"),
    ("invalid-value", 2, V.FAILED, "InvalidFlagValue", "invalid int value: 'many'", "--max-num-seqs"),
    ("bad-json", 1, V.FAILED, "ValidationError", "hf_overrides", ""),
    ("batched-tokens", 1, V.FAILED, "MaxNumBatchedTokens", "max_num_batched_tokens (16)", "engine.maxNumBatchedTokens"),
    ("max-model-len", 1, V.FAILED, "MaxModelLen", "max_model_len (999999)", "--max-model-len=4096"),
    ("kv-too-small", 1, V.OUT_OF_MEMORY, "KVCache", "max seq len (4096)", "--max-model-len=896"),
    (
        "cpu-memory-utilization",
        1,
        V.OUT_OF_MEMORY,
        "HostMemoryTaken",
        "Available memory on node 0",
        "--gpu-memory-utilization",
    ),
    ("model-path-missing", 1, V.MODEL_UNAVAILABLE, "PathMissing", "'/models/absent'", "podTemplate"),
    ("empty-dir", 1, V.MODEL_UNAVAILABLE, "ConfigMissing", "'/models/empty'", "podTemplate"),
    ("config-damaged", 1, V.MODEL_UNAVAILABLE, "ConfigDamaged", "is not a valid JSON file", "config.json"),
    (
        "no-weights",
        1,
        V.MODEL_UNAVAILABLE,
        "WeightsMissing",
        "Cannot find any model weights with `/models/bf16`",
        "weights",
    ),
    ("weights-truncated", 1, V.MODEL_UNAVAILABLE, "WeightsDamaged", "SafetensorError", "again"),
    ("weights-lfs-pointer", 1, V.MODEL_UNAVAILABLE, "WeightsDamaged", "MemoryError", "Git LFS"),
    ("hub-offline", 1, V.MODEL_UNAVAILABLE, "NotCached", "LocalEntryNotFoundError: Cannot find", "HF_HUB_OFFLINE"),
    ("hub-online", 1, V.MODEL_UNAVAILABLE, "HubUnreachable", "LocalEntryNotFoundError: An error happened", "network"),
    ("remote-code", 1, V.FAILED, "RemoteCode", "The repository /models/remote-code", "--trust-remote-code"),
    ("vllm-port-uri", 1, V.FAILED, "ServiceLinks", "appears to be a URI", "enableServiceLinks"),
    ("port-in-use", 1, V.FAILED, "PortInUse", "Address already in use", "port"),
    ("engine-killed-starting", 1, V.FAILED, "EngineDied", "Engine core initialization failed", "memory limit"),
    ("engine-killed-serving", 0, V.FAILED, "EngineDied", "engine core exited unexpectedly", "memory limit"),
    (
        "h100-0.24-pod-bitsandbytes",
        1,
        V.PLUGIN_MISSING,
        "PluginMissing",
        "ImportError: Please install bitsandbytes>=0.48.1",
        "an image that holds bitsandbytes",
    ),
]
HEALTHY = sorted(
    path.name
    for path in LOGS.glob("*.log")
    if path.name.removeprefix("cpu-0.32-").removesuffix(".log") not in {name for name, *_ in FAILED}
)


def read(name: str) -> str:
    return (LOGS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "status", "verdict", "reason", "line", "hint"), FAILED)
def test_real_failures(name: str, status: int, verdict: Verdict, reason: str, line: str, hint: str) -> None:
    where = "" if name.startswith("h100-") else "cpu-0.32-"
    found = diagnose(read(f"{where}{name}.log"), status)
    assert (found.verdict, found.reason) == (verdict, reason)
    assert line in found.line
    assert hint in found.hint
    assert not found.line.startswith(("(", "ERROR", " ", "Value error"))
    assert "[type=" not in found.line
    assert len(found.line) <= LONGEST_LINE


def test_there_are_healthy_logs_of_both_devices() -> None:
    assert sum(name.startswith("cpu") for name in HEALTHY) >= 8
    assert sum(name.startswith("h100") for name in HEALTHY) == 10


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("status", [None, 0, 1, 137, 143])
def test_healthy_logs_show_no_cause(name: str, status: int | None) -> None:
    assert find_cause(read(name), status) is None


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_server_that_was_stopped_has_stopped(name: str) -> None:
    assert diagnose(read(name), 0).reason == "Stopped"


ENGINE = "(EngineCore_DP0 pid=42) ERROR 07-15 12:50:26 [core.py:586] "
DYNAMO = (
    "INFO 07-15 12:49:50 [gptq_marlin.py:266] Using MacheteLinearKernel for GPTQMarlinLinearMethod\n"
    'ERROR 07-15 12:50:26 [core.py:586]   File "/usr/vllm/quantization/kernels/mixed_precision/machete.py", line 122\n'
    "ERROR 07-15 12:50:26 [core.py:586]     output = ops.machete_mm(a=x_2d,\n"
    "ERROR 07-15 12:50:26 [core.py:586] torch._dynamo.exc.Unsupported: Attempted to call function marked as skipped\n"
)
KV_092 = (
    "ValueError: To serve at least one request with the models's max seq len (40960), (5.62 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (2.11 GiB). Based on the available memory, the estimated "
    "maximum model length is 15360. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when "
    "initializing the engine."
)
OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of 23.64 GiB"
)


@pytest.mark.parametrize(
    ("text", "verdict", "reason", "hint"),
    [
        # vllm#20986 on 0.9.2, and the same exception where Machete has no part in it
        (DYNAMO, V.KERNEL_BROKEN, "CompilationFailed", "Marlin"),
        (DYNAMO.splitlines()[3], V.FAILED, "CompilationFailed", "--enforce-eager"),
        # v1/core/kv_cache_utils.py 0.9.2, worker/worker.py 0.9.2, kv_cache_planning.py 0.33
        (ENGINE + KV_092, V.OUT_OF_MEMORY, "KVCache", "15360"),
        (ENGINE + KV_092.replace("estimated", "guessed"), V.OUT_OF_MEMORY, "KVCache", "lower --max-model-len"),
        (ENGINE + "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
         V.OUT_OF_MEMORY, "KVCache", "fewer bits"),
        (ENGINE + "ValueError: The model's max seq len (40960) is larger than the maximum number of tokens that can be "
         "stored in KV cache (12288).", V.OUT_OF_MEMORY, "KVCache", "12288"),
        # v1/worker/gpu_model_runner.py 0.24, 0.9.2; v1/worker/utils.py
        (ENGINE + "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization",
         V.OUT_OF_MEMORY, "AtLoad", "weights"),
        (ENGINE + "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests.",
         V.OUT_OF_MEMORY, "WarmUp", "engine.maxNumSeqs"),
        (ENGINE + "ValueError: Free memory on device (59.32/79.15 GiB) on startup is less than desired GPU memory",
         V.OUT_OF_MEMORY, "GPUMemoryTaken", "something else"),
        # config/vllm.py; compressed_tensors.py until 0.24 raises a tuple
        ("  Value error, The quantization method awq_marlin is not supported for the current GPU. Minimum "
         "capability: 80. Current capability: 75. [type=value_error, input_value=1]", V.UNSUPPORTED, "GPUTooOld",
         "capability 80, the GPU has 75"),
        (ENGINE + "RuntimeError: ('Quantization scheme is not supported for ', 'the current GPU. Min capability: 89. "
         "Current capability: 80.')", V.UNSUPPORTED, "GPUTooOld", "newer GPU"),
        ("ValueError: torch.bfloat16 is not supported for quantization method gptq. Supported dtypes: [torch.float16]",
         V.UNSUPPORTED, "DTypeUnsupported", "--dtype=float16"),
        ("ValueError: fp8_e5m2 kv-cache is not supported with fp8 checkpoints.", V.UNSUPPORTED,
            "KVCacheDTypeUnsupported", "e4m3"),
        ("ValueError: --linear-backend=machete was requested but no 'machete' kernel exists for this layer type.",
         V.UNSUPPORTED, "KernelMissing", "Auto"),
        ("ValueError: Unknown quantization method: qqq. Must be one of ['awq']", V.UNSUPPORTED, "UnknownMethod", "qqq"),
        ("ValueError: GGUF model with architecture qwen3 is not supported yet.", V.UNSUPPORTED,
            "ArchitectureUnsupported", ""),
        # huggingface_hub
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: 1)", V.MODEL_UNAVAILABLE, "Gated",
            "HF_TOKEN"),
        ("huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: 1)", V.MODEL_UNAVAILABLE,
            "NotFound", "model"),
        # CUDA and its driver
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device", V.UNSUPPORTED,
            "GPUUnsupported", "GPU"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", V.KERNEL_BROKEN, "IllegalMemoryAccess",
            "kernel"),
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 12020).", V.FAILED, "DriverTooOld",
            "driver"),
        ("RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted on "
         "non supported HW", V.FAILED, "DriverTooOld", "driver"),
        ("RuntimeError: No CUDA GPUs are available", V.FAILED, "NoGPU", "gpuResourceName"),
        ("AttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_memory_env'", V.FAILED,
            "ImageIncomplete", "libnuma1"),
        ("AttributeError: '_OpNamespace' '_C' object has no attribute 'awq_gemm'", V.KERNEL_BROKEN, "OperatorMissing",
            "image"),
        # v1/executor/multiproc_executor.py 0.33, v1/engine/utils.py
        ("RuntimeError: Engine core initialization failed. See root cause. Failed core proc(s): {'EngineCore': -9}",
         V.OUT_OF_MEMORY, "HostMemory", "memory limit"),
        (ENGINE + "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.",
         V.OUT_OF_MEMORY, "HostMemory", "memory limit"),
    ],
)  # fmt: skip
def test_texts_of_sources(text: str, verdict: Verdict, reason: str, hint: str) -> None:
    found = diagnose(text, 1)
    assert (found.verdict, found.reason) == (verdict, reason)
    assert hint in found.hint


@pytest.mark.parametrize(
    ("before", "stage"),
    [
        ("", Stage.LOAD),
        (
            "INFO 11-23 20:45:29 [model_runner.py:302] Model loading took 15.27 GiB and 1.774998 seconds\n",
            Stage.WARM_UP,
        ),
        ("(APIServer pid=1) INFO:     Application startup complete.\n", Stage.SERVING),
    ],
)
def test_out_of_memory_tells_the_stages_apart(before: str, stage: Stage) -> None:
    found = diagnose(f"{before}(EngineCore pid=9) ERROR 11-23 20:45:28 [core.py:1] {OOM}\n", 1)
    assert (found.verdict, found.reason) == (Verdict.OUT_OF_MEMORY, stage.value)
    assert found.line == OOM


def test_first_cause_wins_over_later_ones() -> None:
    log = f"{ENGINE}{OOM}\n{ENGINE}ValueError: No available memory for the cache blocks.\nRuntimeError: late\n"
    assert diagnose(log, 1).reason == "AtLoad"


def test_unknown_exceptions_give_their_name_and_wrappers_do_not_hide_them() -> None:
    log = (
        "Traceback (most recent call last):\n"
        '  File "/usr/x.py", line 1, in f\n'
        "    raise ValueError(message)\n"
        "package.module.PeculiarError: the actual reason\n"
        "\nThe above exception was the direct cause of the following exception:\n\n"
        f"{ENGINE}EngineCore failed to start.\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )
    assert diagnose(log, 1) == Diagnosis(
        Verdict.FAILED, "PeculiarError", "package.module.PeculiarError: the actual reason", ""
    )


def test_a_known_cause_wins_over_an_earlier_unknown_exception() -> None:
    assert diagnose(f"KeyError: 'x'\n\nDuring handling another occurred:\n{OOM}\n", 1).reason == "AtLoad"


def test_warnings_are_no_causes() -> None:
    log = (
        "WARNING 11-24 07:13:04 [x.py:1] This can cause errors like `OSError: [Errno 24] Too many open files`\n"
        "WARNING 11-24 07:13:04 [x.py:2] CUDA out of memory, trying less\n"
        f"INFO 11-24 07:13:04 [x.py:3] non-default args: {OOM}\n"
        "/usr/lib/python3.12/x.py:254: UserWarning: CUDA-like\n"
    )
    assert find_cause(log, 1) is None


def test_an_attempt_that_is_repeated_is_no_cause() -> None:
    # transformers_utils/config.py 0.9.2 … 0.14 with every local checkpoint
    log = (
        "ERROR 07-15 12:49:50 [config.py:130] Error retrieving safetensors: Repo id must be in the form 'repo_name' or "
        "'namespace/repo_name': '/models/x'. Use `repo_type` argument if needed., retrying 1 of 2\n"
        "ERROR 07-15 12:49:52 [config.py:128] Error retrieving safetensors: Repo id must be in the form 'repo_name' or "
        "'namespace/repo_name': '/models/x'. Use `repo_type` argument if needed.\n"
    )
    assert find_cause(log, 1) is None
    assert diagnose(log + OOM, 1).reason == "AtLoad"


SHUTDOWN = "(APIServer pid=1) INFO 11-24 07:12:57 [launcher.py:254] [shutdown] API server: shutdown triggered\n"


@pytest.mark.parametrize(("status", "found"), [(0, False), (143, False), (None, False), (1, True)])
def test_after_the_shutdown_only_a_start_that_failed_by_itself_can_tell(status: int | None, found: bool) -> None:
    late = f"{SHUTDOWN}{ENGINE}ValueError: No available memory for the cache blocks.\n"
    assert (find_cause(late, status) is not None) is found
    served = "(APIServer pid=1) INFO:     Application startup complete.\n"
    assert find_cause(served + late, status) is None


def test_the_cause_before_the_shutdown_wins() -> None:
    log = f"package.OddError: first\n{SHUTDOWN}{ENGINE}ValueError: No available memory for the cache blocks.\n"
    assert diagnose(log, 1).reason == "OddError"


def test_source_lines_of_a_traceback_are_no_causes() -> None:
    log = f'{ENGINE}  File "/x.py", line 1, in f\n{ENGINE}    raise GatedRepoError(message) from error\n{ENGINE}{OOM}\n'
    assert diagnose(log, 1).reason == "AtLoad"


def test_engine_dead_error_of_a_clean_shutdown_is_not_a_dead_engine() -> None:
    log = (
        f"INFO:     Application startup complete.\n{SHUTDOWN}{ENGINE}vllm.v1.engine.exceptions.EngineDeadError: gone\n"
    )
    assert diagnose(log, 0).reason == "Stopped"


@pytest.mark.parametrize(
    ("status", "verdict", "reason"),
    [
        (0, Verdict.FAILED, "Stopped"),
        (None, Verdict.FAILED, "Unknown"),
        (1, Verdict.FAILED, "Unknown"),
        (2, Verdict.FAILED, "UsageError"),
        (127, Verdict.FAILED, "CommandNotFound"),
        (132, Verdict.UNSUPPORTED, "IllegalInstruction"),
        (135, Verdict.FAILED, "SharedMemory"),
        (137, Verdict.FAILED, "Killed"),
        (139, Verdict.FAILED, "SegmentationFault"),
        (143, Verdict.FAILED, "Terminated"),
    ],
)
@pytest.mark.parametrize("log", ["", "\n\n  \n", "INFO 11-24 07:12:57 [x.py:1] loading\n"])
def test_without_a_telling_line_the_exit_status_speaks(
    log: str, status: int | None, verdict: Verdict, reason: str
) -> None:
    found = diagnose(log, status)
    assert (found.verdict, found.reason) == (verdict, reason)
    assert found.line == ("loading" if "loading" in log else "")


@pytest.mark.parametrize(
    "prefix",
    [
        "(EngineCore pid=123) ERROR 11-24 07:00:00 [core.py:1] ",
        "(APIServer pid=1) (VllmWorker rank=0 pid=123) ERROR 11-24 07:00:00 [core.py:1] ",
        "ERROR 07-15 12:50:26 [core.py:586] ",
        "(EngineCore_DP0 pid=6804) ",
        "2026-11-24T07:00:00.123456789Z (EngineCore pid=123) ERROR 11-24 07:00:00 [core.py:1] ",
        "\x1b[1;36m(EngineCore pid=123)\x1b[0;0m \x1b[31mERROR\x1b[0m 11-24 07:00:00 [core.py:1] ",
        "ERROR:    ",
        "",
    ],
)
def test_log_prefixes_are_taken_off(prefix: str) -> None:
    assert diagnose(f"{prefix}{OOM}\n", 1).line == OOM


def test_long_lines_are_cut() -> None:
    found = diagnose("ValueError: " + "x" * 2_000_000, 1)
    assert len(found.line) == LONGEST_LINE
    assert found.line.endswith("…")


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.needle[:48])
def test_no_signature_is_hidden_by_one_before_it(signature: Signature) -> None:
    text = f"{signature.seen} RuntimeError: {signature.needle} ."
    found = find_cause(text, 1)
    assert found is not None
    assert found.verdict is signature.verdict
    assert found.reason == (signature.reason or Stage.LOAD.value)
    assert found.hint
    assert "{" not in found.hint


def test_signatures_are_well_formed() -> None:
    for signature in [*SIGNATURES, *EXIT_CODES.values()]:
        assert re.fullmatch(r"([A-Z][A-Za-z]*)?", signature.reason), signature
        assert signature.hint or not signature.reason, signature
        assert len(signature.needle) >= 8 or signature in EXIT_CODES.values(), signature
        groups = set(re.findall(r"\{(\w+)\}", signature.hint))
        assert groups == (set(signature.pattern.groupindex) & groups if signature.pattern else set()), signature


@pytest.mark.parametrize(
    "log",
    [
        "\n" * (1 << 18),
        " \n" * (1 << 17),
        "x\n" * (1 << 17),
        "(" * (1 << 18),
        "(a) " * (1 << 16),
        "ERROR 11-24 07:00:00 [" * (1 << 13),
        "\x1b[0;" * (1 << 16),
        "A." * (1 << 17),
        "AError" * (1 << 15),
        "{Failed core proc(s): {" * (1 << 13),
        "argument --" * (1 << 14),
        ("model config (" + "a" * 64) * (1 << 11),
        "torch._dynamo\n" * (1 << 14),
        "(EngineCore pid=1) ERROR 11-24 07:00:00 [core.py:1]     frame of a traceback\n" * (1 << 11),
        "ValueError\n" * 3 + "Value error, \n" * (1 << 14),
    ],
    ids=range(15),
)
def test_time_is_linear_whatever_the_log(log: str) -> None:
    begin = time.process_time()
    diagnose(log, 1)
    assert (
        time.process_time() - begin < 5
    )  # of 256 KiB: at most 0.5 s on a slow machine; a quadratic step takes minutes


def test_a_mebibyte_takes_about_a_second() -> None:
    serving = read("h100-0.24-bf16-s2.log").partition("(EngineCore pid=937) INFO 11-23 20:48:58")[0]
    log = serving * ((1 << 20) // len(serving) + 1) + OOM
    begin = time.process_time()
    assert diagnose(log, 1).reason == "UnderLoad"
    assert time.process_time() - begin < 5


PIECES = st.sampled_from(
    [*(signature.needle for signature in SIGNATURES), *WRAPPERS, "[shutdown] x", "Reasons:", "validation error"]
)


@given(st.lists(st.one_of(st.text(max_size=60), PIECES), max_size=12), st.one_of(st.none(), st.integers(-1, 300)))
def test_any_log_gets_a_diagnosis(parts: list[str], status: int | None) -> None:
    for glue in ("\n", " ", "\r", ""):
        found = diagnose(glue.join(parts), status)
        assert found.reason
        assert len(found.line) <= LONGEST_LINE
        assert "\n" not in found.line
        assert diagnose(glue.join(parts), status) == found


def test_the_same_exception_in_a_record_of_its_own_is_a_cause() -> None:
    log = read("cpu-0.32-handled-error.log").replace("Error saving model info cache.", "Error at the start.")
    assert diagnose(log, 1).reason == "ReadOnlyFileSystem"
