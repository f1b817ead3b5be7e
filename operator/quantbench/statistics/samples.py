"""The server starts of one target as arrays, and the ratio of any two variants with its interval."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from quantbench.api.names import Metric
from quantbench.api.run import Pass
from quantbench.statistics.contrasts import CONFIDENCE, Contrasts, Floats, Noise, contrasts, log_figures, noise
from quantbench.statistics.figures import Start


def figure_of(metric: Metric, measured: Pass) -> float | None:
    """The figure of one pass, or None where it has none that is positive."""
    match metric:
        case Metric.THROUGHPUT:
            value: float | None = measured.total_tokens_per_second
        case Metric.TTFT:
            value = measured.ttft_milliseconds.mean
        case Metric.TPOT:
            value = measured.tpot_milliseconds.mean
    return value if value is not None and value > 0 else None


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of the ratios within blocks, its 95 % interval and the two-sided p-value of no difference.

    With fewer than two blocks there are neither interval nor p-value.
    """

    value: float
    low: float | None
    high: float | None
    blocks: int
    p: float | None = None

    @property
    def inverse(self) -> "Ratio":
        """The same comparison the other way round."""
        low, high = (None if end is None else 1 / end for end in (self.high, self.low))
        return Ratio(1 / self.value, low, high, self.blocks, self.p)


class Samples:
    """The countable starts of one target.

    Attributes:
        variants: names, the control among them.
        loads: names.
        blocks: highest number of a block.
    """

    def __init__(self, loads: Iterable[str], starts: Mapping[str, Sequence[Start]]) -> None:
        self.loads, self.variants = tuple(loads), tuple(starts)
        self.blocks = max((start.block for listed in starts.values() for start in listed), default=0)
        self._starts = starts

    @cached_property
    def _passes(self) -> list[tuple[tuple[int, int, int, int], Pass]]:
        """Every valid pass with its place: load, variant, block, number within the start."""
        load_of = {load: place for place, load in enumerate(self.loads)}
        found = []
        for place, variant in enumerate(self.variants):
            for start in self._starts[variant]:
                counted = [0] * len(self.loads)
                for measured in start.passes:
                    load = load_of.get(measured.load)
                    if measured.valid and load is not None:
                        found.append(((load, place, start.block - 1, counted[load]), measured))
                        counted[load] += 1
        return found

    def _log(self, metric: Metric) -> Floats:
        most = max((place[3] for place, _ in self._passes), default=0) + 1
        values = np.full((len(self.loads), len(self.variants), self.blocks, most), np.nan)
        for place, measured in self._passes:
            value = figure_of(metric, measured)
            if value is not None:
                values[place] = value
        return log_figures(values)

    @cached_property
    def log(self) -> Mapping[Metric, Floats]:
        """Log figures ``[load, variant, block]``, NaN where there is none."""
        return {metric: self._log(metric) for metric in Metric}

    @cached_property
    def noise(self) -> Mapping[Metric, Noise]:
        """Pooled noise per load."""
        return {metric: noise(log) for metric, log in self.log.items()}

    def values(self, load: str, variant: str, metric: Metric = Metric.THROUGHPUT) -> dict[int, float]:
        """Block → log figure of the start in it."""
        row = self.log[metric][self.loads.index(load), self.variants.index(variant)]
        return {block: float(value) for block, value in enumerate(row, 1) if not math.isnan(value)}

    def ratio(self, load: str, variant: str, other: str, metric: Metric = Metric.THROUGHPUT) -> Ratio | None:
        """A variant over another one under one load; None without a block in which both have a figure."""
        return self.ratios(other, metric).get((load, variant))

    def ratios(self, other: str, metric: Metric = Metric.THROUGHPUT) -> Mapping[tuple[str, str], Ratio]:
        """Every variant over another one: (load, variant) → ratio."""
        key = (other, metric)
        if key not in self._ratios:
            against = contrasts(self.log[metric], self.variants.index(other), self.noise[metric])
            self._ratios[key] = _ratios(self.loads, self.variants, against)
        return self._ratios[key]

    @cached_property
    def _ratios(self) -> dict[tuple[str, Metric], Mapping[tuple[str, str], Ratio]]:
        return {}


def _ratios(loads: Sequence[str], variants: Sequence[str], against: Contrasts) -> Mapping[tuple[str, str], Ratio]:
    half = against.half_width(CONFIDENCE).tolist()
    centre, blocks, chance = against.log_ratio.tolist(), against.blocks.tolist(), against.p_value().tolist()
    found = {}
    for i, load in enumerate(loads):
        for j, variant in enumerate(variants):
            log, width = centre[i][j], half[i][j]
            if math.isnan(log):
                continue
            if math.isnan(width):
                found[load, variant] = Ratio(_exp(log), None, None, int(blocks[i][j]))
            else:
                ends = (_exp(log - width), _exp(log + width))
                found[load, variant] = Ratio(_exp(log), *ends, int(blocks[i][j]), chance[i][j])
    return found


def _exp(log: float) -> float:
    """With one or two degrees of freedom an interval can be so wide that it has no number; 1e12 says the same."""
    return math.exp(max(-27.6, min(27.6, log)))
