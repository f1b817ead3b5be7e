"""The shape of the tables in ``tables``: rows that hold for a range of vLLM versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from quantbench.api.names import Device, Named, Verdict
from quantbench.engine.version import EngineVersion


@dataclass(frozen=True)
class Refusal:
    """What cannot run, known before any pod is started."""

    verdict: Verdict
    """``UNSUPPORTED`` or ``PLUGIN_MISSING``."""
    message: str
    """What cannot be done and why, one sentence."""
    hint: str
    """What to do instead, one sentence."""
    source: str = ""
    """Where this was read; empty where it follows from the API itself."""


def unsupported(message: str, hint: str) -> Refusal:
    """A combination that this version has no code for."""
    return Refusal(Verdict.UNSUPPORTED, message, hint)


def plugin_missing(message: str, hint: str) -> Refusal:
    """A method that has left vLLM's tree and lives in a plugin that official images do not hold."""
    return Refusal(Verdict.PLUGIN_MISSING, message, hint)


class Fate(Named):
    """What becomes of a variant on a vLLM version and a GPU, from the best to the worst."""

    SUPPORTED = "Supported", "It runs as its name says."
    NOT_CHECKED = "NotChecked", "Nothing speaks against it, but the GPU's compute capability or the version is unknown."
    MERGED = "Merged", "vLLM runs it as another method or kernel does: no difference between the two can be measured."
    DEGRADED = "Degraded", "It runs, but not as its name says, e.g. FP8 as weight-only W8A16."
    EXPECTED_TO_FAIL = "ExpectedToFail", "It is known to fail at start; it is tried, and vLLM's log says why."
    SILENTLY_UNQUANTIZED = "SilentlyUnquantized", "The server starts without a warning and serves unquantized weights."
    PLUGIN_NEEDED = "PluginNeeded", "The method lives in a plugin that official images do not hold."
    UNSUPPORTED = "Unsupported", "This version or this GPU has no code for it."


@dataclass(frozen=True)
class Fact:
    """What is known beside the flags, on GPUs of a range of compute capabilities; its row says in which versions."""

    fate: Fate
    """``SUPPORTED``: worth knowing, but it changes nothing."""
    message: str
    """One sentence that holds without its context: it names the capability that it is about."""
    hint: str = ""
    """What to do, one sentence."""
    low: int | None = None
    """Lowest compute capability, times ten; None: no bound. Without meaning on CPU."""
    high: int | None = None
    device: Device | None = Device.CUDA
    """None: on every device."""
    unless: str = ""
    """A flag that avoids it."""
    models: str = ""
    """What the name of the model must hold, in lower case; empty: it is about every model."""


@dataclass(frozen=True)
class Choice:
    """The linear kernel that vLLM takes by itself, on GPUs of a range of compute capabilities."""

    kernels: tuple[str, ...]
    """Class as vLLM logs it, or its linear method where it logs none; several where the checkpoint decides."""
    low: int | None = None
    high: int | None = None


def within(capability: int, low: int | None, high: int | None) -> bool:
    """Whether a compute capability (times ten) lies between two bounds, None being none."""
    return (low is None or low <= capability) and (high is None or capability <= high)


@dataclass(frozen=True)
class Row:
    """What one choice (a method, a kernel, a KV cache dtype) asks of vLLM in ``since <= version < until``."""

    since: str
    until: str
    """First version in which the row no longer holds; empty: it still holds in the newest known one."""
    source: str
    """Where this was read: vLLM version and source file, or the record of a run."""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    choices: tuple[Choice, ...] = ()
    """The kernel where none is forced, or where the forced one is not logged."""
    quantization: tuple[str, ...] = ()
    """Names that vLLM may report as its quantization (``quantization=…`` in its engine line)."""
    kernels: tuple[str, ...] = ()
    """Kernel classes of which one must show up in the log; empty: any."""
    min_capability: int | None = None
    """Lowest CUDA compute capability, times ten."""
    max_capability: int | None = None
    """Highest CUDA compute capability, times ten."""
    refusal: Refusal | None = None

    def holds(self, version: EngineVersion) -> bool:
        """Whether the row is about this version."""
        return _bound(self.since) <= version and (not self.until or version < _bound(self.until))


@cache
def _bound(text: str) -> EngineVersion:
    return EngineVersion.parse(text)


def find_row(rows: Sequence[Row], version: EngineVersion) -> Row:
    """The row that holds for ``version``. The tables have no gaps from ``OLDEST`` on (tested).

    Raises LookupError for a version before ``OLDEST``.
    """
    for row in rows:
        if row.holds(version):
            return row
    raise LookupError(f"no row for vLLM {version}")
