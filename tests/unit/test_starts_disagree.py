"""Server starts that disagree are told, with what each of them gave; noise within a start is not taken for it."""

from __future__ import annotations

from typing import Any

import pytest

from core_support.figures import cell, row, run_of
from core_support.objects import at, pass_json, several
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import FindingKind, Verdict
from quantbench.api.status import Cell, Finding
from quantbench.findings import findings
from quantbench.observe import Run

LOADS = [{"name": "saturated"}, {"name": "c64", "maxConcurrency": 64}]
NAMES = ("bf16", "fp8-static", "w4a16", "awq", "fp8-dynamic")


def study_of(*names: str, loads: list[dict[str, Any]] = LOADS, starts: int = 2) -> QuantBenchmarkSpec:
    return several(*names, loads=loads, sampling={"starts": starts, "control": True})


SPEC = study_of(*NAMES)
MEASURED: dict[str, list[tuple[float, list[float], float]]] = {
    "bf16": [(0, [13563.8, 14896.4, 14359.9], 9131.4), (835, [17571.8, 17036.9, 16433.8], 9009.6)],
    "fp8-static": [(350, [18435.0, 16913.3, 19057.9], 13344.5), (1096, [20325.5, 21184.6, 19727.4], 12970.5)],
    "w4a16": [(329, [16045.9, 17105.0, 17022.2], 11353.2), (825, [17994.7, 16338.6, 16715.6], 11343.7)],
    "awq": [(603, [16879.6, 17915.1, 17406.9], 11277.7), (1065, [15456.4, 16811.9, 17249.8], 11350.8)],
    "fp8-dynamic": [(612, [19596.7, 20145.7, 19473.3], 12867.0), (1328, [18196.3, 18715.1, 18996.1], 12610.8)],
}
"""From benchmarks/results/published-study-h100/sitting-1.json: for each start, when its first pass began [s], the total
tokens/s of its passes at saturated, and of the one at c64."""


def start(variant: str, block: int, *tps: float, began: float = 0) -> Run:
    passes = [pass_json(repeat=n, tps=figure, startedAt=at(began + n)) for n, figure in enumerate(tps, 1)]
    return run_of(SPEC, variant, block=block, passes=passes)


def told(runs: list[Run], spec: QuantBenchmarkSpec = SPEC, **marks: Any) -> list[Finding]:
    """The findings of this kind; `marks` are those of every cell."""
    variants = dict.fromkeys(run.spec.variant.name for run in runs)
    cells: list[Cell] = [cell(name, *(row(load=load.name) for load in spec.loads), **marks) for name in variants]
    return [found for found in findings(spec, cells, runs) if found.kind is FindingKind.STARTS_DISAGREE]


def test_starts_on_a_fresh_machine() -> None:
    runs = []
    for variant, starts in MEASURED.items():
        for block, (began, saturated, c64) in enumerate(starts, 1):
            passes = [pass_json("saturated", n, tps=tps, startedAt=at(began + n)) for n, tps in enumerate(saturated, 1)]
            passes.append(pass_json("c64", tps=c64, startedAt=at(began + 100)))
            runs.append(run_of(SPEC, variant, block=block, passes=passes))
    (found,) = told(runs)
    assert found.message == (
        "saturated on h100: starts of bf16 gave 14,273.4, then 17,014.2 tokens/s, 19 % apart, and those of 1 other"
        " disagree too, the first of each the slowest: a single start can mislead by that much; more starts narrow the"
        " interval; at c64 starts agree within 3 %"
    )
    assert (found.target, found.load, found.variants) == ("h100", "saturated", ("bf16", "fp8-static"))
    assert found.evidence == (
        "bf16: 14,273.4, then 17,014.2 tokens/s",
        "fp8-static: 18,135.4, then 20,412.5 tokens/s",
    )


@pytest.mark.parametrize(("second", "apart"), [(1099.0, False), (909.5, False), (1101.0, True), (908.0, True)])
def test_starts_agree_up_to_a_tenth(second: float, apart: bool) -> None:
    assert bool(told([start("bf16", 1, 1000.0), start("bf16", 2, second)])) is apart


def test_a_single_start_has_nothing_to_disagree_with() -> None:
    first = start("bf16", 1, 1000.0, 1001.0)
    assert told([first]) == []
    assert told([first, start("fp8-static", 1, 1500.0)]) == []
    # Nor with a start that does not count, a pass that does not, or an attempt that was given up.
    again = [pass_json(tps=1500.0), pass_json(attempt=2, tps=1002.0)]
    assert told([first, run_of(SPEC, "bf16", "Failed", block=2, passes=[pass_json(tps=1500.0)])]) == []
    assert told([first, run_of(SPEC, "bf16", "Unstable", block=2, passes=[pass_json(tps=1500.0, valid=False)])]) == []
    assert told([first, run_of(SPEC, "bf16", block=2, passes=again, attempt=2)]) == []
    assert told([first, start("bf16", 2, 1500.0)])


def test_passes_as_noisy_as_the_starts_are_no_disagreement() -> None:
    """Both pairs of starts give 1,000 and 1,200 tokens/s; in one the passes of each scatter just as much."""
    assert told([start("bf16", 1, 850.0, 1000.0, 1150.0), start("bf16", 2, 1020.0, 1200.0, 1380.0)]) == []
    assert told([start("bf16", 1, 950.0, 1000.0, 1050.0), start("bf16", 2, 1140.0, 1200.0, 1260.0)])


def test_the_control_counts_and_duplicates_do_not() -> None:
    twice = [start("control", 1, 1000.0), start("control", 2, 1200.0)]
    assert [found.variants for found in told(twice)] == [("control",)]
    runs = [start("awq", 1, 1000.0), start("awq", 2, 1200.0)]
    assert told(runs)
    assert told(runs, verdict=Verdict.DUPLICATE, same_as="w4a16") == []


def test_starts_stand_in_order_of_time() -> None:
    """The second block's server may be the first that was measured."""
    (found,) = told([start("bf16", 1, 1200.0, began=900), start("bf16", 2, 1000.0)])
    assert "gave 1,000.0, then 1,200.0 tokens/s, 20 % apart: a single start" in found.message


def test_the_first_is_called_the_slowest_only_if_it_is_that_in_all() -> None:
    runs = [start("bf16", 1, 1000.0), start("bf16", 2, 1300.0), start("awq", 1, 1000.0), start("awq", 2, 1200.0)]
    (found,) = told(runs)
    assert "30 % apart, and those of 1 other disagree too, the first of each the slowest: a single" in found.message
    (mixed,) = told([*runs, start("w4a16", 1, 1200.0), start("w4a16", 2, 1000.0)])
    assert "30 % apart, and those of 2 others disagree too: a single" in mixed.message
    # Of one alone, every second does so by chance.
    assert "slowest" not in told(runs[:2])[0].message


def test_under_a_fixed_rate_the_time_per_output_token_counts() -> None:
    spec = study_of("bf16", "awq", loads=[{"name": "r4", "requestRate": 4}])

    def paced(variant: str, block: int, tpot: float | None, tps: float = 1000.0) -> Run:
        return run_of(spec, variant, block=block, passes=[pass_json("r4", tps=tps, tpotMilliseconds={"mean": tpot})])

    runs = [paced("bf16", 1, 10.0), paced("bf16", 2, 8.0), paced("awq", 1, 6.0), paced("awq", 2, 5.0)]
    (found,) = told(runs, spec)
    assert found.message == (
        "r4 on h100: starts of bf16 gave TPOT 10.00, then 8.00 ms, 25 % apart, and those of 1 other disagree too, the"
        " first of each the slowest: a single start can mislead by that much; more starts narrow the interval"
    )
    assert told([paced("bf16", 1, 8.0, tps=1000.0), paced("bf16", 2, 8.0, tps=2000.0)], spec) == []
    assert told([paced("bf16", 1, None, tps=1000.0), paced("bf16", 2, 8.0, tps=2000.0)], spec) == []


def test_of_many_starts_and_loads_the_sentence_gives_range_and_number() -> None:
    names = ["saturated", "c1", "c2", "c4", "c8", "c16"]
    spec = study_of("bf16", loads=[{"name": name, "maxConcurrency": 99} for name in names], starts=5)
    runs = []
    for block, tps in enumerate((1000.0, 1500.0, 1100.0, 1400.0, 1200.0), 1):
        passes = [pass_json(name, tps=tps if name == "saturated" else 500.0) for name in names]
        runs.append(run_of(spec, "bf16", block=block, passes=passes))
    (found,) = told(runs, spec)
    assert "starts of bf16 gave 1,000.0 to 1,500.0 tokens/s in 5 starts, 50 % apart" in found.message
    assert found.message.endswith("; at 5 other loads starts agree within 1 %")
    assert found.evidence == ("bf16: 1,000.0, then 1,500.0, then 1,100.0, then 1,400.0, then 1,200.0 tokens/s",)


def test_a_load_is_named_as_agreeing_only_if_all_do() -> None:
    def both(variant: str, block: int, saturated: float, c64: float) -> Run:
        return run_of(SPEC, variant, block=block, passes=[pass_json(tps=saturated), pass_json("c64", tps=c64)])

    bf16 = [both("bf16", 1, 1000.0, 500.0), both("bf16", 2, 1200.0, 510.0)]
    assert told(bf16)[0].message.endswith("; at c64 starts agree within 2 %")
    more = both("bf16", 2, 1200.0, 511.0)  # 2.2 % are not within 2 %
    assert told([bf16[0], more])[0].message.endswith("; at c64 starts agree within 3 %")
    found = told([*bf16, both("awq", 1, 1000.0, 500.0), both("awq", 2, 1000.0, 600.0)])
    assert [(one.load, one.variants) for one in found] == [("saturated", ("bf16",)), ("c64", ("awq",))]
    assert all(one.message.endswith("narrow the interval") for one in found)
    # Nothing is known of a load with one start, or without any.
    once = run_of(SPEC, "bf16", block=2, passes=[pass_json(tps=1200.0)])
    assert told([bf16[0], once])[0].message.endswith("narrow the interval")
    assert told([start("bf16", 1, 1000.0), once])[0].message.endswith("narrow the interval")
