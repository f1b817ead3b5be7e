"""Which figure decides under a fixed request rate: what was measured says whether the rate was kept up with."""

from __future__ import annotations

import dataclasses
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from core_support.studies import altered, finished, spec_of
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Difference, FindingKind, Metric
from quantbench.api.run import Pass
from quantbench.api.status import MAX_DETAILED_ROWS, LoadResult
from quantbench.cli.tables import results
from quantbench.exports import Study
from quantbench.observe import Run
from quantbench.status import bounded

RATE = 50.0
"""Requests per second; a pass has 1000 of them, which are sent within 20 s."""


def figures_of(
    measured: Pass,
    *,
    rate: float,
    ttft: float,
    tpot: float,
    queue: float | None,
    wobble: float,
    tps: float,
    e2el: float = 1_000.0,
) -> Pass:
    """A pass with these figures [ms, requests/s, tokens/s]."""
    return measured.model_copy(
        update={
            "requests_per_second": rate * wobble,
            "total_tokens_per_second": tps * wobble,
            "ttft_milliseconds": measured.ttft_milliseconds.model_copy(update={"mean": ttft * wobble}),
            "tpot_milliseconds": measured.tpot_milliseconds.model_copy(update={"mean": tpot * wobble}),
            "e2el_milliseconds": measured.e2el_milliseconds.model_copy(update={"mean": e2el * wobble}),
            "server": measured.server.model_copy(update={"mean_queue_milliseconds": queue}),
        }
    )


Figures = dict[str, Any]
OVER: dict[str, Figures] = {
    "bf16": {"rate": 20.0, "ttft": 15_000.0, "tpot": 20.0, "queue": 14_000.0, "tps": 10_000.0},
    "fp8": {"rate": 40.0, "ttft": 3_000.0, "tpot": 26.0, "queue": 2_500.0, "tps": 20_000.0},
}
"""More requests than either serves: memory for twice the batch gives fp8 twice the throughput, and a longer TPOT."""
KEPT: dict[str, Figures] = {
    "bf16": {"rate": 46.0, "ttft": 60.0, "tpot": 10.0, "queue": 4.0, "tps": 24_000.0},
    "fp8": {"rate": 47.0, "ttft": 50.0, "tpot": 7.0, "queue": 3.0, "tps": 24_000.0},
}
"""Fewer than either could: the last answers alone make a pass longer than its requests took to be sent."""


def study(spec: QuantBenchmarkSpec, by_load: dict[str, dict[str, Figures]]) -> Study:
    """A finished study with these figures and some noise from start to start."""

    def change(run: Run, measured: Pass) -> Pass:
        wobble = 1 + 0.002 * ((run.spec.block * 3 + len(run.spec.variant.name)) % 5 - 2)
        return figures_of(measured, wobble=wobble, **by_load[measured.load][run.spec.variant.name])

    return altered(finished(spec), change)


def row(found: Study, variant: str, load: str = "r50") -> LoadResult:
    """One row of the answer."""
    (cell,) = (cell for cell in found.benchmark.status.cells if cell.variant == variant)
    (wanted,) = (row for row in cell.loads if row.load == load)
    return wanted


def rated(*names: str, **changes: Any) -> QuantBenchmarkSpec:
    """A study under one fixed rate."""
    return spec_of(*names or ("bf16", "fp8"), loads=[{"name": "r50", "requestRate": RATE}], **changes)


def shown(found: Study) -> str:
    """The table of results."""
    console = Console(width=200, record=True, file=StringIO())
    console.print(results(found, None))
    return console.export_text()


def test_beyond_its_capacity_a_server_is_judged_by_its_throughput() -> None:
    found = study(rated(), {"r50": OVER})
    assert (row(found, "fp8").decided_by, row(found, "bf16").decided_by) == (Metric.THROUGHPUT, Metric.THROUGHPUT)
    assert row(found, "fp8").difference is Difference.FASTER
    summary = found.benchmark.status.summary or ""
    assert summary.startswith("fp8 is 2.00× bf16 at r50")
    (said,) = (one.message for one in found.benchmark.status.findings if one.kind is FindingKind.SATURATED)
    assert said.endswith("; not all kept up with the rate, so that throughput is compared, not TPOT")
    assert " RATIO TO bf16" in shown(found)
    assert "TPOT RATIO" not in shown(found)


def test_a_server_that_keeps_up_is_judged_by_its_time_per_token() -> None:
    """However much longer than the sending its last answers made the pass."""
    found = study(rated(), {"r50": KEPT})
    assert row(found, "fp8").decided_by is Metric.TPOT
    assert row(found, "fp8").difference is Difference.FASTER
    assert "TPOT RATIO TO bf16" in shown(found)


@pytest.mark.parametrize("queue", [None, 14_000.0])
def test_one_variant_that_falls_behind_decides_for_its_load(queue: float | None) -> None:
    """By the server's clock, or where it is not known by the time to first token."""
    figures = {**KEPT, "awq": OVER["bf16"] | {"tpot": 9.0, "queue": queue}}
    found = study(rated("bf16", "fp8", "awq"), {"r50": figures})
    assert {row(found, name).decided_by for name in figures} == {Metric.THROUGHPUT}
    # Its requests waited while others decoded: a TPOT shorter than the baseline's is no speed.
    assert row(found, "awq").difference is Difference.SLOWER


def test_requests_that_the_client_holds_back_are_a_backlog_too() -> None:
    """Under a limit of concurrency the server's queue stays empty, whatever the rate."""
    full = {"bf16": OVER["bf16"] | {"queue": 2.0, "ttft": 50.0, "e2el": 1_600.0},
            "fp8": OVER["fp8"] | {"queue": 2.0, "ttft": 50.0, "e2el": 800.0}}  # fmt: skip
    capped = spec_of("bf16", "fp8", loads=[{"name": "r50", "requestRate": RATE, "maxConcurrency": 32}])
    found = study(capped, {"r50": full})
    assert (row(found, "fp8").decided_by, row(found, "fp8").difference) == (Metric.THROUGHPUT, Difference.FASTER)
    # With slots to spare it is the last answers that made the pass longer.
    spare = {name: figures | {"e2el": 500.0} for name, figures in KEPT.items()}
    assert row(study(capped, {"r50": spare}), "fp8").decided_by is Metric.TPOT


def test_long_prompts_are_no_backlog_where_the_queue_is_not_known() -> None:
    prefill = {name: figures | {"queue": None, "ttft": 600.0} for name, figures in KEPT.items()}
    assert row(study(rated(), {"r50": prefill}), "fp8").decided_by is Metric.TPOT


def test_no_crossover_where_a_rate_exceeds_the_capacity() -> None:
    loads = [{"name": "r2", "requestRate": 2}, {"name": "r50", "requestRate": RATE}]
    below = {name: figures | {"rate": 2.0} for name, figures in KEPT.items()}
    found = study(spec_of("bf16", "fp8", loads=loads), {"r2": below, "r50": OVER})
    assert [row(found, "fp8", load).decided_by for load in ("r2", "r50")] == [Metric.TPOT, Metric.THROUGHPUT]
    assert found.benchmark.status.crossovers == ()


def test_what_decides_is_settled_before_the_first_look() -> None:
    """A later start that falls behind does not take back what earlier looks have said."""
    spec = rated(sampling={"starts": 2, "maxStarts": 4, "repeats": 2, "control": False})
    early = study(rated(sampling={"starts": 4, "maxStarts": 4, "repeats": 2, "control": False}), {"r50": KEPT})

    def change(run: Run, measured: Pass) -> Pass:
        return figures_of(measured, wobble=1.0, **OVER["bf16"]) if run.spec.block > 2 else measured

    late = Study(dataclasses.replace(early.benchmark, spec=spec), early.runs)
    assert row(altered(late, change), "fp8").decided_by is Metric.TPOT
    assert row(altered(early, lambda run, one: figures_of(one, wobble=1.0, **OVER["bf16"])), "fp8").decided_by is (
        Metric.THROUGHPUT
    )


def test_with_a_single_output_token_the_time_to_the_first_decides() -> None:
    figures = {name: one | {"tpot": 0.0, "rate": RATE} for name, one in KEPT.items()}
    found = study(rated(), {"r50": figures})
    assert row(found, "fp8").decided_by is Metric.TTFT
    assert row(found, "fp8").difference is Difference.FASTER
    assert "fp8 takes 0.83× the time to first token of bf16" in (found.benchmark.status.summary or "")
    assert "TTFT RATIO TO bf16" in shown(found)
    many = found.benchmark.status.cells * MAX_DETAILED_ROWS
    assert bounded(found.benchmark.spec, many)[1].loads[0].ttft_ratio is not None


def test_without_the_deciding_figure_nothing_is_said() -> None:
    figures = {**KEPT, "awq": KEPT["fp8"] | {"tpot": 0.0}}
    found = study(rated("bf16", "fp8", "awq"), {"r50": figures})
    assert (row(found, "awq").decided_by, row(found, "awq").difference) == (Metric.TPOT, None)
    assert not [one for one in found.benchmark.status.findings if one.variants == ("awq",)]
