"""What becomes of a variant on a vLLM version and a GPU, known before any GPU is taken.

The facts stand in the rows of the tables (``tables``, ``kernels``, ``cpu``, ``arguments``) beside the flags that hold
in the same versions; this module only weighs them. A refusal keeps a variant from taking a GPU. Everything else runs,
and what is said here is a forecast that the server's own log confirms or refutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from quantbench.api.names import Device, Method, Verdict
from quantbench.engine.arguments import argument_rows
from quantbench.engine.methods import EngineRequest, EngineSettings, Stated, bounds, server_settings
from quantbench.engine.rows import Fact, Fate, Refusal
from quantbench.engine.version import NEWEST, EngineVersion, is_newer_than_known

SEVERITY = tuple(Fate)
"""From the best to the worst; the worst fact is the fate."""
_REFUSED = {Verdict.UNSUPPORTED: Fate.UNSUPPORTED, Verdict.PLUGIN_MISSING: Fate.PLUGIN_NEEDED}


@dataclass(frozen=True)
class Capability:
    """One variant on one vLLM version and one kind of GPU."""

    fate: Fate
    message: str
    """Why, one sentence."""
    hint: str
    """What to do, one sentence; empty where nothing needs to be done."""
    kernels: tuple[str, ...]
    """The linear kernel that vLLM will take, or several where the checkpoint decides; empty: not known."""
    notes: tuple[str, ...]
    """All that is known, the weightiest first; one sentence each."""
    sources: tuple[str, ...]
    """Where that was read: vLLM version and file, or the record of a run. The first one is the fate's."""
    refusal: Refusal | None = None
    """Present when the variant must not take a GPU."""


def capability(request: EngineRequest, version: EngineVersion, args: Sequence[str] = (), model: str = "") -> Capability:
    """The fate of ``request`` on vLLM ``version`` with the user's own ``args``, for the model of this name."""
    settings = server_settings(request, version)
    if isinstance(settings, Refusal):
        read = (settings.source,) if settings.source else ()
        fate = _REFUSED[settings.verdict]
        return Capability(fate, settings.message, settings.hint, (), (settings.message,), read, settings)
    flags = {arg.partition("=")[0] for arg in (*settings.args, *args)}
    about_args = [row for row in argument_rows(request.method, args) if row.holds(version)]
    stated = [*settings.facts, *(Stated(fact, row.source) for row in about_args for fact in row.facts)]
    avoided = {one.fact.message for one in stated if not _concerns(one.fact, flags, model.lower())}
    weighty = [one for one in stated if one.fact.fate is not Fate.SUPPORTED and one.fact.message not in avoided]
    weighty.sort(key=lambda one: SEVERITY.index(one.fact.fate), reverse=True)
    unchecked = _unchecked(request, version, settings)
    kernels = settings.expected_kernels
    fate, message, hint = Fate.SUPPORTED, "it runs as its name says", ""
    if weighty:
        fate, message, hint = weighty[0].fact.fate, weighty[0].fact.message, weighty[0].fact.hint
    elif unchecked:
        fate, (message, hint) = Fate.NOT_CHECKED, unchecked
    notes = [
        *(f"{one.fact.message}; {one.fact.hint}" if one.fact.hint else one.fact.message for one in weighty),
        *([f"expected kernel: {' or '.join(kernels)}"] if kernels else []),
        *([f"{unchecked[0]}; {unchecked[1]}"] if unchecked else []),
        *(note for note in settings.notes if note not in avoided | {one.fact.message for one in weighty}),
    ]
    sources = [*(one.source for one in weighty[:1]), *settings.sources, *(row.source for row in about_args)]
    return Capability(fate, message, hint, kernels, tuple(dict.fromkeys(notes)), tuple(dict.fromkeys(sources)))


def _concerns(fact: Fact, flags: set[str], model: str) -> bool:
    return (not fact.unless or fact.unless not in flags) and fact.models in model


def _unchecked(request: EngineRequest, version: EngineVersion, settings: EngineSettings) -> tuple[str, str] | None:
    """What could not be looked up, and what would change that."""
    if is_newer_than_known(version):
        return f"vLLM {version} was not checked: the newest version known is {NEWEST.release}", "watch the attestation"
    if request.method is Method.CUSTOM:
        return "what args ask for was not checked", "see what the server's log says"
    if request.device is Device.CPU:
        if settings.measured:
            return None
        return f"this method was not tried on vLLM {version}'s CPU backend", "vLLM 0.32 is the version measured on CPU"
    if request.compute_capability is not None:
        return None
    needed = bounds(settings.min_capability, settings.max_capability)
    if not needed and not settings.open_facts:
        return None
    needs = f": the method needs {needed}" if needed else ""
    return (
        f"the GPU's compute capability is not known, so it was not checked{needs}",
        "set computeCapability of the target, or nvidia.com/gpu.product in its nodeSelector",
    )
