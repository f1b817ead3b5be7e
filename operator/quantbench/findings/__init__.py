"""Sentences that the data of a study say, each with what it rests on, the most important first."""

from collections import Counter
from collections.abc import Iterable, Sequence

from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.status import MAX_FINDINGS, Cell, Crossover, Finding
from quantbench.findings import comparisons, conditions, configurations, starts
from quantbench.findings.facts import Study, make_finding
from quantbench.observe import Run

LARGEST = 16 * 1024
"""Most of a status that findings may take [bytes]: a study with hundreds of rows needs the rest for its figures."""
TELLERS = (
    comparisons.differences,
    comparisons.control,
    comparisons.single_starts,
    configurations.duplicates,
    configurations.mismatches,
    configurations.degraded,
    configurations.failures,
    conditions.crossings,
    starts.starts_disagree,
    conditions.saturation,
    conditions.api_server_bound,
    conditions.throttled,
    conditions.excluded,
)


def findings(
    spec: QuantBenchmarkSpec, cells: Sequence[Cell], runs: Iterable[Run], crossovers: Sequence[Crossover] = ()
) -> tuple[Finding, ...]:
    """What a study has to say so far, at most `MAX_FINDINGS`; if there is more, the last one counts the others.

    Args:
        spec: the study.
        cells: its figures, with their judgements.
        runs: its runs; those without a verdict say nothing yet.
        crossovers: where variants overtake each other, the most useful first.
    """
    of_cell: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.spec.block, run.name)):
        if run.status.verdict:
            of_cell.setdefault(run.cell, []).append(run)
    study = Study(spec, cells, crossovers, of_cell)
    said = [item for teller in TELLERS for item in teller(study)]
    said.sort(key=lambda item: (item.rank, item.load))
    return _bounded([item.finding for item in said])


def _bounded(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """As many as the API takes and as fit into `LARGEST`; the last one counts what is left out."""
    kept = len(found)
    size = 0
    for number, finding in enumerate(found):
        size += len(finding.model_dump_json(by_alias=True, exclude_none=True).encode())
        if size > LARGEST or (number == MAX_FINDINGS - 1 and len(found) > MAX_FINDINGS):
            kept = number
            break
    if kept == len(found):
        return tuple(found)
    left = found[kept:]
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(finding.kind for finding in left).items())
    return (*found[:kept], make_finding(left[0].kind, f"and {len(left)} more: {counts}"))
