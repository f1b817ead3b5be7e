"""What the starts of a study say about differences, and which further starts follow from that. Pure.

Blocks 1 to ``sampling.starts`` are always run. After that each target is looked at whenever a block has ended; the
next one holds the baseline, the control and the variants that more starts would help, up to ``sampling.most_starts``.
The look at block k uses blocks up to k only, so whatever process asks, whenever, the answer is the same.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from quantbench.api.base import six_digits
from quantbench.api.benchmark import CONTROL, Load, QuantBenchmarkSpec
from quantbench.api.names import Difference
from quantbench.api.run import Pass
from quantbench.api.status import LoadResult
from quantbench.effective import CellKey, counts
from quantbench.observe import Run
from quantbench.plan import Plan, PlannedRun, measured_variants
from quantbench.statistics import Metric, Ratio, Samples, Start, figures
from quantbench.statistics.contrasts import Bools, Floats
from quantbench.statistics.looks import ERROR_RATE, Course, Rule, begin, look, significant

KEPT_UP = 0.95
"""Share of the asked request rate that a server must serve for the rate to be what sets its throughput."""
ALL_SLOTS = 0.9
"""Share of ``maxConcurrency`` that is in flight, in the mean, where the client holds requests back."""
LONG_TTFT = 0.1
"""Share of the time of sending that a mean TTFT must take to be a backlog: most of a shorter one may be prefill."""


def starts_of(runs: Iterable[Run]) -> list[Start]:
    """The countable server starts among the runs of one cell."""
    return [
        Start(run.spec.block, tuple(p for p in run.status.passes if p.attempt == run.status.attempt))
        for run in runs
        if counts(run)
    ]


def fell_behind(load: Load, passes: Sequence[Pass]) -> bool:
    """Whether a server did not keep up with the rate at which requests were sent, in most of these passes.

    The answers to the last requests make any pass longer than its sending, so that less than the rate is no proof. A
    backlog is: where requests come a share s faster than they are served, the last one waits for s of the time of
    sending, and the mean one for half of that. Under a limit of concurrency they wait in the client.
    """
    rate, slots = float(load.request_rate), load.max_concurrency

    def behind(measured: Pass) -> bool:
        served = measured.requests_per_second
        if served >= KEPT_UP * rate:
            return False
        in_flight = served * (measured.e2el_milliseconds.mean or 0.0) / 1000  # Little's law
        if slots and in_flight >= ALL_SLOTS * slots:
            return True
        queue, ttft = measured.server.mean_queue_milliseconds, measured.ttft_milliseconds.mean
        waited, least = (ttft, LONG_TTFT) if queue is None else (queue, (1 - KEPT_UP) / 2)
        return waited is None or waited / 1000 >= least * measured.asked / rate

    return 2 * sum(map(behind, passes)) > len(passes)


class Comparisons:
    """All comparisons of a study with its baseline.

    Args:
        spec: the study.
        plan: its plan.
        runs: its runs as they are.
        hopeless: cells for which another start would be pointless.
        same_as: cells that ran the configuration of another variant, and which; they are not compared.
        void: cells whose starts do not count, e.g. because they ran different configurations.
        ended: names of further runs that have ended, but cannot be read.

    Attributes:
        further: runs that follow beyond ``plan.runs``, as far as that is certain by now.
        samples: the countable starts, by target.
    """

    def __init__(
        self,
        spec: QuantBenchmarkSpec,
        plan: Plan,
        runs: Sequence[Run],
        *,
        hopeless: Collection[CellKey] = (),
        same_as: Mapping[CellKey, str] | None = None,
        void: Collection[CellKey] = (),
        ended: Collection[str] = (),
    ) -> None:
        self.spec, self.plan, self.same_as = spec, plan, same_as or {}
        self.names = tuple(variant.name for variant in measured_variants(spec))
        self.baseline = self.names.index(spec.baseline)
        self._starts: dict[CellKey, list[Start]] = {
            (variant, target.name): [] for target in spec.targets for variant in self.names
        }
        for run in runs:
            if run.cell not in void:
                self._starts.setdefault(run.cell, []).extend(starts_of([run]))
        self.samples = {
            target.name: Samples(
                (load.name for load in spec.loads), {name: self._starts[name, target.name] for name in self.names}
            )
            for target in spec.targets
        }
        self._hopeless = hopeless
        self._ended = {run.name for run in runs if run.status.verdict} | set(ended)
        self._there = {run.name for run in runs} | set(ended)
        self.rule = self._rule()
        self._decisive = {
            (target, load.name): self._chosen(target, load) for target in self.samples for load in spec.loads
        }
        self._courses: dict[str, Course] = {}
        self._over: set[str] = set()
        followed = [run for target in spec.targets for run in self._follow(target.name)]
        self.further = tuple(sorted(followed, key=lambda run: run.block))
        self._decided = self._decisions()

    def _rule(self) -> Rule:
        sampling = self.spec.sampling
        refused = {run.cell for run in self.plan.runs if run.refusal}
        # Of the specification: what was not started before a study was cut off has been asked for all the same.
        cells = {(name, target.name) for name in self.names for target in self.spec.targets} - refused
        others = sum(1 for variant, _ in cells if variant not in (CONTROL, self.spec.baseline))
        return Rule(
            first=max(2, sampling.starts),
            most=sampling.most_starts,
            precision=sampling.target_ratio_error,
            family=max(1, others * len(self.spec.loads)),
        )

    # --- what decides ----------------------------------------------------------------------------------------

    def decisive(self, target: str, load: str) -> Metric:
        """The figure in which all variants of a target are compared under a load."""
        return self._decisive[target, load]

    def _chosen(self, target: str, load: Load) -> Metric:
        """Throughput, unless every server kept up with a fixed rate, which is its throughput then.

        Only blocks up to the first look are asked, so that what later ones bring changes no word that was said.
        """
        if not load.paced:
            return Metric.THROUGHPUT
        first = self.rule.first
        for name in self.names:
            early = [one for start in self._starts[name, target] if start.block <= first for one in start.of(load.name)]
            if fell_behind(load, early):
                return Metric.THROUGHPUT
        samples, place = self.samples[target], self.spec.loads.index(load)
        for metric in (Metric.TPOT, Metric.TTFT, Metric.THROUGHPUT):
            # Answers of a single token have no TPOT, results of other tools may have no latency at all.
            if not np.isnan(samples.log[metric][place, self.baseline, :first]).all():
                return metric
        return Metric.TPOT

    # --- which starts follow ---------------------------------------------------------------------------------

    def _follow(self, target: str) -> list[PlannedRun]:
        """Look at every block of a target that has ended; the runs that follow from the looks."""
        course, judged = begin((len(self.spec.loads), len(self.names))), self._judged(target)
        log = self._primary(target)
        planned: dict[int, list[PlannedRun]] = {}
        found: list[PlannedRun] = []
        for run in (*self.plan.runs, *self.plan.further):
            if run.target == target:
                planned.setdefault(run.block, []).append(run)
        starts = self.spec.sampling.starts
        current = [run for block in range(1, starts + 1) for run in planned.get(block, ())]
        for block in range(starts, self.rule.most + 1):
            if not self._all_ended(current):
                break
            seen = log[..., :block]
            if block < self.rule.first:
                # One start each cannot be judged: another one helps wherever both were measured.
                helped = judged & ~np.isnan(seen - seen[:, [self.baseline]]).all(axis=(0, 2))
            else:
                course, helped = look(course, seen, block, self.rule, baseline=self.baseline, judged=judged)
            chosen, more = self._next(helped, target) if block < self.rule.most else (set(), False)
            # What was started counts whatever came of others later, or what has been decided would be taken back.
            current = [
                run
                for run in planned.get(block + 1, ())
                if run.variant in chosen and (run.name in self._there or (more and run.cell not in self._hopeless))
            ]
            if not current:
                self._over.add(target)
                break
            found += current
        self._courses[target] = course
        return found

    def _judged(self, target: str) -> Bools:
        left_out = {CONTROL, self.spec.baseline, *(v for v, t in self.same_as if t == target)}
        return np.array([name not in left_out for name in self.names])

    def _primary(self, target: str) -> Floats:
        """The figures that decide, more is faster; NaN up to the last block that may be."""
        samples = self.samples[target]
        log = np.full((len(self.spec.loads), len(self.names), max(self.rule.most, samples.blocks)), np.nan)
        for place, load in enumerate(self.spec.loads):
            metric = self.decisive(target, load.name)
            sign = 1 if metric is Metric.THROUGHPUT else -1
            log[place, :, : samples.blocks] = sign * samples.log[metric][place]
        return log

    def _all_ended(self, runs: Iterable[PlannedRun]) -> bool:
        """Whether nothing of these is left to wait for; of hopeless cells, what was never started is none of it."""
        return all(
            run.name in self._ended or (run.cell in self._hopeless and run.name not in self._there) for run in runs
        )

    def _next(self, helped: Bools, target: str) -> tuple[set[str], bool]:
        """The variants of the next block, with what they are compared with; and whether to start it."""
        hopeless = {variant for variant, where in self._hopeless if where == target}
        chosen = {name for name, help in zip(self.names, helped.tolist(), strict=True) if help}
        if not chosen:
            return set(), False
        more = bool(chosen - hopeless) and self.spec.baseline not in hopeless
        return chosen | ({self.spec.baseline, CONTROL} & set(self.names)), more

    # --- what is said ----------------------------------------------------------------------------------------

    def _decisions(self) -> dict[str, Bools]:
        """Target → which comparisons are significant in the family of all targets, ``[load, variant]``."""
        everything = np.stack([self._courses[target.name].p for target in self.spec.targets])
        flat = significant(everything.reshape(1, -1), self.rule.family).reshape(everything.shape)
        return {target.name: flat[place] for place, target in enumerate(self.spec.targets)}

    def rows(self, variant: str, target: str, *, complete: bool) -> tuple[LoadResult, ...]:
        """The rows of one cell; ``complete``: no run of the study follows, whatever the reason."""
        rows = []
        for place, load in enumerate(self.spec.loads):
            row = figures(load.name, self._starts[variant, target])
            if row and load.paced:
                row = row.model_copy(update={"decided_by": self.decisive(target, load.name)})
            if row and variant != self.spec.baseline:
                row = row.model_copy(update=self._compared(variant, target, place, load, complete))
            if row:
                rows.append(row)
        return tuple(rows)

    def _compared(self, variant: str, target: str, place: int, load: Load, complete: bool) -> dict[str, object]:
        samples, key = self.samples[target], (load.name, variant)
        throughput = samples.ratios(self.spec.baseline).get(key)
        if throughput is None:
            return {}
        decides = self._ratio(variant, target, load)
        fields: dict[str, object] = {"ratio_starts": (decides or throughput).blocks}
        for prefix, metric in (("", Metric.THROUGHPUT), ("ttft_", Metric.TTFT), ("tpot_", Metric.TPOT)):
            fields |= _fields(f"{prefix}ratio", samples.ratios(self.spec.baseline, metric).get(key))
        if variant != CONTROL:
            fields["difference"] = self._difference(variant, target, place, load, decides, complete)
        elif complete:
            fields["difference"] = self._of_control(target, load)
        return fields

    def _of_control(self, target: str, load: Load) -> Difference | None:
        """Whether the control seems to differ from what it repeats: judged once, at the end, all loads and targets
        counted (Bonferroni).
        """
        ratio = self._ratio(CONTROL, target, load)
        if ratio is None or ratio.p is None or ratio.p * len(self.spec.loads) * len(self.spec.targets) > ERROR_RATE:
            return None
        return self._direction(ratio, target, load)

    def _difference(
        self, variant: str, target: str, place: int, load: Load, ratio: Ratio | None, complete: bool
    ) -> Difference | None:
        if (variant, target) in self.same_as:
            return Difference.SAME_CONFIGURATION
        if ratio is None:
            return None
        if ratio.blocks == 1:
            return Difference.ONE_RUN
        column = self.names.index(variant)
        if self._decided[target][place, column]:
            return self._direction(ratio, target, load)
        if complete or target in self._over or self._courses[target].settled[place, column]:
            return Difference.NOT_DISTINGUISHABLE
        return Difference.UNDECIDED

    def _ratio(self, variant: str, target: str, load: Load) -> Ratio | None:
        metric = self.decisive(target, load.name)
        return self.samples[target].ratio(load.name, variant, self.spec.baseline, metric)

    def _direction(self, ratio: Ratio, target: str, load: Load) -> Difference:
        more_is_better = self.decisive(target, load.name) is Metric.THROUGHPUT
        return Difference.FASTER if (ratio.value > 1) is more_is_better else Difference.SLOWER


def _fields(name: str, ratio: Ratio | None) -> dict[str, object]:
    if ratio is None:
        return {}
    values = {name: ratio.value, f"{name}_low": ratio.low, f"{name}_high": ratio.high}
    return {field: None if value is None else six_digits(value) for field, value in values.items()}
