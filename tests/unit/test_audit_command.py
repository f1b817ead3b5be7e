"""``quantbench audit``: exit status, forms of output, and its page in the docs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from quantbench.audit.report import Claim, Finding, Kind, Outcome, Place, Report
from quantbench.cli import app
from quantbench.cli.audit import MOST_BYTES

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "audit"
PUBLISHED = ROOT / "benchmarks" / "published" / "qwen3-8b.md"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_findings_end_in_one_and_the_answer_comes_first() -> None:
    result = run(PUBLISHED)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "13 findings in 4 tables"
    assert "+26.7% is printed, but the table's own numbers give +23.7 %" in result.stdout
    assert "8 agree with the tables, 4 do not, 0 were not checked" in result.stdout


def test_a_clean_study_ends_in_zero() -> None:
    result = run(DATA / "clean.md")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "no finding in 1 table")


def test_json_is_the_whole_report() -> None:
    result = run(PUBLISHED, "-o", "json")
    assert result.exit_code == 1
    report = Report.model_validate(json.loads(result.stdout))
    assert report.source == "qwen3-8b.md"
    assert len(report.findings) == 13


def test_markdown_can_be_pasted() -> None:
    result = run(PUBLISHED, "--output", "markdown")
    assert result.stdout.startswith("**13 findings in 4 tables** (qwen3-8b.md)\n")
    assert "\n1. **WrongPercentage** (error): FP8 Static" in result.stdout


def test_options_reach_the_rules() -> None:
    assert "called 'int3'" in run(DATA / "clean.md", "--baseline", "int3").stderr
    text = run(PUBLISHED, "--noise-floor", "1").stdout
    assert "differences from the baseline are below the noise floor" not in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.md", None, "absent.md: No such file or directory"),
        ("bytes.md", b"\n\n\xff\xfe", "bytes.md:3: not UTF-8 text"),
        ("prose.md", b"no table", "prose.md:1: no table with a metric"),
        ("uneven.csv", b"method,ttft\na,1\nb\n", "uneven.csv:3: 1 cells, but the header has 2"),
        ("huge.md", b" " * (MOST_BYTES + 1), "huge.md: larger than 8 MiB"),
    ],
)
def test_what_cannot_be_read_ends_in_two(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run(tmp_path / name)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_the_page_names_every_field_kind_and_outcome() -> None:
    page = (ROOT / "docs" / "audit.md").read_text()
    for model in (Report, Finding, Place, Claim):
        for field in model.model_fields.values():
            assert f"`{field.alias}`" in page, field.alias
    for name in (*Kind, *Outcome):
        assert f"`{name}`" in page, name


def test_the_page_shows_a_real_run() -> None:
    page = (ROOT / "docs" / "audit.md").read_text()
    shown = page.split("```console\n", 1)[1].split("```", 1)[0].splitlines()
    assert shown[0] == "$ quantbench audit benchmarks/published/qwen3-8b.md"
    real = run(PUBLISHED).stdout
    for line in shown[1:]:
        assert line == "…" or line in real, line
