"""A variant and a vLLM version in, server flags (or a refusal) out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from quantbench.api.names import Device, Granularity, Kernel, KVCacheDType, Method, Verdict
from quantbench.engine.cpu import CPU_INT4, CPU_KV_CACHE, CPU_METHODS
from quantbench.engine.gpus import shown
from quantbench.engine.kernels import KERNELS, NO_SUCH_KERNEL
from quantbench.engine.rows import Choice, Fact, Refusal, Row, find_row, unsupported, within
from quantbench.engine.tables import KV_CACHE, KV_CACHE_EXCEPTIONS, METHODS, MethodKey
from quantbench.engine.version import NEWEST, OLDEST, EngineVersion, is_newer_than_known

__all__ = ["EngineRequest", "EngineSettings", "Refusal", "server_settings"]

_FOUR_BIT = frozenset({Method.W4A16, Method.AWQ, Method.GPTQ_INT4})
_WARNING_BACKEND = (
    "since 0.28 --linear-backend only warns where a layer type has no such kernel: the log says what really ran"
)


@dataclass(frozen=True)
class EngineRequest:
    """One variant on one kind of device, as far as vLLM's flags depend on it."""

    method: Method
    kernel: Kernel = Kernel.AUTO
    kv_cache_dtype: KVCacheDType = KVCacheDType.AUTO
    granularity: Granularity | None = None
    """Of FP8Online only; None there means PerTensor, as vLLM's own ``--quantization=fp8`` does."""
    device: Device = Device.CUDA
    compute_capability: int | None = None
    """Of the GPUs, times ten; None: not known, and nothing is refused for it. Without meaning on CPU."""


@dataclass(frozen=True)
class Stated:
    """A fact and where it was read."""

    fact: Fact
    source: str


@dataclass(frozen=True)
class EngineSettings:
    """What to give ``vllm serve`` for the variant, and what should then be found in its log."""

    args: tuple[str, ...]
    """Flags in the form ``--name=value``."""
    env: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    """What the reader of the figures should know; one sentence each."""
    quantization: tuple[str, ...]
    """vLLM's names for the quantization, any one of which must be reported; empty: not known."""
    kernels: tuple[str, ...]
    """Linear kernel classes of which one must be logged; empty: vLLM's own choice, or not logged."""
    needs_tokenizer: bool
    """The checkpoint brings no tokenizer that vLLM should use (GGUF)."""
    min_capability: int | None
    """Lowest CUDA compute capability, times ten (75, 80, 90); None on CPU or when not known."""
    max_capability: int | None
    sources: tuple[str, ...]
    """Where in vLLM's source each row was read."""
    facts: tuple[Stated, ...] = ()
    """What holds for this variant on this GPU."""
    open_facts: tuple[Stated, ...] = ()
    """What holds on some GPUs, when the compute capability is not known."""
    expected_kernels: tuple[str, ...] = ()
    """The linear kernel that vLLM will take, or several where the checkpoint decides; empty: not known."""
    measured: bool = True
    """False on CPU in versions of which no run was recorded."""


@lru_cache(maxsize=8192)
def server_settings(request: EngineRequest, version: EngineVersion) -> EngineSettings | Refusal:
    """Flags and environment for ``request`` on vLLM ``version``, or why it cannot run there.

    Versions after ``NEWEST`` get its flags and a note; versions before ``OLDEST`` are refused, and so are GPUs whose
    compute capability is known and outside the bounds of a row. On CPU only what is certain from the version is
    refused (``cpu`` says why).
    """
    if version < OLDEST:
        return unsupported(
            f"vLLM {version} is older than {OLDEST}, the oldest version that QuantBenchmark knows",
            f"use an image of vLLM {OLDEST} … {NEWEST.release}",
        )
    rows: list[Row] = []
    for found in _rows(request, version):
        if isinstance(found, Refusal):
            return found
        if found.refusal is not None:
            return replace(found.refusal, source=found.source)
        rows.append(found)
    return _out_of_bounds(request, version, rows) or _merge(request, version, rows)


def _rows(request: EngineRequest, version: EngineVersion) -> Iterator[Row | Refusal]:
    """The rows that apply, in the order of their flags; a refusal ends them."""
    method, kernel = request.method, request.kernel
    if (granularity := request.granularity) is not None and method is not Method.FP8_ONLINE:
        yield unsupported(
            f"granularity {granularity.value} does not apply to method {method.value}",
            "granularity belongs to method FP8Online: remove it",
        )
        return
    key, dtype = _key(request), request.kv_cache_dtype
    yield find_row(METHODS[key], version)
    if kernel is not Kernel.AUTO:
        yield _kernel_row(request, version)
    yield find_row(KV_CACHE[dtype], version)
    further = KV_CACHE_EXCEPTIONS.get((method, dtype), ())
    if request.device is Device.CPU:
        int4 = CPU_INT4 if method in _FOUR_BIT else ()
        further = (*further, *int4, *CPU_METHODS.get(key, ()), *CPU_KV_CACHE.get(dtype, ()))
    yield from (row for row in further if row.holds(version))


def _key(request: EngineRequest) -> MethodKey:
    if request.method is Method.FP8_ONLINE:
        return request.method, request.granularity or Granularity.PER_TENSOR
    return request.method, None


def _kernel_row(request: EngineRequest, version: EngineVersion) -> Row | Refusal:
    method, kernel = request.method, request.kernel
    if request.device is Device.CPU:
        return unsupported(
            f"kernel {kernel.value} is a CUDA kernel; vLLM on CPU has one kernel per quantization",
            "use kernel Auto on targets with gpus: 0",
        )
    rows = KERNELS.get((method, kernel))
    if rows is not None:
        return find_row(rows, version)
    choices = [Kernel.AUTO.value, *(k.value for m, k in KERNELS if m is method)]
    why = NO_SUCH_KERNEL.get((method, kernel))
    if method is Method.CUSTOM:
        why = "method Custom takes its kernel from args"
    return unsupported(
        f"method {method.value} has no kernel {kernel.value}" + (f": {why}" if why else ""),
        f"kernels of {method.value}: {', '.join(choices)}",
    )


def _out_of_bounds(request: EngineRequest, version: EngineVersion, rows: list[Row]) -> Refusal | None:
    """A GPU that is too old or too new for one of the rows."""
    has = request.compute_capability
    if has is None or request.device is Device.CPU:
        return None
    outside = next((row for row in rows if not within(has, row.min_capability, row.max_capability)), None)
    if outside is None:
        return None
    what = request.method.value
    if request.kernel is not Kernel.AUTO:
        what += f" with kernel {request.kernel.value}"
    return Refusal(
        Verdict.UNSUPPORTED,
        f"{what} needs compute capability {bounds(*_capability_range(rows))} on vLLM {version}; the target's GPUs have"
        f" {shown(has)}",
        "use another target, kernel or method; method Custom tries it all the same",
        outside.source,
    )


def _capability_range(rows: list[Row]) -> tuple[int | None, int | None]:
    low = [row.min_capability for row in rows if row.min_capability is not None]
    high = [row.max_capability for row in rows if row.max_capability is not None]
    return max(low, default=None), min(high, default=None)


def bounds(low: int | None, high: int | None) -> str:
    """A range of compute capabilities in words; empty without bounds."""
    if low is not None and low == high:
        return shown(low)
    if low is not None and high is not None:
        return f"{shown(low)} to {shown(high)}"
    if low is not None:
        return f"{shown(low)} or newer"
    return f"{shown(high)} or older" if high is not None else ""


def _merge(request: EngineRequest, version: EngineVersion, rows: list[Row]) -> EngineSettings:
    cuda, auto = request.device is Device.CUDA, request.kernel is Kernel.AUTO
    args = tuple(dict.fromkeys(arg for row in rows for arg in row.args))
    # What vLLM would have done with the method by itself no longer matters once a kernel is forced.
    stated = [Stated(fact, row.source) for row in (rows if auto else rows[1:]) for fact in row.facts]
    sure, unsure = _sort_facts(request, stated)
    notes = [note for row in rows for note in row.notes] + [one.fact.message for one in (*sure, *unsure)]
    if any(arg.startswith("--linear-backend") for arg in args) and version >= EngineVersion(0, 28):
        notes.append(_WARNING_BACKEND)
    if is_newer_than_known(version):
        notes.append(f"vLLM {version} is newer than {NEWEST.release}, the newest version known: its flags are used")
    low, high = _capability_range(rows) if cuda else (None, None)
    kernels = tuple(dict.fromkeys(name for row in rows for name in row.kernels)) if cuda else ()
    seen = [row for row in CPU_METHODS.get(_key(request), ()) if row in rows]
    chosen = (rows[0 if auto else 1],) if cuda else seen
    return EngineSettings(
        args=args,
        env=tuple(dict.fromkeys(pair for row in rows for pair in row.env)),
        notes=tuple(dict.fromkeys(notes)),
        quantization=next((row.quantization for row in reversed(rows) if row.quantization), ()),
        kernels=kernels,
        needs_tokenizer=request.method is Method.GGUF,
        min_capability=low,
        max_capability=high,
        sources=tuple(dict.fromkeys(row.source for row in rows)),
        facts=tuple(sure),
        open_facts=tuple(unsure),
        expected_kernels=kernels or _expected(request, [choice for row in chosen for choice in row.choices]),
        measured=cuda or bool(seen),
    )


def _sort_facts(request: EngineRequest, stated: list[Stated]) -> tuple[list[Stated], list[Stated]]:
    """The facts that hold, and those that may hold because the compute capability is not known."""
    sure, unsure = [], []
    has = request.compute_capability
    for one in stated:
        fact = one.fact
        if fact.device not in (None, request.device):
            continue
        if request.device is Device.CPU or (fact.low is None and fact.high is None):
            sure.append(one)
        elif has is None:
            unsure.append(one)
        elif within(has, fact.low, fact.high):
            sure.append(one)
    return sure, unsure


def _expected(request: EngineRequest, choices: list[Choice]) -> tuple[str, ...]:
    has = request.compute_capability
    for choice in choices:
        bounded = request.device is Device.CUDA and not (choice.low is None and choice.high is None)
        if not bounded or (has is not None and within(has, choice.low, choice.high)):
            return choice.kernels
    return ()
