"""A study's cells before any GPU is taken: what becomes of each variant on each target."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quantbench.api.benchmark import CONTROL, QuantBenchmarkSpec, Target, Variant
from quantbench.api.names import Device, KVCacheDType, Method
from quantbench.engine.capability import Capability, capability
from quantbench.engine.gpus import target_capability
from quantbench.engine.methods import EngineRequest, EngineSettings, server_settings
from quantbench.engine.rows import Fate, Refusal
from quantbench.engine.version import EngineVersion

MAX_NOTES = 8
LONGEST_NOTE = 300
_OVERTAKEN = (Fate.SUPPORTED, Fate.NOT_CHECKED, Fate.MERGED)
"""Fates that running the same as another variant weighs more than."""


@dataclass(frozen=True)
class CellFate:
    """What becomes of one variant on one target."""

    variant: str
    target: str
    fate: Fate
    message: str
    """Why, one sentence."""
    hint: str
    """What to do; empty where nothing needs to be done."""
    kernels: tuple[str, ...]
    """The linear kernel that is expected, or several where the checkpoint decides; empty: not known."""
    sources: tuple[str, ...]
    """Where that was read: vLLM version and file, or the record of a run."""
    notes: tuple[str, ...]
    """All that is known, at most ``MAX_NOTES`` of at most ``LONGEST_NOTE`` characters."""
    refusal: Refusal | None
    """Present when no GPU is taken."""


def engine_request(variant: Variant, target: Target) -> EngineRequest:
    """What vLLM's flags for a variant depend on.

    Raises:
        quantbench.engine.gpus.Contradiction: the target does not say one compute capability.
    """
    device = Device.CUDA if target.gpus else Device.CPU
    return EngineRequest(
        method=variant.method,
        kernel=variant.kernel,
        kv_cache_dtype=variant.kv_cache_dtype,
        granularity=variant.granularity,
        device=device,
        compute_capability=target_capability(target.compute_capability, target.node_selector) if target.gpus else None,
    )


def cell_fates(
    variants: Sequence[Variant], spec: QuantBenchmarkSpec, version: EngineVersion
) -> dict[tuple[str, str], CellFate]:
    """The fate of every cell (variant, target), variants in the study's order within each target.

    Raises:
        quantbench.engine.gpus.Contradiction: a target does not say one compute capability.
    """
    fates: dict[tuple[str, str], CellFate] = {}
    for target in spec.targets:
        first: dict[object, str] = {}
        for variant in variants:
            request = engine_request(variant, target)
            known = capability(
                request, version, (*spec.engine.args, *variant.args), f"{spec.model} {variant.model or ''}"
            )
            server = _expected_server(variant, request, version, known)
            other = first.setdefault(server, variant.name) if server and variant.name != CONTROL else variant.name
            if other != variant.name:
                known = _same_as(other, known)
            fates[variant.name, target.name] = _cell(variant.name, target.name, known)
    return fates


def _expected_server(
    variant: Variant, request: EngineRequest, version: EngineVersion, known: Capability
) -> tuple[object, ...] | None:
    """What a server of this variant is expected to run; equal ones are expected to be one configuration.

    None where the kernel is not known for certain: then nothing can be said. ``fp8`` is vLLM's short name of
    ``fp8_e4m3`` (0.9.2 config.py).
    """
    settings = server_settings(request, version)
    certain = len(known.kernels) == 1 or variant.method is Method.BF16
    if not isinstance(settings, EngineSettings) or not certain:
        return None
    dtype = next((arg for arg in settings.args if arg.startswith("--dtype")), "")
    kv_cache = KVCacheDType.FP8_E4M3 if request.kv_cache_dtype is KVCacheDType.FP8 else request.kv_cache_dtype
    checkpoint = (variant.method, request.granularity, variant.model, variant.tokenizer)
    return (*checkpoint, kv_cache, variant.args, dtype, known.kernels)


def _same_as(other: str, known: Capability) -> Capability:
    """The same with a word about the variant that is expected to run alike."""
    message = f"it is expected to run as variant {other} does"
    if known.kernels:
        message += f": the same checkpoint on {known.kernels[0]}"
    hint = f"keep one of the two, or take it as a second control of {other}"
    known = replace(known, notes=(f"{message}; {hint}", *known.notes))
    return replace(known, fate=Fate.MERGED, message=message, hint=hint) if known.fate in _OVERTAKEN else known


def _cell(variant: str, target: str, known: Capability) -> CellFate:
    return CellFate(
        variant=variant,
        target=target,
        fate=known.fate,
        message=known.message,
        hint=known.hint,
        kernels=known.kernels,
        sources=known.sources,
        notes=tuple(_shorten(note) for note in known.notes[:MAX_NOTES]),
        refusal=known.refusal,
    )


def _shorten(note: str) -> str:
    return note if len(note) <= LONGEST_NOTE else note[: LONGEST_NOTE - 1] + "…"
