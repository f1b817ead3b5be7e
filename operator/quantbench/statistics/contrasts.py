"""Contrasts between variants and their noise, on arrays of log figures.

Every array has the axes ``[..., variant, block]``: one value per server start, NaN where there is none. Leading axes
(loads, or whole simulated studies) are computed side by side and never mixed.

The model is log figure = block + variant + noise. Starts of one block share a node and a time, so the contrast of two
variants is the mean of their differences within blocks, and exp(contrast) the geometric mean of their ratios. A handful
of starts says little about a variance, so the noise of all variants of a target and load is pooled: it is the residual
variance of the additive model. Where one of the two variants is clearly noisier than the others, their own differences
are the judge instead. It stays in the pool all the same: leaving out what happened to spread most would make the rest
look quieter than it is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtr, stdtrit

CONFIDENCE = 0.95
"""Level of the published intervals."""
RESOLUTION = 3e-6
"""Least standard deviation of a log figure: figures have six digits, so less spread than rounding makes is not seen."""
NOISIER = 0.02
"""Level of the F test by which a variant is clearly noisier than the pool."""

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Noise:
    """Residual variance of the additive model, per leading axis, and which variants are clearly noisier than it."""

    variance: Floats
    degrees: Floats
    noisier: Bools


@dataclass(frozen=True)
class Contrasts:
    """Log ratios to one variant, with the axes ``[..., variant]``.

    Attributes:
        log_ratio: mean difference within blocks; NaN without a common block.
        blocks: common blocks.
        error: standard error; NaN with fewer than two common blocks or without a degree of freedom.
        degrees: degrees of freedom of the error.
    """

    log_ratio: Floats
    blocks: Floats
    error: Floats
    degrees: Floats

    def half_width(self, level: float | Floats) -> Floats:
        """Half width of the interval of this confidence level, on the log scale, by Student's t."""
        quantile: Floats = stdtrit(self.degrees, 0.5 + level / 2)
        return quantile * self.error

    def p_value(self) -> Floats:
        """Two-sided p-value of no difference; 1 where there is no error to judge by."""
        with np.errstate(divide="ignore", invalid="ignore"):
            p: Floats = 2 * stdtr(self.degrees, -np.abs(self.log_ratio / self.error))
        return np.where(np.isnan(p), 1.0, p)


def log_figures(passes: Floats) -> Floats:
    """Log of the mean over the passes of each server start: ``[..., block, pass]`` → ``[..., block]``, NaN for none.

    The start is the unit of replication: its passes share compilation, memory layout and clocks, so that their spread
    says nothing about another start's.
    """
    present = ~np.isnan(passes)
    with np.errstate(divide="ignore", invalid="ignore"):
        log: Floats = np.log(np.where(present, passes, 0.0).sum(axis=-1) / present.sum(axis=-1))
    return log


def noise(log: Floats) -> Noise:
    """Pooled noise of all variants, and which of them it does not speak for."""
    squares, degrees = _residual_squares(log)
    noisier = _noisier(log, squares, degrees)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = squares.sum(axis=-1) / degrees
    return Noise(np.maximum(variance, RESOLUTION**2), degrees, noisier)


def contrasts(log: Floats, against: int, pooled: Noise | None = None) -> Contrasts:
    """Every variant against one of them."""
    pooled = pooled or noise(log)
    differences = log - log[..., against, None, :]
    present = ~np.isnan(differences)
    blocks = present.sum(axis=-1).astype(float)
    own = pooled.noisier | pooled.noisier[..., against, None] | (pooled.degrees < 1)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.where(present, differences, 0.0).sum(axis=-1) / blocks
        spread = np.where(present, (differences - centre[..., None]) ** 2, 0.0).sum(axis=-1) / (blocks - 1)
        variance = np.where(own, np.maximum(spread, 2 * RESOLUTION**2), 2 * pooled.variance[..., None])
        error = np.sqrt(np.where(blocks < 2, np.nan, variance / blocks))
    degrees = np.where(own, blocks - 1, pooled.degrees[..., None])
    return Contrasts(centre, blocks, error, np.where(blocks < 2, np.nan, degrees))


def _residual_squares(log: Floats) -> tuple[Floats, Floats]:
    """Squared residuals of block + variant, summed per variant ``[..., variant]``, and their degrees of freedom.

    Least squares with missing values: block effects are eliminated, which leaves one small system for the variants. Its
    pseudo-inverse copes with variants that share no block.
    """
    present = ~np.isnan(log)
    weight = present.astype(float)
    per_block = np.maximum(weight.sum(axis=-2), 1.0)
    scaled = weight / per_block[..., None, :]
    system = -(scaled @ np.swapaxes(weight, -1, -2))
    diagonal = np.arange(log.shape[-2])
    system[..., diagonal, diagonal] += weight.sum(axis=-1)
    # Blocks are centred first, for accuracy: their effects drop out anyway.
    values = np.where(present, log, 0.0)
    values = np.where(present, values - (values.sum(axis=-2) / per_block)[..., None, :], 0.0)
    effects = (np.linalg.pinv(system, rcond=1e-9, hermitian=True) @ values.sum(axis=-1)[..., None])[..., 0]
    remaining = np.where(present, values - effects[..., None], 0.0)
    residuals = np.where(present, remaining - (remaining.sum(axis=-2) / per_block)[..., None, :], 0.0)
    rank = np.linalg.matrix_rank(system, rtol=1e-9, hermitian=True)
    blocks = (weight.sum(axis=-2) > 0).sum(axis=-1)
    return (residuals**2).sum(axis=-1), weight.sum(axis=(-2, -1)) - blocks - rank


def _noisier(log: Floats, squares: Floats, degrees: Floats) -> Bools:
    """Which variants are clearly noisier than the others: F test of their part of the residual squares.

    Leaving a variant out of a complete table of V variants lowers the residual squares by V / (V - 1) times its own,
    and the degrees of freedom by its starts less one; both parts are independent, so that their quotient is F
    distributed. In a table with gaps this holds about.
    """
    starts = (~np.isnan(log)).sum(axis=-1)
    variants = (starts > 0).sum(axis=-1)[..., None]
    own_degrees = np.maximum(starts - 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = squares * variants / (variants - 1)
        rest, rest_degrees = squares.sum(axis=-1)[..., None] - own, degrees[..., None] - own_degrees
        quotient = (own / own_degrees) / (np.maximum(rest, rest_degrees * RESOLUTION**2) / rest_degrees)
        p = fdtrc(own_degrees, rest_degrees, quotient)
    testable = (own_degrees > 0) & (rest_degrees > 0)
    noisier: Bools = testable & (np.where(testable, p, 1.0) < NOISIER)
    return noisier
