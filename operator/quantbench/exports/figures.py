"""The figures of a study whose runs did not come from one cluster: the same builder as the operator's."""

from collections.abc import Mapping, Sequence

from quantbench.api.base import JsonObject
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.comparisons import Comparisons
from quantbench.effective import CellKey, duplicates, void
from quantbench.engine.version import OLDEST, EngineVersion
from quantbench.observe import Run
from quantbench.plan import Plan, PlannedRun
from quantbench.status import plan_fields


def figures(
    spec: QuantBenchmarkSpec,
    runs: Sequence[Run],
    digest: str,
    *,
    complete: bool,
    asked: Mapping[CellKey, int] | None = None,
) -> JsonObject:
    """The parts of the status that follow from the runs.

    Args:
        spec: the study.
        runs: its runs.
        digest: of the plan.
        complete: whether no run follows: until then what is not decided may still be. Then nothing waits for runs that
            have not ended either: blocks are judged by those of their runs that have.
        asked: runs of each cell that were planned; absent: those that are there. An export holds those only that were
            created.
    """
    planned = tuple(
        PlannedRun(
            name=run.name,
            variant=run.spec.variant.name,
            target=run.spec.target.name,
            block=run.spec.block,
            position=run.spec.position,
            refusal=run.spec.refusal,
        )
        for run in runs
    )
    left = {run.name for run in runs if not run.status.verdict} if complete else set()
    plan = Plan(hash=digest, version=_version(runs), runs=tuple(run for run in planned if run.name not in left))
    comparisons = Comparisons(spec, plan, runs, same_as=duplicates(spec, runs), void=void(spec, runs))
    fields = plan_fields(plan, planned, runs, spec, comparisons, complete=complete)
    cells = tuple(
        cell.model_copy(update={"planned": max(cell.planned, (asked or {}).get((cell.variant, cell.target), 0))})
        for cell in fields["cells"]
    )
    ended, of = sum(cell.finished for cell in cells), sum(cell.planned for cell in cells)
    return fields | {"cells": cells, "progress": f"{ended}/{of}"}


def judged_once(spec: QuantBenchmarkSpec, runs: Sequence[Run]) -> QuantBenchmarkSpec:
    """The study as if all its blocks had been asked for at once: when to stop was not its decision."""
    blocks = max((run.spec.block for run in runs), default=1)
    sampling = spec.sampling.model_copy(update={"starts": blocks, "max_starts": blocks})
    return spec.model_copy(update={"sampling": sampling})


def _version(runs: Sequence[Run]) -> EngineVersion:
    """Of the first run that says one; figures do not depend on it."""
    for run in runs:
        try:
            return EngineVersion.parse(run.spec.engine.version)
        except ValueError:
            continue
    return OLDEST
