"""What logs attest: real ones, lines of other versions as their sources have them, and garbage."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_support.logs import SERVER_LOGS, server_log
from quantbench.api.base import JsonObject
from quantbench.engine.attestation import fingerprint, in_words, read_log
from quantbench.engine.diagnosis import find_cause
from quantbench.engine.log_patterns import CONFIGURATION, PATTERNS, VERSION_LINES
from quantbench.engine.version import EngineVersion

CPU: JsonObject = {
    "engineVersion": "0.32.0",
    "dtype": "bfloat16",
    "kvCacheDType": "bfloat16",
    "kvCacheTokens": 524288,
    "eager": True,
    "prefixCaching": True,
}
H100: JsonObject = {
    "engineVersion": "0.24.0",
    "dtype": "bfloat16",
    "kvCacheDType": "bfloat16",
    "attentionBackend": "FLASH_ATTN",
    "eager": False,
    "prefixCaching": False,
}
WNA16 = "CPUWNA16LinearKernel"
REAL: dict[str, tuple[JsonObject, str, dict[str, str]]] = {
    "cpu-0.32-bf16": ({**CPU, "prefixCaching": False}, "None", {}),
    "cpu-0.32-int8": (CPU, "compressed-tensors", {"CompressedTensorsW8A8Int8": "CPUInt8ScaledMMLinearKernel"}),
    "cpu-0.32-w4a16": (
        CPU,
        "compressed-tensors",
        {"CompressedTensorsWNA16": WNA16, "mixed-precision linear": WNA16},
    ),
    "cpu-0.32-awq": (CPU, "awq", {"AutoAWQMarlinLinearMethod": WNA16, "mixed-precision linear": WNA16}),
    "cpu-0.32-linear-backend-machete": (
        CPU,
        "awq",
        {"AutoAWQMarlinLinearMethod": WNA16, "mixed-precision linear": WNA16},
    ),
    "cpu-0.32-gptq-int4": (CPU, "auto_gptq", {"AutoGPTQLinearMethod": WNA16, "mixed-precision linear": WNA16}),
    "cpu-0.32-fp8-dynamic": (
        CPU,
        "compressed-tensors",
        {"CompressedTensorsW8A8Fp8": "ChannelWiseTorchFP8ScaledMMLinearKernel"},
    ),
    "cpu-0.32-fp8-online-channel": (
        # The log's lines are cut before the field.
        {**CPU, "prefixCaching": None},
        "fp8_per_channel",
        {"Fp8PtpcOnlineLinearMethod": "ChannelWiseTorchFP8ScaledMMLinearKernel"},
    ),
    "cpu-0.32-kv-fp8": ({**CPU, "kvCacheDType": "fp8_e5m2", "kvCacheTokens": 1048576}, "None", {}),
    "h100-0.24-bf16-s2": ({**H100, "kvCacheTokens": 408256, "weightsGibibytes": 15.27}, "None", {}),
    "h100-0.24-bf16-s3": ({**H100, "kvCacheTokens": 410528, "weightsGibibytes": 15.27}, "None", {}),
    "h100-0.24-fp8-static-s1": (
        {**H100, "kvCacheTokens": 454896, "weightsGibibytes": 8.83},
        "compressed-tensors",
        {"CompressedTensorsW8A8Fp8": "CutlassFP8ScaledMMLinearKernel"},
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_logs(name: str) -> None:
    common, quantization, kernels = REAL[name]
    found = read_log(server_log(f"{name}.log")).attestation
    said = found.to_json()
    assert {key: said.get(key) for key in common} == common
    assert found.quantization == quantization
    assert {kernel.layer: kernel.kernel for kernel in found.linear_kernels} == kernels
    assert (found.quantized_layers, found.weight_only_fallback) == (None, None), "these logs were trimmed of both"


def test_every_healthy_log_is_told_above() -> None:
    healthy = {path.stem for path in SERVER_LOGS.glob("*.log") if "startup complete" in path.read_text()}
    told_below = {
        "cpu-0.32-engine-killed-serving",
        "cpu-0.32-layers-w4a16",
        "h100-0.24-pod-bf16-s1",
        "h100-0.24-pod-kv-fp8",
        *H100_PODS,
    }
    assert healthy - told_below == set(REAL)


H100_PODS = {
    "h100-0.24-pod-awq": ("auto_awq", "float16", 465_488, {"AutoAWQMarlinLinearMethod": "MacheteLinearKernel"}),
    "h100-0.24-pod-fp8-static": (
        "compressed-tensors",
        "bfloat16",
        443_600,
        {"CompressedTensorsW8A8Fp8": "CutlassFP8ScaledMMLinearKernel"},
    ),
    "h100-0.24-pod-fp8-dynamic-s2": (
        "compressed-tensors",
        "bfloat16",
        446_064,
        {"CompressedTensorsW8A8Fp8": "CutlassFP8ScaledMMLinearKernel"},
    ),
    "h100-0.24-pod-int8-w8a8": (
        "compressed-tensors",
        "bfloat16",
        443_792,
        {"CompressedTensorsW8A8Int8": "CutlassInt8ScaledMMLinearKernel"},
    ),
    "h100-0.24-pod-gptq-int4-exllama": (
        "auto_gptq",
        "float16",
        466_352,
        {"AutoGPTQLinearMethod": "ExllamaLinearKernel"},
    ),
}


@pytest.mark.parametrize("name", H100_PODS)
def test_logs_of_pods_on_an_h100(name: str) -> None:
    """With the model's structure: every linear layer of the 36 was quantized. A module that vLLM tried to import and did
    without has left a traceback, which is no cause of anything."""
    quantization, dtype, tokens, kernels = H100_PODS[name]
    found = read_log(server_log(f"{name}.log")).attestation
    assert (found.quantization, found.dtype, found.kv_cache_tokens) == (quantization, dtype, tokens)
    assert {kernel.layer: kernel.kernel for kernel in found.linear_kernels} == kernels
    assert (found.quantized_layers, found.unquantized_layers, found.eager) == (4 * 36, 0, False)
    assert "AssertionError" in server_log(f"{name}.log")
    assert find_cause(server_log(f"{name}.log")) is None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("h100-0.24-bf16-s2", (None, 1.775, 31.53, 5.0, 56.65, False)),
        ("h100-0.24-bf16-s3", (None, 1.34938, 4.69, 6.0, 28.03, True)),
        ("h100-0.24-pod-bf16-s1", (4.89, 7.03434, 48.66, 9.0, 85.32, False)),
        ("h100-0.24-pod-fp8-dynamic-s2", (2.44, 6.06112, 14.27, 7.0, 23.66, True)),
        ("cpu-0.32-bf16", (None, None, None, None, 0.4, None)),
    ],
)
def test_cold_starts(name: str, parts: tuple[Any, ...]) -> None:
    cold = read_log(server_log(f"{name}.log")).cold_start
    assert (
        cold.weights_seconds,
        cold.model_seconds,
        cold.compile_seconds,
        cold.graph_capture_seconds,
        cold.engine_seconds,
        cold.compile_cache_hit,
    ) == parts


def test_a_server_that_lost_the_race_for_the_compile_cache_is_healthy() -> None:
    """Two servers of one configuration that start at once compile the same code; the later one cannot store it."""
    log = server_log("h100-0.24-pod-bf16-s1.log")
    assert "unable to save AOT compiled function" in log
    assert find_cause(log) is None
    found = read_log(log).attestation
    assert (found.quantized_layers, found.unquantized_layers, found.linear_kernels) == (0, 4 * 36, ())


def test_an_fp8_kv_cache_on_an_h100() -> None:
    """It holds twice as many tokens, on the attention backend of the baseline."""
    halves, whole = (read_log(server_log(f"h100-0.24-pod-{name}.log")).attestation for name in ("kv-fp8", "bf16-s1"))
    assert (halves.kv_cache_dtype, whole.kv_cache_dtype) == ("fp8_e4m3", "bfloat16")
    assert halves.attention_backend == whole.attention_backend == "FLASH_ATTN"
    assert (halves.quantized_layers, halves.unquantized_layers) == (0, 4 * 36)
    assert halves.kv_cache_tokens == 793_456
    assert whole.kv_cache_tokens == pytest.approx(793_456 / 2, rel=0.001)
    assert find_cause(server_log("h100-0.24-pod-kv-fp8.log")) is None


def old(quantization: str, *lines: str, version: str = "0.9.2", kv: str = "auto") -> str:
    """A log of an old version: its engine line as VllmConfig prints it there, and further lines."""
    config = (
        f"model='/m', speculative_config=None, tokenizer='/m', dtype=torch.float16, max_seq_len=4096, "
        f"tensor_parallel_size=1, quantization={quantization}, enforce_eager=False, kv_cache_dtype={kv},  "
        f"device_config=cuda, enable_prefix_caching=False, chunked_prefill_enabled=True"
    )
    engine = f"INFO 07-20 10:00:00 [core.py:69] Initializing a V1 LLM engine (v{version}) with config: {config}"
    return "\n".join([engine, *(f"INFO 07-20 10:00:01 [x.py:1] {line}" for line in lines)])


OLD_KERNELS = {
    "machete for gptq": (
        old("gptq_marlin", "Using MacheteLinearKernel for GPTQMarlinLinearMethod"),
        "gptq_marlin",
        {"GPTQMarlinLinearMethod": "MacheteLinearKernel"},
    ),
    "awq is its own kernel": (old("awq"), "awq", {"awq": "awq_gemm"}),
    "awq_marlin is one kernel": (
        old("awq_marlin", "The model is convertible to awq_marlin during runtime. Using awq_marlin kernel."),
        "awq_marlin",
        {"awq_marlin": "Marlin"},
    ),
    "awq_marlin chooses since 0.19": (old("awq_marlin", version="0.19.0"), "awq_marlin", {}),
    "gptq is ExLlamaV2": (old("gptq", version="0.21.0"), "gptq", {"gptq": "gptq_gemm"}),
    "gptq is any kernel since 0.22": (old("gptq", version="0.22.0"), "gptq", {}),
    "fp8 tells nothing": (old("fp8"), "fp8", {}),
    "nvfp4": (
        old("modelopt_fp4", "Using marlin for NVFP4 GEMM", version="0.24.0"),
        "modelopt_fp4",
        {"NVFP4": "marlin"},
    ),
    "forced awq": (
        old("awq", "Detected that the model can run with awq_marlin, however you specified quantization=awq"),
        "awq",
        {"awq": "awq_gemm"},
    ),
}


@pytest.mark.parametrize("name", OLD_KERNELS)
def test_kernels_of_other_versions(name: str) -> None:
    log, quantization, kernels = OLD_KERNELS[name]
    found = read_log(log).attestation
    assert found.quantization == quantization
    assert {kernel.layer: kernel.kernel for kernel in found.linear_kernels} == kernels
    assert (found.dtype, found.kv_cache_dtype, found.eager, found.prefix_caching) == (
        "float16",
        "float16",
        False,
        False,
    )


def test_lines_of_0_9_2() -> None:
    fallback = (
        "Your GPU does not have native support for FP8 computation but FP8 quantization is being used. Weight-only FP8 "
        "compression will be used leveraging the Marlin kernel. This may degrade performance for compute-heavy workloads."
    )
    log = old(
        "fp8",
        "Using Flash Attention backend on V1 engine.",
        fallback,
        "Loading weights took 3.50 seconds",
        "Model loading took 8.8316 GiB and 5.123456 seconds",
        "Using cache directory: /root/.cache/vllm/torch_compile_cache/0/rank_0_0 for vLLM's torch.compile",
        "Directly load the compiled graph(s) for shape None from the cache, took 5.1 s",
        "torch.compile takes 7.25 s in total",
        "GPU KV cache size: 1,234,560 tokens",
        "Graph capturing finished in 21 secs, took 0.60 GiB",
        "init engine (profile, create kv cache, warmup model) took 40.10 seconds",
    )
    reading = read_log(log)
    found, cold = reading.attestation, reading.cold_start
    assert (found.attention_backend, found.weight_only_fallback) == ("Flash Attention", True)
    assert (found.kv_cache_tokens, found.weights_gibibytes) == (1234560, 8.8316)
    assert (cold.weights_seconds, cold.model_seconds, cold.compile_seconds) == (3.5, 5.12346, 7.25)
    assert (cold.graph_capture_seconds, cold.engine_seconds, cold.compile_cache_hit) == (21.0, 40.1, True)


def test_the_banner_and_the_expected_version() -> None:
    banner = "INFO 07-20 10:00:00 [api_server.py:1395] vLLM API server version 0.9.2\n"
    takes = "INFO 07-20 10:00:00 [m.py:34] torch.compile takes 7.25 s in total\n"
    assert read_log(banner + takes).attestation.engine_version == "0.9.2"
    assert read_log(banner + takes).cold_start.compile_seconds == 7.25
    assert read_log(takes, EngineVersion(0, 9, 2)).cold_start.compile_seconds == 7.25
    assert read_log(takes, EngineVersion(0, 32)).cold_start.compile_seconds is None, "no such line in this version"


STRUCTURE = """vLLM model structure:
Qwen3ForCausalLM()(
  (model): Qwen3Model()(
    (embed_tokens): VocabParallelEmbedding(num_embeddings=151936, embedding_dim=4096)
    (layers): ModuleList()(
      (0-1, 3-35): 35 x Qwen3DecoderLayer()(
        (self_attn): Qwen3Attention()(
          (qkv_proj): QKVParallelLinear(quant=AutoAWQMarlinLinearMethod, in_features=4096, output_features=6144)
          (o_proj): RowParallelLinear(quant=AutoAWQMarlinLinearMethod, in_features=4096, output_features=4096)
          (attn): Attention(quant=CompressedTensorsKVCacheMethod, head_size=128)
        )
        (mlp): Qwen3MLP()(
          (gate_up_proj): MergedColumnParallelLinear(quant=AutoAWQMarlinLinearMethod, in_features=4096)
          (down_proj): RowParallelLinear(quant=AutoAWQMarlinLinearMethod, in_features=12288)
          (act_fn): SiluAndMul()
        )
      )
      (2): Qwen3DecoderLayer()(
        (self_attn): Qwen3Attention()(
          (qkv_proj): QKVParallelLinear(in_features=4096, output_features=6144, bias=False, tp_size=1)
          (o_proj): RowParallelLinear(quant=AutoAWQMarlinLinearMethod, in_features=4096, output_features=4096)
        )
        (mlp): Qwen3MoE()(
          (gate): ReplicatedLinear(in_features=4096, output_features=8)
          (experts): FusedMoE(quant=AWQMoEMethod, global_num_experts=8)
        )
      )
    )
    (norm): RMSNorm(hidden_size=4096, eps=1e-06)
  )
  (lm_head): ParallelLMHead(num_embeddings=151936, embedding_dim=4096, tp_size=1)
  (logits_processor): LogitsProcessor(vocab_size=151936)
)"""
"""As 0.14's model_inspection.py prints a model; vLLM's formatter puts the prefix before each line."""


def printed(process: str, *, unquantized: bool = False) -> list[str]:
    text = STRUCTURE
    for name in ("AutoAWQMarlinLinearMethod", "AWQMoEMethod"):
        text = text.replace(f"quant={name}, ", "") if unquantized else text
    return [f"({process}) INFO 11-24 07:12:54 [base_loader.py:92] {line}" for line in text.splitlines()]


QUANTIZED, UNQUANTIZED = 35 * 4 + 2, 2
"""Of layer 2 neither the gate nor qkv_proj is quantized; ``Qwen3MoE`` only holds others."""


def test_layers_are_counted() -> None:
    after = "(Worker pid=1) INFO 11-24 07:12:54 [x.py:1] (a): RowParallelLinear(quant=B)"
    found = read_log("\n".join([*printed("Worker pid=1"), "(Worker pid=1) INFO 11-24 07:12:54 [x.py:1] done", after]))
    assert (found.attestation.quantized_layers, found.attestation.unquantized_layers) == (QUANTIZED, UNQUANTIZED)
    assert "QKVParallelLinear(quant=AutoAWQ" in found.lines["quantized_layer"]
    none = read_log("\n".join(printed("Worker pid=1", unquantized=True))).attestation
    assert (none.quantized_layers, none.unquantized_layers) == (0, QUANTIZED + UNQUANTIZED)


def test_workers_of_one_server_are_one() -> None:
    """Tensor parallelism: two processes print everything, and their lines mix."""
    pairs = zip(printed("Worker_TP0 pid=1"), printed("Worker_TP1 pid=2"), strict=True)
    lines = [line for pair in pairs for line in pair]
    for process, seconds in (("Worker_TP0 pid=1", "3.5"), ("Worker_TP1 pid=2", "4.5")):
        prefix = f"({process}) INFO 11-24 07:12:54 [x.py:1] "
        lines += [
            f"{prefix}Using MarlinLinearKernel for AutoAWQMarlinLinearMethod",
            f"{prefix}Loading weights took {seconds} seconds",
        ]
    lines.append(
        "(Worker_TP1 pid=2) INFO 11-24 07:12:54 [x.py:1] Using MacheteLinearKernel for AutoAWQMarlinLinearMethod"
    )
    reading = read_log("\n".join(lines))
    found = reading.attestation
    assert (found.quantized_layers, found.unquantized_layers) == (QUANTIZED, UNQUANTIZED)
    (kernel,) = found.linear_kernels
    assert kernel.kernel == "MacheteLinearKernel, MarlinLinearKernel"
    assert reading.cold_start.weights_seconds == 4.5


VISION_FIRST = """vLLM model structure:
Qwen2_5_VLForConditionalGeneration(
  (visual): Qwen2_5_VisionTransformer(
    (0-31): 32 x QKVParallelLinear(in=1280, out=1920)
  )
  (language_model): Qwen2ForCausalLM(
    (0-27): 28 x QKVParallelLinear(quant=AWQMarlinLinearMethod, in=3584, out=2304)
  )
)""".splitlines()


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_workers_that_write_into_each_others_lines_never_make_layers_unquantized(workers: int) -> None:
    """VLLM writes the process and the line in two calls, so that those of several processes come in any order."""
    for seed in range(100):
        draw, log = random.Random(seed), ""
        writes = [
            [
                part
                for line in VISION_FIRST
                for part in (f"(Worker_TP{rank} pid={rank}) ", f"INFO 11-28 10:00:00 [base_loader.py:80] {line}\n")
            ]
            for rank in range(workers)
        ]
        while any(writes):
            log += draw.choice([each for each in writes if each]).pop(0)
        assert read_log(log).attestation.quantized_layers != 0, log


def test_layers_of_a_model_that_was_not_printed_to_its_end_are_not_known() -> None:
    prefix = "(Worker pid=1) INFO 11-28 10:00:00 [base_loader.py:80] "
    for end in ([], ["something else"], ["something else", ")"]):
        found = read_log("\n".join(prefix + line for line in [*VISION_FIRST[:5], *end])).attestation
        assert (found.quantized_layers, found.unquantized_layers) == (None, None), end


# --- fingerprints ----------------------------------------------------------------------------------------------


def mark(log: str, checkpoint: str = "/m", args: tuple[str, ...] = ()) -> str | None:
    return fingerprint(read_log(log).attestation, checkpoint, args)


def test_what_ran_alike_has_one_fingerprint() -> None:
    awq = mark(server_log("cpu-0.32-awq.log"))
    assert awq is not None
    assert len(awq) == 16
    assert mark(server_log("cpu-0.32-linear-backend-machete.log")) == awq, "another request, the same kernel"
    assert mark(server_log("h100-0.24-bf16-s2.log")) == mark(server_log("h100-0.24-bf16-s3.log"))
    bf16 = server_log("h100-0.24-bf16-s2.log")
    fp8, e4m3, e5m2 = (
        mark(bf16.replace("kv_cache_dtype=auto", f"kv_cache_dtype={name}")) for name in ("fp8", "fp8_e4m3", "fp8_e5m2")
    )
    assert fp8 == e4m3 != e5m2
    kernel = "Using MarlinLinearKernel for AWQMarlinLinearMethod"
    assert mark(old("awq_marlin", kernel, version="0.23.0")) == mark(old("awq", kernel, version="0.23.0"))


def test_what_differs_has_another_fingerprint() -> None:
    logs = [
        server_log(f"{name}.log")
        for name in REAL
        if name not in ("cpu-0.32-linear-backend-machete", "h100-0.24-bf16-s3")
    ]
    assert len({mark(log) for log in logs} - {None}) == len(logs)
    bf16 = server_log("h100-0.24-bf16-s2.log")
    changed = {
        mark(bf16),
        mark(bf16, "/other"),
        mark(bf16, args=("--max-model-len=1",)),
        mark(bf16.replace("FLASH_ATTN attention", "FLASHINFER attention")),
        mark(bf16.replace("enforce_eager=False", "enforce_eager=True")),
        mark(bf16.replace("dtype=torch.bfloat16", "dtype=torch.float16")),
        mark(bf16.replace("kv_cache_dtype=auto", "kv_cache_dtype=fp8_e4m3")),
        mark(bf16.replace("(v0.24.0)", "(v0.24.1)")),
    }
    assert None not in changed
    assert len(changed) == 8


@pytest.mark.parametrize(
    "log",
    [
        "",
        old("fp8"),  # 0.9.2 logs no kernel for it
        old("gptq_marlin"),
        server_log("cpu-0.32-int8.log").replace("Selected CPUInt8", "Selected"),
        server_log("cpu-0.32-bf16.log").replace("enforce_eager", "x"),
        server_log("cpu-0.32-bf16.log").replace("kv_cache_dtype=auto", ""),
        server_log("cpu-0.32-bf16.log").replace("LLM engine", "engine"),
    ],
)
def test_missing_facts_make_nothing_equal(log: str) -> None:
    if "Selected " in log:
        log = log.replace("Selected", "")
    assert mark(log) is None


def test_words() -> None:
    words = {name: in_words(read_log(server_log(f"{name}.log")).attestation) for name in REAL}
    assert words["h100-0.24-bf16-s2"] == "not quantized, bfloat16, FLASH_ATTN, KV bfloat16"
    assert words["cpu-0.32-awq"] == "awq, CPUWNA16LinearKernel, KV bfloat16, eager"
    assert words["cpu-0.32-kv-fp8"] == "not quantized, bfloat16, KV fp8_e5m2, eager"
    assert in_words(read_log("").attestation) == ""


# --- any text --------------------------------------------------------------------------------------------------

PIECES = [
    *(pattern.needle for pattern in (*PATTERNS, *VERSION_LINES)),
    *(f"{name}=" for name in CONFIGURATION),
    *("Using ", "XKernel", "Selected ", " for ", "True", "auto", "1.2.3.4", "9" * 400, "GiB and", "seconds", "secs"),
    *("(model): 3 x ALinear(quant=B)", "(0-99999): 999999 x A(", "  ", ")", "\n", "\r\n", "\x1b[1m", "(Worker pid=1) "),
    *("INFO 11-24 07:12:54 [x.py:1] ", "Initializing a V1 LLM engine (v0.24.0) with config: ", "\u2028", "\x00", "é"),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=20), max_size=60).map("".join))
def test_garbage_never_raises(log: str) -> None:
    reading = read_log(log)
    assert type(reading.attestation).model_validate(reading.attestation.to_json()) == reading.attestation
    assert all(len(line) <= 600 for line in reading.lines.values())
    fingerprint(reading.attestation, "/m", ())
    in_words(reading.attestation)


@pytest.mark.parametrize(
    "line",
    [
        "Using " * 200,
        "(a): " * 300,
        "vLLM model structure:",
        "with config: LLM engine (v" * 50,
        "x" * 4000,
        "1," * 900,
        "(0-9): 999999 x A(",
        "Using AKernel for B",
        "Selected " + "A" * 900,
    ],
)
def test_a_mebibyte_takes_no_time(line: str) -> None:
    log = (f"(W pid=1) INFO 11-24 07:12:54 [x.py:1] {line}\n" * (2**20 // len(line)))[: 2**20]
    started = time.process_time()
    read_log(log)
    assert time.process_time() - started < 3.0


def test_the_printed_layers_of_a_real_server() -> None:
    """Six decoder layers of four linear layers each; attention is not one, though it names a quantization, too."""
    found = read_log(server_log("cpu-0.32-layers-w4a16.log"), EngineVersion.parse("0.32.0")).attestation
    assert (found.quantized_layers, found.unquantized_layers) == (24, 0)
    assert {each.kernel for each in found.linear_kernels} == {"CPUWNA16LinearKernel"}
