"""Figures, against values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_support.objects import pass_json
from quantbench.api.benchmark import Load
from quantbench.api.run import Pass
from quantbench.statistics import Start, block_ratios, geometric_mean, headline, load_result, mean


def a_pass(tps: float, *, load: str = "saturated", repeat: int = 1, ttft: float | None = 50.0, **more: Any) -> Pass:
    ttfts = {"mean": ttft} if ttft is not None else {}
    return Pass.model_validate(pass_json(load, repeat, tps=tps, ttftMilliseconds=ttfts, **more))


def start(block: int, *tps: float, load: str = "saturated") -> Start:
    return Start(block, tuple(a_pass(value, load=load, repeat=place) for place, value in enumerate(tps, 1)))


def test_means() -> None:
    assert mean([1.0, 2.0, 6.0]) == 3.0
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    with pytest.raises(ZeroDivisionError):
        mean([])


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20))
def test_the_geometric_mean_treats_a_ratio_and_its_inverse_alike(ratios: list[float]) -> None:
    assert geometric_mean(ratios) * geometric_mean(1 / ratio for ratio in ratios) == pytest.approx(1.0)
    assert min(ratios) * 0.999 <= geometric_mean(ratios) <= max(ratios) * 1.001


def test_passes_first_then_starts() -> None:
    # Starts of 100 and (300 + 500) / 2 = 400: their mean is 250, not the 300 of all passes alike.
    row = load_result("saturated", [start(1, 100.0), start(2, 300.0, 500.0)], [])
    assert row is not None
    assert (row.starts, row.passes) == (2, 3)
    assert row.total_tokens_per_second == 250.0
    assert row.output_tokens_per_second == 62.5
    assert row.requests_per_second == 2.5
    assert (row.ratio, row.ratio_starts) == (None, 0)


def test_latencies_are_averaged_the_same_way() -> None:
    starts = [Start(1, (a_pass(1, ttft=10.0), a_pass(1, ttft=30.0, repeat=2))), Start(2, (a_pass(1, ttft=60.0),))]
    row = load_result("saturated", starts, [])
    assert row is not None
    assert row.mean_ttft_milliseconds == 40.0
    assert row.mean_tpot_milliseconds == 8.0


def test_a_latency_that_some_passes_lack() -> None:
    passes = (a_pass(1, tpotMilliseconds={}), a_pass(1, repeat=2, tpotMilliseconds={"mean": 4.0}))
    row = load_result("saturated", [Start(1, passes)], [])
    none = load_result("saturated", [Start(1, passes[:1])], [])
    assert row is not None
    assert none is not None
    assert (row.mean_tpot_milliseconds, none.mean_tpot_milliseconds) == (4.0, None)


def test_ratios_are_paired_by_block() -> None:
    # Block 1: 200/100 = 2; block 2: 300/600 = 0.5; geometric mean 1. Means of all would say 250/350.
    row = load_result("saturated", [start(1, 200.0), start(2, 300.0)], [start(1, 100.0), start(2, 600.0)])
    assert row is not None
    assert (row.ratio, row.ratio_starts) == (1.0, 2)


def test_only_blocks_with_both_are_compared() -> None:
    variant = [start(1, 150.0), start(2, 999.0)]
    baseline = [start(1, 100.0), start(3, 1.0)]
    row = load_result("saturated", variant, baseline)
    assert row is not None
    assert (row.starts, row.ratio, row.ratio_starts) == (2, 1.5, 1)
    apart = load_result("saturated", [start(1, 150.0)], [start(2, 100.0)])
    assert apart is not None
    assert (apart.ratio, apart.ratio_starts) == (None, 0)


def test_ratios_of_several_passes() -> None:
    # (100 + 200) / 2 over (50 + 100) / 2.
    (ratio,) = block_ratios({1: start(1, 100.0, 200.0).passes}, {1: start(1, 50.0, 100.0).passes})
    assert ratio == 2.0


def test_invalid_passes_do_not_count() -> None:
    broken = a_pass(10_000.0, repeat=2, valid=False, invalidReason="RequestsFailed")
    row = load_result("saturated", [Start(1, (a_pass(100.0), broken))], [Start(1, (broken, a_pass(50.0)))])
    assert row is not None
    assert (row.passes, row.total_tokens_per_second, row.ratio) == (1, 100.0, 2.0)
    assert load_result("saturated", [Start(1, (broken,))], []) is None


def test_loads_are_kept_apart() -> None:
    both = Start(1, (a_pass(100.0), a_pass(900.0, load="c8")))
    row = load_result("c8", [both], [both])
    assert row is not None
    assert (row.load, row.total_tokens_per_second, row.ratio) == ("c8", 900.0, 1.0)
    assert load_result("c16", [both], []) is None


def test_one_start_is_said_to_be_one() -> None:
    row = load_result("saturated", [start(1, 110.0, 130.0)], [start(1, 100.0)])
    assert row is not None
    assert (row.starts, row.ratio, row.ratio_starts) == (1, 1.2, 1)


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=8), st.floats(0.1, 10))
def test_a_variant_that_is_always_k_times_as_fast(speeds: list[float], factor: float) -> None:
    baseline = [start(block, speed) for block, speed in enumerate(speeds)]
    variant = [start(block, speed * factor) for block, speed in enumerate(speeds)]
    row = load_result("saturated", variant, baseline)
    assert row is not None
    assert row.ratio == pytest.approx(factor, rel=2e-5)
    assert row.ratio_starts == len(speeds)


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
    row = load_result("saturated", [start(1, 1 / 3 * 1e6)], [start(1, math.pi * 1e5)])
    assert row is not None
    assert (row.total_tokens_per_second, row.ratio) == (333333.0, 1.06103)
