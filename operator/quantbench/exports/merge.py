"""Several exports of one study, measured at different times or on different clusters, as one study."""

from collections.abc import Sequence
from dataclasses import replace

from quantbench.exports.figures import figures
from quantbench.exports.study import ExportError, Study, in_order
from quantbench.observe import Run
from quantbench.plan import plan_hash


def merged(studies: Sequence[Study]) -> Study:
    """Put the runs of several exports together; blocks stay blocks.

    The figures are computed anew from all runs. The first study gives the name and what else describes the whole.

    Raises:
        ExportError: they asked for different work, or two of them hold different runs for one place of the plan.
    """
    first, *others = studies
    if not others:
        return first
    wanted = _plan_of(first)
    for other in others:
        if _plan_of(other) != wanted:
            raise ExportError(
                f"{other.benchmark.name} asked for other work than {first.benchmark.name}"
                f" (plan {_plan_of(other)}, not {wanted}): such figures can be compared, not merged"
            )
    runs: dict[tuple[str, str, int], Run] = {}
    for study in studies:
        for run in study.runs:
            place = (*run.cell, run.spec.block)
            runs[place] = _newer(runs[place], run) if place in runs else run
    together = in_order(list(runs.values()))
    status = figures(first.benchmark.spec, together, wanted, complete=any(study.ended for study in studies))
    conditions = next((s.benchmark.status.conditions for s in studies if s.ended), first.benchmark.status.conditions)
    update = {**status, "conditions": conditions}
    return Study(
        replace(first.benchmark, status=first.benchmark.status.model_copy(update=update)),
        together,
    )


def _plan_of(study: Study) -> str:
    # The stored one first: an export's credentials are taken out, which changes the digest of its specification.
    return study.benchmark.status.plan_hash or plan_hash(study.benchmark.spec)


def _newer(one: Run, other: Run) -> Run:
    """Of two states of one run the later one.

    Raises:
        ExportError: they are different runs.
    """
    if one.uid == other.uid and one.status.passes and other.status.passes:
        shared = {measured.key: measured for measured in one.status.passes}
        same = all(shared.get(measured.key, measured) == measured for measured in other.status.passes)
    else:
        same = one.uid == other.uid
    ended = [run.status.verdict for run in (one, other) if run.status.verdict]
    if not same or (len(ended) == 2 and ended[0] != ended[1]):
        variant, target = one.cell
        raise ExportError(
            f"two different runs of {variant} on {target} in block {one.spec.block}: {one.name} and {other.name};"
            " a block is measured once"
        )
    return other if (other.status.verdict is not None) >= (one.status.verdict is not None) else one
