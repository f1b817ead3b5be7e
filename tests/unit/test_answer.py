"""The summary: the best one by name only where the data name it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_support.figures import ALIKE, FASTER, ONE_RUN, SAME, SLOWER, UNDECIDED, cell, row
from core_support.objects import several
from quantbench.answer import Ratio, comparison, interval, place, standing, summary, times
from quantbench.api.names import Difference, Metric, Verdict
from quantbench.api.status import Cell, Crossover

SPEC = several("bf16", "fp8", "awq", "int8", sampling={"starts": 3, "control": True})
BASE = cell("bf16", row())
GOOD = cell("fp8", row(1.2366, 1.2071, 1.2668, FASTER))


def said(*cells: Cell, **more: Any) -> str | None:
    return summary(SPEC, [BASE, *cells], **more)


def test_the_best_variant() -> None:
    assert said(cell("awq", row(1.1, 1.08, 1.12, FASTER)), GOOD) == (
        "fp8 is 1.24× bf16 at saturated (95 % CI 1.21 to 1.27, 3 starts)"
    )


def test_what_lies_close_to_the_best_is_named() -> None:
    assert said(GOOD, cell("awq", row(1.22, 1.2, 1.24, FASTER)), cell("int8", row(1.1, 1.08, 1.12, FASTER))) == (
        "fp8 is 1.24× bf16 at saturated (95 % CI 1.21 to 1.27, 3 starts); close to it: awq 1.22×"
    )


@pytest.mark.parametrize(
    "better",
    [
        cell("awq", row(2.0, 1.9, 2.1, FASTER), same_as="fp8"),
        cell("awq", row(2.0, 1.9, 2.1, SAME)),
        cell("awq", row(2.0, 1.9, 2.1, FASTER), verdict=Verdict.DUPLICATE),
        cell("awq", row(2.0, 1.9, 2.1, FASTER), verdict=Verdict.NOT_QUANTIZED),
        cell("awq", row(2.0, 1.9, 2.1, FASTER), verdict=Verdict.CONFIGURATION_MISMATCH),
        cell("control", row(2.0, 1.9, 2.1, FASTER)),
        cell("awq", row(2.0, 1.9, 2.1, FASTER, load="another")),
        cell("awq", row(2.0, 0.5, 3.5, ALIKE)),
        cell("awq", row(2.0, starts=1, difference=ONE_RUN)),
    ],
)
def test_who_is_never_the_best(better: Cell) -> None:
    assert str(said(GOOD, better)).startswith("fp8 is 1.24× bf16")


def test_while_others_are_undecided() -> None:
    undecided = cell("awq", row(1.03, 0.97, 1.1, UNDECIDED))
    assert said(GOOD, undecided) == "fp8 is 1.24× bf16 at saturated so far (95 % CI 1.21 to 1.27, 3 starts)"
    assert said(undecided) == "undecided so far: awq is 1.03× bf16 at saturated (95 % CI 0.97 to 1.10, 3 starts)"


def test_when_none_is_better() -> None:
    alike, slower = cell("awq", row(1.01, 0.97, 1.05, ALIKE)), cell("int8", row(0.9, 0.88, 0.92, SLOWER))
    assert said(alike) == (
        "no variant can be told from bf16 at saturated: the highest, awq, lies at 1.01×"
        " (95 % CI 0.97 to 1.05, 3 starts)"
    )
    assert said(alike, slower) == "no variant is faster than bf16 at saturated; awq cannot be told from it"
    assert said(slower) == "bf16 is the fastest at saturated; int8 is 0.90× bf16 (95 % CI 0.88 to 0.92, 3 starts)"


def test_what_ran_once_may_be_faster_than_all_others() -> None:
    once = cell("awq", row(1.5, starts=1))
    slower, alike = cell("int8", row(0.9, 0.88, 0.92, SLOWER)), cell("fp8", row(1.01, 0.98, 1.04, ALIKE))
    assert str(said(once, slower)).startswith(
        "no variant with several starts is as fast as bf16 at saturated; int8 is 0.90× bf16 (95 % CI 0.88"
    )
    assert said(once, slower, alike) == (
        "no variant with several starts is faster than bf16 at saturated; fp8 cannot be told from it"
    )
    assert str(said(once, alike)).startswith(
        "no variant with several starts can be told from bf16 at saturated: the highest, fp8, lies at 1.01×"
    )


def test_what_is_faster_under_another_load() -> None:
    """The first load decides the answer; what another one shows is not kept back."""
    loads = [{"name": "saturated"}, *({"name": f"c{n}", "maxConcurrency": n} for n in (64, 16, 1))]
    spec = several("bf16", "fp8", "awq", loads=loads, sampling={"starts": 3})

    def one(variant: str, difference: Difference, *speeds: float) -> Cell:
        rows = [
            row(
                speed,
                speed - 0.02,
                speed + 0.02,
                difference if place == 0 else FASTER if speed > 1.1 else ALIKE,
                load=name,
            )
            for place, (speed, name) in enumerate(zip(speeds, ("saturated", "c64", "c16", "c1"), strict=True))
        ]
        return cell(variant, *rows)

    def line(*cells: Cell) -> str:
        return str(summary(spec, [cell("bf16", *(row(load=load.name) for load in spec.loads)), *cells]))

    fp8, awq = one("fp8", ALIKE, 1.01, 1.05, 1.49, 1.4), one("awq", ALIKE, 1.0, 1.05, 1.36, 1.42)
    assert line(fp8, awq) == (
        "no variant can be told from bf16 at saturated: the highest, fp8, lies at 1.01× (95 % CI 0.99 to 1.03, 3 starts);"
        " at c16 fp8 is 1.49× bf16 (95 % CI 1.47 to 1.51, 3 starts)"
    )
    slower = one("awq", SLOWER, 0.9, 1.25, 1.36, 1.42)
    assert line(slower) == (
        "bf16 is the fastest at saturated; awq is 0.90× bf16 (95 % CI 0.88 to 0.92, 3 starts); at c64 awq is 1.25× bf16"
        " (95 % CI 1.23 to 1.27, 3 starts); awq measured fastest at c16 and c1, too"
    )
    near = one("fp8", SLOWER, 0.9, 1.22, 1.37, 1.3)
    assert line(slower, near).endswith(
        "; at c64 awq is 1.25× bf16 (95 % CI 1.23 to 1.27, 3 starts); close to it: fp8 1.22×;"
        " awq measured fastest at c1, too"
    )
    assert line(fp8, slower).startswith(
        "no variant is faster than bf16 at saturated; fp8 cannot be told from it; at c64 awq"
    )
    once = cell("w4a16", row(2.0, starts=1, load="c16"))
    assert line(slower, once).endswith("3 starts); awq measured fastest at c1, too")
    # Nothing may be known of the first load.
    only = cell("awq", row(1.25, 1.23, 1.27, FASTER, load="c64"))
    assert line(only) == "at c64 awq is 1.25× bf16 (95 % CI 1.23 to 1.27, 3 starts)"
    # What is decided, or may still be, under the first load says nothing of others.
    assert "c64" not in line(one("fp8", FASTER, 1.2, 1.25, 1.3, 1.4))
    assert "c64" not in line(one("fp8", UNDECIDED, 1.05, 1.25, 1.3, 1.4))


def test_one_run_each() -> None:
    assert said(cell("fp8", row(1.24, starts=1))) == "one run each, no verdict: fp8 is 1.24× bf16 at saturated"


def test_nothing_measured() -> None:
    assert said() is None
    assert said(cell("fp8", verdict=Verdict.FAILED), cell("control", row(1.0, 0.9, 1.1, ALIKE))) is None


def test_the_shorter_time_wins_under_a_fixed_rate() -> None:
    spec = several("bf16", "fp8", "awq", loads=[{"name": "r4", "requestRate": 4}])

    def timed(variant: str, tpot: float) -> Cell:
        ends = {"tpot_ratio": tpot, "tpot_ratio_low": tpot - 0.01, "tpot_ratio_high": tpot + 0.01}
        return cell(variant, row(1.0, 0.9, 1.1, FASTER, load="r4", **ends))

    assert str(summary(spec, [timed("awq", 0.9), timed("fp8", 0.7)])).startswith(
        "fp8 takes 0.70× the time per output token of bf16 at r4"
    )


def test_where_the_answer_changes() -> None:
    figures = {"target": "h100", "axis": "maxConcurrency", "at": 20.4, "low": 14.1, "high": 29.2}
    above = Crossover.model_validate({**figures, "variant": "fp8", "other": "awq"})
    below = Crossover.model_validate({**figures, "variant": "awq", "other": "fp8"})
    elsewhere = Crossover.model_validate({**figures, "target": "a100", "variant": "fp8", "other": "awq"})
    assert str(said(GOOD, crossovers=[above])).endswith(
        "; below about 20 requests in flight (95 % CI 14 to 29) awq is faster"
    )
    assert str(said(GOOD, crossovers=[below])).endswith(
        "; above about 20 requests in flight (95 % CI 14 to 29) awq is faster"
    )
    assert said(GOOD, crossovers=[elsewhere]) == said(GOOD)


def test_a_part_for_each_target_as_far_as_they_fit() -> None:
    targets = [{"name": f"t{place:02}".ljust(40, "x")} for place in range(16)]
    spec = several("bf16", "fp8", targets=targets)
    cells = [cell("fp8", row(1.2, 1.1, 1.3, FASTER), target=target["name"]) for target in targets]
    line = str(summary(spec, cells))
    assert line.startswith(f"{targets[0]['name']}: fp8 is 1.20× bf16")
    assert len(line) <= 512
    assert line.endswith("more targets")
    kept = line.count("fp8 is")
    assert f"; and {16 - kept} more targets" in line


def ratio(value: float, low: float | None = None, high: float | None = None, *, latency: bool = False) -> Ratio:
    return Ratio(value, low, high, 3, Metric.TPOT if latency else Metric.THROUGHPUT, FASTER)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ((1.2366, 1.2071, 1.2668), ("1.24×", "95 % CI 1.21 to 1.27, 3 starts")),
        ((1.004, 1.002, 1.006), ("1.004×", "95 % CI 1.002 to 1.006, 3 starts")),
        ((0.9985, 0.9981, 0.9989), ("0.999×", "95 % CI 0.998 to 0.999, 3 starts")),
        ((1.5, 1.4999, 1.5001), ("1.5000×", "95 % CI 1.4999 to 1.5001, 3 starts")),
        ((1.0, 1.0, 1.0), ("1.00×", "95 % CI 1.00 to 1.00, 3 starts")),
        ((0.0041, None, None), ("0.004×", "3 starts")),
        ((12.3456, None, None), ("12.35×", "3 starts")),
    ],
)
def test_ratios_have_the_digits_that_they_need(figures: tuple[Any, ...], words: tuple[str, str]) -> None:
    assert (times(ratio(*figures)), interval(ratio(*figures))) == words


def test_one_start_is_singular() -> None:
    assert interval(Ratio(1.2, None, None, 1, Metric.THROUGHPUT, ONE_RUN)) == "1 start"
    assert comparison("a", "b", ratio(0.8, latency=True)) == "a takes 0.80× the time per output token of b"


def test_places_keep_their_interval_apart() -> None:
    figures = {"target": "t", "variant": "a", "other": "b", "axis": "maxConcurrency"}
    near = Crossover.model_validate({**figures, "at": 1024.9, "low": 1020.0, "high": 1030.0})
    assert place(near) == "1,020 requests in flight (95 % CI 1,020 to 1,030)"


def test_the_standing_counts() -> None:
    cells = [
        BASE, GOOD, cell("awq", row(1.0, 0.9, 1.1, ALIKE)), cell("int8", row(0.8, 0.7, 0.9, SLOWER)),
        cell("control", row(1.0, 0.9, 1.1, ALIKE)),
    ]  # fmt: skip
    assert standing(SPEC, cells) == "at saturated: 1 faster, 1 slower, 1 not told from bf16"
    same = [BASE, GOOD, cell("awq", row(1.2, 1.1, 1.3, SAME), same_as="fp8")]
    assert standing(SPEC, same) == "at saturated: 1 faster, 1 left out as duplicates"
    assert standing(SPEC, [BASE]) == ""


ratios = st.floats(0, 1e6)
rows = st.builds(
    row, st.none() | ratios, st.none() | ratios, st.none() | ratios, st.none() | st.sampled_from(Difference)
)


@given(st.lists(st.builds(cell, st.sampled_from(["bf16", "fp8", "awq", "control"]), rows), max_size=8))
def test_any_cells_have_a_bounded_summary(cells: list[Cell]) -> None:
    assert len(summary(SPEC, cells) or "") <= 512
    assert len(standing(SPEC, cells)) < 512
