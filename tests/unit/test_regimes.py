"""Crossovers and saturation, on curves whose truth is known."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_support.objects import pass_json, several, study
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Axis
from quantbench.api.run import Pass
from quantbench.api.status import MAX_CROSSOVERS, Crossover, LoadResult
from quantbench.regimes import Contrast, Pressure, Series, crossovers, pressure, saturated, series

CONCURRENCIES = (1, 4, 8, 16, 32, 64, 128)
ALONG = (Series(Axis.MAX_CONCURRENCY, tuple((float(c), f"c{c}") for c in CONCURRENCIES)),)
SPEEDS = Mapping[str, Sequence[float]]


def sweep(*concurrencies: int, **changes: Any) -> QuantBenchmarkSpec:
    loads = [{"name": f"c{c}", "maxConcurrency": c, "numPrompts": 10 * c} for c in concurrencies]
    return study(loads=loads, **changes)


def told(speeds: SPEEDS, *, error: float | None = 0.01, p: float | None = None) -> Any:
    """Contrasts of exact speeds with intervals of ± 2 errors, and the p-value that a normal error gives."""

    def contrast(variant: str, other: str, load: str) -> Contrast | None:
        place = CONCURRENCIES.index(int(load[1:]))
        ratio = speeds[variant][place] / speeds[other][place]
        if error is None:
            return Contrast(ratio)
        chance = math.erfc(abs(math.log(ratio)) / error / math.sqrt(2)) if p is None else p
        return Contrast(ratio, ratio * math.exp(-2 * error), ratio * math.exp(2 * error), chance)

    return contrast


def found(speeds: SPEEDS, **how: Any) -> list[Crossover]:
    return list(crossovers("h100", ALONG, list(speeds), told(speeds, **how)))


def curve(crossing: float, slope: float = 0.2) -> list[float]:
    """Speeds over a baseline of 1: a power law that meets it at `crossing`."""
    return [(c / crossing) ** slope for c in CONCURRENCIES]


FLAT_CURVE = [1.0] * len(CONCURRENCIES)


# --- which loads belong together -------------------------------------------------------------------------------


def test_loads_in_the_order_of_what_they_differ_in() -> None:
    spec = study(
        engine={"maxNumSeqs": 128},
        loads=[
            {"name": "saturated", "numPrompts": 1000},
            {"name": "c16", "maxConcurrency": 16},
            {"name": "c4", "maxConcurrency": 4},
            {"name": "few", "numPrompts": 8},
            {"name": "r4", "requestRate": 4},
            {"name": "r-half", "requestRate": "0.5"},
            {"name": "r4-even", "requestRate": 4, "burstiness": 9},
            {"name": "r4-capped", "requestRate": 4, "maxConcurrency": 4},
        ],
    )
    assert series(spec) == (
        Series(Axis.MAX_CONCURRENCY, ((4, "c4"), (8, "few"), (16, "c16"), (128, "saturated"))),
        Series(Axis.REQUEST_RATE, ((0.5, "r-half"), (4, "r4"))),
    )
    assert series(study()) == ()


# --- crossovers ------------------------------------------------------------------------------------------------


def test_a_planted_crossover_is_found_within_its_interval() -> None:
    (crossover,) = found({"bf16": FLAT_CURVE, "fp8": curve(20)})
    assert (crossover.variant, crossover.other, crossover.target) == ("fp8", "bf16", "h100")
    assert crossover.axis is Axis.MAX_CONCURRENCY
    # The planted curve is linear in the logarithms, so that the interpolation is exact.
    assert crossover.at == pytest.approx(20, rel=1e-4)
    assert crossover.low is not None
    assert crossover.high is not None
    # ± 2 errors of 1 % along a slope of 0.2: ± 10 % of the load.
    assert crossover.low == pytest.approx(20 * math.exp(-0.1), rel=1e-3)
    assert crossover.high == pytest.approx(20 * math.exp(0.1), rel=1e-3)


def test_the_one_that_wins_above_is_named_whatever_the_order() -> None:
    falling = [1 / speed for speed in curve(20)]
    (crossover,) = found({"bf16": FLAT_CURVE, "int4": falling})
    assert (crossover.variant, crossover.other) == ("bf16", "int4")
    assert crossover.at == pytest.approx(20, rel=1e-4)
    assert crossover.low == pytest.approx(20 * math.exp(-0.1), rel=1e-3)


def test_between_two_variants_neither_of_which_is_the_baseline() -> None:
    speeds = {"bf16": [0.5] * 7, "int4": FLAT_CURVE, "fp8": curve(20)}
    (crossover,) = found(speeds)
    assert (crossover.variant, crossover.other) == ("fp8", "int4")


def test_parallel_curves_do_not_cross() -> None:
    assert found({"bf16": FLAT_CURVE, "fp8": [1.2] * 7, "int8": [1.05 + 0.01 * c for c in range(7)]}) == []


def test_a_sign_change_within_the_noise_is_none() -> None:
    assert found({"bf16": FLAT_CURVE, "fp8": [0.995, 1.005] * 3 + [0.995]}) == []
    # Sure of one side, never of the other.
    assert found({"bf16": FLAT_CURVE, "fp8": [0.8, 0.8, 0.8, 1.005, 1.005, 1.005, 1.005]}) == []


def test_loads_that_are_sure_of_nothing_widen_the_bracket() -> None:
    speeds = {"bf16": FLAT_CURVE, "fp8": [0.8, 0.8, 0.8, 0.999, 1.001, 1.2, 1.2]}
    (crossover,) = found(speeds)
    assert 16 < crossover.at < 32
    assert crossover.low is not None
    assert crossover.high is not None
    assert 8 < crossover.low < 16
    assert 32 < crossover.high < 64


def test_wobbles_around_1_are_one_crossover_in_their_middle() -> None:
    speeds = {"bf16": FLAT_CURVE, "fp8": [0.8, 0.8, 1.005, 0.995, 1.005, 1.2, 1.2]}
    (crossover,) = found(speeds)
    assert 8 < crossover.at < 32


def test_a_curve_that_returns_crosses_twice() -> None:
    both = found({"bf16": FLAT_CURVE, "fp8": [0.8, 0.8, 1.2, 1.2, 1.2, 0.8, 0.8]})
    assert [crossover.variant for crossover in both] == ["fp8", "bf16"]
    assert 4 < both[0].at < 8
    assert 32 < both[1].at < 64


def test_single_starts_must_differ_by_more_than_starts_do() -> None:
    (crossover,) = found({"bf16": FLAT_CURVE, "fp8": curve(20)}, error=None)
    assert (crossover.low, crossover.high) == (None, None)
    # From 0.85 to 1.19 is what two starts of one configuration may show.
    assert found({"bf16": FLAT_CURVE, "fp8": [0.85, 0.85, 0.85, 1.0, 1.19, 1.19, 1.19]}, error=None) == []
    assert len(found({"bf16": FLAT_CURVE, "fp8": [0.82, 0.82, 0.82, 1.0, 1.22, 1.22, 1.22]}, error=None)) == 1


def test_many_comparisons_ask_for_more() -> None:
    """p = 0.001 suffices for one pair of two loads, not for one of 78 pairs over seven."""
    one = {"bf16": FLAT_CURVE, "fp8": curve(20)}
    assert len(found(one, p=0.001)) == 1
    assert found({**one, **{f"v{place}": FLAT_CURVE for place in range(11)}}, p=0.001) == []


def test_loads_that_were_not_measured_together_are_left_out() -> None:
    speeds = {"bf16": FLAT_CURVE, "fp8": curve(20)}
    every = told(speeds)
    assert crossovers("h100", ALONG, ["bf16", "fp8"], lambda *_: None) == ()
    (crossover,) = crossovers(
        "h100", ALONG, ["bf16", "fp8"], lambda a, b, load: None if load in ("c16", "c32") else every(a, b, load)
    )
    assert crossover.at == pytest.approx(20, rel=1e-4)


def test_where_the_lead_changes_hands_comes_first() -> None:
    # Among the slow ones, slow overtakes bf16 at 4; the lead goes from int4 to fp8 at 20.
    speeds = {"bf16": FLAT_CURVE, "slow": curve(5), "int4": [9.0] * 7, "fp8": [9 * speed for speed in curve(20)]}
    names = [(crossover.variant, crossover.other) for crossover in found(speeds)]
    assert names == [("fp8", "int4"), ("slow", "bf16")]


def test_the_number_of_crossovers_is_bounded() -> None:
    many = {f"v{place}": curve(2 + 3 * place, 0.2 + 0.3 * place) for place in range(12)}
    assert len(found({"bf16": FLAT_CURVE, **many}, error=1e-6)) == MAX_CROSSOVERS


def test_two_loads_at_one_position() -> None:
    along = (Series(Axis.MAX_CONCURRENCY, ((256.0, "c300"), (256.0, "saturated"))),)
    ratios = {"c300": 0.5, "saturated": 2.0}
    (crossover,) = crossovers("t", along, ["a", "b"], lambda _a, _b, load: Contrast(ratios[load]))
    assert crossover.at == 256


def simulated(truth: SPEEDS, generator: random.Random, starts: int = 4, noise: float = 0.02) -> Any:
    """Contrasts as a study of so many starts with known noise estimates them; starts err alike under every load."""
    shift = {name: generator.gauss(0, noise / math.sqrt(starts)) for name in truth}
    own = {(name, c): generator.gauss(0, 0.005) for name in truth for c in CONCURRENCIES}
    error = math.sqrt(2 * (noise**2 / starts + 0.005**2))

    def contrast(variant: str, other: str, load: str) -> Contrast:
        c = int(load[1:])
        place = CONCURRENCIES.index(c)
        value = math.log(truth[variant][place] / truth[other][place])
        value += shift[variant] - shift[other] + own[variant, c] - own[other, c]
        chance = math.erfc(abs(value) / error / math.sqrt(2))
        return Contrast(math.exp(value), math.exp(value - 1.96 * error), math.exp(value + 1.96 * error), chance)

    return contrast


def test_noise_alone_shows_no_crossover() -> None:
    equal = {f"v{place}": FLAT_CURVE for place in range(6)}
    generator = random.Random(4)
    false = sum(bool(crossovers("t", ALONG, list(equal), simulated(equal, generator))) for _ in range(400))
    assert false <= 0.05 * 400


def test_the_interval_holds_a_planted_crossing_as_often_as_it_says() -> None:
    truth = {"bf16": FLAT_CURVE, "fp8": curve(20)}
    generator = random.Random(7)
    results = [crossovers("t", ALONG, list(truth), simulated(truth, generator)) for _ in range(400)]
    assert all(len(result) == 1 for result in results)
    held = sum((one.low or 0) <= 20 <= (one.high or 0) for (one,) in results)
    assert 0.93 * 400 <= held <= 0.99 * 400


ratios = st.one_of(st.floats(1e-6, 1e6), st.just(0.0), st.just(1.0))
contrast_objects = st.builds(Contrast, ratios, st.none() | ratios, st.none() | ratios, st.none() | st.floats(0, 1))


@given(st.lists(st.none() | contrast_objects, min_size=7, max_size=7))
def test_any_contrasts_give_ordered_crossovers(given_contrasts: list[Contrast | None]) -> None:
    by_load = {load: one for (_, load), one in zip(ALONG[0].loads, given_contrasts, strict=True)}
    result = crossovers("t", ALONG, ["a", "b"], lambda _a, _b, load: by_load[load])
    for one in result:
        assert 1 <= one.at <= 128
        if one.low is not None and one.high is not None:
            assert one.low <= one.at <= one.high


# --- saturation ------------------------------------------------------------------------------------------------


def judged(spec: QuantBenchmarkSpec, **under: Pressure) -> dict[str, bool | None]:
    return saturated(spec, under)


def throughputs(*values: float) -> dict[str, Pressure]:
    return {f"c{c}": Pressure(value) for c, value in zip((8, 16, 32, 64), values, strict=True)}


def test_a_plateau_is_seen() -> None:
    spec = sweep(8, 16, 32, 64)
    assert judged(spec, **throughputs(100, 180, 300, 305)) == {"c8": False, "c16": False, "c32": True, "c64": True}
    assert judged(spec, **throughputs(300, 305, 300, 290)) == dict.fromkeys(("c8", "c16", "c32", "c64"), True)


def test_without_a_plateau_the_highest_load_is_not_known() -> None:
    assert judged(sweep(8, 16, 32, 64), **throughputs(100, 180, 300, 450)) == {
        "c8": False, "c16": False, "c32": False, "c64": None,
    }  # fmt: skip


def test_loads_too_near_to_each_other_tell_nothing() -> None:
    spec = sweep(100, 110)
    assert judged(spec, c100=Pressure(1000.0), c110=Pressure(1001.0)) == {"c100": None, "c110": None}


def test_a_queue_is_seen_without_other_loads() -> None:
    spec = sweep(64)
    assert judged(spec, c64=Pressure(1.0, queue_share=0.93, waiting=40)) == {"c64": True}
    assert judged(spec, c64=Pressure(1.0, queue_share=0.4, waiting=40)) == {"c64": False}
    assert judged(spec, c64=Pressure(1.0, waiting=0)) == {"c64": False}
    assert judged(spec, c64=Pressure(1.0, waiting=7)) == {"c64": None}
    assert judged(spec, c64=Pressure(1.0)) == {"c64": None}


def test_more_requests_than_the_engine_runs_at_once() -> None:
    assert judged(study(), saturated=Pressure(1.0)) == {"saturated": True}
    few = study(loads=[{"name": "few", "numPrompts": 256}])
    assert judged(few, few=Pressure(1.0)) == {"few": None}
    capped = study(loads=[{"name": "c64", "maxConcurrency": 64}], engine={"maxNumSeqs": 32})
    assert judged(capped, c64=Pressure(1.0)) == {"c64": True}
    paced = study(loads=[{"name": "r2", "requestRate": 2}])
    assert judged(paced, r2=Pressure(1.0)) == {"r2": None}


def test_rates_beyond_what_the_server_takes() -> None:
    loads = [{"name": f"r{rate}", "requestRate": rate} for rate in (2, 4, 8)]
    pressures = {"r2": Pressure(200.0), "r4": Pressure(390.0), "r8": Pressure(395.0)}
    assert judged(study(loads=loads), **pressures) == {"r2": False, "r4": True, "r8": True}


def test_loads_without_figures_are_not_judged() -> None:
    assert judged(sweep(8, 16, 32, 64), c8=Pressure(100.0), c64=Pressure(101.0)) == {"c8": True, "c64": True}
    assert judged(study()) == {}


def a_pass(load: str, ttft: float | None, queue: float | None, waiting: int | None, *, valid: bool = True) -> Pass:
    server = {"meanQueueMilliseconds": queue, "peakRequestsWaiting": waiting}
    kept = {key: value for key, value in server.items() if value is not None}
    latency = {} if ttft is None else {"mean": ttft}
    return Pass.model_validate(pass_json(load, ttftMilliseconds=latency, server=kept, valid=valid))


def test_pressure_from_passes() -> None:
    row = LoadResult(
        load="c8", starts=1, passes=2, total_tokens_per_second=7.0, output_tokens_per_second=1.0,
        requests_per_second=1.0, mean_ttft_milliseconds=100.0,
    )  # fmt: skip
    passes = [
        a_pass("c8", 100.0, 80.0, 3),
        a_pass("c8", 200.0, 120.0, 9),
        a_pass("c8", 100.0, 1.0, 99, valid=False),
        a_pass("c16", 100.0, 1.0, 99),
        a_pass("c8", None, 5.0, None),
    ]
    seen = pressure(row, passes)
    assert (seen.throughput, seen.waiting) == (7.0, 9)
    assert seen.queue_share == pytest.approx(0.7)
    assert pressure(row, []) == Pressure(7.0)
    # Clocks of client and server differ: more than all of it is all of it.
    assert pressure(row, [a_pass("c8", 10.0, 11.0, 0)]).queue_share == 1.0


@given(
    st.dictionaries(
        st.sampled_from(["c8", "c16", "c32", "c64"]),
        st.builds(
            Pressure,
            st.floats(0, 1e9),
            st.none() | st.floats(0, 1),
            st.none() | st.integers(0, 10**6),
        ),
    )
)
def test_any_pressures_are_judged(under: dict[str, Pressure]) -> None:
    assert set(saturated(sweep(8, 16, 32, 64), under)) == set(under)


def test_studies_of_one_load_have_no_axis() -> None:
    assert crossovers("h100", series(several("a", "b")), ["a", "b"], lambda *_: Contrast(2.0)) == ()
