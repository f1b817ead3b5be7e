"""The finding about server starts that disagree: what a single one of them is worth."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from quantbench.answer import is_duplicate, metric_of
from quantbench.api.benchmark import Load
from quantbench.api.names import FindingKind
from quantbench.comparisons import starts_of
from quantbench.findings.facts import Said, Study, caution, names_of, percent
from quantbench.statistics import Metric, figure_of, mean
from quantbench.statistics.figures import variation

APART = 0.1
"""How much more than the smallest figure of a variant's starts the largest is, from which on it is told: below, it is
about what servers of one configuration differ by on any machine (8 % on an H100 that had served before)."""
MOST_LISTED = 4
"""Starts or loads that a sentence lists; of more it gives the range, or their number."""


@dataclass(frozen=True)
class Starts:
    """The figure that one variant is judged by under one load: of each pass of each start, in order of time."""

    variant: str
    metric: Metric
    passes: Sequence[Sequence[float]]

    @cached_property
    def figures(self) -> list[float]:
        """One for each start."""
        return [mean(passes) for passes in self.passes]

    @cached_property
    def apart(self) -> float:
        """By which share the largest figure exceeds the smallest."""
        return max(self.figures) / min(self.figures) - 1

    @property
    def disagree(self) -> bool:
        """Whether they lie far apart, and scatter more than the passes of one start: else that alone may be why."""
        return self.apart >= APART and (variation([self.figures]) or 0.0) > (variation(self.passes) or 0.0)


def starts_disagree(study: Study) -> Iterator[Said]:
    """Loads under which starts of one configuration lie far apart: measured once, it could have been either.

    The control counts like a variant: its starts tell as much of the baseline's configuration as the baseline's own.
    """
    for target in study.spec.targets:
        by_load = {load.name: _by_variant(study, target.name, load) for load in study.spec.loads}
        for number, load in enumerate(study.spec.loads):
            found = sorted((one for one in by_load[load.name] if one.disagree), key=lambda one: -one.apart)
            if not found:
                continue
            first, *others = found
            message = (
                f"{load.name} on {target.name}: starts of {first.variant} gave {_shown(first)},"
                f" {percent(first.apart)} apart"
            )
            if others:
                message += f", and those of {len(others)} other{'s' if len(others) > 1 else ''} disagree too"
                slowest = min if first.metric is Metric.THROUGHPUT else max
                if all(one.figures[0] == slowest(one.figures) for one in found):
                    message += ", the first of each the slowest"
            message += ": a single start can mislead by that much; more starts narrow the interval"
            message += _elsewhere(by_load)
            words = {one.variant: _listed(one.metric, one.figures, ", then ") for one in found}
            yield caution(
                FindingKind.STARTS_DISAGREE, message, target=target.name, load=load, number=number, variants=words
            )


def _by_variant(study: Study, target: str, load: Load) -> list[Starts]:
    """Those that have several starts with a figure, duplicates left out."""
    found = []
    for cell, row in study.rows(target, load):
        if is_duplicate(cell):
            continue
        metric = metric_of(load, row)
        starts = sorted(
            (passes for start in starts_of(study.runs_of(cell)) if (passes := start.of(load.name))),
            key=lambda passes: passes[0].started_at,
        )
        values = [[value for one in passes if (value := figure_of(metric, one)) is not None] for passes in starts]
        measured = [listed for listed in values if listed]
        if len(measured) > 1:
            found.append(Starts(cell.variant, metric, measured))
    return found


def _shown(one: Starts) -> str:
    figures = one.figures
    if len(figures) <= MOST_LISTED:
        return _listed(one.metric, figures, ", then ")
    return f"{_listed(one.metric, (min(figures), max(figures)), ' to ')} in {len(figures)} starts"


def _listed(metric: Metric, figures: Sequence[float], between: str) -> str:
    if metric is Metric.THROUGHPUT:
        return f"{between.join(f'{figure:,.1f}' for figure in figures)} tokens/s"
    return f"{metric} {between.join(f'{figure:,.2f}' for figure in figures)} ms"


def _elsewhere(by_load: dict[str, list[Starts]]) -> str:
    """The loads under which every variant's starts agree, and how well."""
    near = {load: most for load, found in by_load.items() if (most := max((s.apart for s in found), default=1)) < APART}
    if not near:
        return ""
    where = names_of(list(near)) if len(near) <= MOST_LISTED else f"{len(near)} other loads"
    within = max(1, math.ceil(100 * max(near.values()) - 1e-9))
    return f"; at {where} starts agree within {within} %"
