"""Studies of more rows than a status holds in detail: only the object in the cluster goes without."""

from __future__ import annotations

import dataclasses

import pytest

from core_support.objects import benchmark, later, plan_of
from core_support.simulated import rich_spec, rich_study, with_status
from core_support.studies import finished, spec_of
from quantbench.api.status import QuantBenchmarkStatus
from quantbench.decide.benchmark import decide_benchmark
from quantbench.exports.comparison import Word, compare
from quantbench.published.measured import Measured
from quantbench.status import bounded


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantbench.status.MAX_DETAILED_ROWS", 1)


def test_only_the_status_in_the_cluster_goes_without_details() -> None:
    study = finished()
    assert all(row.start_variation for cell in study.benchmark.status.cells for row in cell.loads)
    decision = decide_benchmark(benchmark(spec_of()), plan_of(spec_of()), study.runs, later(1))
    status = QuantBenchmarkStatus.model_validate(decision.status)
    assert status.cells
    assert not any(row.start_variation for cell in status.cells for row in cell.loads)
    # Read from there, its runs say what the status leaves out.
    brief = dataclasses.replace(study, benchmark=benchmark(spec_of(), status=decision.status))
    assert {row.word for row in compare(brief, brief).rows} == {Word.WITHIN_NOISE}


def test_one_configuration_under_two_names_is_known_by_its_runs() -> None:
    study = rich_study()
    brief = with_status(study, cells=bounded(rich_spec(), study.benchmark.status.cells))
    assert not any(cell.fingerprint for cell in brief.benchmark.status.cells)
    for whole in (study, brief):
        measured = Measured(whole, rich_spec().targets[0])
        assert measured.same("awq-marlin", "gptq-int4")
        assert not measured.same("bf16", "fp8-dynamic")
        assert not measured.same("bnb", "bnb")
