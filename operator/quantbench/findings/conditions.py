"""Findings about the loads and the passes: crossovers, limits, what was left out, throttled GPUs."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from quantbench.answer import metric_of, of_target, place
from quantbench.api.benchmark import CONTROL, Load
from quantbench.api.names import FindingKind, Metric
from quantbench.api.run import GPUSamples, Pass
from quantbench.api.status import Cell, Crossover, LoadResult
from quantbench.findings.facts import (
    MOST_EVIDENCE,
    WITH_FIGURES,
    Rank,
    Said,
    Study,
    caution,
    make_finding,
    percent,
    were,
)
from quantbench.regimes import QUEUE_SHARE, Pressure, pressure, series

MOST_GUESSES = 3
"""Crossovers without an interval, of single starts, that are findings: a study of many variants has more of them than
anybody reads, and `status.crossovers` lists them, the most useful first."""
API_SERVER_SHARE = 0.1
"""Share of the decode time from which on the API server's lag is told: below, the engines still decide."""
THROTTLED_SHARE = 0.1
"""Share of the readings with lowered clocks from which on it is told: below, it was a moment."""


def crossings(study: Study) -> Iterator[Said]:
    """Where one variant overtakes another; of guesses, which have no interval, the first ones of each target only."""
    guesses: Counter[str] = Counter()
    for crossover in study.crossovers:
        guesses[crossover.target] += crossover.low is None
        if crossover.low is None and guesses[crossover.target] > MOST_GUESSES:
            continue
        message = (
            f"{crossover.other} is the faster one up to about {place(crossover)} on {crossover.target},"
            f" {crossover.variant} above"
        )
        yield Said(
            Rank.CHANGE,
            make_finding(
                FindingKind.CROSSOVER,
                message,
                target=crossover.target,
                variants=(crossover.variant, crossover.other),
                evidence=_around(study, crossover),
            ),
        )


def _around(study: Study, crossover: Crossover) -> list[str]:
    """The figures of both variants under the loads nearest to the place, in the order of the loads."""
    rows = {cell.variant: {row.load: row for row in cell.loads} for cell in of_target(study.cells, crossover.target)}
    below, above = rows.get(crossover.other, {}), rows.get(crossover.variant, {})
    points = [
        (at, load)
        for one in series(study.spec)
        if one.axis is crossover.axis
        for at, load in one.loads
        if load in below and load in above
    ]
    nearest = sorted(points, key=lambda point: abs(math.log(point[0]) - math.log(crossover.at or 1)))[:MOST_EVIDENCE]
    loads = {load.name: load for load in study.spec.loads}
    return [
        f"{load}: {crossover.other} {_speed(loads[load], below[load])},"
        f" {crossover.variant} {_speed(loads[load], above[load])}"
        for _, load in sorted(nearest)
    ]


def _speed(load: Load, row: LoadResult) -> str:
    metric = metric_of(load, row)
    latency = {Metric.TTFT: row.mean_ttft_milliseconds, Metric.TPOT: row.mean_tpot_milliseconds}.get(metric)
    if latency is not None:
        return f"{metric} {latency:,.2f} ms"
    return f"{row.total_tokens_per_second:,.1f} tokens/s"


def saturation(study: Study) -> Iterator[Said]:
    """Loads under which servers were at their limit: their TTFT is no latency."""
    for number, load in enumerate(study.spec.loads):
        for target in study.spec.targets:
            rows = [item for item in study.rows(target.name, load) if item[0].variant != CONTROL]
            full = [(cell, row) for cell, row in rows if row.saturated]
            if not full:
                continue
            seen = {cell.variant: pressure(row, study.valid(cell, load.name)) for cell, row in full}
            shares = [one.queue_share for one in seen.values()]
            waited = any(share is None or share >= QUEUE_SHARE for share in shares)
            message = (
                f"{load.name} on {target.name}: {len(full)} of {len(rows)} variants {were(len(full))} at"
                f" {'its' if len(full) == 1 else 'their'} limit: "
            ) + ("mean TTFT there is the length of a queue" if waited else "more load brought no more throughput")
            if any(row.decided_by is Metric.THROUGHPUT for _, row in full):
                message += "; not all kept up with the rate, so that throughput is compared, not TPOT"
            words = {cell.variant: _waited(row, seen[cell.variant]) for cell, row in full}
            yield caution(FindingKind.SATURATED, message, target=target.name, load=load, number=number, variants=words)


def _waited(row: LoadResult, seen: Pressure) -> str:
    parts = [] if row.mean_ttft_milliseconds is None else [f"mean TTFT {row.mean_ttft_milliseconds:,.1f} ms"]
    if seen.queue_share is not None:
        parts.append(f"{percent(seen.queue_share)} of it in the queue")
    if seen.waiting is not None:
        parts.append(f"up to {seen.waiting} requests waiting")
    return ", ".join(parts) or f"{row.total_tokens_per_second:,.1f} tokens/s"


def api_server_bound(study: Study) -> Iterator[Said]:
    """Loads at which vLLM's API server lagged behind the engine: they compare more than GPUs."""
    for number, load in enumerate(study.spec.loads):
        for target in study.spec.targets:
            shares = {
                cell.variant: share
                for cell, _ in study.rows(target.name, load)
                if (share := _api_server_share(study.valid(cell, load.name))) is not None
            }
            late = {variant: share for variant, share in shares.items() if share >= API_SERVER_SHARE}
            if not late:
                continue
            least, most = percent(min(late.values())), percent(max(late.values()))
            message = (
                f"{load.name} on {target.name}: vLLM's API server lagged behind the engine for"
                f" {least if least == most else f'{least} to {most}'} of the decode time:"
                " the figures are what its users get, but the engines may differ by more"
            )
            words = {variant: f"{percent(share)} of the decode time" for variant, share in late.items()}
            yield caution(
                FindingKind.API_SERVER_BOUND, message, target=target.name, load=load, number=number, variants=words
            )


def _api_server_share(passes: Sequence[Pass]) -> float | None:
    known = [one.server.api_server_share for one in passes if one.server.api_server_share is not None]
    return math.fsum(known) / len(known) if known else None


def excluded(study: Study) -> Iterator[Said]:
    """Passes and starts that are left out of the figures of a variant that has some."""
    for cell in study.cells:
        if not cell.loads:
            continue
        passes = study.passes(cell)
        left_out = [measured for measured in passes if not measured.valid]
        if left_out:
            reasons = Counter(measured.invalid_reason or "no reason given" for measured in left_out)
            counted = ", ".join(
                f"{count} {reason}" if len(reasons) > 1 else reason for reason, count in reasons.items()
            )
            detail = next((f": {measured.message}" for measured in left_out if measured.message), "")
            yield Said(
                Rank.CAUTION,
                make_finding(
                    FindingKind.EXCLUDED,
                    f"{len(left_out)} of {len(passes)} passes of {cell.variant} on {cell.target}"
                    f" {were(len(left_out))} left out: {counted}{detail}",
                    target=cell.target,
                    variants=(cell.variant,),
                    evidence=[f"{measured.key}: {measured.invalid_reason}" for measured in left_out],
                ),
            )

        yield from _excluded_starts(study, cell)


def _excluded_starts(study: Study, cell: Cell) -> Iterator[Said]:
    """Whole starts that count for nothing, although others of their variant do."""
    runs = study.runs_of(cell)
    outcomes = [(run.name, run.status.verdict) for run in runs if run.status.verdict]
    lost = [(name, outcome) for name, outcome in outcomes if outcome.name not in WITH_FIGURES]
    if not lost:
        return
    counted = Counter(outcome.name for _, outcome in lost)
    verdicts = ", ".join(f"{count} {name}" if len(counted) > 1 else str(name) for name, count in counted.items())
    first = lost[0][1]
    yield Said(
        Rank.CAUTION,
        make_finding(
            FindingKind.EXCLUDED,
            f"{len(lost)} of {len(outcomes)} starts of {cell.variant} on {cell.target} {were(len(lost))} left out:"
            f" {verdicts}: {first.log_line or first.message}",
            target=cell.target,
            variants=(cell.variant,),
            evidence=[f"run {name}: {outcome.name}: {outcome.message}" for name, outcome in lost],
        ),
    )


def throttled(study: Study) -> Iterator[Said]:
    """GPUs whose clocks were held down while a load was measured, over all variants of a target."""
    for number, load in enumerate(study.spec.loads):
        for target in study.spec.targets:
            by_variant = {
                cell.variant: samples
                for cell, _ in study.rows(target.name, load)
                if (samples := _samples(study, cell, load))
            }
            everything = [sample for samples in by_variant.values() for sample in samples]
            share = _mean_over_readings(everything, "throttled_share")
            if share is None or share < THROTTLED_SHARE:
                continue
            reasons = dict.fromkeys(reason for sample in everything for reason in sample.throttle_reasons)
            clocks = _mean_over_readings(everything, "mean_sm_clock_megahertz")
            shown = f": clocks {clocks:,.0f} MHz mean" if clocks is not None else ""
            message = (
                f"the GPU on {target.name} was held back by {', '.join(reasons) or 'a limit'} in {percent(share)}"
                f" of the readings while measuring {load.name}{shown}"
            )
            words = {variant: _clocks(samples) for variant, samples in by_variant.items()}
            yield caution(FindingKind.THROTTLED, message, target=target.name, load=load, number=number, variants=words)


def _samples(study: Study, cell: Cell, load: Load) -> list[GPUSamples]:
    """The readings during the passes of a load that count."""
    return [m.gpu for m in study.valid(cell, load.name) if m.gpu and m.gpu.samples]


def _mean_over_readings(samples: list[GPUSamples], figure: str) -> float | None:
    known = [(one.samples, value) for one in samples if (value := getattr(one, figure)) is not None]
    weight = sum(count for count, _ in known)
    return math.fsum(count * value for count, value in known) / weight if weight else None


def _clocks(samples: list[GPUSamples]) -> str:
    share = _mean_over_readings(samples, "throttled_share") or 0.0
    clocks, power = (_mean_over_readings(samples, name) for name in ("mean_sm_clock_megahertz", "mean_power_watts"))
    parts = [f"{percent(share)} of the readings"]
    parts += [f"{clocks:,.0f} MHz"] if clocks is not None else []
    parts += [f"{power:,.0f} W"] if power is not None else []
    return ", ".join(parts)
