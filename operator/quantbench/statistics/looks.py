"""When a comparison is decided, although one looks again after every block of starts.

The family is every comparison of a study with the baseline: variant × target × load, without the control. At most one
study in twenty may call any of them different that is not. Two corrections keep that promise:

- **looks**: a comparison is judged after each block from ``Rule.first`` to ``Rule.most``. Each look may spend its share
  of the error; the shares add up to 1. Dividing each look's p-value by its share and keeping the smallest gives one
  p-value that is valid whatever made the looks stop (Bonferroni over looks). It can only fall: decided stays decided.
- **comparisons**: Holm's step-down method over those p-values.

No more starts follow for a comparison that is decided, or precise: when the interval at the level that it is judged at
is narrower than asked. Precision depends on the noise alone, not on the ratio, so what is left of the error is spent at
that look.
"""

from dataclasses import dataclass

import numpy as np

from quantbench.statistics.contrasts import Bools, Contrasts, Floats, contrasts

ERROR_RATE = 0.05
"""Probability that a study without any difference shows one."""
EARLY_SHARE = 0.1
"""Part of the error that all looks before the last may spend together: most of it is for the fullest data."""
LEAST_DEGREES = 3
"""Degrees of freedom that a decision before the last look needs. With fewer, the starts that happen to agree would be
those that stop, and their intervals would be too narrow too often."""
PRECISE_DEGREES = 15
"""Degrees of freedom at which the noise is known well enough to stop because of it; with fewer, likewise."""


@dataclass(frozen=True)
class Rule:
    """How the comparisons of a study are judged.

    Attributes:
        first: blocks at the first look, at least 2.
        most: blocks at the last look.
        precision: half width of the interval at which no more starts follow, as a share of the ratio.
        family: comparisons of the whole study.
    """

    first: int
    most: int
    precision: float
    family: int

    @property
    def early(self) -> float:
        """Share of the error of each look before the last."""
        return EARLY_SHARE / max(1, self.most - self.first)


@dataclass(frozen=True)
class Course:
    """What the looks so far have shown; axes as the comparisons'.

    Attributes:
        p: smallest p-value over the share of its look, not above 1.
        spent: shares used up.
        settled: decided or precise.
    """

    p: Floats
    spent: Floats
    settled: Bools


def begin(shape: tuple[int, ...]) -> Course:
    """Before the first look."""
    return Course(np.ones(shape), np.zeros(shape), np.zeros(shape, dtype=bool))


def look(course: Course, log: Floats, blocks: int, rule: Rule, *, baseline: int, judged: Bools) -> tuple[Course, Bools]:
    """Judge the comparisons of one target after so many blocks.

    Args:
        course: what earlier looks have shown, ``[..., load, variant]``.
        log: log figures in which more is faster, ``[..., load, variant, block]``; no block after ``blocks``.
        blocks: blocks that have ended.
        rule: how to judge.
        baseline: place of the baseline among the variants.
        judged: which variants belong to the family, ``[variant]``: neither the baseline nor the control.

    Returns:
        The course, and per variant ``[..., variant]`` whether more starts would help: one of its loads has been
        measured in a block with the baseline and is not settled.
    """
    found = contrasts(log, baseline)
    precise, last = _precise(found, course.spent, rule), blocks >= rule.most
    left = 1 - course.spent
    share = np.where(last | precise, left, np.minimum(rule.early, left))
    counts = judged & (share > 0) & (last | (found.degrees >= LEAST_DEGREES))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(counts, np.minimum(course.p, found.p_value() / share), course.p)
    settled = course.settled | precise | significant(p, rule.family)
    helped: Bools = np.any(judged & ~settled & (found.blocks > 0), axis=-2)
    return Course(p, course.spent + share, settled), helped


def _precise(found: Contrasts, spent: Floats, rule: Rule) -> Bools:
    """Whether the interval, at the level that the rest of the error allows, is as narrow as asked."""
    level = 1 - ERROR_RATE * (1 - spent) / rule.family
    with np.errstate(invalid="ignore"):
        narrow: Bools = (found.half_width(level) <= np.log1p(rule.precision)) & (found.degrees >= PRECISE_DEGREES)
    return narrow


def significant(p: Floats, family: int) -> Bools:
    """Holm's step-down method over the last two axes: which p-values are significant among ``family`` in all.

    Comparisons that are not given count as not significant, so a part of the family can be judged on its own.
    """
    flat = p.reshape(*p.shape[:-2], -1)
    order = np.argsort(flat, axis=-1)
    ranked = np.take_along_axis(flat, order, axis=-1)
    hurdles = np.maximum(family - np.arange(flat.shape[-1]), 1)
    passed = np.logical_and.accumulate(ranked * hurdles <= ERROR_RATE, axis=-1)
    found = np.empty_like(passed)
    np.put_along_axis(found, order, passed, axis=-1)
    return found.reshape(p.shape)
