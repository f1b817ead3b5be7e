"""Which target a published table is about, and which variant a row is."""

from collections.abc import Mapping, Sequence

from quantbench.api.benchmark import Load, Target, Variant
from quantbench.api.names import Kernel, KVCacheDType, Method
from quantbench.audit.tables import Row, Table
from quantbench.audit.vocabulary import GPU, KERNELS, words
from quantbench.exports.study import Study

_METHODS: Mapping[Method, str] = {
    Method.BF16: "bf16",
    Method.FP8_STATIC: "fp8 static",
    Method.FP8_DYNAMIC: "fp8 dynamic",
    Method.FP8_ONLINE: "fp8 online",
    Method.INT8_W8A8: "int8 w8a8",
    Method.W4A16: "int4 w4a16",
    Method.AWQ: "awq",
    Method.GPTQ_INT4: "gptq int4",
    Method.GPTQ_INT8: "gptq int8",
    Method.BITSANDBYTES: "bitsandbytes",
    Method.GGUF: "gguf",
}
_BRANDS = frozenset({"RTX"})


def words_of(variant: Variant) -> frozenset[str]:
    """A variant in the words by which published rows are told apart; a custom method's name must say them."""
    if variant.method is Method.CUSTOM:
        return words(variant.name)
    text = _METHODS[variant.method]
    if variant.kernel is not Kernel.AUTO:
        text += f" {variant.kernel}"
    if variant.kv_cache_dtype is not KVCacheDType.AUTO:
        dtype = KVCacheDType.FP8_E4M3 if variant.kv_cache_dtype is KVCacheDType.FP8 else variant.kv_cache_dtype
        text += f" kv {dtype.replace('_', ' ')}"
    return words(text)


def variant_of(row: Row, variants: Sequence[Variant]) -> Variant | None:
    """The variant that a row is about: the closest of those that have all its words.

    Of variants that say more than the row (a width, a kernel) the one of its name is taken, else the one that says
    least; the study's order decides. A GGUF row's own name of its widths (Q4_K_M) tells no variant from another.
    """
    wanted = frozenset(word for word in row.words if not word.startswith("q"))
    candidates = []
    for variant in variants:
        own = words_of(variant)
        if wanted and wanted <= own and ("kv" in own) is ("kv" in wanted):
            more = own - wanted
            candidates.append((words(variant.name) != wanted, len(more & KERNELS), len(more), variant))
    return min(candidates, key=lambda candidate: candidate[:3])[3] if candidates else None


def gpus_in(text: str) -> frozenset[str]:
    """The GPU models that a text names."""
    return frozenset(found.upper() for found in GPU.findall(text.replace("-", " "))) - _BRANDS


def gpu_of(table: Table, tables: Sequence[Table]) -> frozenset[str]:
    """The GPU of a table: in its title, else that of a table with the same baseline."""
    own = gpus_in(table.title)
    if own:
        return own
    mine = {_figures(row) for row in table.baselines} - {()}
    for other in tables:
        if mine & {_figures(row) for row in other.baselines} and gpus_in(other.title):
            return gpus_in(other.title)
    return frozenset()


def _figures(row: Row) -> tuple[float, ...]:
    return tuple(cell.value.number.value for cell in row.cells if cell.value.number)


def target_of(gpu: frozenset[str], study: Study) -> Target | None:
    """The target whose GPU this is."""
    return next((target for target in study.benchmark.spec.targets if gpu & gpus_of(target, study)), None)


def gpus_of(target: Target, study: Study) -> frozenset[str]:
    """What a target's servers attested, else what its labels and its name say."""
    attested = [run.status.attestation for run in study.runs if run.spec.target.name == target.name]
    seen = gpus_in(" ".join(gpu.name for found in attested if found for gpu in found.gpus))
    return seen or gpus_in(" ".join(target.node_selector.values())) or gpus_in(target.name)


def all_at_once(loads: Sequence[Load]) -> Load | None:
    """The load without a bound: that of `vllm bench serve` without options."""
    return next((load for load in loads if not load.paced and load.max_concurrency is None), None)
