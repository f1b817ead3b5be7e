"""A study that was cut off, read as it stands.

An export of a study that had not ended is undecided: more starts may follow. Where the cluster is gone none ever does,
and no budget is left to be lowered.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from quantbench import times
from quantbench.api.conditions import ConditionType, Reason
from quantbench.api.status import Cell
from quantbench.exports.figures import figures, judged_once
from quantbench.exports.study import Study
from quantbench.plan import plan_hash
from quantbench.status import comparability, gpu_hours, set_condition


def as_it_stands(study: Study) -> Study:
    """The study as if no run followed; one that has ended, or was never accepted, is left alone."""
    return study if study.ended or study.refused else closed(study)


def closed(study: Study) -> Study:
    """The study as ended, whatever its conditions say.

    The blocks are judged by those of their runs that have ended, at the looks that were due up to there; what later
    looks might have spent of the error stays unspent. Runs without a verdict stay listed and count for nothing. The
    conditions say how it came to its end, and its costs count until the last news of its runs.
    """
    benchmark, old = study.benchmark, study.benchmark.status
    spec = judged_once(benchmark.spec, study.runs) if study.of_sittings else benchmark.spec
    update = figures(spec, study.runs, old.plan_hash or plan_hash(benchmark.spec), complete=True)
    planned = {(cell.variant, cell.target): cell.planned for cell in old.cells}
    cells = tuple(_planned(cell, planned.get((cell.variant, cell.target), 0)) for cell in update["cells"])
    ended, asked = sum(cell.finished for cell in cells), sum(cell.planned for cell in cells)
    moment = max(_news(study), default=times.from_unix(0))
    message = _message(moment, ended, asked, unended=sum(1 for run in study.runs if not run.status.verdict))
    conditions = old.conditions
    for kind, status, reason, said in (
        (ConditionType.PROGRESSING, "False", Reason.CUT_OFF, "no run follows"),
        (ConditionType.COMPLETE, "True", Reason.CUT_OFF, message),
        (ConditionType.COMPARABLE, *comparability(benchmark.spec, cells, complete=True)),
    ):
        conditions = set_condition(
            conditions, kind, status, reason, said, generation=old.observed_generation, now=moment
        )
    update |= {
        "cells": cells,
        "progress": f"{ended}/{asked}",
        "conditions": conditions,
        "active_runs": 0,
        "gpu_hours": float(f"{gpu_hours(study.runs, times.render(moment)).total:.6g}"),
        "finished_at": times.render(moment),
    }
    return replace(study, benchmark=replace(benchmark, status=old.model_copy(update=update)))


def _planned(cell: Cell, known: int) -> Cell:
    """With the runs that were planned; an export holds those only that were created."""
    return cell.model_copy(update={"planned": max(cell.planned, known)})


def _message(moment: datetime, ended: int, asked: int, *, unended: int) -> str:
    missing = asked - ended - unended
    left = [f"{unended} of {asked} runs had not ended"] if unended else []
    left += [f"{missing} of {asked} had not been started"] if missing else []
    return f"judged as it stood at {moment:%Y-%m-%d %H:%M} UTC: {', '.join(left) or f'all {asked} runs had ended'}"


def _news(study: Study) -> Iterator[datetime]:
    """Every moment that the runs tell of; of a study without runs, those of its conditions."""
    told = [condition.last_transition_time for condition in study.benchmark.status.conditions]
    if study.runs:
        told = [run.created_at for run in study.runs]
    for run in study.runs:
        told += run.status.times.to_json().values()
        told += [condition.last_transition_time for condition in run.status.conditions]
    return (times.parse(text) for text in told if times.is_moment(text))
