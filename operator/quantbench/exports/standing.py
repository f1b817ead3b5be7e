"""A study that was cut off, read as it stands.

An export of a study that had not ended is undecided: more starts may follow. Where the cluster is gone none ever does,
and no budget is left to be lowered.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from quantbench import times
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.conditions import ConditionType, Reason
from quantbench.api.names import Verdict
from quantbench.api.run import Outcome
from quantbench.api.status import Cell
from quantbench.exports.figures import figures, judged_once
from quantbench.exports.study import Study
from quantbench.observe import Run
from quantbench.plan import plan_hash
from quantbench.status import comparability, gpu_hours, set_condition


def as_it_stands(study: Study) -> Study:
    """The study as if no run followed; one that has ended, or was refused before any run, is left alone."""
    return study if study.ended or (study.refused and not study.runs) else closed(study)


def closed(study: Study) -> Study:
    """The study as ended, whatever its conditions say.

    The blocks are judged by those of their runs that have ended, at the looks that were due up to there; what later
    looks might have spent of the error stays unspent. Of runs that were under way the finished passes count; those
    without any stay listed. The conditions say how it came to its end, and its costs count until the last news of its
    runs.
    """
    benchmark, old = study.benchmark, study.benchmark.status
    spec = judged(study, study.runs)
    digest = old.plan_hash or plan_hash(benchmark.spec)
    runs = tuple(map(_cut_off, study.runs))
    update = figures(spec, runs, digest, complete=True, asked=study.planned)
    cells: Sequence[Cell] = update["cells"]
    news = max(_news(study), default=None)
    message = _message(news, cells, unended=sum(not run.ended for run in runs))
    conditions = old.conditions
    for kind, status, reason, said in (
        (ConditionType.PROGRESSING, "False", Reason.CUT_OFF, "no run follows"),
        (ConditionType.COMPLETE, "True", Reason.CUT_OFF, message),
        (ConditionType.COMPARABLE, *comparability(benchmark.spec, cells, complete=True)),
    ):
        conditions = set_condition(
            conditions, kind, status, reason, said, generation=old.observed_generation, now=news or times.from_unix(0)
        )
    update |= {
        "conditions": conditions,
        "active_runs": 0,
        "gpu_hours": float(f"{sum(map(_hours, study.runs)):.6g}"),
        "finished_at": times.render(news) if news else None,
    }
    return Study(replace(benchmark, status=old.model_copy(update=update)), runs)


def _cut_off(run: Run) -> Run:
    """A run that was under way, with the verdict by which its finished passes count.

    None of them does where no pass of a whole load is valid: its end would have taken the run out of the figures.
    """
    plan = run.spec.load
    finished = [one for one in run.status.passes if one.attempt == run.status.attempt]
    done = Counter(one.load for one in finished)
    valid = Counter(one.load for one in finished if one.valid)
    asked = {load.name: load.repeats or plan.repeats for load in plan.loads}
    if run.status.verdict or not valid or any(done[load] >= asked[load] and not valid[load] for load in asked):
        return run
    counted = ", ".join(f"{valid[load]} of {number} of {load}" for load, number in asked.items())
    outcome = Outcome(name=Verdict.CUT_OFF, reason=Reason.CUT_OFF, message=f"passes that count: {counted}"[:1024])
    return replace(run, status=run.status.model_copy(update={"verdict": outcome}))


def reopened(run: Run) -> Run:
    """The run without the verdict of having been cut off: another export may know what became of it."""
    if run.ended or not run.status.verdict:
        return run
    return replace(run, status=run.status.model_copy(update={"verdict": None}))


def judged(study: Study, runs: Sequence[Run]) -> QuantBenchmarkSpec:
    """The specification by which runs of a study are judged: all blocks at once if several sittings made it."""
    spec = study.benchmark.spec
    return judged_once(spec, runs) if study.of_sittings else spec


def _message(news: datetime | None, cells: Sequence[Cell], *, unended: int) -> str:
    if news is None:
        return "judged as it stood before any run was planned"
    ended, asked = sum(cell.finished for cell in cells), sum(cell.planned for cell in cells)
    missing = asked - ended - unended
    left = [f"{unended} of {asked} runs had not ended"] if unended else []
    left += [f"{missing} of {asked} had not been started"] if missing else []
    return f"judged as it stood at {news:%Y-%m-%d %H:%M} UTC: {', '.join(left) or f'all {asked} runs had ended'}"


def _news(study: Study) -> Iterator[datetime]:
    """Every moment that the runs tell of; of a study without runs, those of its conditions."""
    if study.runs:
        return (moment for run in study.runs for moment in told(run))
    return times.moments(condition.last_transition_time for condition in study.benchmark.status.conditions)


def told(run: Run) -> Iterator[datetime]:
    """Every moment that a run tells of."""
    written = [run.created_at, *run.status.times.to_json().values()]
    written += [condition.last_transition_time for condition in run.status.conditions]
    return times.moments(written)


def _hours(run: Run) -> float:
    """What a run has cost until its own last news [GPU-hours]: another sitting may be days later."""
    return gpu_hours([run], times.render(max(told(run), default=times.from_unix(0)))).total
