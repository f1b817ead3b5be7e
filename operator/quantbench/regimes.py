"""What changes along the loads of a study: where one variant overtakes another, and where the server is at its limit.

**Crossovers.** The ratio of two variants' speeds is followed along the loads, in the logarithm of both. A crossover is
reported only between two loads that are sure of opposite sides; loads in between that are sure of neither widen the
bracket. Sure means:

- with a p-value: below `ERROR_RATE`, divided by the number of pairs and loads (Bonferroni). A crossover that is none
  needs at least one wrong side, so that at most one study in twenty without any shows one.
- without one (a single start): further from 1 than servers of one configuration were seen to differ, `START_SPREAD`.

In the bracket the log ratio is taken to be linear in the log of the load, from point to point. The interval holds every
place where the band of the ratio's own intervals, joined the same way, holds 1. Joining their ends is exact for loads
that err together, as loads of the same server starts do, and wider than needed for loads that do not.

**Saturation.** A server is at its limit if more requests are in flight than it may run at once, if requests waited for
most of their time to first token, or if a higher load brought next to no more throughput.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from quantbench.api.benchmark import Load, QuantBenchmarkSpec
from quantbench.api.names import Axis
from quantbench.api.run import Pass
from quantbench.api.status import MAX_CROSSOVERS, Crossover, LoadResult
from quantbench.results import prompts

ERROR_RATE = 0.05
"""Probability that a target without any crossover shows one."""
START_SPREAD = math.log(1.2)
"""Log ratio that two starts of one configuration may reach: 19 % was the most seen in throughput from start to start on
one machine, a fresh one, and 8 % on one that had served before (vLLM 0.24, Qwen3-8B on an H100)."""
QUEUE_SHARE = 2 / 3
"""Share of the mean TTFT that is waiting for the first step, from which on TTFT is the length of a queue. A request
that waits for the step under way only, waits no longer than its own first step takes: for half of its TTFT at most."""
FLAT = 0.05
"""Growth of log throughput per growth of log load below which more load brings nothing: 3.5 % for twice the load."""
FAR_ENOUGH = 1.25
"""Loads that differ by a smaller factor are too near to each other to tell a plateau from noise."""


@dataclass(frozen=True)
class Series:
    """Loads of one study that differ in one thing: their positions and names, in ascending order."""

    axis: Axis
    loads: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Contrast:
    """How fast one variant is against another under one load.

    Attributes:
        ratio: throughput over the other's, or where a latency decides the other's over the variant's.
        low, high: its 95 % interval, None with too few starts.
        p: two-sided p-value of no difference, None with too few starts.
    """

    ratio: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


Contrasts = Callable[[str, str, str], Contrast | None]
"""(variant, other, load) → their contrast, or None where they were not measured together."""


def in_flight(load: Load, spec: QuantBenchmarkSpec) -> int:
    """Most requests of a load in flight at a time, if its request rate is infinite."""
    asked = prompts(load, spec.workload)
    return min(asked, load.max_concurrency or asked)


def series(spec: QuantBenchmarkSpec) -> tuple[Series, ...]:
    """The loads of a study by what they differ in; a load without a companion is in none.

    With an infinite rate the position is the number of requests that the engine runs at once, so that a load without
    maxConcurrency stands at maxNumSeqs. Finite rates are followed where nothing else tells their loads apart.
    """
    groups: dict[tuple[Axis, int | None, float], list[tuple[float, int, str]]] = {}
    for load in spec.loads:
        if load.paced:
            key = (Axis.REQUEST_RATE, load.max_concurrency, load.burstiness)
            groups.setdefault(key, []).append((float(load.request_rate), 0, load.name))
        else:
            flying = in_flight(load, spec)
            point = (float(min(flying, spec.engine.max_num_seqs)), flying, load.name)
            groups.setdefault((Axis.MAX_CONCURRENCY, None, 1.0), []).append(point)
    return tuple(
        Series(axis, tuple((at, name) for at, _, name in sorted(points)))
        for (axis, _, _), points in groups.items()
        if len(points) > 1
    )


# --- crossovers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Point:
    at: float
    load: str
    log_ratio: float
    low: float | None
    high: float | None
    side: int


def crossovers(target: str, along: Sequence[Series], variants: Sequence[str], of: Contrasts) -> tuple[Crossover, ...]:
    """Where, on one target, one variant overtakes another; at most `MAX_CROSSOVERS`, the most useful first.

    First come those at which the lead changes hands, then those with the first variant (the baseline), then the others.

    Args:
        target: name of the target.
        along: what `series` gave.
        variants: the baseline, then the others; neither the control nor variants that ran the same configuration.
        of: the contrasts.
    """
    pairs = [(variant, other) for other, variant in combinations(variants, 2)]
    level = ERROR_RATE / max(1, len(pairs) * sum(len(one.loads) for one in along))
    found: list[tuple[int, int, Crossover]] = []
    for one in along:
        leaders = {load: _leader(load, variants, of) for _, load in one.loads}
        for variant, other in pairs:
            for below, above, crossover in _of_pair(target, one, variant, other, of, level):
                leads = (leaders[below], leaders[above]) == (crossover.other, crossover.variant)
                rank = 0 if leads else 1 if other == variants[0] else 2
                found.append((rank, len(found), crossover))
    return tuple(crossover for *_, crossover in sorted(found, key=lambda item: item[:2])[:MAX_CROSSOVERS])


def _leader(load: str, variants: Sequence[str], of: Contrasts) -> str:
    ratios = {variants[0]: 1.0} | {
        variant: contrast.ratio for variant in variants[1:] if (contrast := of(variant, variants[0], load))
    }
    return max(ratios, key=lambda variant: ratios[variant])


def _of_pair(
    target: str, one: Series, variant: str, other: str, of: Contrasts, level: float
) -> Iterable[tuple[str, str, Crossover]]:
    """Every crossover of a pair with the loads that bracket it."""
    points = [
        _point(at, load, contrast, level)
        for at, load in one.loads
        if (contrast := of(variant, other, load)) and 0 < contrast.ratio < math.inf
    ]
    sure = [place for place, point in enumerate(points) if point.side]
    for first, last in pairwise(sure):
        bracket = points[first : last + 1]
        if bracket[0].side == bracket[-1].side:
            continue
        rises = bracket[-1].side > 0
        at, low, high = _where(bracket if rises else [_mirrored(point) for point in bracket])
        crossover = Crossover(
            target=target,
            axis=one.axis,
            variant=variant if rises else other,
            other=other if rises else variant,
            at=at,
            low=low,
            high=high,
        )
        yield bracket[0].load, bracket[-1].load, crossover


def _point(at: float, load: str, contrast: Contrast, level: float) -> _Point:
    value = math.log(contrast.ratio)
    sure = contrast.p < level if contrast.p is not None else abs(value) > START_SPREAD
    low, high = (
        math.log(end) if end is not None and 0 < end < math.inf else None for end in (contrast.low, contrast.high)
    )
    return _Point(at, load, value, low, high, (value > 0) - (value < 0) if sure else 0)


def _mirrored(point: _Point) -> _Point:
    """The same with both variants exchanged."""
    low, high = (None if end is None else -end for end in (point.high, point.low))
    return _Point(point.at, point.load, -point.log_ratio, low, high, -point.side)


def _where(bracket: Sequence[_Point]) -> tuple[float, float | None, float | None]:
    """Where a bracket that begins below and ends above crosses, and the interval of that place."""
    crossings = _roots([(point.at, point.log_ratio) for point in bracket])
    # Points that are sure of nothing may cross several times: the middle of them, on the scale of the interpolation.
    at = math.sqrt(crossings[0] * crossings[-1])
    upper = [(point.at, point.high) for point in bracket if point.high is not None]
    lower = [(point.at, point.low) for point in bracket if point.low is not None]
    if len(upper) < len(bracket) or len(lower) < len(bracket):
        return at, None, None
    first, last = _roots(upper), _roots(lower)
    if not first or not last:
        return at, None, None
    return at, min(at, first[0]), max(at, last[-1])


def _roots(curve: Sequence[tuple[float, float]]) -> list[float]:
    """Where a curve through (position, log ratio) meets 0."""
    found = []
    for (start, before), (end, after) in pairwise(curve):
        if (before < 0) != (after < 0):
            found.append(start * (end / start) ** (before / (before - after)))
    return found


# --- saturation --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pressure:
    """How one variant fared under one load.

    Attributes:
        throughput: tokens per second.
        queue_share: share of the mean TTFT that requests waited for their first step; None if unknown.
        waiting: most requests seen waiting at one moment; None if unknown.
    """

    throughput: float
    queue_share: float | None = None
    waiting: int | None = None


def pressure(row: LoadResult, passes: Iterable[Pass]) -> Pressure:
    """What a row and the valid passes behind it say."""
    own = [measured for measured in passes if measured.load == row.load and measured.valid]
    shares = [
        measured.server.mean_queue_milliseconds / measured.ttft_milliseconds.mean
        for measured in own
        if measured.server.mean_queue_milliseconds is not None and measured.ttft_milliseconds.mean
    ]
    waiting = [
        measured.server.peak_requests_waiting for measured in own if measured.server.peak_requests_waiting is not None
    ]
    return Pressure(
        throughput=row.total_tokens_per_second,
        queue_share=min(1.0, math.fsum(shares) / len(shares)) if shares else None,
        waiting=max(waiting, default=None),
    )


def saturated(spec: QuantBenchmarkSpec, under: Mapping[str, Pressure]) -> dict[str, bool | None]:
    """Whether the server was at its limit, per load of one variant; None where that is not known."""
    flat: dict[str, bool] = {}
    for one in series(spec):
        flat |= _plateau([(at, load, under[load].throughput) for at, load in one.loads if load in under])
    found: dict[str, bool | None] = {}
    for load in spec.loads:
        if load.name in under:
            queued = _queued(under[load.name])
            certain = [_crowded(load, spec), queued, flat.get(load.name)]
            known = queued is not None or load.name in flat
            found[load.name] = True if any(certain) else False if known else None
    return found


def _crowded(load: Load, spec: QuantBenchmarkSpec) -> bool:
    """More requests are in flight than the engine may run at once: the others wait, whatever the variant."""
    return not load.paced and in_flight(load, spec) > spec.engine.max_num_seqs


def _queued(seen: Pressure) -> bool | None:
    if seen.queue_share is not None:
        return seen.queue_share >= QUEUE_SHARE
    return False if seen.waiting == 0 else None


def _plateau(curve: Sequence[tuple[float, str, float]]) -> dict[str, bool]:
    """Loads from which on more load brings next to no more throughput, and those from which it does."""
    flat: dict[str, bool] = {}
    reached = False
    for (at, load, throughput), (next_at, next_load, next_throughput) in pairwise(curve):
        if not reached and next_at >= FAR_ENOUGH * at and throughput > 0 and next_throughput > 0:
            reached = math.log(next_throughput) - math.log(throughput) < FLAT * math.log(next_at / at)
            flat[load] = reached
        if reached:
            flat[load] = flat[next_load] = True
    return flat
