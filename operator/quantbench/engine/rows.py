"""The shape of the tables in ``tables``: rows that hold for a range of vLLM versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from quantbench.api.names import Verdict
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


def unsupported(message: str, hint: str) -> Refusal:
    """A combination that this version has no code for."""
    return Refusal(Verdict.UNSUPPORTED, message, hint)


def plugin_missing(message: str, hint: str) -> Refusal:
    """A method that has left vLLM's tree and lives in a plugin that official images do not hold."""
    return Refusal(Verdict.PLUGIN_MISSING, message, hint)


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
    cuda_notes: tuple[str, ...] = ()
    """Notes that say nothing on CPU."""
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
