"""The words of the field: metrics, quantization methods, kernels, and what an unquantized baseline is called."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """What a metric measures."""

    THROUGHPUT = "throughput"
    TTFT = "TTFT"
    TPOT = "TPOT"
    ITL = "ITL"
    LATENCY = "latency"

    @property
    def higher_is_better(self) -> bool:
        """True of throughput alone: all others are times."""
        return self is Family.THROUGHPUT


@dataclass(frozen=True)
class Metric:
    """What a column holds."""

    family: Family
    what: str = ""
    """``total``, ``output``, ``request`` for throughput; empty where the header does not say."""
    statistic: str = ""
    """``mean``, ``median``, ``p99`` …; empty where the header does not say."""


_TOKENS = r"tok(?:en)?s?\s?(?:/|per )\s?s(?:ec(?:ond)?)?\b|throughput|\btps\b"
_METRICS: tuple[tuple[re.Pattern[str], Family, str], ...] = tuple(
    (re.compile(pattern), family, what)
    for pattern, family, what in (
        (r"\bttft\b|time to first token|first[- ]token", Family.TTFT, ""),
        (r"\btpot\b|time per output token", Family.TPOT, ""),
        (r"\bitl\b|inter[- ]token", Family.ITL, ""),
        (r"\breq(?:uest)?s?\s?(?:/|per )\s?s|\bqps\b|\brps\b|request throughput", Family.THROUGHPUT, "request"),
        (rf"\btotal\b.*(?:{_TOKENS})", Family.THROUGHPUT, "total"),
        (rf"\b(?:output|generation|decode)\b.*(?:{_TOKENS})", Family.THROUGHPUT, "output"),
        (_TOKENS, Family.THROUGHPUT, ""),
        (r"\be2el?\b|end[- ]to[- ]end|\blatency\b", Family.LATENCY, ""),
    )
)
STATISTIC = re.compile(r"\b(?:mean|average|avg|median|min|max|p\d{2}(?:\.\d)?)\b")
SPREAD = re.compile(r"\b(?:std|stdev|stddev|sd|sem|ci|ci95|confidence|interval|variance|cv)\b|±|\+/-")
COUNT = re.compile(r"#?\s?(?:n|runs?|repeats?|repetitions|trials?|seeds?|starts?|num runs)")
CHANGE = re.compile(
    r"\b(?:change|diff(?:erence)?|delta|vs\.?|versus|improvement|gain|speed-?up|relative|ratio|reduction|saving)\b|δ|δ%"
)
IMPROVEMENT = re.compile(r"\b(?:improvement|gain|speed-?up|reduction|saving|faster)\b")


def header_text(text: str) -> str:
    """A header as it is searched: lower case, snake_case opened, its first 200 characters."""
    return " ".join(text[:200].lower().replace("_", " ").split())


def metric_of(text: str) -> Metric | None:
    """The metric that a header names, or None."""
    lowered = header_text(text)
    for pattern, family, what in _METRICS:
        if pattern.search(lowered):
            statistic = STATISTIC.search(lowered)
            return Metric(family, what, statistic[0] if statistic else "")
    return None


METRIC_WORD = re.compile(
    r"\b(?:(?P<TTFT>ttft|time[- ]to[- ]first[- ]token)|(?P<TPOT>tpot|time per output token)|(?P<ITL>itl|inter-token "
    r"latency)|(?P<throughput>throughput|tps|qps|rps|tok(?:en)?s?/s(?:ec)?|tokens per second)|"
    r"(?P<latency>latency|e2el?))\b",
    re.IGNORECASE,
)
"""A metric in prose; the name of the group that matched is the family's value."""

OTHER = re.compile(
    r"\b(?:quality|accuracy|perplexity|mmlu|gsm8k|memory|footprint|size|cost|utili[sz]ation|smaller|gi?b)\b",
    re.IGNORECASE,
)
"""What is measured beside speed."""

SYNONYMS: Mapping[str, str] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "bnb": "bitsandbytes",
    "exllamav2": "exllama",
    "8bit": "int8",
    "4bit": "int4",
}
KERNELS = frozenset({
    "marlin", "machete", "exllama", "cutlass", "triton", "conch", "allspark", "bitblas", "humming", "deepgemm",
    "flashinfer", "classic",
})  # fmt: skip
"""Words that name a linear kernel."""
WIDTHS = frozenset({"int4", "int8", "fp8", "w4a16", "w8a16"})
"""Words for the width of the weights, which a name may leave out."""
WEIGHT_ONLY = frozenset({
    "awq", "gptq", "w4a16", "w8a16", "int4", "bitsandbytes", "gguf", "nf4", "hqq", "aqlm", "autoround", "q4_k_m",
    "q5_k_m", "q8_0",
})  # fmt: skip
"""Words of methods that quantize the weights alone."""
WEIGHT_ACTIVATION = frozenset(["fp8", "w8a8", "nvfp4", "mxfp4", "mxfp8", "smoothquant"])
"""Words of methods that quantize weights and activations."""
UNQUANTIZED = frozenset(["bf16", "fp16", "fp32", "unquantized"])
_METHODS = KERNELS | WIDTHS | WEIGHT_ONLY | WEIGHT_ACTIVATION | UNQUANTIZED
VOCABULARY = _METHODS | frozenset(["static", "dynamic", "online", "kv", "e4m3", "e5m2", "torchao", "w4a8", "eetq"])
"""Words by which variants are told apart."""
BASELINE = re.compile(
    r"\bbaseline\b|\breference\b|\bunquantized\b|\bno quantization\b|^\s*none\s*$|\boriginal\b", re.IGNORECASE
)
_SMALL = frozenset({
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "it", "method", "model", "name", "of",
    "on", "or", "quantization", "quantized", "kernel", "kernels", "default", "baseline", "reference", "the", "to",
    "official", "cache", "dtype", "weights", "with", "without", "vllm", "none", "original", "engine", "our",
})  # fmt: skip
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*[A-Za-z0-9]|[A-Za-z0-9]")
GPU = re.compile(
    r"\b(?:[ABH][1234]00|GH200|GB[23]00|H20|L40S?|L4|A10G?|A30|A40|A[456]000|T4|V100|RTX|[34]090|5090|MI[23]\d\d[AX]?|"
    r"Gaudi|TPU|Xeon|EPYC|CPU)\b",
    re.IGNORECASE,
)


def word(token: str) -> str:
    """A token as it is compared: lower case, one name per thing."""
    lowered = token.lower()
    return SYNONYMS.get(lowered, lowered)


def words(text: str) -> frozenset[str]:
    """The words of a variant's name that tell it from others."""
    return frozenset(word(token) for token in WORD.findall(text.replace("-", " ")) if token.lower() not in _SMALL)
