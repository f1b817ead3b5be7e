"""What stands behind the figures: findings, failures, duplicates, cold starts, passes that do not count."""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from quantbench import times
from quantbench.api.names import FindingKind, Verdict
from quantbench.api.run import ColdStart, Outcome, Pass
from quantbench.effective import MEASURED
from quantbench.exports import Study
from quantbench.observe import Run
from quantbench.report.document import Block, Column, Entry, Item, Items, Paragraph, Table, Tone
from quantbench.report.figures import NONE, share, significant

WARNINGS = frozenset(
    {
        FindingKind.MISMATCH,
        FindingKind.DEGRADED,
        FindingKind.EXCLUDED,
        FindingKind.THROTTLED,
        FindingKind.FAILED,
        FindingKind.SATURATED,
        FindingKind.API_SERVER_BOUND,
        FindingKind.STARTS_DISAGREE,
    }
)
"""Findings that take something away from the figures."""
MOST_FAILURES = 500
"""Different failures that are listed; one study has 400 cells with figures at most."""


def cells_of(study: Study) -> dict[tuple[str, str], list[Run]]:
    """Runs by variant and target, cells in the order of the status, runs in the order of their blocks."""
    found: dict[tuple[str, str], list[Run]] = {(cell.variant, cell.target): [] for cell in study.benchmark.status.cells}
    for run in sorted(study.runs, key=lambda run: run.spec.block):
        found.setdefault(run.cell, []).append(run)
    return found


def findings(study: Study) -> tuple[Block, ...]:
    """The sentences of the status, each with its evidence."""
    found = study.benchmark.status.findings
    items = tuple(Item(_words(one.kind), one.message, one.evidence, one.kind in WARNINGS) for one in found)
    return (Items(items),) if items else ()


def _words(kind: FindingKind) -> str:
    """``NoDifference`` → ``No difference``, ``APIServerBound`` → ``API server bound``."""
    first, *others = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", str(kind))
    return " ".join([first, *(word.lower() for word in others)])


def failures(study: Study) -> tuple[Block, ...]:
    """Runs that ended otherwise than measured, equal ends of one cell told once, and how every cell ended."""
    ends: dict[tuple[str, str, Outcome], list[Run]] = {}
    for (variant, target), runs in cells_of(study).items():
        for run in runs:
            outcome = run.status.verdict
            if outcome and outcome.name not in (Verdict.MEASURED, Verdict.DUPLICATE):
                ends.setdefault((variant, target, outcome), []).append(run)
    rows = []
    for (variant, target, outcome), runs in list(ends.items())[:MOST_FAILURES]:
        count = f"{len(runs)} starts: " if len(runs) > 1 else "start "
        blocks = count + ", ".join(str(run.spec.block) for run in runs)
        end = Entry(str(outcome.name), (outcome.reason,), _tone(outcome.name))
        line = Entry(outcome.log_line or NONE, code=bool(outcome.log_line))
        rows.append((Entry(variant, (target, blocks)), end, Entry(outcome.message), line, Entry(outcome.hint or NONE)))
    blocks_: list[Block] = []
    if rows:
        names = ("variant, target", "verdict", "why", "first telling line of the log", "what to change")
        blocks_.append(Table("Refused or failed", tuple(map(Column, names)), tuple(rows), wide=True))
    if len(ends) > MOST_FAILURES:
        blocks_.append(Paragraph(f"{len(ends) - MOST_FAILURES} more are not listed; the export of the study has them."))
    return (*blocks_, *_cells(study), _meanings(study))


def _cells(study: Study) -> tuple[Block, ...]:
    """How every cell ended, as the status says it; a cell without a word says nothing but its verdict."""
    rows = tuple(
        (
            Entry(cell.variant),
            Entry(cell.target),
            Entry(str(cell.verdict or "none yet"), tone=_tone(cell.verdict)),
            Entry(f"{cell.finished} of {cell.planned}"),
            Entry(cell.message or NONE),
        )
        for cell in study.benchmark.status.cells
    )
    columns = (Column("variant"), Column("target"), Column("verdict"), Column("ended", number=True), Column("message"))
    return (Table("How every variant ended", columns, rows),) if rows else ()


def _tone(verdict: Verdict | None) -> Tone:
    if verdict in (None, Verdict.CUT_OFF):
        return Tone.OPEN
    return Tone.PLAIN if verdict is Verdict.MEASURED else Tone.EQUAL if verdict is Verdict.DUPLICATE else Tone.FAILED


def _meanings(study: Study) -> Items:
    """Of the verdicts that occur."""
    cells = {cell.verdict for cell in study.benchmark.status.cells if cell.verdict}
    said = cells | {run.status.verdict.name for run in study.runs if run.status.verdict}
    return Items(tuple(Item(str(verdict), verdict.meaning) for verdict in Verdict if verdict in said))


def duplicates(study: Study) -> tuple[Block, ...]:
    """Variants that ran what another one ran: one configuration under two names."""
    found = [cell for cell in study.benchmark.status.cells if cell.same_as]
    rows = tuple(
        (
            Entry(cell.variant),
            Entry(cell.target),
            Entry(cell.same_as or NONE),
            Entry(cell.effective or NONE),
            Entry(cell.fingerprint or NONE, code=True),
        )
        for cell in found
    )
    names = ("variant", "target", "same as", "what both ran", "fingerprint")
    return (Table("One configuration under two names", tuple(map(Column, names)), rows),) if rows else ()


# --- cold starts -------------------------------------------------------------------------------------------------

Seconds = Callable[[Run], float | None]


def _cold(of: Callable[[ColdStart], float | None]) -> Seconds:
    return lambda run: of(run.status.cold_start) if run.status.cold_start else None


def _between(start: str, end: str) -> Seconds:
    return lambda run: times.seconds_between(getattr(run.status.times, start), getattr(run.status.times, end))


def _model(cold: ColdStart) -> float | None:
    """Loading the model without its weights."""
    return None if cold.model_seconds is None else max(0.0, cold.model_seconds - (cold.weights_seconds or 0.0))


def _engine(cold: ColdStart) -> float | None:
    """Profiling, KV cache and warm-up without compilation and graph capture."""
    inside = (cold.compile_seconds or 0.0) + (cold.graph_capture_seconds or 0.0)
    return None if cold.engine_seconds is None else max(0.0, cold.engine_seconds - inside)


PARTS: dict[str, Seconds] = {
    "weights": _cold(lambda cold: cold.weights_seconds),
    "rest of the model": _cold(_model),
    "torch.compile": _cold(lambda cold: cold.compile_seconds),
    "CUDA graphs": _cold(lambda cold: cold.graph_capture_seconds),
    "profiling, KV cache, warm-up": _cold(_engine),
}
"""What the server's own log says its start was spent on [s]; the parts do not overlap."""
_POD = _between("server_created", "server_started")
READY = _between("server_started", "ready")
"""From the start of the server's container until it answered [s]."""


def middle(of: Seconds, runs: Iterable[Run]) -> float | None:
    """The median over the starts that say it [s]."""
    known = [value for value in map(of, runs) if value is not None and value >= 0]
    return statistics.median(known) if known else None


def by_compilation(runs: Iterable[Run]) -> list[tuple[str, list[Run]]]:
    """Starts that compiled, those that found compiled code in a cache, and those of which that is not known; each with
    its word. A start from the cache takes a fraction of the time, so that no median may mix them.
    """
    words = {False: "compiled", True: "from the cache", None: NONE}
    groups: dict[bool | None, list[Run]] = {hit: [] for hit in words}
    for run in runs:
        groups[run.status.cold_start.compile_cache_hit if run.status.cold_start else None].append(run)
    return [(words[hit], found) for hit, found in groups.items() if found]


def cold_starts(study: Study) -> tuple[Block, ...]:
    """What the starts of every cell took: medians, without and with compiled code in a cache."""
    rows = []
    for (variant, target), runs in cells_of(study).items():
        told = [run for run in runs if run.status.times.ready or run.status.cold_start]
        for code, group in by_compilation(told):
            figures = [middle(of, group) for of in (_POD, READY, *PARTS.values())]
            entries = (Entry(_seconds(figure)) for figure in figures)
            rows.append((Entry(variant), Entry(target), Entry(code), Entry(str(len(group))), *entries))
    if not rows:
        return ()
    names = ("starts", "pod created → container runs", "container runs → ready", *PARTS)
    columns = (
        Column("variant"),
        Column("target"),
        Column("torch.compile's code"),
        *(Column(name, number=True) for name in names),
    )
    note = (
        "Medians over starts, in seconds. The parts are those that vLLM's own log tells; Python imports, process start"
        " and the download of a model are in the time to ready, and in none of the parts."
    )
    return (Paragraph(note), Table("What a server start takes", columns, tuple(rows), wide=True))


def _seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:,.1f}"


# --- validity ----------------------------------------------------------------------------------------------------


def validity(study: Study) -> tuple[Block, ...]:
    """How many passes count, why others do not, and how client and server agreed in those that do."""
    left_out: dict[tuple[str, ...], list[Pass]] = {}
    uncounted: Counter[str] = Counter()
    rows = []
    total = valid = 0
    for (variant, target), runs in cells_of(study).items():
        counted: list[Pass] = []
        for run in runs:
            verdict = run.status.verdict
            for one in run.status.passes:
                total += 1
                if not one.valid:
                    reason = one.invalid_reason or "Invalid"
                    left_out.setdefault((variant, target, one.load, reason), []).append(one)
                elif one.attempt != run.status.attempt:
                    uncounted["of an attempt that was lost"] += 1
                elif verdict is None or verdict.name not in MEASURED:
                    uncounted[f"of a run that ended {verdict.name}" if verdict else "of a run that has not ended"] += 1
                else:
                    counted.append(one)
        valid += len(counted)
        if counted:
            rows.append((Entry(variant), Entry(target), *_agreement(counted)))
    if not total:
        return ()
    said = f"{valid} of {total} measured passes count."
    for reason, count in uncounted.items():
        said += f" {count} {'is' if count == 1 else 'are'} {reason}."
    blocks: list[Block] = [Paragraph(said)]
    if left_out:
        names = ("variant", "target", "load", "reason")
        columns = (*map(Column, names), Column("passes", number=True), Column("for example"))
        out = tuple(
            (*(Entry(word) for word in key), Entry(str(len(passes))), Entry(passes[0].message or NONE))
            for key, passes in left_out.items()
        )
        blocks.append(Table("Passes left out of the figures", columns, out))
    columns = (Column("variant"), Column("target"), *(Column(name, number=True) for name in _CHECKS))
    blocks.append(Table("Checks of the passes that count", columns, tuple(rows), wide=True))
    return tuple(blocks)


_CHECKS = ("passes", "client − server TPOT, most", "client CPU, most", "event loop lag, most",
           "preemptions", "prefix cache hits", "throttled, most", "SM clock, lowest")  # fmt: skip


def _agreement(passes: Sequence[Pass]) -> tuple[Entry, ...]:
    apart = [
        one.tpot_milliseconds.mean / one.server.mean_tpot_milliseconds - 1
        for one in passes
        if one.tpot_milliseconds.mean and one.server.mean_tpot_milliseconds
    ]
    lag = _most(one.client.max_event_loop_lag_milliseconds for one in passes)
    clock = [one.gpu.min_sm_clock_megahertz for one in passes if one.gpu and one.gpu.min_sm_clock_megahertz]
    return (
        Entry(str(len(passes))),
        Entry(share(max(apart, key=abs) if apart else None)),
        Entry(share(_most(one.client.cpu_share for one in passes))),
        Entry(NONE if lag is None else f"{significant(lag)} ms"),
        Entry(_sum(one.server.preemptions for one in passes)),
        Entry(_sum(one.server.prefix_cache_hits for one in passes)),
        Entry(share(_most(one.gpu.throttled_share if one.gpu else None for one in passes))),
        Entry(f"{min(clock):,.0f} MHz" if clock else NONE),
    )


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _sum(values: Iterable[int | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known):,}" if known else NONE
