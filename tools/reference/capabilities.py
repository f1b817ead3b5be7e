"""What becomes of every variant, by vLLM version and GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from quantbench.api.names import Device, Kernel, KVCacheDType, Method
from quantbench.engine.arguments import LOAD_FORMATS, QUANTIZATIONS
from quantbench.engine.capability import Capability, capability
from quantbench.engine.cpu import CPU_KV_CACHE, CPU_METHODS
from quantbench.engine.gpus import FAMILIES, shown
from quantbench.engine.kernels import KERNELS
from quantbench.engine.methods import EngineRequest, bounds
from quantbench.engine.rows import Fate, Row
from quantbench.engine.tables import KV_CACHE, METHODS
from quantbench.engine.version import NEWEST, OLDEST, EngineVersion
from reference.markdown import code, codes, page, table
from reference.methods import label, requests, version_range, versions

COLUMNS = {70: "7.0", 75: "7.5", 80: "8.0, 8.6", 89: "8.9", 90: "9.0", 100: "10.0 and newer"}
"""Compute capabilities at which anything changes: a column holds until the next one."""
CPU_VERSION = EngineVersion(0, 32)
"""The version of which runs on a CPU are recorded."""
ABOUT = f"""
What is known before any GPU is taken, from vLLM {OLDEST} to {NEWEST.release}; the command lines are in
[methods.md](methods.md). A study that names `computeCapability` of its targets, or the product in their `nodeSelector`,
is held against these tables: `Unsupported` and `PluginNeeded` cells end at once and take no GPU, everything else runs,
and what is known stands in `spec.variant.notes` of its runs (`kubectl describe qbr`).

Each cell is the fate, and the linear kernel that vLLM is expected to take where that is known: a kernel class as its
log names it, or the linear method where it logs none. Whether it was so is read from the server's log.
"""
ON_CPU = """
Nothing is refused here that the version alone does not rule out: what was seen to fail is tried, and vLLM's own log
line says why. A failed start on a CPU takes a minute and no GPU. Other versions were not measured on CPU.
"""


def text() -> str:
    """The page."""
    facts = ("Where", "vLLM", "Capability", "Fate", "What is known", "Source")
    return page(
        "Capabilities",
        ABOUT,
        table(("Fate", "Meaning"), ((code(fate), fate.meaning) for fate in Fate)),
        *chain.from_iterable((f"## {method}", _method(method)) for method in Method if method is not Method.CUSTOM),
        "## KV cache",
        "With method BF16 on the same GPUs.",
        _table([EngineRequest(Method.BF16, kv_cache_dtype=dtype) for dtype in KVCacheDType]),
        f"## On CPU, vLLM {CPU_VERSION.release}",
        ON_CPU,
        table(("Variant", "Fate", "Kernel", "What is known"), _on_cpu()),
        "## What is known, and from where",
        table(facts, dict.fromkeys(chain.from_iterable(_facts(where, rows) for where, rows in _sources()))),
        "## Compute capabilities of products",
        "By `nvidia.com/gpu.product` (suffixes of MIG slices and of shared GPUs do not count), or "
        "`cloud.google.com/gke-accelerator`; `nvidia.com/gpu.compute.major` and `.minor` work too.",
        table(("Capability", "Products"), ((shown(key), codes(names)) for key, names in FAMILIES.items())),
    )


def _method(method: Method) -> str:
    return _table(requests(method))


def _table(wanted: Sequence[EngineRequest]) -> str:
    return table(("Variant", "vLLM", *COLUMNS.values()), chain.from_iterable(map(_ranges, wanted)))


def _ranges(request: EngineRequest) -> Iterator[Sequence[str]]:
    """One line per range of versions that fare the same on every GPU."""
    begin, cells = "", list[str]()
    for version in versions():
        here = [_cell(replace(request, compute_capability=column), version) for column in COLUMNS]
        if here == cells:
            continue
        if cells:
            yield (_name(request), version_range(begin, str(version)), *cells)
        begin, cells = str(version), here
    yield (_name(request), version_range(begin, ""), *cells)


def _name(request: EngineRequest) -> str:
    return request.kv_cache_dtype.value if request.kv_cache_dtype is not KVCacheDType.AUTO else label(request)


def _on_cpu() -> Iterator[Sequence[str]]:
    methods = [request for method in Method for request in requests(method) if request.kernel is Kernel.AUTO]
    caches = [EngineRequest(Method.BF16, kv_cache_dtype=dtype) for dtype in CPU_KV_CACHE]
    for request in (*methods, *caches):
        found = capability(replace(request, device=Device.CPU), CPU_VERSION)
        kernels = " or ".join(code(kernel) for kernel in found.kernels)
        yield f"{request.method}, {_name(request)}", code(found.fate), kernels, "; ".join(found.notes)


def _cell(request: EngineRequest, version: EngineVersion) -> str:
    found: Capability = capability(request, version)
    kernels = " or ".join(code(kernel) for kernel in found.kernels)
    return f"{found.fate}: {kernels}" if kernels else str(found.fate)


def _sources() -> Iterator[tuple[str, tuple[Row, ...]]]:
    for (method, granularity), rows in METHODS.items():
        yield f"{method} {granularity or ''}".strip(), rows
    for (method, kernel), rows in KERNELS.items():
        yield f"{method}, kernel {kernel}", rows
    for dtype, rows in KV_CACHE.items():
        yield f"kvCacheDType {dtype}", rows
    for (method, granularity), rows in CPU_METHODS.items():
        yield f"{method} {granularity or ''}".strip() + " on CPU", rows
    for dtype, rows in CPU_KV_CACHE.items():
        yield f"kvCacheDType {dtype} on CPU", rows
    for name, rows in QUANTIZATIONS.items():
        yield f"Custom, `--quantization={name}`", rows
    for (method, value), rows in LOAD_FORMATS.items():
        yield f"{method}, `--load-format={value}`", rows


def _facts(where: str, rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        span = version_range(row.since, row.until)
        if row.refusal:
            fate = Fate.UNSUPPORTED if row.refusal.verdict.value == "Unsupported" else Fate.PLUGIN_NEEDED
            yield where, span, "", code(fate), f"{row.refusal.message}; {row.refusal.hint}", row.source
        for fact in row.facts:
            said = f"{fact.message}; {fact.hint}" if fact.hint else fact.message
            yield where, span, bounds(fact.low, fact.high), code(fact.fate), said, row.source
