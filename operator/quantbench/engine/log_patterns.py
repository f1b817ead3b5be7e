"""What vLLM says about itself while it starts, by version: data only.

A pattern holds for ``since <= version < until``. Its named groups are what ``attestation`` collects; ``needle`` is a
substring of every line that it can match, so that few lines meet a regular expression. Texts were read in the source
of the releases named, or taken from real logs (``tests/data/engine/logs``).
"""

import re
from dataclasses import dataclass

from quantbench.engine.rows import Row
from quantbench.engine.version import EngineVersion


@dataclass(frozen=True)
class Pattern:
    """One line of a starting server."""

    fact: str
    """What it tells."""
    needle: str
    expression: str
    source: str
    since: str = "0.9.2"
    until: str = ""

    def holds(self, version: EngineVersion) -> bool:
        """Whether this version writes it."""
        return Row(self.since, self.until, self.source).holds(version)

    def compiled(self) -> re.Pattern[str]:
        """Its regular expression."""
        return re.compile(self.expression, re.ASCII)


_NAME = r"[A-Za-z_]\w{0,95}(?![\w-])"
_SECONDS = r"(?P<seconds>\d{1,9}(?:\.\d{1,9})?)"

VERSION_LINES = (
    Pattern("version", "LLM engine (v", r"Initializing a (?:V[01] )?LLM engine \(v(?P<version>[\w.+-]{1,64})\)",
            "0.9.2 v1/engine/core.py, engine/llm_engine.py; 0.24 and 0.32 logs"),
    Pattern("version", "API server version", r"vLLM API server version (?P<version>[\w.+-]{1,64})",
            "0.9.2 entrypoints/openai/api_server.py; part of the banner since 0.15"),
)  # fmt: skip
"""Which version wrote the log; the first match decides."""

PATTERNS = (
    Pattern("configuration", "LLM engine (v", r"with config: (?P<configuration>.+)",
            "0.9.2 config.py VllmConfig.__str__; 0.24 config/vllm.py"),
    Pattern("conversion", "is convertible to", r"The model is convertible to (?P<quantization>awq_marlin|gptq_marlin) ",
            "0.9.2 awq_marlin.py, gptq_marlin.py override_quantization_method", until="0.24"),
    Pattern("kernel", " for ", rf"\bUsing (?P<kernel>\w{{1,80}}Kernel) for (?P<layer>{_NAME})",
            "0.9.2 gptq_marlin.py, compressed_tensors_wNa16.py, …_w8a8_int8.py; 0.24 auto_awq.py"),
    Pattern("kernel", "for mixed-precision linear",
            r"\bUsing (?P<kernel>\w{1,80}Kernel) for (?P<layer>mixed-precision linear)",
            "0.31 kernels/linear/__init__.py", since="0.31"),
    Pattern("kernel", "Selected ", rf"\bSelected (?P<kernel>\w{{1,80}}Kernel) for (?P<layer>{_NAME})",
            "0.24 kernels/linear/__init__.py", since="0.10"),
    Pattern("kernel", " GEMM", r"\bUsing (?P<kernel>\w{1,80}) for (?P<layer>NVFP4|MXFP8|MXFP4) GEMM",
            "0.24 quantization/utils/nvfp4_utils.py; 0.32 kernels/linear/__init__.py", since="0.10"),
    Pattern("attention", " backend on V1 engine", r"\bUsing (?P<attention>\w[\w ]{0,60}?) backend on V1 engine",
            "0.9.2 platforms/cuda.py", until="0.24"),
    Pattern("attention", " attention backend", r"\bUsing (?P<attention>\w{1,63}) attention backend",
            "0.24 platforms/cuda.py", since="0.10"),
    Pattern("kv_data_type", "data type to store kv cache",
            r"\bUsing (?P<kv_data_type>\w{1,32}) data type to store kv cache", "0.9.2 config.py; 0.32 config/cache.py"),
    Pattern("kv_tokens", "KV cache size: ", r"\b(?:GPU|CPU) KV cache size: (?P<tokens>\d[\d,]{0,18}) tokens",
            "0.9.2 v1/core/kv_cache_utils.py; with CPU since 0.28"),
    Pattern("weight_only", "Weight-only FP", r"(?P<weight_only>does not have native support for FP[48] computation)",
            "0.9.2 marlin_utils_fp8.py, marlin_utils_fp4.py"),
    Pattern("weights_seconds", "Loading weights took", rf"Loading weights took {_SECONDS} seconds",
            "0.9.2 model_loader/default_loader.py"),
    Pattern("model", "Model loading took",
            rf"Model loading took (?P<gibibytes>\d{{1,9}}(?:\.\d{{1,9}})?) GiB(?: memory)? and {_SECONDS} seconds",
            "0.9.2 v1/worker/gpu_model_runner.py; 0.24 v1/worker/gpu/model_runner.py"),
    Pattern("compile_seconds", "torch.compile takes", rf"torch\.compile takes {_SECONDS} s in total",
            "0.9.2 compilation/monitor.py", until="0.24"),
    Pattern("compile_seconds", "torch.compile took", rf"torch\.compile took {_SECONDS} s in total",
            "0.24 compilation/monitor.py", since="0.10"),
    Pattern("cache_hit", "Directly load ", r"(?P<cache_hit>Directly load (?:the compiled graph|AOT compilation))",
            "0.9.2 compilation/backends.py; 0.24 compilation/decorators.py"),
    Pattern("graph_seconds", "Graph capturing finished", rf"Graph capturing finished in {_SECONDS} secs",
            "0.9.2 v1/worker/gpu_model_runner.py"),
    Pattern("engine_seconds", "init engine (",
            rf"init engine \(profile, create kv cache, warmup model\) took {_SECONDS} s", "0.9.2 v1/engine/core.py"),
    Pattern("structure", "vLLM model structure:", r"(?P<structure>vLLM model structure:)",
            "0.14 model_executor/model_loader/base_loader.py", since="0.14"),
)  # fmt: skip

CONFIGURATION = {
    "quantization": re.compile(r"(?:^|[ ,])quantization=([\w.-]{1,64})", re.ASCII),
    "dtype": re.compile(r"(?:^|[ ,])dtype=(?:torch\.)?(\w{1,32})", re.ASCII),
    "kv_cache_dtype": re.compile(r"(?:^|[ ,])kv_cache_dtype=(\w{1,32})", re.ASCII),
    "enforce_eager": re.compile(r"(?:^|[ ,])enforce_eager=(True|False)", re.ASCII),
    "enable_prefix_caching": re.compile(r"(?:^|[ ,])enable_prefix_caching=(True|False)", re.ASCII),
}
"""Fields of the engine's configuration line; 0.9.2 … 0.33 spell these alike."""

LAYER = re.compile(
    r"^(?P<indent> *)\([^()]{1,400}\): (?:(?P<count>\d{1,6}) x )?(?P<kind>\w{1,120})\((?P<info>.*)", re.ASCII
)
"""A module of the printed model. 0.14 model_inspection.py: equal layers are printed once, with their number; a layer
has ``quant=CLASS`` unless its method is an unquantized one."""
COUNTED_KINDS = re.compile(r"\w*Linear|\w*MoE\w*", re.ASCII)
"""Modules that quantization is about: linear layers and experts. Embeddings and the output layer are of other kinds."""
QUANTIZED_LAYER = re.compile(r"(?:Linear|MoE\w{0,120})\([^()]{0,400}\bquant=", re.ASCII)
"""One of them in a line that need not be whole."""


@dataclass(frozen=True)
class OnlyKernel:
    """A quantization that has one kernel in these versions and logs none: its name tells the kernel."""

    quantization: str
    kernel: str
    source: str
    since: str = "0.9.2"
    until: str = ""

    def holds(self, quantization: str, version: EngineVersion) -> bool:
        """Whether the name tells the kernel of this version."""
        return quantization == self.quantization and Row(self.since, self.until, self.source).holds(version)


ONLY_KERNELS = (
    OnlyKernel("awq", "awq_gemm", "0.9.2 awq.py: from 256 tokens a step on awq_dequantize and cuBLAS", until="0.24"),
    OnlyKernel("awq_marlin", "Marlin", "0.9.2 awq_marlin.py: no choice before 0.19", until="0.19"),
    OnlyKernel("gptq", "gptq_gemm", "0.9.2 gptq.py: ExLlamaV2", until="0.22"),
    OnlyKernel("bitsandbytes", "bitsandbytes", "0.9.2 bitsandbytes.py", until="0.28"),
    OnlyKernel("gguf", "GGUF", "0.9.2 gguf.py", until="0.24"),
)

ALIASES = {
    **dict.fromkeys(("auto_awq", "awq_marlin"), "awq"),
    **dict.fromkeys(("auto_gptq", "gptq_marlin"), "gptq"),
}
"""Names of one checkpoint format: with its kernel known, the name adds nothing."""
KV_CACHE_ALIASES = {"fp8": "fp8_e4m3"}
"""Names of one data type of the KV cache (0.9.2 config.py: ``fp8`` is e4m3)."""
