"""Simulated studies: noise of a stated model, judged look by look with `quantbench.statistics`.

A study has one target. The log throughput of a pass is variant + block + start + repeat, each normally distributed;
what a start draws is partly common to all its loads. Studies are computed side by side as arrays.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantbench.statistics.contrasts import CONFIDENCE, contrasts, log_figures
from quantbench.statistics.looks import Course, Rule, begin, look, significant

BASELINE = 0
BLOCK_NOISE = 0.02
"""Standard deviation from block to block; it cancels out of every ratio, so its size does not matter."""


@dataclass(frozen=True)
class Scenario:
    """What is simulated.

    Attributes:
        variants: variants besides the baseline.
        loads: loads of each start.
        control: whether the baseline is measured twice per block.
        starts: blocks that are always run.
        most: blocks at most; as many as ``starts`` for no adaptive starts.
        precision: ``targetRatioError``.
        ratio: true throughput ratio of the first ``different`` variants, under every load.
        different: how many variants differ from the baseline.
        start: standard deviation of log throughput from start to start.
        repeat: standard deviation from repeat to repeat.
        repeats: passes per start and load.
        correlation: of a start's deviations between its loads.
        noisier: factor on the start-to-start deviation of the last variant.
        tails: degrees of freedom of t-distributed start deviations of the same variance; None for normal ones.
    """

    variants: int = 4
    loads: int = 1
    control: bool = True
    starts: int = 2
    most: int = 5
    precision: float = 0.02
    ratio: float = 1.0
    different: int = 0
    start: float = 0.01
    repeat: float = 0.005
    repeats: int = 3
    correlation: float = 0.7
    noisier: float = 1.0
    tails: int | None = None

    @property
    def rule(self) -> Rule:
        """How such a study is judged."""
        return Rule(max(2, self.starts), self.most, self.precision, self.variants * self.loads)

    @property
    def columns(self) -> int:
        """Variants, the baseline and the control among them."""
        return 1 + self.variants + self.control

    @property
    def truth(self) -> NDArray[np.float64]:
        """True log ratio of each variant to the baseline."""
        truth = np.zeros(self.columns)
        truth[1 : 1 + self.different] = math.log(self.ratio)
        return truth


@dataclass(frozen=True)
class Outcome:
    """What came of many studies.

    Attributes:
        run: which starts were run, ``[study, variant, block]``.
        different: which comparisons were called different, ``[study, load, variant]``.
        covered: whose 95 % interval holds the truth.
        right: which were called different in the right direction.
    """

    scenario: Scenario
    run: NDArray[np.bool_]
    different: NDArray[np.bool_]
    right: NDArray[np.bool_]
    covered: NDArray[np.bool_]

    @property
    def _variants(self) -> slice:
        return slice(1, 1 + self.scenario.variants)

    @property
    def false_alarms(self) -> float:
        """Share of studies in which any variant that does not differ is called different."""
        alike = slice(1 + self.scenario.different, 1 + self.scenario.variants)
        return float(self.different[..., alike].any(axis=(-2, -1)).mean())

    @property
    def power(self) -> float:
        """Share of true differences that were found, in the right direction."""
        return float(self.right[..., 1 : 1 + self.scenario.different].mean())

    @property
    def coverage(self) -> float:
        """Share of the intervals that hold the truth."""
        return float(self.covered[..., self._variants].mean())

    @property
    def coverage_error(self) -> float:
        """Standard error of the coverage: intervals of one study share a baseline, so studies are counted."""
        per_study = self.covered[..., self._variants].mean(axis=(-2, -1))
        return float(per_study.std() / math.sqrt(len(per_study)))

    @property
    def mean_starts(self) -> float:
        """Server starts per variant."""
        return float(self.run[:, self._variants].sum(axis=-1).mean())


def passes(scenario: Scenario, studies: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Throughput of every pass that could be run: ``[study, load, variant, block, pass]``."""
    shape = (studies, scenario.loads, scenario.columns, scenario.most)

    def draw(size: tuple[int, ...]) -> NDArray[np.float64]:
        if scenario.tails is None:
            return rng.standard_normal(size)
        return rng.standard_t(scenario.tails, size) * math.sqrt((scenario.tails - 2) / scenario.tails)

    shared, own = draw((studies, 1, *shape[2:])), draw(shape)
    deviation = np.full(scenario.columns, scenario.start)
    deviation[scenario.variants] *= scenario.noisier
    weight = scenario.correlation
    starts = (math.sqrt(weight) * shared + math.sqrt(1 - weight) * own) * deviation[:, None]
    blocks = rng.normal(0, BLOCK_NOISE, (studies, 1, 1, scenario.most))
    log = scenario.truth[:, None] + blocks + starts
    throughput: NDArray[np.float64] = 1e4 * np.exp(
        log[..., None] + rng.normal(0, scenario.repeat, (*shape, scenario.repeats))
    )
    return throughput


def play(scenario: Scenario, throughput: NDArray[np.float64]) -> Outcome:
    """Run studies to their end: starts are added as the operator adds them."""
    log, rule, columns = log_figures(throughput), scenario.rule, scenario.columns
    studies = len(log)
    judged = np.zeros(columns, dtype=bool)
    judged[1 : 1 + scenario.variants] = True
    run = np.zeros((studies, columns, scenario.most), dtype=bool)
    run[..., : rule.first] = True
    course = begin(log.shape[:-1])
    going = np.arange(studies)
    for blocks in range(rule.first, rule.most + 1):
        seen = np.where(run[going, None, :, :blocks], log[going, ..., :blocks], np.nan)
        now = Course(course.p[going], course.spent[going], course.settled[going])
        now, helped = look(now, seen, blocks, rule, baseline=BASELINE, judged=judged)
        course.p[going], course.spent[going], course.settled[going] = now.p, now.spent, now.settled
        goes_on = np.asarray(helped.any(axis=-1))
        if blocks == rule.most or not goes_on.any():
            break
        run[going, :, blocks] = (helped | ~judged) & goes_on[:, None]
        going = going[goes_on]
    found = contrasts(np.where(run[:, None], log, np.nan), BASELINE)
    different = significant(course.p, rule.family)
    return Outcome(
        scenario=scenario,
        run=run,
        different=different,
        right=different & (np.sign(found.log_ratio) == np.sign(scenario.truth)),
        covered=np.abs(found.log_ratio - scenario.truth) <= found.half_width(CONFIDENCE),
    )


def simulate(scenario: Scenario, studies: int, seed: int) -> Outcome:
    """Many studies of one scenario."""
    return play(scenario, passes(scenario, studies, np.random.default_rng(seed)))
