"""Which cells of a study ran one and the same effective configuration, and which did not run one alone. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence

from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Method, Verdict
from quantbench.engine.attestation import in_words
from quantbench.observe import Run

CellKey = tuple[str, str]
"""Variant and target."""
MEASURED = frozenset({Verdict.MEASURED, Verdict.UNSTABLE, Verdict.CUT_OFF})
"""Verdicts of runs whose valid passes and configuration speak for their cell; others keep theirs out of the figures."""

AS_LARGE = 0.95
"""Share of the unquantized weights from which on nothing can be quantized: eight bits leave some 55 %."""


def counts(run: Run) -> bool:
    """Whether a run's valid passes count."""
    return run.status.verdict is not None and run.status.verdict.name in MEASURED


def attested_starts(runs: Iterable[Run]) -> dict[CellKey, dict[str, list[Run]]]:
    """Per cell the measured runs by fingerprint; runs without one say nothing."""
    found: dict[CellKey, dict[str, list[Run]]] = {}
    for run in sorted(runs, key=lambda run: run.spec.block):
        attestation = run.status.attestation
        if attestation and attestation.fingerprint and counts(run):
            found.setdefault(run.cell, {}).setdefault(attestation.fingerprint, []).append(run)
    return found


def duplicates(spec: QuantBenchmarkSpec, runs: Iterable[Run]) -> Mapping[CellKey, str]:
    """Cell → variant that ran the same configuration on the same target: the baseline, or one that stands before it.

    The control is the baseline on purpose, so it is no duplicate. A cell whose starts differ from each other is none
    either, nor one without a fingerprint: missing facts make nothing equal.
    """
    starts = attested_starts(runs)
    order = [spec.baseline, *(variant.name for variant in spec.variants if variant.name != spec.baseline)]
    found: dict[CellKey, str] = {}
    for target in spec.targets:
        first: dict[str, str] = {}
        for variant in order:
            marks = starts.get((variant, target.name), {})
            if len(marks) != 1:
                continue
            original = first.setdefault(next(iter(marks)), variant)
            if original != variant:
                found[variant, target.name] = original
    return found


def disagreement(runs: Iterable[Run]) -> str | None:
    """Why the starts of one cell must not be averaged, or None: they ran different configurations."""
    for marks in attested_starts(runs).values():
        if len(marks) > 1:
            parts = [f"block {_blocks(of)}: {_words(of[0])}" for of in marks.values()]
            return f"starts differ: {'; '.join(parts)}"
    return None


def _blocks(runs: Sequence[Run]) -> str:
    return ", ".join(str(run.spec.block) for run in runs)


def _words(run: Run) -> str:
    return in_words(run.status.attestation) if run.status.attestation else ""


def unquantized(spec: QuantBenchmarkSpec, runs: Iterable[Run]) -> Mapping[CellKey, str]:
    """Cell → why none of its layers can be quantized: no kernel in the log, and weights as large as the baseline's.

    Versions before 0.14 do not print their layers, so that a run alone cannot tell: vLLM 0.11 to 0.31 leaves a GPTQ
    checkpoint in a folder without readable weights unquantized (0.24 auto_gptq.py maybe_update_config).
    """
    weights: dict[str, float] = {}
    suspects: list[tuple[CellKey, float]] = []
    for run in runs:
        found = run.status.attestation
        if not (found and found.weights_gibibytes and counts(run)):
            continue
        if run.spec.variant.name == spec.baseline and run.spec.variant.method is Method.BF16:
            weights[run.spec.target.name] = max(found.weights_gibibytes, weights.get(run.spec.target.name, 0.0))
        silent = found.quantized_layers is None and not found.linear_kernels
        if silent and run.spec.variant.method not in (Method.BF16, Method.CUSTOM):
            suspects.append((run.cell, found.weights_gibibytes))
    return {
        cell: f"no kernel in the log and {own:g} GiB of weights, {weights[cell[1]]:g} GiB in {spec.baseline}"
        for cell, own in suspects
        if own >= AS_LARGE * weights.get(cell[1], math.inf)
    }


def void(spec: QuantBenchmarkSpec, runs: Sequence[Run]) -> set[CellKey]:
    """Cells whose starts have no figures of their own: they ran different configurations, or none that is quantized."""
    differing = {cell for cell, marks in attested_starts(runs).items() if len(marks) > 1}
    return differing | unquantized(spec, runs).keys()


def effective(runs: Iterable[Run]) -> tuple[str | None, str | None]:
    """What the starts of one cell ran, in short, and its fingerprint; the last attested start speaks for all.

    A run that ended otherwise than measured counts too, because a mismatch is to be seen; one under way does not, which
    would cost a write of the study's status. No fingerprint where the measured starts differ.
    """
    listed = sorted((run for run in runs if run.status.verdict), key=lambda run: run.spec.block)
    attested = [run.status.attestation for run in listed if run.status.attestation]
    words = next((text for text in map(in_words, reversed(attested)) if text), None)
    marks = [mark for of in attested_starts(listed).values() for mark in of]
    return words, marks[0] if len(marks) == 1 else None
