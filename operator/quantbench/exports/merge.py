"""Several exports as one study: parts of one study, or the sittings in which GPU time was to be had.

A sitting measures some of the variants, and the baseline with them. Its blocks stay blocks: they are numbered after
those of the sittings that began before it, so that each ratio is taken within its own block, wherever and whenever that
was.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import zip_longest
from typing import Any

from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import MAX_STARTS, QuantBenchmarkSpec, Variant
from quantbench.api.conditions import Condition, ConditionType, Reason
from quantbench.api.status import Cell
from quantbench.effective import CellKey
from quantbench.exports.figures import figures, judged_once
from quantbench.exports.secrets import without_secrets
from quantbench.exports.standing import as_it_stands, closed, judged, reopened, told
from quantbench.exports.study import SITTINGS, ExportError, Study, in_order
from quantbench.observe import Benchmark, Run
from quantbench.plan import plan_hash
from quantbench.status import comparability

_WORK = ("model", "engine", "baseline", "targets", "workload", "loads")
_MAY_DIFFER = ("starts", "maxStarts", "control")
"""Of the sampling: they say how much was measured, not what."""


def merged(studies: Sequence[Study], *, as_they_stand: bool = False) -> Study:
    """Put the runs of several exports together; blocks stay blocks.

    Exports of one study (the same object, or the same plan and runs in common) complete each other. Others are sittings
    of one study: they may differ in their variants, in how often these were started, and in what shapes no work. The
    figures are computed anew from all runs, and judged once. The first study gives the name and what else describes the
    whole.

    Args:
        studies: the exports, at least one.
        as_they_stand: whether sittings that have not ended are to be taken as if no run followed.

    Raises:
        ExportError: they asked for different work, one name stands for two variants, two of them hold different runs
            for one place of the plan, one run stands in two sittings, or a sitting was refused.
    """
    first, *others = studies
    for other in others:
        _check_work(first.benchmark, other.benchmark)
    variants = _union([study.benchmark for study in studies]) if others else ()
    sittings = [_completed(group) for group in _groups(studies)]
    if as_they_stand:
        sittings = [as_it_stands(sitting) for sitting in sittings]
    if len(sittings) == 1:
        return sittings[0]
    _refuse_unaccepted(sittings)
    _refuse_twins(sittings)
    return _one_after_another(first.benchmark, variants, sittings)


# --- one study in several exports ------------------------------------------------------------------------------------


def _groups(studies: Sequence[Study]) -> list[list[Study]]:
    """The exports of each study."""
    groups: list[list[Study]] = []
    for study in studies:
        own = [group for group in groups if any(_same(one, study) for one in group)]
        groups = [group for group in groups if group not in own]
        groups.append([one for group in own for one in group] + [study])
    return groups


def _same(one: Study, other: Study) -> bool:
    runs = {run.uid for run in one.runs} & {run.uid for run in other.runs}
    return one.benchmark.uid == other.benchmark.uid or (bool(runs) and _plan_of(one) == _plan_of(other))


def _plan_of(study: Study) -> str:
    # The stored one first: an export's credentials are taken out, which changes the digest of its specification.
    return study.benchmark.status.plan_hash or plan_hash(study.benchmark.spec)


def _completed(studies: Sequence[Study]) -> Study:
    """The runs of all exports of one study."""
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
        for run in map(reopened, study.runs):
            place = (*run.cell, run.spec.block)
            runs[place] = _newer(runs[place], run) if place in runs else run
    together = in_order(list(runs.values()))
    last = max(studies, key=_recency)
    spec = judged(first, together)
    update = figures(spec, together, wanted, complete=last.ended, asked=last.planned)
    update["conditions"] = _compared(last.benchmark.status.conditions, spec, update["cells"], complete=last.ended)
    whole = Study(replace(first.benchmark, status=last.benchmark.status.model_copy(update=update)), together)
    return closed(whole) if last.cut_off else whole


def _recency(study: Study) -> tuple[bool, datetime, int, int]:
    """Sorts exports of one study by how late they were written: one that has ended may go on with a larger budget.

    One that was cut off says least: another export may know what became of the runs that were left.
    """
    conditions = study.benchmark.status.conditions
    told = (condition.last_transition_time for condition in conditions if condition.type == ConditionType.COMPLETE)
    moved = max(times.moments(told), default=times.from_unix(0))
    return not study.cut_off, moved, sum(run.ended for run in study.runs), len(study.runs)


def _compared(
    conditions: tuple[Condition, ...], spec: QuantBenchmarkSpec, cells: Sequence[Cell], *, complete: bool
) -> tuple[Condition, ...]:
    """The conditions with what all runs together say of the ratios."""
    status, reason, message = comparability(spec, cells, complete=complete)
    return _reworded(conditions, ConditionType.COMPARABLE, status=status, reason=reason, message=message[:1024])


def _reworded(conditions: tuple[Condition, ...], kind: ConditionType, **fields: str) -> tuple[Condition, ...]:
    """The conditions with other fields of one of them; when it changed stays what its study said."""
    return tuple(one.model_copy(update=fields) if one.type == kind else one for one in conditions)


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
    return max(other, one, key=_lateness)


def _lateness(run: Run) -> tuple[bool, int, int, datetime, str]:
    """Sorts states of one run by how late they are; at last by their text, lest the order of files decide."""
    status = run.status
    news = max(told(run), default=times.from_unix(0))
    return status.verdict is not None, status.attempt, len(status.passes), news, status.model_dump_json()


# --- sittings --------------------------------------------------------------------------------------------------------


def _check_work(first: Benchmark, other: Benchmark) -> None:
    """Refuse what was not measured alike."""
    one, two = (_work(benchmark.spec) for benchmark in (first, other))
    found = next(_differences(one, two, "spec"), None)
    if found:
        path, before, after = found
        raise ExportError(
            f"{other.name} asked for other work than {first.name}: {path} is {_shown(after)}, not {_shown(before)};"
            " such figures can be compared, not merged"
        )


def _open(variant: Variant) -> Any:
    return without_secrets(variant).to_json()


def _work(spec: QuantBenchmarkSpec) -> JsonObject:
    content = without_secrets(spec).to_json()
    sampling = {key: value for key, value in content["sampling"].items() if key not in _MAY_DIFFER}
    return {**{field: content[field] for field in _WORK}, "sampling": sampling}


def _differences(one: Any, other: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """The smallest parts of two JSON values that differ, each with its path; None for what is absent."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            yield from _differences(one.get(key), other.get(key), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list):
        for place, (before, after) in enumerate(zip_longest(one, other)):
            yield from _differences(before, after, f"{path}[{place}]")
    elif one != other:
        yield path, one, other


def _shown(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _union(benchmarks: Sequence[Benchmark]) -> tuple[Variant, ...]:
    """Every variant once, in the order in which they come."""
    found: dict[str, tuple[Variant, str]] = {}
    for benchmark in benchmarks:
        for place, variant in enumerate(benchmark.spec.variants):
            known, where = found.setdefault(variant.name, (variant, benchmark.name))
            path = f"spec.variants[{place}]"
            difference = next(_differences(_open(known), _open(variant), path), None)
            if difference:
                field, before, after = difference
                raise ExportError(
                    f"{variant.name} is one variant in {where} and another in {benchmark.name}: {field} is"
                    f" {_shown(after)}, not {_shown(before)}; rename one of them"
                )
    return tuple(variant for variant, _ in found.values())


def _refuse_unaccepted(sittings: Sequence[Study]) -> None:
    """No run of such a study will ever follow, so that the whole would never end, and it would pass for refused."""
    for sitting in sittings:
        if sitting.refused and not sitting.runs:
            why = sitting.condition(ConditionType.ACCEPTED)[2]
            raise ExportError(f"{sitting.benchmark.name} was not accepted ({why}), and has no runs: leave it out")


def _refuse_twins(sittings: Sequence[Study]) -> None:
    """A run counts once: as two starts it would make every interval too narrow."""
    seen: dict[str, str] = {}
    for sitting in sittings:
        for run in sitting.runs:
            if run.uid in seen:
                raise ExportError(
                    f"run {run.name} of {sitting.benchmark.name} stands in {seen[run.uid]}, too: give it once"
                )
        seen.update((run.uid, sitting.benchmark.name) for run in sitting.runs)


def _one_after_another(head: Benchmark, variants: tuple[Variant, ...], sittings: Sequence[Study]) -> Study:
    ordered = sorted(sittings, key=lambda study: (min((run.created_at for run in study.runs), default=""), _uid(study)))
    runs: list[Run] = []
    names: set[str] = set()
    blocks = 0
    for sitting in ordered:
        own = sorted({run.spec.block for run in sitting.runs})
        number = {block: place for place, block in enumerate(own, blocks + 1)}
        for run in sitting.runs:
            moved = run.spec.model_copy(update={"block": number[run.spec.block]})
            # Results of other tools may give two runs one name; what is written per run would overwrite the other's.
            name = run.name if run.name not in names else f"{run.name[:57].rstrip('-.')}-{moved.block}"
            names.add(name)
            runs.append(replace(run, name=name, spec=moved))
        blocks += len(own)
    if blocks > MAX_STARTS:
        raise ExportError(f"{blocks} blocks in all: a study holds {MAX_STARTS} at most")
    together = in_order(runs)
    spec = _spec(head.spec, variants, [sitting.benchmark.spec for sitting in ordered])
    whole = judged_once(spec, together)
    complete = all(sitting.ended for sitting in ordered)
    asked = sum((sitting.planned for sitting in ordered), Counter[CellKey]())
    update = figures(whole, together, plan_hash(whole), complete=complete, asked=asked) | _costs(ordered)
    update["conditions"] = _compared(update["conditions"], whole, update["cells"], complete=complete)
    status = head.status.model_copy(update=update)
    digest = hashlib.sha256("/".join(_uid(sitting) for sitting in ordered).encode()).hexdigest()[:16]
    return Study(replace(head, uid=f"{SITTINGS}{digest}", spec=spec, status=status), together)


def _uid(study: Study) -> str:
    return study.benchmark.uid


def _spec(
    spec: QuantBenchmarkSpec, variants: tuple[Variant, ...], parts: Sequence[QuantBenchmarkSpec]
) -> QuantBenchmarkSpec:
    """The study that all sittings are part of: applied again, it would start each variant as often as they did."""
    update = {
        "starts": max(part.sampling.starts for part in parts),
        "max_starts": max(part.sampling.most_starts for part in parts),
        "control": any(part.sampling.control for part in parts),
    }
    return spec.model_copy(update={"variants": variants, "sampling": spec.sampling.model_copy(update=update)})


def _costs(sittings: Sequence[Study]) -> JsonObject:
    statuses = [sitting.benchmark.status for sitting in sittings]
    hours = [status.gpu_hours for status in statuses if status.gpu_hours is not None]
    unended = next((status for sitting, status in zip(sittings, statuses, strict=True) if not sitting.ended), None)
    return {
        "active_runs": sum(status.active_runs or 0 for status in statuses),
        "conditions": unended.conditions if unended else _end(sittings),
        "gpu_hours": sum(hours) if hours else None,
        "started_at": min((status.started_at for status in statuses if status.started_at), default=None),
        "finished_at": None
        if unended
        else max((status.finished_at for status in statuses if status.finished_at), default=None),
    }


def _end(sittings: Sequence[Study]) -> tuple[Condition, ...]:
    """The conditions of the last sitting, with what is to be said of those that came to an end with runs left, or of
    all.
    """
    ends = [(one.benchmark.name, *one.condition(ConditionType.COMPLETE)[1:]) for one in sittings]
    reasons = [reason for _, reason, _ in ends]
    chosen = next((reason for reason in (Reason.CUT_OFF, Reason.BUDGET_SPENT) if reason in reasons), reasons[-1])
    said = "; ".join(f"{name}: {message}" for name, reason, message in ends if reason == chosen)
    conditions = sittings[-1].benchmark.status.conditions
    return _reworded(conditions, ConditionType.COMPLETE, reason=chosen, message=said[:1024])
