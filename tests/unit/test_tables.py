"""What people read in the terminal at the end of a study."""

from __future__ import annotations

import dataclasses
import functools
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from core_support.figures import FASTER, cell, row
from core_support.objects import benchmark, several
from core_support.studies import finished, interrupted, spec_of
from quantbench.api.conditions import Condition
from quantbench.api.names import FindingKind
from quantbench.api.run import Headline
from quantbench.api.status import Finding
from quantbench.cli.tables import progress, results
from quantbench.exports import Study
from quantbench.observe import Run


def printed(**status: Any) -> str:
    study = benchmark(several("bf16", "fp8"))
    changed = study.status.model_copy(update=status)
    console = Console(width=200, file=StringIO())
    console.print(results(Study(type(study)(**{**vars(study), "status": changed}), ())))
    return console.file.getvalue()  # type: ignore[attr-defined]


def finding(kind: FindingKind, message: str, *evidence: str) -> Finding:
    return Finding(kind=kind, message=message, evidence=evidence)


def test_findings_stand_below_the_table() -> None:
    text = printed(
        summary="fp8 it is",
        cells=(cell("bf16", row()), cell("fp8", row(1.2, 1.1, 1.3, FASTER))),
        findings=(
            finding(FindingKind.DIFFERENCE, "fp8 is 1.20× bf16", "a figure"),
            finding(FindingKind.FAILED, "[awq] has no figures: Unsupported", "use another [GPU]"),
        ),
    )
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0] == "fp8 it is"
    assert lines[-3:] == ["• fp8 is 1.20× bf16", "• [awq] has no figures: Unsupported", "  use another [GPU]"]
    assert text.index("TTFT ms") < text.index("• fp8")


def test_a_limit_is_said_beside_ttft() -> None:
    full, free = cell("bf16", row(saturated=True)), cell("fp8", row(saturated=False))
    text = printed(cells=(full, free))
    assert "50.00*" in text
    assert text.count("at limit") == 1


# --- the live view -------------------------------------------------------------------------------------------------


def in_stage(run: Run, stage: str, message: str = "") -> Run:
    condition = Condition(
        type="Complete", status="False", reason=stage, message=message, last_transition_time="2026-11-01T12:00:00Z"
    )
    return dataclasses.replace(run, status=run.status.model_copy(update={"conditions": (condition,)}))


FIGURES = Headline(load="saturated", total_tokens_per_second=12345.6)


@functools.cache
def under_way() -> Study:
    """36 runs: the last but one loads, the last waits, the first still holds its pods."""
    whole = finished(spec_of("bf16", "fp8", "awq", starts=12), complete=False, summary=None)
    first, *between, loading, waiting = whole.runs
    between = [dataclasses.replace(run, status=run.status.model_copy(update={"headline": FIGURES})) for run in between]
    runs = (
        in_stage(first, "Releasing", "out of memory: " + "x" * 300),
        *between,
        in_stage(interrupted(loading, 2), "Loading", "2 of 4 passes"),
        in_stage(interrupted(waiting, 0), "Pending"),
    )
    return dataclasses.replace(whole, runs=runs)


def live(study: Study, width: int, height: int) -> list[str]:
    console = Console(width=width, file=StringIO())
    console.print(progress(study, width, height))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def test_a_run_without_budget_waits() -> None:
    study = under_way()
    runs = [in_stage(run, "BudgetSpent") if run is study.runs[-1] else run for run in study.runs]
    stages = [line.split()[3] for line in live(dataclasses.replace(study, runs=tuple(runs)), 120, 60)[2:5]]
    assert stages == ["Releasing", "Loading", "BudgetSpent"]


@pytest.mark.parametrize(("width", "height"), [(120, 24), (80, 24), (50, 12), (200, 10)])
def test_what_is_under_way_is_seen_on_every_terminal(width: int, height: int) -> None:
    study = under_way()
    lines = live(study, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    table = next(place for place, line in enumerate(lines) if "STAGE" in line)
    assert [word for line in lines[table + 1 : table + 4] for word in line.split() if word in STAGES] == [*STAGES]
    assert "VERDICT" in lines[table]
    assert "Measured" in lines[table + 4], "the run that ended last"
    assert study.runs[-3].spec.variant.name in lines[table + 4]
    assert "12,345.6" in lines[table + 4]
    assert lines[-1] == f"and {36 - (height - table - 2)} ended"


STAGES = ("Releasing", "Loading", "Pending")


def test_a_wide_terminal_shows_all_and_a_narrow_one_goes_without_run_and_message() -> None:
    study = under_way()
    wide, usual, narrow = (live(study, width, 60) for width in (200, 80, 50))
    assert len([line for line in wide if "Measured" in line]) == 34
    assert not wide[-1].startswith("and ")
    assert study.runs[-2].name in "\n".join(wide)
    assert any("2 of 4 passes" in line for line in wide)
    assert study.runs[-2].name not in "\n".join(usual)
    assert any("2 of 4 passes" in line for line in usual)
    assert not any("2 of 4 passes" in line for line in narrow)
    for width in range(46, 130, 6):
        assert all("…" not in line[:35] for line in live(study, width, 8)), "no name is cut for the sake of a message"
    for lines in (wide, usual, narrow):
        assert sum("12,345.6" in line for line in lines) == 33, "figures are not cut"


def test_runs_that_wait_are_counted_apart() -> None:
    study = under_way()
    runs = (*(in_stage(interrupted(run, 0), "Pending") for run in study.runs[:5]), *study.runs[5:])
    assert live(dataclasses.replace(study, runs=runs), 120, 6)[-1] == "and 4 waiting, 29 ended"


def test_a_study_without_runs_has_a_live_view() -> None:
    assert len(live(dataclasses.replace(under_way(), runs=()), 80, 24)) == 2
