"""What people read in the terminal at the end of a study."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from core_support.figures import FASTER, cell, row
from core_support.objects import benchmark, several
from quantbench.api.names import FindingKind
from quantbench.api.status import Finding
from quantbench.cli.tables import results
from quantbench.exports import Study


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
