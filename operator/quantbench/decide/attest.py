"""What a server really runs against what its variant asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quantbench.api.names import Device, Granularity, Kernel, KVCacheDType, Method, Verdict
from quantbench.api.run import GPU, Attestation, ColdStart, Outcome, QuantBenchmarkRunSpec
from quantbench.engine.arguments import LINEAR_BACKEND, QUANTIZATION, argument_values
from quantbench.engine.attestation import UNQUANTIZED, fingerprint, in_words, parsed_version, read_log
from quantbench.engine.log_patterns import KV_CACHE_ALIASES
from quantbench.engine.methods import EngineRequest, EngineSettings, server_settings
from quantbench.engine.version import EngineVersion, is_newer_than_known
from quantbench.results import ServerFacts

NOT_EFFECTIVE = ("--served-model-name=", "--host=", "--port=")
"""Arguments that change nothing of what is measured."""
CHOOSES_KERNEL = frozenset({"VLLM_DISABLED_KERNELS", "VLLM_TEST_FORCE_FP8_MARLIN"})
"""Environment that asks for a kernel: what came of it is attested."""
_SIXTEEN_BIT = frozenset({"auto", "bfloat16", "float16", "half", "float32"})


@dataclass(frozen=True)
class Attested:
    """What is known about a server, with the lines that say so where its log was read just now."""

    attestation: Attestation
    cold_start: ColdStart | None = None
    lines: Mapping[str, str] = field(default_factory=dict)


def attest(
    spec: QuantBenchmarkRunSpec,
    stored: Attestation | None,
    cold_start: ColdStart | None,
    server_head: str | None,
    facts: ServerFacts | None,
    gpus: tuple[GPU, ...] = (),
) -> Attested | None:
    """What is attested so far: by the log once it was read, and by the metrics where the log is silent.

    Args:
        spec: the run.
        stored: what an earlier look has stored.
        cold_start: likewise.
        server_head: the beginning of the server's log; None: not read.
        facts: what the server said over HTTP; None: not asked yet.
        gpus: what the monitor beside it said; no part of the fingerprint: another GPU of its kind is the same.
    """
    if stored is not None:
        known = Attested(stored, cold_start)
    elif server_head is not None:
        reading = read_log(server_head, _version(spec))
        known = Attested(reading.attestation, reading.cold_start, reading.lines)
    else:
        return None
    merged = known.attestation if facts is None else _merged(known.attestation, facts)
    merged = merged.model_copy(update={"gpus": merged.gpus or gpus})
    mark = fingerprint(merged, spec.engine.model, _own_args(spec))
    return replace(known, attestation=merged.model_copy(update={"fingerprint": mark}))


def _merged(attested: Attestation, facts: ServerFacts) -> Attestation:
    dtype = attested.dtype if facts.kv_cache_dtype == "auto" else facts.kv_cache_dtype
    said = {
        "engine_version": facts.version,
        "kv_cache_dtype": dtype,
        "kv_cache_tokens": facts.kv_cache_tokens,
        "prefix_caching": facts.prefix_caching,
    }
    silent = {name: value for name, value in said.items() if value is not None and getattr(attested, name) is None}
    return attested.model_copy(update=silent)


def _version(spec: QuantBenchmarkRunSpec) -> EngineVersion:
    return EngineVersion.parse(spec.engine.version)


def expected_settings(spec: QuantBenchmarkRunSpec) -> EngineSettings | None:
    """What the method tables say about the run; None where they refuse it."""
    variant = spec.variant
    # A run does not hold the granularity of FP8Online; its arguments do.
    choices = tuple(Granularity) if variant.method is Method.FP8_ONLINE else (None,)
    for granularity in choices:
        request = EngineRequest(
            method=variant.method,
            kernel=variant.kernel,
            kv_cache_dtype=variant.kv_cache_dtype,
            granularity=granularity,
            device=Device.CUDA if spec.target.gpus else Device.CPU,
        )
        settings = server_settings(request, _version(spec))
        if isinstance(settings, EngineSettings) and set(settings.args) <= set(spec.engine.args):
            return settings
    return None


def _own_args(spec: QuantBenchmarkRunSpec) -> list[str]:
    """Arguments and environment without those that ask for a method, a kernel or a KV cache."""
    settings = expected_settings(spec)
    asked = set(settings.args) if settings else set()
    args = [arg for arg in spec.engine.args if arg not in asked and not arg.startswith(NOT_EFFECTIVE)]
    return args + [f"{each.name}={each.value}" for each in spec.engine.env if each.name not in CHOOSES_KERNEL]


def mismatch(spec: QuantBenchmarkRunSpec, attested: Attested, facts: ServerFacts | None) -> Outcome | None:
    """The verdict on a server that runs something else than what was asked for; None if there is no such evidence.

    Absent facts are no evidence. The order is that of what explains the rest.
    """
    settings = expected_settings(spec)
    found = _other_version(spec, attested)
    if found is None and settings is not None:
        found = _not_quantized(spec, attested) or _other_quantization(spec, settings, attested)
        found = found or _other_kernel(spec, settings, attested)
    return found or _other_kv_cache(spec, attested, facts) or _prefix_caching(attested, facts)


def _outcome(
    reason: str,
    requested: str,
    effective: str,
    line: str | None,
    hint: str,
    verdict: Verdict = Verdict.CONFIGURATION_MISMATCH,
) -> Outcome:
    message = f"requested {requested}, effective {effective}"
    return Outcome(name=verdict, reason=reason, message=message[:1024], log_line=line, hint=hint[:512])


def _other_version(spec: QuantBenchmarkRunSpec, attested: Attested) -> Outcome | None:
    said, effective = spec.engine.version, parsed_version(attested.attestation.engine_version)
    if effective is None:
        return None
    asked = EngineVersion.parse(said)
    parts = 2 if said.count(".") == 1 else 3
    if (effective.major, effective.minor, effective.patch)[:parts] == (asked.major, asked.minor, asked.patch)[:parts]:
        return None
    hint = f"set spec.engine.version to {effective}: flags and log patterns depend on it"
    return _outcome("EngineVersion", f"vLLM {said}", f"vLLM {effective}", attested.lines.get("version"), hint)


def _not_quantized(spec: QuantBenchmarkRunSpec, attested: Attested) -> Outcome | None:
    found, method = attested.attestation, spec.variant.method
    requested = f"method {method.value}"
    hint = f"check that {spec.engine.model} is a checkpoint for method {method.value}"
    if method is Method.CUSTOM:
        requested = f"{QUANTIZATION}={argument_values(spec.engine.args).get(QUANTIZATION, UNQUANTIZED)}"
        hint = "this quantization has no scheme for the linear layers of a dense model: use another one"
    if method is Method.BF16 or requested.endswith(f"={UNQUANTIZED}"):
        return None
    verdict = Verdict.NOT_QUANTIZED
    if found.quantization == UNQUANTIZED:
        line = attested.lines.get("quantization")
        return _outcome("NoQuantization", requested, "quantization=None", line, hint, verdict)
    if found.quantized_layers == 0 and found.unquantized_layers:
        line, effective = attested.lines.get("structure"), f"none of {found.unquantized_layers} linear layers quantized"
        return _outcome("NoQuantizedLayer", requested, effective, line, hint, verdict)
    return None


def _other_quantization(spec: QuantBenchmarkRunSpec, settings: EngineSettings, attested: Attested) -> Outcome | None:
    found, method = attested.attestation, spec.variant.method
    requested = f"method {method.value}"
    if method is Method.BF16 and found.quantized_layers:
        effective = f"{found.quantized_layers} quantized linear layers"
        hint = f"{spec.engine.model} is quantized: name the unquantized model, or the method of this one"
        return _outcome("QuantizedBaseline", requested, effective, attested.lines.get("quantized_layer"), hint)
    if found.quantization is None or not settings.quantization or found.quantization in settings.quantization:
        return None
    if is_newer_than_known(_version(spec)):
        return None  # A newer version may call it otherwise.
    names = " or ".join(settings.quantization)
    hint = f"check that {spec.engine.model} is a checkpoint for method {method.value}"
    line = attested.lines.get("conversion") or attested.lines.get("quantization")
    effective = f"quantization={found.quantization}"
    return _outcome("Quantization", f"{requested} (quantization={names})", effective, line, hint)


def _other_kernel(spec: QuantBenchmarkRunSpec, settings: EngineSettings, attested: Attested) -> Outcome | None:
    kernels = {name for layer in attested.attestation.linear_kernels for name in layer.kernel.split(", ")}
    if spec.variant.method is Method.CUSTOM:
        # From 0.28 on vLLM only warns where it has no such kernel. Kernel classes carry their backend in their name.
        backend = argument_values(spec.engine.args).get(LINEAR_BACKEND, "auto")
        word = "" if backend == "auto" else backend.partition("_")[0]
        others = sorted(name for name in kernels if word not in name.lower())
        requested = f"{LINEAR_BACKEND}={backend}"
    else:
        others = sorted(kernels - set(settings.kernels)) if settings.kernels else []
        requested = f"kernel {spec.variant.kernel.value} ({' or '.join(settings.kernels)})"
    if not others:
        return None
    hint = f"this kernel does not take every layer of {spec.engine.model} on this GPU: use kernel {Kernel.AUTO.value}"
    return _outcome("Kernel", requested, " and ".join(others), attested.lines.get(f"kernel {others[0]}"), hint)


def _same_dtype(one: str, other: str) -> bool:
    """Whether two names of a KV cache's data type mean the same."""
    names = {**KV_CACHE_ALIASES, **dict.fromkeys(_SIXTEEN_BIT, "auto")}
    return names.get(one, one) == names.get(other, other)


def _other_kv_cache(spec: QuantBenchmarkRunSpec, attested: Attested, facts: ServerFacts | None) -> Outcome | None:
    requested, effective = spec.variant.kv_cache_dtype, attested.attestation.kv_cache_dtype
    line = attested.lines.get("kv_data_type") or attested.lines.get("kv_cache_dtype")
    by_metrics = facts.kv_cache_dtype if facts else None
    if effective and by_metrics and not _same_dtype(effective, by_metrics):
        said = f"{effective} by the server's log, {by_metrics} by its metrics"
        return _outcome(
            "KVCacheDType", f"kvCacheDType {requested.value}", said, line, "report this: vLLM contradicts itself"
        )
    if effective is None or _same_dtype(requested.value, effective):
        return None
    if spec.variant.method is Method.CUSTOM and requested is KVCacheDType.AUTO:
        return None  # Its args may say so.
    hint = "the checkpoint brings it, or this GPU has no other: set kvCacheDType to what is effective"
    return _outcome("KVCacheDType", f"kvCacheDType {requested.value}", f"a KV cache of {effective}", line, hint)


def _prefix_caching(attested: Attested, facts: ServerFacts | None) -> Outcome | None:
    by_metrics = facts.prefix_caching if facts else None
    if not (attested.attestation.prefix_caching or by_metrics):
        return None
    where = "" if attested.attestation.prefix_caching else " by the server's metrics"
    hint = "remove what switches it on: a repeat of the same prompts would be answered from the cache"
    line = attested.lines.get("enable_prefix_caching") if not where else None
    return _outcome("PrefixCaching", "no prefix caching", f"prefix caching on{where}", line, hint)


def in_short(attested: Attestation | None) -> str | None:
    """What a server runs in a few words; None where its log could not be read or says nothing."""
    return in_words(attested) or None if attested and attested.engine_version else None
