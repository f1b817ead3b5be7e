"""The families of a scrape: what each metric is called, what it means, and its series."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from quantbench.api.benchmark import MAX_ROWS
from quantbench.api.names import Difference, FindingKind, Verdict
from quantbench.metrics.exposition import Family, line
from quantbench.metrics.facts import COLD_START, ROW_FIGURES, STAGES, Run, Study
from quantbench.metrics.state import State

STUDY = ("namespace", "benchmark")
CELL = (*STUDY, "variant", "target")
ROW = (*CELL, "load")
LOAD = (*STUDY, "load")
IDENTITY = (*STUDY, "uid", "model", "image", "baseline", "plan", "workload")
EFFECTIVE = (*CELL, "method", "effective", "fingerprint", "same_as")

OPERATOR_GAUGES: Mapping[str, str] = {
    "leader": "1 while this process leads.",
    "resync_age_seconds": "Time since the last complete listing.",
    "workqueue_depth": "Objects that wait for a worker.",
    "workqueue_oldest_seconds": "How long the first of them has waited.",
}
"""The operator's own state: metric name below ``quantbench_`` → documentation."""

STUDY_GAUGES: Mapping[str, tuple[str, Callable[[Study], float | None]]] = {
    "created_timestamp_seconds": ("When the study was created, since 1970.", lambda s: s.created),
    "accepted": ("1 if the specification can be carried out.", lambda s: float(s.accepted)),
    "suspended": ("1 while spec.suspend holds the study.", lambda s: float(s.suspended)),
    "complete": ("1 once no run is left.", lambda s: float(s.complete)),
    "active_runs": ("Runs that hold a server.", lambda s: float(s.active)),
    "gpu_limit_seconds": ("limits.gpuHours in seconds; absent without a limit.", lambda s: s.gpu_limit),
}
"""Metric name below ``quantbench_benchmark_`` → documentation, value."""

PER_ROW = len(ROW_FIGURES) + len(Difference)
PER_CELL = len(Verdict) + 3 + 2 * (len(STAGES) + len(COLD_START))
PER_LOAD = 2
PER_STUDY = len(STUDY_GAUGES) + 4 + len(FindingKind) + len(Verdict)
MAX_SERIES = MAX_ROWS * (PER_ROW + PER_CELL) + 32 * PER_LOAD + PER_STUDY
"""Most series of one benchmark: of its rows, cells (no more than rows), loads (at most 32) and its own."""


def operator_families(gauges: Mapping[str, float]) -> Iterator[Family]:
    """The operator's own state."""
    for name, about in OPERATOR_GAUGES.items():
        full = f"quantbench_{name}"
        yield Family(full, "gauge", about, (), [line(full, "", gauges[name])])


def study_families(state: State, clock: Callable[[], float] = time.time) -> Iterator[Family]:
    """Results and progress of every study, one family after the other; `clock` gives seconds since 1970."""
    studies, runs = state.studies, state.runs
    yield from _studies(studies, runs, clock())
    yield from _loads(studies)
    yield from _cells(studies, runs)
    yield from _rows(studies)


def _studies(studies: Sequence[Study], runs: Sequence[Run], now: float) -> Iterator[Family]:
    of_study = defaultdict[tuple[str, str], list[Run]](list)
    for run in runs:
        of_study[run.study].append(run)
    info = "quantbench_benchmark_info"
    about = "Always 1: what the study is; workload is equal where two studies ask for the same work."
    yield Family(info, "gauge", about, IDENTITY, (line(info, s.info, 1.0) for s in studies))
    for short, (about, value) in STUDY_GAUGES.items():
        name = f"quantbench_benchmark_{short}"
        values = ((s.labels, value(s)) for s in studies)
        yield Family(name, "gauge", about, STUDY, (line(name, at, v) for at, v in values if v is not None))

    def spent(study: Study) -> float:
        own = of_study.get(study.key, ())
        return study.gpu_seconds + sum(r.gpus * max(0.0, now - r.server_since) for r in own if r.server_since)

    def progress(study: Study) -> float:
        return max([study.changed, *(run.progress for run in of_study.get(study.key, ()))])

    for short, about, figure in (
        ("gpu_seconds", "GPUs × time that servers had a node, running ones included.", spent),
        ("passes", "Passes stored so far.", lambda s: float(sum(run.passes for run in of_study.get(s.key, ())))),
        ("last_progress_timestamp_seconds", "When a stage, a pass or a condition last changed, since 1970.", progress),
    ):
        name = f"quantbench_benchmark_{short}"
        yield Family(name, "gauge", about, STUDY, [line(name, s.labels, figure(s)) for s in studies])
    name = "quantbench_benchmark_findings"
    each = ((s, str(kind)) for s in studies for kind in FindingKind)
    lines = (line(name, f'{s.labels},kind="{kind}"', float(s.findings.get(kind, 0))) for s, kind in each)
    yield Family(name, "gauge", "Findings of a kind: sentences that the data say.", (*STUDY, "kind"), lines)
    name = "quantbench_benchmark_cells"
    about = "Cells (variant × target) whose runs ended with a verdict: the sum of quantbench_cell_verdict, for fleets."
    counts = ((s, Counter(cell.verdict for cell in s.cells)) for s in studies)
    lines = (line(name, f'{s.labels},verdict="{v}"', float(count[v])) for s, count in counts for v in Verdict)
    yield Family(name, "gauge", about, (*STUDY, "verdict"), lines)


def _loads(studies: Sequence[Study]) -> Iterator[Family]:
    loads = [load for study in studies for load in study.loads]
    name = "quantbench_load_max_concurrency"
    lines = (line(name, at, most) for at, most, _ in loads if most is not None)
    yield Family(name, "gauge", "Most requests in flight under a load; absent without a bound.", LOAD, lines)
    name = "quantbench_load_requests_per_second"
    lines = (line(name, at, rate) for at, _, rate in loads if rate is not None)
    yield Family(name, "gauge", "Request rate of a load; absent where all requests come at once.", LOAD, lines)


def _cells(studies: Sequence[Study], runs: Sequence[Run]) -> Iterator[Family]:
    cells = [cell for study in studies for cell in study.cells]
    name = "quantbench_cell_info"
    about = "Always 1: method, and what the servers really ran with its fingerprint, where it is known."
    yield Family(name, "gauge", about, EFFECTIVE, (line(name, cell.info, 1.0) for cell in cells))
    name = "quantbench_cell_verdict"
    about = "1 for the verdict of a variant on a target, 0 for the others; absent while no run has ended."
    yield Family(
        name, "gauge", about, (*CELL, "verdict"),
        _states(name, "verdict", Verdict, ((cell.labels, cell.verdict) for cell in cells)),
    )  # fmt: skip
    name = "quantbench_cell_runs_finished"
    lines = (line(name, cell.labels, float(cell.finished)) for cell in cells)
    yield Family(name, "gauge", "Runs of a variant on a target that ended.", CELL, lines)
    name = "quantbench_cell_runs_planned"
    lines = (line(name, cell.labels, float(cell.planned)) for cell in cells)
    yield Family(name, "gauge", "Runs of a variant on a target that are planned.", CELL, lines)
    of_cell = defaultdict[tuple[tuple[str, str], tuple[str, str]], list[Run]](list)
    for run in runs:
        of_cell[run.study, run.cell].append(run)
    grouped = [(cell.labels, of_cell.get((s.key, cell.key), [])) for s in studies for cell in s.cells]
    name = "quantbench_run_stage_seconds"
    what = "; ".join(f"{stage}: {meaning}" for stage, (_, _, meaning) in STAGES.items())
    yield Family(
        name, "summary", f"Time of each stage over the runs' last attempts: sum and count. {what}.", (*CELL, "stage"),
        _sums(name, "stage", tuple(STAGES), ((at, [run.stages for run in own]) for at, own in grouped)),
    )  # fmt: skip
    name = "quantbench_run_cold_start_seconds"
    about = "What starting servers was spent on by their own logs: sum and count over runs; model includes weights."
    yield Family(
        name, "summary", about, (*CELL, "part"),
        _sums(name, "part", tuple(COLD_START), ((at, [run.cold for run in own]) for at, own in grouped)),
    )  # fmt: skip


def _rows(studies: Sequence[Study]) -> Iterator[Family]:
    rows = [row for study in studies for cell in study.cells for row in cell.rows]
    for place, (short, (_, about, _)) in enumerate(ROW_FIGURES.items()):
        name = f"quantbench_result_{short}"
        # NaN, which equals nothing, stands for absent. Written out, because there are so many of them.
        lines = [f"{name}{{{row.labels}}} {v!r}\n" for row in rows if (v := row.figures[place]) == v]
        yield Family(name, "gauge", about, ROW, lines)
    name = "quantbench_result_difference"
    about = "1 for what the row says about the variant against the baseline, 0 for the other words; absent: no ratio."
    yield Family(
        name, "gauge", about, (*ROW, "difference"),
        _states(name, "difference", Difference, ((row.labels, row.difference) for row in rows)),
    )  # fmt: skip


def _states(name: str, label: str, states: Iterable[str], found: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    """A state set: 1 for the state that an object is in, 0 for every other one."""
    every = [str(state) for state in states]
    # One replacement writes all lines of an object; no label holds the character that stands for its labels.
    blocks = {
        current: "".join(f'{name}{{\0,{label}="{state}"}} {1 if state == current else 0}\n' for state in every)
        for current in every
    }
    for labels, current in found:
        if current in blocks:
            yield blocks[current].replace("\0", labels)


def _sums(
    name: str, label: str, parts: Sequence[str], found: Iterable[tuple[str, Sequence[Sequence[float]]]]
) -> Iterator[str]:
    """Sum and count of each part over the runs that have it."""
    for labels, runs in found:
        for place, part in enumerate(parts):
            known = [run[place] for run in runs if run[place] == run[place]]
            if known:
                at = f'{labels},{label}="{part}"'
                yield f"{name}_sum{{{at}}} {sum(known):.9g}\n{name}_count{{{at}}} {len(known)}\n"
