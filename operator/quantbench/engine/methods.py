"""A variant and a vLLM version in, server flags (or a refusal) out."""

from collections.abc import Iterator
from dataclasses import dataclass

from quantbench.api.names import Device, Granularity, Kernel, KVCacheDType, Method
from quantbench.engine.rows import Refusal, Row, find_row, unsupported
from quantbench.engine.tables import CPU_INT4, KERNELS, KV_CACHE, KV_CACHE_EXCEPTIONS, METHODS, NO_SUCH_KERNEL
from quantbench.engine.version import NEWEST, OLDEST, EngineVersion, is_newer_than_known

__all__ = ["EngineRequest", "EngineSettings", "Refusal", "server_settings"]

WITHOUT_CHECKPOINT = frozenset({Method.BF16, Method.FP8_ONLINE, Method.BITSANDBYTES, Method.CUSTOM})
"""Methods that start from the unquantized model; all others read a checkpoint of their own."""
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
    needs_checkpoint: bool
    """The variant must name a checkpoint of its own."""
    needs_tokenizer: bool
    """The checkpoint brings no tokenizer that vLLM should use (GGUF)."""
    min_capability: int | None
    """Lowest CUDA compute capability, times ten (75, 80, 90); None on CPU or when not known."""
    max_capability: int | None
    sources: tuple[str, ...]
    """Where in vLLM's source each row was read."""


def server_settings(request: EngineRequest, version: EngineVersion) -> EngineSettings | Refusal:
    """Flags and environment for ``request`` on vLLM ``version``, or why it cannot run there.

    Versions after ``NEWEST`` get its flags and a note; versions before ``OLDEST`` are refused. On CPU only what
    is certain from the version is refused: the rest is tried and fails with its own log line.
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
            return found.refusal
        rows.append(found)
    return _merge(request, version, rows)


def _rows(request: EngineRequest, version: EngineVersion) -> Iterator[Row | Refusal]:
    """The rows that apply, in the order of their flags; a refusal ends them."""
    method, kernel = request.method, request.kernel
    granularity = request.granularity
    if granularity is not None and method is not Method.FP8_ONLINE:
        yield unsupported(
            f"granularity {granularity.value} does not apply to method {method.value}",
            "granularity belongs to method FP8Online: remove it",
        )
        return
    if method is Method.FP8_ONLINE and granularity is None:
        granularity = Granularity.PER_TENSOR
    yield find_row(METHODS[method, granularity], version)
    if kernel is not Kernel.AUTO:
        yield _kernel_row(request, version)
    yield find_row(KV_CACHE[request.kv_cache_dtype], version)
    for row in KV_CACHE_EXCEPTIONS.get((method, request.kv_cache_dtype), ()):
        if row.holds(version):
            yield row
    if request.device is Device.CPU and method in _FOUR_BIT:
        yield find_row(CPU_INT4, version)


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


def _merge(request: EngineRequest, version: EngineVersion, rows: list[Row]) -> EngineSettings:
    cuda = request.device is Device.CUDA
    args = tuple(dict.fromkeys(arg for row in rows for arg in row.args))
    notes = [note for row in rows for note in (row.notes + row.cuda_notes if cuda else row.notes)]
    if request.kernel is not Kernel.AUTO:
        # What vLLM would have picked by itself no longer matters once a kernel is forced.
        notes = [note for note in notes if note not in rows[0].cuda_notes or note in rows[1].notes]
    if any(arg.startswith("--linear-backend") for arg in args) and version >= EngineVersion(0, 28):
        notes.append(_WARNING_BACKEND)
    if is_newer_than_known(version):
        notes.append(f"vLLM {version} is newer than {NEWEST.release}, the newest version known: its flags are used")
    low = [row.min_capability for row in rows if row.min_capability is not None]
    high = [row.max_capability for row in rows if row.max_capability is not None]
    return EngineSettings(
        args=args,
        env=tuple(dict.fromkeys(pair for row in rows for pair in row.env)),
        notes=tuple(dict.fromkeys(notes)),
        quantization=next((row.quantization for row in reversed(rows) if row.quantization), ()),
        kernels=tuple(dict.fromkeys(name for row in rows for name in row.kernels)) if cuda else (),
        needs_checkpoint=request.method not in WITHOUT_CHECKPOINT,
        needs_tokenizer=request.method is Method.GGUF,
        min_capability=max(low) if cuda and low else None,
        max_capability=min(high) if cuda and high else None,
        sources=tuple(dict.fromkeys(row.source for row in rows)),
    )
