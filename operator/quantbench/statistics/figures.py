"""From passes to figures: passes → one value per server start → mean over starts."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from quantbench.api.benchmark import Load
from quantbench.api.run import Headline, Pass
from quantbench.api.status import LoadResult

MIN_BEYOND = 10
"""Fewest requests that must lie beyond a percentile: with fewer, single requests make it, and it is withheld. So p99
needs 1000 requests per pass, p90 100 and a median 20."""


@dataclass(frozen=True)
class Start:
    """The valid passes of one server start, by load."""

    block: int
    passes: tuple[Pass, ...]

    def of(self, load: str) -> tuple[Pass, ...]:
        """The valid passes of one load."""
        return tuple(measured for measured in self.passes if measured.load == load and measured.valid)


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean; raises ZeroDivisionError without values."""
    listed = list(values)
    return math.fsum(listed) / len(listed)


def _mean_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def headline(passes: Sequence[Pass], loads: Sequence[Load]) -> Headline | None:
    """Mean figures of the first load that has a valid pass."""
    for load in loads:
        chosen = [measured for measured in passes if measured.load == load.name and measured.valid]
        if chosen:
            return Headline(
                load=load.name,
                total_tokens_per_second=mean(p.total_tokens_per_second for p in chosen),
                mean_ttft_milliseconds=_mean_known(p.ttft_milliseconds.mean for p in chosen),
                mean_tpot_milliseconds=_mean_known(p.tpot_milliseconds.mean for p in chosen),
            )
    return None


def figures(load: str, starts: Sequence[Start]) -> LoadResult | None:
    """A variant's own figures on one target under one load, without any comparison; None without a valid pass."""
    measured = [passes for passes in (start.of(load) for start in starts) if passes]
    if not measured:
        return None
    over_starts = _over_starts(measured)
    throughput = [[p.total_tokens_per_second for p in passes] for passes in measured]
    return LoadResult(
        load=load,
        starts=len(measured),
        passes=sum(len(passes) for passes in measured),
        total_tokens_per_second=over_starts(lambda p: p.total_tokens_per_second) or 0.0,
        output_tokens_per_second=over_starts(lambda p: p.output_tokens_per_second) or 0.0,
        requests_per_second=over_starts(lambda p: p.requests_per_second) or 0.0,
        mean_ttft_milliseconds=over_starts(lambda p: p.ttft_milliseconds.mean),
        mean_tpot_milliseconds=over_starts(lambda p: p.tpot_milliseconds.mean),
        median_ttft_milliseconds=_percentile(measured, 0.5, lambda p: p.ttft_milliseconds.median),
        median_tpot_milliseconds=_percentile(measured, 0.5, lambda p: p.tpot_milliseconds.median),
        p99_ttft_milliseconds=_percentile(measured, 0.99, lambda p: p.ttft_milliseconds.p99),
        p99_tpot_milliseconds=_percentile(measured, 0.99, lambda p: p.tpot_milliseconds.p99),
        start_variation=variation([[mean(values) for values in throughput]]),
        repeat_variation=variation(throughput),
    )


def _over_starts(starts: Sequence[Sequence[Pass]]) -> Callable[[Callable[[Pass], float | None]], float | None]:
    def figure(of: Callable[[Pass], float | None]) -> float | None:
        return _mean_known(_mean_known(of(measured) for measured in passes) for passes in starts)

    return figure


def enough_for(quantile: float, requests: int) -> bool:
    """Whether a pass of so many requests has an honest value of this quantile."""
    return requests * (1 - quantile) >= MIN_BEYOND - 1e-9


def _percentile(starts: Sequence[Sequence[Pass]], quantile: float, of: Callable[[Pass], float | None]) -> float | None:
    """Mean over passes, then starts; withheld where any pass has too few requests."""
    if not all(enough_for(quantile, measured.completed) for passes in starts for measured in passes):
        return None
    return _over_starts(starts)(of)


def variation(groups: Iterable[Sequence[float]]) -> float | None:
    """Coefficient of variation within groups, pooled by degrees of freedom; None without a group of two values."""
    squares = degrees = 0.0
    for values in groups:
        if len(values) > 1:
            centre = mean(values)
            squares += math.fsum((value / centre - 1) ** 2 for value in values) if centre else 0.0
            degrees += len(values) - 1
    return math.sqrt(squares / degrees) if degrees else None
