"""What a method becomes on the command line of a vLLM version."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from quantbench.api.names import Device, Granularity, Kernel, KVCacheDType, Method
from quantbench.engine.cpu import CPU_INT4
from quantbench.engine.flags import COMMON, CUSTOM_FLAGS, OWNED_ENV, OWNED_FLAGS
from quantbench.engine.kernels import KERNELS
from quantbench.engine.methods import EngineRequest, EngineSettings, server_settings
from quantbench.engine.rows import Refusal, Row
from quantbench.engine.tables import KV_CACHE, KV_CACHE_EXCEPTIONS, METHODS
from quantbench.engine.version import NEWEST, OLDEST, EngineVersion
from reference.markdown import code, codes, page, table

ABOUT = f"""
From vLLM {OLDEST} to {NEWEST.release}, as read in the source of every minor version; the rows and their sources stand
in `operator/quantbench/engine/` (`tables.py`, `kernels.py`, `cpu.py`). Newer versions get the flags of
{NEWEST.release}.
What becomes of each variant on which GPU: [capabilities.md](capabilities.md).

A combination that is refused never takes a GPU: its run ends at once with the verdict shown.

*Capability* is the range of CUDA compute capabilities that vLLM's source names for it.
"""
HEADER = ("Variant", "vLLM", "Flags", "Environment", "Capability", "Notes, or why not")


def text() -> str:
    """The page."""
    return page(
        "Methods and vLLM's flags",
        ABOUT,
        "## On CUDA",
        *chain.from_iterable((f"### {method}", method.meaning, _method(method)) for method in Method),
        "## KV cache",
        "These are added to the flags of the method.",
        table(HEADER, chain.from_iterable(_kv_cache(dtype) for dtype in KVCacheDType)),
        "## On CPU",
        "Targets with `gpus: 0`. A kernel other than Auto is refused; the other flags are those of CUDA, and:",
        table(HEADER, _rows("4-bit weights", CPU_INT4)),
        "## Every server",
        table(HEADER, chain.from_iterable(_rows(_name(row), (row,)) for row in COMMON)),
        "## Flags that are not for users",
        "`engine.args` and `args` of a variant must not hold these. Method Custom may use "
        f"{', '.join(code(flag) for flag in sorted(CUSTOM_FLAGS))}.",
        table(("Flag", "Instead"), ((code(flag), advice) for flag, advice in OWNED_FLAGS.items())),
        "## Environment that is not for users",
        table(("Variable", "Instead"), ((code(name), advice) for name, advice in OWNED_ENV.items())),
    )


def versions() -> list[EngineVersion]:
    """Every version at which anything may change."""
    rows = chain(
        *METHODS.values(), *KERNELS.values(), *KV_CACHE.values(), *KV_CACHE_EXCEPTIONS.values(), CPU_INT4, COMMON
    )
    bounds = {EngineVersion.parse(bound) for row in rows for bound in (row.since, row.until) if bound}
    minors = {EngineVersion(0, minor) for minor in range(OLDEST.minor + 1, NEWEST.minor + 1)}
    return sorted(version for version in bounds | minors | {OLDEST} if version >= OLDEST)


def _method(method: Method) -> str:
    return table(HEADER, chain.from_iterable(_ranges(request) for request in requests(method)))


def requests(method: Method) -> list[EngineRequest]:
    """Every choice that a method offers, the KV cache aside."""
    granularities = [granularity for key, granularity in METHODS if key is method]
    kernels = [kernel for key, kernel in KERNELS if key is method]
    plain = [EngineRequest(method, granularity=granularity) for granularity in granularities]
    return plain + [EngineRequest(method, kernel) for kernel in kernels]


def label(request: EngineRequest) -> str:
    """What distinguishes it among the choices of its method."""
    asked: list[str] = []
    if isinstance(request.granularity, Granularity):
        asked.append(f"granularity {request.granularity}")
    if request.kernel is not Kernel.AUTO or not asked:
        asked.append(f"kernel {request.kernel}")
    return ", ".join(asked)


def _ranges(request: EngineRequest) -> Iterator[Sequence[str]]:
    """One row per range of versions that get the same."""
    assert request.device is Device.CUDA
    steps = [(version, _cells(server_settings(request, version))) for version in versions()]
    begin = 0
    for end in range(1, len(steps) + 1):
        if end == len(steps) or steps[end][1] != steps[begin][1]:
            until = steps[end][0] if end < len(steps) else None
            yield (label(request), version_range(str(steps[begin][0]), str(until or "")), *steps[begin][1])
            begin = end


def version_range(since: str, until: str) -> str:
    """Versions from one until before another."""
    since, until = since.removesuffix(".0"), until.removesuffix(".0")
    return f"≥ {since}, < {until}" if until else f"≥ {since}"


def _cells(settings: EngineSettings | Refusal) -> tuple[str, str, str, str]:
    if isinstance(settings, Refusal):
        return "", "", "", f"**{settings.verdict}**: {settings.message}; {settings.hint}"
    low, high = settings.min_capability, settings.max_capability
    return codes(settings.args), _env(settings.env), _capability(low, high), _sentences(settings.notes)


def _kv_cache(dtype: KVCacheDType) -> Iterator[Sequence[str]]:
    yield from _rows(f"{dtype}", KV_CACHE[dtype])
    for (method, exception), rows in KV_CACHE_EXCEPTIONS.items():
        if exception is dtype:
            yield from _rows(f"{dtype} with {method}", rows)


def _rows(name: str, rows: Iterable[Row]) -> Iterator[Sequence[str]]:
    for row in rows:
        refusal = row.refusal
        why = f"**{refusal.verdict}**: {refusal.message}; {refusal.hint}" if refusal else ""
        said = _sentences((*row.notes, *(fact.message for fact in row.facts))) or why
        capability = _capability(row.min_capability, row.max_capability)
        yield name, version_range(row.since, row.until), codes(row.args), _env(row.env), capability, said


def _name(row: Row) -> str:
    return "flag" if row.args else "environment"


def _env(env: Iterable[tuple[str, str]]) -> str:
    return codes(f"{name}={value}" for name, value in env)


def _capability(low: int | None, high: int | None) -> str:
    if low is not None and low == high:
        return f"{low / 10:.1f} only"
    parts = [f"≥ {low / 10:.1f}"] if low is not None else []
    return ", ".join(parts + ([f"≤ {high / 10:.1f}"] if high is not None else []))


def _sentences(notes: Iterable[str]) -> str:
    return "; ".join(notes)
