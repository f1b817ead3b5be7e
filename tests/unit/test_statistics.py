"""Figures, against values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_support.objects import pass_json
from quantbench.api.benchmark import Load
from quantbench.api.run import Pass
from quantbench.statistics import Metric, Ratio, Samples, Start, figures, headline, mean
from quantbench.statistics.contrasts import RESOLUTION, Floats, contrasts, noise
from quantbench.statistics.looks import Rule, begin, look, significant


def a_pass(tps: float, *, load: str = "saturated", repeat: int = 1, ttft: float | None = 50.0, **more: Any) -> Pass:
    ttfts = {"mean": ttft} if ttft is not None else {}
    return Pass.model_validate(pass_json(load, repeat, tps=tps, ttftMilliseconds=ttfts, **more))


def start(block: int, *tps: float, load: str = "saturated") -> Start:
    return Start(block, tuple(a_pass(value, load=load, repeat=place) for place, value in enumerate(tps, 1)))


def test_means() -> None:
    assert mean([1.0, 2.0, 6.0]) == 3.0
    with pytest.raises(ZeroDivisionError):
        mean([])


def compared(load: str, variant: list[Start], baseline: list[Start]) -> Ratio | None:
    return Samples([load], {"a": baseline, "b": variant}).ratio(load, "b", "a")


def test_passes_first_then_starts() -> None:
    # Starts of 100 and (300 + 500) / 2 = 400: their mean is 250, not the 300 of all passes alike.
    row = figures("saturated", [start(1, 100.0), start(2, 300.0, 500.0)])
    assert row is not None
    assert (row.starts, row.passes) == (2, 3)
    assert row.total_tokens_per_second == 250.0
    assert row.output_tokens_per_second == 62.5
    assert row.requests_per_second == 2.5
    assert (row.ratio, row.ratio_starts) == (None, 0)


def test_latencies_are_averaged_the_same_way() -> None:
    starts = [Start(1, (a_pass(1, ttft=10.0), a_pass(1, ttft=30.0, repeat=2))), Start(2, (a_pass(1, ttft=60.0),))]
    row = figures("saturated", starts)
    assert row is not None
    assert row.mean_ttft_milliseconds == 40.0
    assert row.mean_tpot_milliseconds == 8.0


def test_a_latency_that_some_passes_lack() -> None:
    passes = (a_pass(1, tpotMilliseconds={}), a_pass(1, repeat=2, tpotMilliseconds={"mean": 4.0}))
    row = figures("saturated", [Start(1, passes)])
    none = figures("saturated", [Start(1, passes[:1])])
    assert row is not None
    assert none is not None
    assert (row.mean_tpot_milliseconds, none.mean_tpot_milliseconds) == (4.0, None)


def test_starts_and_repeats_vary_apart() -> None:
    # Starts of 90 and 110: deviations of -10 % and +10 %, so sqrt(0.02) = 14.1 %. Repeats: ±1 % and none, 1 degree each.
    row = figures("saturated", [start(1, 89.1, 90.9), start(2, 110.0, 110.0)])
    one = figures("saturated", [start(1, 89.1, 90.9)])
    assert row is not None
    assert one is not None
    assert row.start_variation == pytest.approx(math.sqrt(0.02), rel=1e-5)
    assert row.repeat_variation == pytest.approx(0.01, rel=1e-5)
    assert one.start_variation is None
    assert one.repeat_variation == pytest.approx(math.sqrt(2) * 0.01, rel=1e-5)


@pytest.mark.parametrize(
    ("completed", "median", "p99"), [(19, None, None), (20, 45.0, None), (999, 45.0, None), (1000, 45.0, 120.0)]
)
def test_percentiles_need_requests(completed: int, median: float | None, p99: float | None) -> None:
    passes = [
        Pass.model_validate(pass_json(repeat=place, completed=count)) for place, count in ((1, 1000), (2, completed))
    ]
    row = figures("saturated", [Start(1, tuple(passes))])
    assert row is not None
    assert (row.median_ttft_milliseconds, row.p99_ttft_milliseconds) == (median, p99)


def test_ratios_are_paired_by_block() -> None:
    # Block 1: 200/100 = 2; block 2: 300/600 = 0.5; geometric mean 1. Means of all would say 250/350.
    ratio = compared("saturated", [start(1, 200.0), start(2, 300.0)], [start(1, 100.0), start(2, 600.0)])
    assert ratio is not None
    assert (ratio.value, ratio.blocks) == (pytest.approx(1.0), 2)


def test_the_interval_of_two_variants_is_that_of_paired_differences() -> None:
    # Log ratios 0.2, 0.3, 0.4: mean 0.3, standard error 0.1 / sqrt(3), t(2) = 4.30265.
    variant = [start(block, 1000 * math.exp(0.1 * block + 0.1)) for block in (1, 2, 3)]
    ratio = compared("saturated", variant, [start(block, 1000.0) for block in (1, 2, 3)])
    assert ratio is not None
    half = 4.30265 * 0.1 / math.sqrt(3)
    assert ratio.value == pytest.approx(math.exp(0.3), rel=1e-5)
    assert ratio.low == pytest.approx(math.exp(0.3 - half), rel=1e-4)
    assert ratio.high == pytest.approx(math.exp(0.3 + half), rel=1e-4)


def test_only_blocks_with_both_are_compared() -> None:
    ratio = compared("saturated", [start(1, 150.0), start(2, 999.0)], [start(1, 100.0), start(3, 1.0)])
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high, ratio.blocks) == (pytest.approx(1.5), None, None, 1)
    assert compared("saturated", [start(1, 150.0)], [start(2, 100.0)]) is None


def test_ratios_of_several_passes() -> None:
    # (100 + 200) / 2 over (50 + 100) / 2.
    ratio = compared("saturated", [start(1, 100.0, 200.0)], [start(1, 50.0, 100.0)])
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0)


def test_passes_are_no_starts() -> None:
    # Twelve passes of one start each say nothing of another start: no interval.
    ratio = compared("saturated", [start(1, *(100.0 + place for place in range(12)))], [start(1, *([100.0] * 12))])
    assert ratio is not None
    assert (ratio.low, ratio.high, ratio.blocks) == (None, None, 1)


def test_invalid_passes_do_not_count() -> None:
    broken = a_pass(10_000.0, repeat=2, valid=False, invalidReason="RequestsFailed")
    row = figures("saturated", [Start(1, (a_pass(100.0), broken))])
    assert row is not None
    assert (row.passes, row.total_tokens_per_second) == (1, 100.0)
    assert figures("saturated", [Start(1, (broken,))]) is None
    ratio = compared("saturated", [Start(1, (a_pass(100.0), broken))], [Start(1, (broken, a_pass(50.0)))])
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0)


def test_loads_are_kept_apart() -> None:
    both = Start(1, (a_pass(100.0), a_pass(900.0, load="c8")))
    row = figures("c8", [both])
    assert row is not None
    assert (row.load, row.total_tokens_per_second) == ("c8", 900.0)
    assert figures("c16", [both]) is None
    samples = Samples(["saturated", "c8", "c16"], {"a": [both]})
    assert samples.values("c8", "a") == {1: pytest.approx(math.log(900.0))}
    assert samples.values("c16", "a") == {}


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=8), st.floats(0.1, 10))
def test_a_variant_that_is_always_k_times_as_fast(speeds: list[float], factor: float) -> None:
    baseline = [start(block, speed) for block, speed in enumerate(speeds, 1)]
    variant = [start(block, speed * factor) for block, speed in enumerate(speeds, 1)]
    ratio = compared("saturated", variant, baseline)
    assert ratio is not None
    assert ratio.value == pytest.approx(factor, rel=2e-5)
    assert ratio.blocks == len(speeds)


def test_latencies_have_ratios_too() -> None:
    slow = [Start(1, (a_pass(1.0, ttft=90.0, tpotMilliseconds={"mean": 4.0}),))]
    samples = Samples(["saturated"], {"a": [Start(1, (a_pass(1.0, ttft=30.0),))], "b": slow})
    ttft, tpot = (samples.ratio("saturated", "b", "a", metric) for metric in (Metric.TTFT, Metric.TPOT))
    assert ttft is not None
    assert tpot is not None
    assert (ttft.value, tpot.value) == (pytest.approx(3.0), pytest.approx(0.5))


# --- noise -----------------------------------------------------------------------------------------------------


def least_squares(log: Floats) -> tuple[float, int]:
    """Residual squares and degrees of freedom of block + variant, by the textbook."""
    variants, blocks = log.shape
    rows, values = [], []
    for variant, block in np.argwhere(~np.isnan(log)):
        rows.append([*(variant == place for place in range(variants)), *(block == place for place in range(blocks))])
        values.append(log[variant, block])
    design = np.array(rows, dtype=float)
    fit, _, rank, _ = np.linalg.lstsq(design, np.array(values), rcond=None)
    return float(((np.array(values) - design @ fit) ** 2).sum()), len(values) - int(rank)


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6), st.floats(0, 0.6))
def test_the_pooled_noise_is_that_of_least_squares(seed: int, variants: int, blocks: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    log = rng.normal(9, 0.05, (variants, blocks))
    log[rng.random(log.shape) < missing] = np.nan
    squares, degrees = least_squares(log) if not np.isnan(log).all() else (0.0, 0)
    found = noise(log[None])
    assert found.degrees[0] == degrees
    if degrees:
        assert found.variance[0] == pytest.approx(max(squares / degrees, RESOLUTION**2), rel=1e-6)


def test_a_noisier_variant_is_judged_by_its_own_differences() -> None:
    rng = np.random.default_rng(5)
    log = rng.normal(0, 0.001, (6, 5))
    log[2] *= 40
    found = noise(log[None])
    assert found.noisier[0].tolist() == [False, False, True, False, False, False]
    against = contrasts(log[None], 0)
    differences = log[2] - log[0]
    assert against.error[0, 2] == pytest.approx(differences.std(ddof=1) / math.sqrt(5))
    assert against.degrees[0].tolist() == [20, 20, 4, 20, 20, 20]


def test_a_noisier_baseline_makes_every_comparison_its_own() -> None:
    log = np.random.default_rng(5).normal(0, 0.001, (6, 5))
    log[0] *= 40
    assert contrasts(log[None], 0).degrees[0].tolist() == [4] * 6


def test_equal_figures_have_the_noise_of_rounding() -> None:
    log = np.zeros((3, 4))
    log[1] = 2e-6
    against = contrasts(log[None], 0)
    assert against.p_value()[0].tolist()[0] == 1.0
    assert against.p_value()[0, 1] > 0.05
    assert np.all(against.error > 0)


# --- looks -----------------------------------------------------------------------------------------------------


def test_holm() -> None:
    # 0.05 / 4, then / 3, then / 2: the third stops it, although the fourth alone would pass.
    p = np.array([[[0.012, 0.016, 0.03, 0.04]]])
    assert significant(p, 4)[0, 0].tolist() == [True, True, False, False]
    assert significant(p, 5)[0, 0].tolist() == [False] * 4
    assert significant(p[..., ::-1], 4)[0, 0].tolist() == [False, False, True, True]


def test_a_decision_stays() -> None:
    rule = Rule(first=2, most=4, precision=0.001, family=2)
    rng = np.random.default_rng(1)
    log = rng.normal(0, 0.01, (1, 1, 5, 4))
    log[..., 1, :3] += 0.3
    log[..., 1, 3] -= 0.9
    course, judged = begin((1, 1, 5)), np.array([False, True, True, False, False])
    said = []
    for blocks in (2, 3, 4):
        course, helped = look(course, log[..., :blocks], blocks, rule, baseline=0, judged=judged)
        said.append((bool(significant(course.p, 2)[0, 0, 1]), helped[0].tolist()))
    assert said[0] == (True, [False, False, True, False, False])
    assert [decided for decided, _ in said] == [True] * 3
    assert course.p[0, 0, 3] == 1.0, "the control is not judged"


def test_the_looks_share_the_error() -> None:
    rule = Rule(first=2, most=5, precision=0.001, family=1)
    log = np.random.default_rng(2).normal(0, 0.05, (1, 1, 3, 5))
    course, judged = begin((1, 1, 3)), np.array([False, True, False])
    spent = []
    for blocks in (2, 3, 4, 5):
        course, _ = look(course, log[..., :blocks], blocks, rule, baseline=0, judged=judged)
        spent.append(float(course.spent[0, 0, 1]))
    assert spent == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 1.0])


def test_precise_is_the_end_without_a_difference() -> None:
    rule = Rule(first=2, most=5, precision=0.02, family=4)
    log = np.random.default_rng(3).normal(0, 0.002, (1, 1, 6, 4))
    course, judged = begin((1, 1, 6)), np.array([False, True, True, True, True, False])
    course, helped = look(course, log[..., :2], 2, rule, baseline=0, judged=judged)
    assert helped[0].tolist() == [False, True, True, True, True, False], "two blocks do not tell the noise"
    course, helped = look(course, log[..., :3], 3, rule, baseline=0, judged=judged)
    course, helped = look(course, log, 4, rule, baseline=0, judged=judged)
    assert not helped.any()
    assert not significant(course.p, 4).any()


def test_the_headline_is_of_the_first_load_with_a_valid_pass() -> None:
    loads = [Load(name="saturated"), Load(name="c8")]
    invalid = a_pass(5.0, valid=False, invalidReason="RequestsFailed")
    head = headline([invalid, a_pass(300.0, load="c8"), a_pass(500.0, load="c8", repeat=2)], loads)
    assert head is not None
    assert (head.load, head.total_tokens_per_second) == ("c8", 400.0)
    assert headline([invalid], loads) is None
    assert headline([], loads) is None
    first = headline([a_pass(7.0), a_pass(300.0, load="c8")], loads)
    assert first is not None
    assert first.load == "saturated"


def test_figures_have_six_digits() -> None:
    row = figures("saturated", [start(1, 1 / 3 * 1e6)])
    assert row is not None
    assert row.total_tokens_per_second == 333333.0
