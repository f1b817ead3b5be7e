"""The measured side: ratios of any two variants of a target, and how short its memory was."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from quantbench.api.benchmark import CONTROL, Load, Target, Variant
from quantbench.api.run import Pass
from quantbench.api.status import Cell
from quantbench.comparisons import starts_of
from quantbench.effective import effective, void
from quantbench.exports.study import Study
from quantbench.observe import Run
from quantbench.published.claims import Memory
from quantbench.statistics import Metric, Ratio, Samples, Start

SHORT = 0.01
"""Preemptions per request of the baseline from which on memory is short: vLLM preempts when the KV cache
is full, so that an unconstrained server does it never."""


@dataclass(frozen=True)
class Measured:
    """The starts of one target that count."""

    study: Study
    target: Target

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The study's, without the control."""
        return self.study.benchmark.spec.variants

    @cached_property
    def loads(self) -> tuple[Load, ...]:
        """The study's loads."""
        return self.study.benchmark.spec.loads

    @cached_property
    def runs(self) -> dict[str, list[Run]]:
        """By variant, in the order of their blocks."""
        found: dict[str, list[Run]] = {}
        for run in sorted(self.study.runs, key=lambda run: run.spec.block):
            if run.spec.target.name == self.target.name:
                found.setdefault(run.spec.variant.name, []).append(run)
        return found

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """By variant."""
        return {cell.variant: cell for cell in self.study.benchmark.status.cells if cell.target == self.target.name}

    @cached_property
    def fingerprints(self) -> dict[str, str | None]:
        """Of the configuration that each variant ran."""
        return {name: effective(runs)[1] for name, runs in self.runs.items()}

    @cached_property
    def starts(self) -> dict[str, list[Start]]:
        """By variant; none of what ran something else than its name says."""
        unlike = void(self.study.benchmark.spec, self.study.runs)
        names = [*(variant.name for variant in self.variants), CONTROL]
        return {
            name: [] if (name, self.target.name) in unlike else starts_of(self.runs.get(name, ())) for name in names
        }

    @cached_property
    def samples(self) -> Samples:
        """Their figures."""
        return Samples((load.name for load in self.loads), self.starts)

    def ratio(self, load: str, variant: str, other: str, metric: Metric) -> Ratio | None:
        """One variant over another; None without a common block."""
        return self.samples.ratio(load, variant, other, metric)

    def through_baseline(self, load: str, variant: str, other: str, metric: Metric) -> Ratio | None:
        """One variant over another one by way of the baseline: the quotient of their ratios to it.

        Sittings measure different variants, so that two of them may share no block, but each shares blocks with the
        baseline. Their errors are independent then, and add up as squares. Where they do share blocks the baseline's
        part of them cancels out, and the interval is wider than it need be. None where one has no ratio to it.
        """
        baseline = self.study.benchmark.spec.baseline
        one, two = (self.ratio(load, name, baseline, metric) for name in (variant, other))
        if one is None or two is None:
            return None
        value, blocks = one.value / two.value, min(one.blocks, two.blocks)
        if one.high is None or two.high is None:
            return Ratio(value, None, None, blocks)
        width = math.exp(math.hypot(math.log(one.high / one.value), math.log(two.high / two.value)))
        return Ratio(value, value / width, value * width, blocks)

    def same(self, variant: str, other: str) -> bool:
        """Whether both ran one effective configuration, so that a difference means nothing.

        By their runs: the status of a large study does not hold what they ran.
        """
        return self.fingerprints.get(variant) is not None and (
            self.fingerprints[variant] == self.fingerprints.get(other)
        )

    def passes(self, variant: str, load: str) -> Iterator[Pass]:
        """The valid passes of a variant under a load."""
        for start in self.starts.get(variant, ()):
            yield from (measured for measured in start.passes if measured.valid and measured.load == load)

    def memory(self, load: str) -> tuple[Memory | None, str]:
        """Whether the baseline's memory was short under a load, and by what; None where no server counted."""
        baseline = self.study.benchmark.spec.baseline
        passes = list(self.passes(baseline, load))
        counted = [measured.server.preemptions for measured in passes if measured.server.preemptions is not None]
        completed = sum(measured.completed for measured in passes)
        if not passes or len(counted) < len(passes) or not completed:
            return None, f"{baseline}'s preemptions were not counted"
        said = f"{baseline} preempted {sum(counted)} times in {completed} requests"
        return (Memory.SHORT if sum(counted) >= SHORT * completed else Memory.AMPLE), said

    def tokens(self, load: str) -> tuple[float, float] | None:
        """Mean input and output tokens of one request of the baseline."""
        passes = list(self.passes(self.study.benchmark.spec.baseline, load))
        count = sum(measured.completed for measured in passes)
        if not count:
            return None
        return (
            sum(measured.total_input_tokens for measured in passes) / count,
            sum(measured.total_output_tokens for measured in passes) / count,
        )

    def kernels(self, variant: str) -> tuple[str, ...]:
        """The linear kernels that the servers of a variant attested."""
        attested = [run.status.attestation for run in self.runs.get(variant, ()) if run.status.attestation]
        return tuple(dict.fromkeys(layer.kernel for found in attested for layer in found.linear_kernels))
