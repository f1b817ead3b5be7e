"""Findings about what the servers ran: the same as others, something else than asked for, or nothing at all."""

from collections.abc import Iterator, Mapping, Sequence

from quantbench.answer import of_target
from quantbench.api.benchmark import CONTROL
from quantbench.api.names import FindingKind, Method, Verdict
from quantbench.api.status import Cell
from quantbench.findings.facts import WITH_FIGURES, Rank, Said, Study, make_finding, names_of

MISMATCHES = frozenset({Verdict.CONFIGURATION_MISMATCH, Verdict.NOT_QUANTIZED})
NOT_FAILED = MISMATCHES | WITH_FIGURES
WEIGHT_ONLY = {
    Method.FP8_STATIC: " (W8A16)",
    Method.FP8_DYNAMIC: " (W8A16)",
    Method.FP8_ONLINE: " (W8A16)",
}
"""What is left of a method when only its weights are quantized."""


def duplicates(study: Study) -> Iterator[Said]:
    """Variants that ran the same effective configuration as others."""
    for target in study.spec.targets:
        own = {cell.variant: cell for cell in of_target(study.cells, target.name) if cell.variant != CONTROL}
        groups: dict[str, set[str]] = {}
        for cell in own.values():
            if cell.same_as:
                stands = _representative(cell.variant, own)
                groups.setdefault(stands, {stands}).add(cell.variant)
        for members in groups.values():
            if len(members) == 1:
                continue
            variants = [name for name in (*own, CONTROL) if name in members]
            message = f"{names_of(variants)} {_same(study, own, variants)} on {target.name}: treated as one"
            evidence = [f"{name}: {own[name].effective}" for name in variants if name in own and own[name].effective]
            yield Said(
                Rank.ALARM,
                make_finding(FindingKind.DUPLICATE, message, target=target.name, variants=variants, evidence=evidence),
            )


def _representative(variant: str, cells: Mapping[str, Cell]) -> str:
    """The variant that stands for all that ran the same: the end of the chain."""
    seen: list[str] = []
    while variant in cells and variant not in seen and (following := cells[variant].same_as):
        seen.append(variant)
        variant = following
    return min(seen) if variant in seen else variant


def _same(study: Study, cells: Mapping[str, Cell], variants: Sequence[str]) -> str:
    kernels = {_kernels(study, cells[variant]) for variant in variants if variant in cells}
    common = next(iter(kernels)) if len(kernels) == 1 else ()
    if not common:
        return "ran the same effective configuration"
    return f"ran the same kernel{'s' if len(common) > 1 else ''} ({', '.join(common)})"


def _kernels(study: Study, cell: Cell) -> tuple[str, ...]:
    """Linear kernels that a cell's servers were given, by their logs."""
    found = {
        layer.kernel
        for run in study.runs_of(cell)
        if run.status.attestation
        for layer in run.status.attestation.linear_kernels
    }
    return tuple(sorted(found))


def mismatches(study: Study) -> Iterator[Said]:
    """Servers that ran something else than what was asked for."""
    for cell in study.cells:
        if cell.verdict not in MISMATCHES:
            continue
        what = "no quantized layer" if cell.verdict is Verdict.NOT_QUANTIZED else "something else than asked for"
        why = _why(study, cell)
        yield Said(
            Rank.ALARM,
            make_finding(
                FindingKind.MISMATCH,
                f"{cell.variant} ran {what} on {cell.target}: {why[0]}",
                target=cell.target,
                variants=(cell.variant,),
                evidence=(*why[1:], f"effective: {cell.effective}" if cell.effective else None),
            ),
        )


def degraded(study: Study) -> Iterator[Said]:
    """Variants that ran, but not as their name says."""
    methods = {variant.name: variant.method for variant in study.spec.variants}
    for cell in study.cells:
        attested = ((run, run.status.attestation) for run in study.runs_of(cell))
        fallen = [(run, said) for run, said in attested if said and said.weight_only_fallback]
        if not fallen or cell.variant == CONTROL:
            continue
        run, said = fallen[0]
        scheme = WEIGHT_ONLY.get(methods.get(cell.variant, Method.CUSTOM), "")
        kernels = ", ".join(_kernels(study, cell))
        cards = sorted({f"{gpu.name}, compute capability {gpu.compute_capability or 'unknown'}" for gpu in said.gpus})
        message = (
            f"{cell.variant} ran weight-only{scheme} on {cell.target}: by vLLM's log the GPU lacks the hardware for its"
            " activations, so that it saves memory, not computation"
        )
        yield Said(
            Rank.MISSING,
            make_finding(
                FindingKind.DEGRADED,
                message,
                target=cell.target,
                variants=(cell.variant,),
                evidence=(
                    f"kernels: {kernels}" if kernels else None,
                    "; ".join(cards),
                    f"run {run.name}",
                ),
            ),
        )


def failures(study: Study) -> Iterator[Said]:
    """Variants without figures; without the baseline's there is no ratio at all."""
    for cell in study.cells:
        if cell.loads or cell.verdict in NOT_FAILED or cell.verdict is None:
            continue
        why = _why(study, cell)
        baseline = cell.variant == study.spec.baseline
        name = f"{cell.variant}, the baseline," if baseline else cell.variant
        yield Said(
            Rank.ALARM if baseline else Rank.MISSING,
            make_finding(
                FindingKind.FAILED,
                f"{name} has no figures on {cell.target}: {cell.verdict}: {why[0]}",
                target=cell.target,
                variants=(cell.variant,),
                evidence=why[1:],
            ),
        )


def _why(study: Study, cell: Cell) -> list[str]:
    """The first telling line of the log, or the message; then the message, the hint and the run."""
    runs = [run for run in study.runs_of(cell) if run.status.verdict and run.status.verdict.name is cell.verdict]
    if not runs or not (outcome := runs[-1].status.verdict):
        return [cell.message or "no reason was stored"]
    telling = outcome.log_line or outcome.message
    more = (outcome.message, outcome.hint)
    return [telling, *(text for text in more if text and text != telling), f"run {runs[-1].name}"]
