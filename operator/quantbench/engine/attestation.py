"""What a vLLM server really runs, from the beginning of its log. Total: whatever the text, it never raises.

One pass over the lines finds the version, a second one what that version says (``log_patterns``). Work is linear in
the length of the log. Processes of one server (tensor parallelism) repeat each other's lines: kernels are united, of
durations and memory the largest counts, of everything else the first.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from quantbench.api.run import Attestation, ColdStart, LayerKernel
from quantbench.engine.lines import LOOKED_AT, Line, strip
from quantbench.engine.log_patterns import (
    ALIASES,
    CONFIGURATION,
    COUNTED_KINDS,
    KV_CACHE_ALIASES,
    LAYER,
    ONLY_KERNELS,
    PATTERNS,
    QUANTIZED_LAYER,
    VERSION_LINES,
    Pattern,
)
from quantbench.engine.version import NEWEST, EngineVersion

LONGEST_EVIDENCE = 512
"""Characters of one line of ``Reading.lines``."""
UNQUANTIZED = "None"
"""What vLLM prints as the quantization of a model that has none."""
_MOST_LAYERS = 16
_MOST_STRUCTURE = 20_000
"""Lines of one printed model."""


@dataclass(frozen=True)
class Reading:
    """What a log says."""

    attestation: Attestation
    cold_start: ColdStart
    lines: Mapping[str, str] = field(default_factory=dict)
    """The telling line per fact of ``log_patterns``, per kernel (``kernel NAME``), and of a ``quantized_layer``."""


class _Structure:
    """Counts the layers of one printed model, by the lines of one process.

    Workers write into each other's lines: what does not nest is not one model's print, and never becomes ``whole``.
    """

    def __init__(self) -> None:
        self.quantized = self.unquantized = self.seen = 0
        self.over = self.whole = False
        self.example = ""
        self._groups: list[tuple[int, int]] = []
        """Indentation and multiplicity of the modules around the current line."""

    def add(self, text: str) -> None:
        self.seen += 1
        content = text.lstrip()
        indent, match = len(text) - len(content), LAYER.match(text)
        outer, times = self._groups[-1] if self._groups else (-1, 1)
        if content == ")" and indent == outer:
            self._groups.pop()
            self.over = self.whole = not self._groups
            return
        # The model's own line comes first, and is no layer of anything.
        if indent <= outer or (match is None) == bool(self._groups) or self.seen > _MOST_STRUCTURE:
            self.over = True
            return
        times = min(times * int(match["count"] or 1) if match else 1, 10**9)
        if content.endswith("("):
            self._groups.append((indent, times))
        if match is None or not COUNTED_KINDS.fullmatch(match["kind"]):
            return
        if "quant=" in match["info"]:
            self.quantized += times
            self.example = self.example or content
        elif not content.endswith("("):  # Else it holds other modules, which are counted.
            self.unquantized += times


@dataclass
class _Facts:
    first: dict[str, str] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    kernels: dict[str, set[str]] = field(default_factory=dict)
    attention: set[str] = field(default_factory=set)
    structures: dict[str, _Structure] = field(default_factory=dict)
    quantized: bool = False
    """Some line of the log, whoever seems to have written it, is one of a quantized layer."""
    lines: dict[str, str] = field(default_factory=dict)

    def take(self, pattern: Pattern, match: re.Match[str], line: Line) -> None:
        """Keep what one match tells."""
        found = match.groupdict()
        self.lines.setdefault(pattern.fact, line.text[:LONGEST_EVIDENCE])
        match pattern.fact:
            case "kernel":
                self.lines.setdefault(f"kernel {found['kernel']}", line.text[:LONGEST_EVIDENCE])
                self.kernels.setdefault(found["layer"], set()).add(found["kernel"])
            case "attention":
                self.attention.add(found["attention"])
            case "structure":
                self.structures.setdefault(line.process, _Structure())
            case "model":
                self.grow("gibibytes", found["gibibytes"])
                self.grow("model_seconds", found["seconds"])
            case "kv_tokens":
                self.first.setdefault("kv_tokens", found["tokens"].replace(",", ""))
            case "configuration":
                for name, expression in CONFIGURATION.items():
                    if value := expression.search(found["configuration"]):
                        self.first.setdefault(name, value[1])
                        self.lines.setdefault(name, _excerpt(line.text, value[0].strip(" ,")))
            case name if "seconds" in found:
                self.grow(name, found["seconds"])
            case name:
                self.first.setdefault(name, next(iter(found.values())))

    def grow(self, name: str, number: str) -> None:
        """Keep the larger one."""
        self.largest[name] = max(float(number), self.largest.get(name, 0.0))


def _excerpt(text: str, around: str) -> str:
    """A line, or of a long one its beginning and the words that matter."""
    place = text.find(around)
    return text if len(text) <= LONGEST_EVIDENCE else f"{text[:60]}… {text[place : place + len(around)]} …"


def read_log(log: str, expected: EngineVersion = NEWEST) -> Reading:
    """What the beginning of a server's log attests.

    Args:
        log: at most some MiB; lines may be cut or missing.
        expected: the version whose patterns are used if the log does not say which one wrote it.
    """
    lines = [line for raw in log.splitlines() if (line := strip(raw[:LOOKED_AT])).text]
    facts = _Facts()
    version = _version(lines, facts)
    patterns = _patterns(version or expected)
    for line in lines:
        structure = facts.structures.get(line.process)
        if structure is not None and not structure.over:
            structure.add(line.text)
        facts.quantized = facts.quantized or ("quant=" in line.text and bool(QUANTIZED_LAYER.search(line.text)))
        for pattern, expression in patterns:
            if pattern.needle in line.text and (match := expression.search(line.text)):
                facts.take(pattern, match, line)
    return Reading(_attestation(facts, version), _cold_start(facts), facts.lines)


def _version(lines: Iterable[Line], facts: _Facts) -> EngineVersion | None:
    patterns = [(pattern, pattern.compiled()) for pattern in VERSION_LINES]
    for line in lines:
        for pattern, expression in patterns:
            if pattern.needle in line.text and (match := expression.search(line.text)):
                facts.first["version"] = match["version"]
                facts.lines["version"] = line.text[:LONGEST_EVIDENCE]
                return parsed_version(match["version"])
    return None


def parsed_version(text: str | None) -> EngineVersion | None:
    """A version as vLLM prints it; None for what is none, such as ``dev``."""
    try:
        return EngineVersion.parse(text or "")
    except ValueError:
        return None


@cache
def _patterns(version: EngineVersion) -> tuple[tuple[Pattern, re.Pattern[str]], ...]:
    return tuple((pattern, pattern.compiled()) for pattern in PATTERNS if pattern.holds(version))


def _attestation(facts: _Facts, version: EngineVersion | None) -> Attestation:
    first = facts.first
    quantization = first.get("quantization")
    if quantization in (None, UNQUANTIZED):
        quantization = first.get("conversion", quantization)
    kernels = {layer: ", ".join(sorted(names)) for layer, names in facts.kernels.items()}
    if not kernels and quantization and version:
        kernels = {row.quantization: row.kernel for row in ONLY_KERNELS if row.holds(quantization, version)}
    whole = (structure for structure in facts.structures.values() if structure.whole)
    structure = max(whole, key=lambda s: s.quantized + s.unquantized, default=_Structure())
    # Workers write into each other's lines: what one seems not to have printed, another one may have.
    counted = structure.quantized > 0 or (structure.unquantized > 0 and not facts.quantized)
    if structure.example:
        facts.lines["quantized_layer"] = structure.example[:LONGEST_EVIDENCE]
    return Attestation(
        engine_version=first.get("version"),
        quantization=quantization,
        dtype=first.get("dtype"),
        linear_kernels=tuple(
            LayerKernel(layer=layer, kernel=kernel[:96]) for layer, kernel in sorted(kernels.items())[:_MOST_LAYERS]
        ),
        quantized_layers=structure.quantized if counted else None,
        unquantized_layers=structure.unquantized if counted else None,
        attention_backend=", ".join(sorted(facts.attention))[:64] or None,
        kv_cache_dtype=_kv_cache_dtype(first),
        kv_cache_tokens=int(first["kv_tokens"]) if len(first.get("kv_tokens", "")) in range(1, 16) else None,
        weights_gibibytes=facts.largest.get("gibibytes"),
        eager=_boolean(first.get("enforce_eager")),
        prefix_caching=_boolean(first.get("enable_prefix_caching")),
        # A warning only: a server that does not warn says nothing.
        weight_only_fallback=True if "weight_only" in first else None,
    )


def _kv_cache_dtype(first: Mapping[str, str]) -> str | None:
    said = first.get("kv_data_type") or first.get("kv_cache_dtype")
    return first.get("dtype", said) if said == "auto" else said


def _boolean(text: str | None) -> bool | None:
    return None if text is None else text == "True"


def _cold_start(facts: _Facts) -> ColdStart:
    largest = facts.largest
    hit = "cache_hit" in facts.first
    return ColdStart(
        weights_seconds=largest.get("weights_seconds"),
        model_seconds=largest.get("model_seconds"),
        compile_seconds=largest.get("compile_seconds"),
        graph_capture_seconds=largest.get("graph_seconds"),
        engine_seconds=largest.get("engine_seconds"),
        compile_cache_hit=hit if hit or "compile_seconds" in largest else None,
    )


def fingerprint(attested: Attestation, checkpoint: str, args: Sequence[str]) -> str | None:
    """Digest (16 hex digits) of the effective configuration; None where a fact that it needs was not attested.

    Args:
        attested: what the server really runs.
        checkpoint: what it serves.
        args: its arguments without those that ask for a method or a kernel: what came of them is attested.
    """
    needed = (attested.engine_version, attested.quantization, attested.dtype, attested.kv_cache_dtype, attested.eager)
    quantized = attested.quantization != UNQUANTIZED
    if None in needed or (quantized and not attested.linear_kernels):
        return None
    quantization, cache = str(attested.quantization), str(attested.kv_cache_dtype)
    content = [
        attested.dtype,
        KV_CACHE_ALIASES.get(cache, cache),
        attested.eager,
        str(parsed_version(attested.engine_version) or attested.engine_version),
        ALIASES.get(quantization, quantization),
        [[kernel.layer, kernel.kernel] for kernel in attested.linear_kernels],
        attested.attention_backend,
        bool(attested.weight_only_fallback),
        checkpoint,
        list(args),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def in_words(attested: Attestation) -> str:
    """What the server runs, in short, e.g. ``awq, MarlinLinearKernel, FLASH_ATTN, KV bfloat16``."""
    kernels = dict.fromkeys(name for kernel in attested.linear_kernels for name in kernel.kernel.split(", "))
    quantization = "not quantized" if attested.quantization == UNQUANTIZED else attested.quantization
    dtype = attested.dtype if attested.quantization == UNQUANTIZED else None
    parts = [quantization, dtype, *kernels, attested.attention_backend]
    parts += [f"KV {attested.kv_cache_dtype}" if attested.kv_cache_dtype else None, "eager" if attested.eager else None]
    return ", ".join(part for part in parts if part)
