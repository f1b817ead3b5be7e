"""From passes to figures: passes → one value per server start → mean over starts, ratios within blocks.

The unit of replication is the server start: passes of one start share its compilation, memory layout and clocks,
so their spread says nothing about another start's.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from quantbench.api.benchmark import Load
from quantbench.api.run import Headline, Pass
from quantbench.api.status import LoadResult


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


def geometric_mean(values: Iterable[float]) -> float:
    """Geometric mean of positive values: the mean that treats a ratio and its inverse alike."""
    return math.exp(mean(math.log(value) for value in values))


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


def load_result(load: str, starts: Sequence[Start], baseline: Sequence[Start]) -> LoadResult | None:
    """One row: a variant's starts on one target under one load; None without a valid pass.

    Args:
        load: name of the load.
        starts: the variant's starts.
        baseline: the baseline's starts on the same target; empty for no ratio.
    """
    measured = {start.block: start.of(load) for start in starts if start.of(load)}
    if not measured:
        return None
    ratios = list(block_ratios(measured, {start.block: start.of(load) for start in baseline}))
    over_starts = _over_starts(list(measured.values()))
    return LoadResult(
        load=load,
        starts=len(measured),
        passes=sum(len(passes) for passes in measured.values()),
        total_tokens_per_second=over_starts(lambda p: p.total_tokens_per_second) or 0.0,
        output_tokens_per_second=over_starts(lambda p: p.output_tokens_per_second) or 0.0,
        requests_per_second=over_starts(lambda p: p.requests_per_second) or 0.0,
        mean_ttft_milliseconds=over_starts(lambda p: p.ttft_milliseconds.mean) or 0.0,
        mean_tpot_milliseconds=over_starts(lambda p: p.tpot_milliseconds.mean),
        ratio=geometric_mean(ratios) if ratios else None,
        ratio_starts=len(ratios),
    )


def _over_starts(starts: Sequence[Sequence[Pass]]) -> Callable[[Callable[[Pass], float | None]], float | None]:
    def figure(of: Callable[[Pass], float | None]) -> float | None:
        return _mean_known(_mean_known(of(measured) for measured in passes) for passes in starts)

    return figure


def block_ratios(variant: Mapping[int, Sequence[Pass]], baseline: Mapping[int, Sequence[Pass]]) -> Iterable[float]:
    """Total throughput of the variant over the baseline's, per block in which both have a valid pass."""
    for block, passes in sorted(variant.items()):
        against = baseline.get(block)
        if against:
            yield mean(p.total_tokens_per_second for p in passes) / mean(p.total_tokens_per_second for p in against)
