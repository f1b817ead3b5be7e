"""The figures of a study whose runs did not come from one cluster: the same builder as the operator's."""

from collections.abc import Iterator, Mapping, Sequence

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
    created = [
        PlannedRun(
            name=run.name,
            variant=run.spec.variant.name,
            target=run.spec.target.name,
            block=run.spec.block,
            position=run.spec.position,
            refusal=run.spec.refusal,
        )
        for run in runs
    ]
    planned = (*created, *_not_started(created, asked or {}, spec.sampling.most_starts))
    ended = {run.name for run in runs if run.status.verdict}
    plan = Plan(
        hash=digest,
        version=_version(runs),
        runs=tuple(run for run in planned if not complete or run.name in ended),
    )
    comparisons = Comparisons(spec, plan, runs, same_as=duplicates(spec, runs), void=void(spec, runs))
    return plan_fields(plan, planned, runs, spec, comparisons, complete=complete)


def _not_started(created: Sequence[PlannedRun], asked: Mapping[CellKey, int], last_block: int) -> Iterator[PlannedRun]:
    """What was planned beyond what is there: while it may follow, its blocks have not ended."""
    blocks: dict[CellKey, set[int]] = {cell: set() for cell in asked}
    for run in created:
        blocks.setdefault((run.variant, run.target), set()).add(run.block)
    for (variant, target), number in asked.items():
        own = blocks[variant, target]
        free = [block for block in range(1, last_block + 1) if block not in own]
        for place in range(number - len(own)):
            name = f"{variant}-{target}-not-started-{place}"
            block = free[place] if place < len(free) else last_block
            yield PlannedRun(name, variant, target, block, position=0, refusal=None)


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
