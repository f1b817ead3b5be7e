"""The audit's rules: on published figures, on clean studies, and one small text per rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quantbench.audit.document import Unreadable
from quantbench.audit.noise import floor
from quantbench.audit.report import Claim, Finding, Kind, Outcome, Report, Severity
from quantbench.audit.rules import audit
from quantbench.audit.vocabulary import Family

DATA = Path(__file__).parents[1] / "data" / "audit"
STUDY = Path(__file__).parents[2] / "benchmarks" / "published" / "qwen3-8b.md"


def of_file(name: str) -> Report:
    return audit((DATA / name).read_text(), name)


def of_kind(report: Report, kind: Kind) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind is kind]


def table(*rows: str, head: str = "Method | Output tok/s | Mean TTFT (ms) | Mean TPOT (ms)", prose: str = "") -> Report:
    """A study of one table under a heading, without anything that other rules ask for."""
    lines = [f"| {line} |" for line in (head, "|".join("-" * (head.count("|") + 1)), *rows)]
    return audit("\n".join(["# H100", prose, "", *lines]), "study.md")


def claim(report: Report, start: str) -> Claim:
    return next(claim for claim in report.claims if claim.text.startswith(start))


PUBLISHED = audit(STUDY.read_text(), STUDY.name)


# The published study


def test_the_wrong_percentage_is_one_finding_with_two_places_and_its_likely_origin() -> None:
    (found,) = of_kind(PUBLISHED, Kind.WRONG_PERCENTAGE)
    assert found.severity is Severity.ERROR
    assert found.sentence == (
        "FP8 Static, Throughput (tok/s): +26.7% is printed, but the table's own numbers give +23.7 %"
    )
    cell, prose = found.places
    assert (cell.table, cell.row, cell.text) == ("H100 80GB", "FP8 Static", "16452.52 (+26.7%)")
    lines = STUDY.read_text().splitlines()
    assert lines[cell.line - 1].startswith("| FP8 Static")
    assert "**Static FP8**" in lines[prose.line - 1]
    assert found.arithmetic[0].endswith("FP8 Static 16452.52 / BF16 13305.38 = 1.2365, that is +23.65 %")
    assert found.hint == "26.7 % is the change of AWQ in the same column (-26.68 %)"


def test_the_pairs_of_one_kernel_are_found_with_what_the_engine_does_by_itself() -> None:
    equal = of_kind(PUBLISHED, Kind.EQUAL_ROWS)
    assert [{place.row for place in found.places} for found in equal] == [
        {"GPTQ-Marlin (Int4)", "GPTQ (Int4)"},
        {"GPTQ Marlin (Int8)", "GPTQ (Int8)"},
    ]
    assert all(found.sentence.endswith("very likely the same kernel") for found in equal)
    assert all("vLLM 0.9.2 turns GPTQ checkpoints into gptq_marlin by itself" in (f.hint or "") for f in equal)
    assert all("unless --quantization=gptq --dtype=float16 is given" in (f.hint or "") for f in equal)
    awq, gptq = of_kind(PUBLISHED, Kind.INDISTINGUISHABLE_ROWS)
    assert awq.sentence.startswith("RTX 4090: AWQ and AWQ Marlin")
    assert "in A100 80GB the same two differ by 19.2 %" in awq.sentence  # so they were two kernels
    assert awq.hint is None
    assert gptq.sentence.startswith("RTX 4090: GPTQ (Int8) and GPTQ Marlin")
    assert gptq.sentence.endswith("may be the same kernel")


def test_single_runs_name_the_differences_that_they_cannot_carry() -> None:
    (found,) = of_kind(PUBLISHED, Kind.SINGLE_RUNS)
    assert "2 of them printed as a result" in found.sentence
    assert any("KV Cache FP8 (E4M3) against BF16 (Baseline) +1.6 %, below 7.9 %" in line for line in found.arithmetic)
    assert len(found.arithmetic) == 7
    assert not any("FP8 Static" in line for line in found.arithmetic)


def test_conclusions_that_the_tables_contradict() -> None:
    best, weight_only, kernels = of_kind(PUBLISHED, Kind.CONTRADICTED_CLAIM)
    assert "AWQ and GPTQ are the fastest” holds in 1 of the 2" in best.sentence
    assert best.arithmetic[0] == "against it: H100 80GB: AWQ against Int4-W4A16, Throughput (tok/s) -28.3 %"
    assert best.severity is Severity.ERROR
    against = [line for line in weight_only.arithmetic if line.startswith("against")]
    assert against == [
        "against it: H100 80GB: Int4-W4A16 against BF16, Throughput (tok/s) +2.3 % "
        "(below the noise floor of single runs)"
    ]
    assert weight_only.severity is Severity.WARNING
    assert "RTX 4090, which its condition may exclude" in (weight_only.hint or "")
    assert "holds in 2 of the 5" in kernels.sentence
    assert [place.row for place in kernels.places[1:]] == ["GPTQ (Int8)", "GPTQ (Int4)", "GPTQ (Int8)"]


@pytest.mark.parametrize(
    "start", ["+14.8% throughput", "-20.4% TTFT", "-32.4% TPOT", "+46% throughput", "bitsandbytes is", "Static FP8 has"]
)
def test_claims_that_the_tables_confirm(start: str) -> None:
    assert claim(PUBLISHED, start).outcome is Outcome.CONFIRMED


def test_the_load_of_the_published_study() -> None:
    (work,) = of_kind(PUBLISHED, Kind.UNCONTROLLED_LOAD)
    assert "--ignore-eos" in work.sentence
    assert "temperature" not in work.sentence  # vLLM 0.9.2 sends temperature 0 by itself
    assert STUDY.read_text().splitlines()[work.places[0].line - 1].startswith("vllm bench serve")
    assert of_kind(PUBLISHED, Kind.QUEUEING_TTFT)
    throughput, facts = of_kind(PUBLISHED, Kind.UNSTATED_FACT)
    assert "output tokens or of input and output" in throughput.sentence
    assert "server's command" in facts.sentence
    assert "version" not in facts.sentence
    assert "GPU;" not in facts.sentence
    assert not of_kind(PUBLISHED, Kind.UNEXPLAINED_GAP)  # both rows without figures have their note
    assert PUBLISHED.headline == "13 findings in 4 tables"
    assert PUBLISHED.unread == ()


# Clean studies


@pytest.mark.parametrize("name", ["clean.md", "sweep.csv"])
def test_a_clean_study_has_no_finding(name: str) -> None:
    report = of_file(name)
    assert [finding.sentence for finding in report.findings] == []
    assert report.headline == "no finding in 1 table"
    assert report.unread == ()


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("+25.0%", "+26.0%", Kind.WRONG_PERCENTAGE),
        ("25.0 % more", "52.0 % more", Kind.WRONG_PERCENTAGE),
        ("(-14.3%)", "(-16.7%)", Kind.WRONG_PERCENTAGE),
        ("| 180 ", "| 280 ", Kind.WRONG_PERCENTAGE),
        (" --ignore-eos", "", Kind.UNCONTROLLED_LOAD),
        (" --temperature=0", "", Kind.UNCONTROLLED_LOAD),
        (" --max-concurrency 64", "", Kind.QUEUEING_TTFT),
        ("vLLM 0.24.0. ", "", Kind.UNSTATED_FACT),
        ("vllm serve Qwen", "serve Qwen", Kind.UNSTATED_FACT),
        ("one L40S", "a GPU", Kind.UNSTATED_FACT),
        ("Output tok/s", "Throughput", Kind.UNSTATED_FACT),
        ("GGUF: its plugin", "Its plugin", Kind.UNEXPLAINED_GAP),
    ],
)
def test_one_fault_in_a_clean_study_is_one_kind_of_finding(old: str, new: str, kind: Kind) -> None:
    text = (DATA / "clean.md").read_text()
    assert old in text
    assert {finding.kind for finding in audit(text.replace(old, new), "study.md").findings} == {kind}


def test_without_its_spreads_and_starts_the_clean_study_is_of_single_runs() -> None:
    text = (DATA / "clean.md").read_text().replace("of three server starts with their 95 % confidence intervals", "")
    bare = text.replace(" ± 12.0", "").replace(" ± 14.0", "")
    assert not audit(text, "study.md").findings  # the ± alone is enough
    assert {finding.kind for finding in audit(bare, "study.md").findings} == {Kind.SINGLE_RUNS}


# Rule by rule


@pytest.mark.parametrize(
    ("cell", "right"),
    [
        ("1234 (+23.4%)", True),
        ("1234 (23.4 %)", True),
        ("1234 (+23%)", True),
        ("1234 (+23.3%)", True),  # digits cut off instead of rounded
        ("1234 (1.23x)", True),
        ("1,234 (+24.5%)", False),
        ("1234 (-23.4%)", False),
        ("1234 (1.43x)", False),
        ("1234 (+23.6%)", False),  # neither rounded nor cut off
        ("1234 (1.25x)", False),
        ("**1234** (+32.4%)", False),
        ("1.2k (+23.4%)", True),  # 1.2k may be 1249
    ],
)
def test_printed_changes(cell: str, right: bool) -> None:
    report = table("BF16 | 1000 | 100 | 10", f"FP8 | {cell} | 80 | 8")
    assert bool(of_kind(report, Kind.WRONG_PERCENTAGE)) is not right


@pytest.mark.parametrize(
    ("head", "cell", "right"),
    [
        ("TTFT improvement (%)", "+20%", True),
        ("TTFT speedup", "1.25x", True),
        ("TTFT change", "-20%", True),
        ("TTFT change", "+20%", False),
        ("TTFT speedup", "1.35x", False),
    ],
)
def test_columns_of_changes(head: str, cell: str, right: bool) -> None:
    report = table("BF16 | 100 | ", f"FP8 | 80 | {cell}", head=f"Method | Mean TTFT (ms) | {head}")
    assert bool(of_kind(report, Kind.WRONG_PERCENTAGE)) is not right


@pytest.mark.parametrize(
    ("head", "cells", "right"),
    [
        # of what no column to the left tells
        ("Memory (GiB) | Memory saving", "16 | / 6 | 62.5%", True),
        ("MMLU | MMLU diff", "70.0 | / 69.3 | -1.0%", True),
        ("Size (GB) | Size reduction", "16 | 1x / 5.3 | 3x", True),
        ("Cost | Change", "1.00 | / 0.91 | -9%", True),
        ("Power saving", " / 25%", True),
        # of a metric to the left: which one is not said
        ("Mean TTFT (ms) | Speedup", "100 | 1x / 90 | 1.2x", True),
        ("Mean TTFT (ms) | Speedup", "100 | 1x / 90 | 1.11x", True),
        ("Mean TTFT (ms) | Speedup", "100 | 1x / 90 | 1.3x", False),
        ("P99 TTFT (ms) | Mean TTFT (ms) | TTFT change", "100 | 100 | / 80 | 90 | -20%", True),
        ("P99 TTFT (ms) | Mean TTFT (ms) | TTFT change", "100 | 100 | / 80 | 90 | -30%", False),
        # against the baseline, by any of its names
        ("vs BF16", " / +20%", True),
        ("vs. baseline (%)", " / +25%", False),
        ("Relative to FP16", " / 1.2x", True),
        ("Throughput gain over BF16", " / +25%", False),
        ("Time to first token (ms) | Time to first token reduction", "100 | / 90 | 20%", False),
    ],
)
def test_a_column_of_changes_is_of_what_it_names(head: str, cells: str, right: bool) -> None:
    base, awq = cells.split("/")
    report = table(f"BF16 | 1000 | {base}", f"AWQ | 1200 | {awq}", head=f"Method | Output tok/s | {head}")
    assert bool(of_kind(report, Kind.WRONG_PERCENTAGE)) is not right


@pytest.mark.parametrize(("change", "right"), [("+20%", True), ("+32%", False)])
def test_a_column_of_changes_is_against_the_row_that_it_names(change: str, right: bool) -> None:
    rows = ("BF16 | 1000 | | -9.1% | -5%", "AWQ | 1100 | +10% | | -5%", f"GPTQ | 1320 | +32% | {change} | -5%")
    report = table(*rows, head="Method | Output tok/s | vs BF16 | vs AWQ | vs last week")
    assert [found.places[0].text for found in of_kind(report, Kind.WRONG_PERCENTAGE)] == ([] if right else [change])
    if not right:
        (found,) = of_kind(report, Kind.WRONG_PERCENTAGE)
        assert "GPTQ 1320 / AWQ 1100" in found.arithmetic[0]


@pytest.mark.parametrize(
    ("head", "base", "cell", "right"),
    [
        ("TTFT", "1.21 s", "850 ms (-29.8%)", True),
        ("TTFT", "1.21 s", "850 ms (-39.8%)", False),
        ("TTFT (ms)", "1.21 s", "850 (-29.8%)", True),
        ("ttft_ms", "850 us", "1 (+17.6%)", True),
        ("Output tok/s", "1.2K", "950 (-20.8%)", True),
        ("Output tok/s", "1.2M tok/s", "950k (-20.8%)", True),
        ("Output tok/s", "1000 tok/s", "1100 (+20%)", False),  # one unit is told
    ],
)
def test_figures_of_one_column_are_brought_to_one_unit(head: str, base: str, cell: str, right: bool) -> None:
    report = table(f"BF16 | {base}", f"AWQ | {cell}", head=f"Method | {head}")
    assert bool(of_kind(report, Kind.WRONG_PERCENTAGE)) is not right
    assert not report.unread


@pytest.mark.parametrize(
    ("base", "cell"), [("1000 tok/s", "60 ktok/min (+50%)"), ("1.2 s", "90 m (+50%)"), ("1.2 s", "850 ms (-29.2%)")]
)
def test_figures_in_units_that_are_not_known_are_unread(base: str, cell: str) -> None:
    report = table(f"BF16 | {base} | 9", f"AWQ | {cell} | 9", "FP8 | 900 (+5%) | 9", head="Method | Throughput | TPOT")
    assert not of_kind(report, Kind.WRONG_PERCENTAGE)
    assert "900 (+5%)" in [place.text for place in report.unread]


@pytest.mark.parametrize(
    ("cells", "right"),
    [
        ("1000,0; / 1125,0;+12,5%", True),
        ("1000,0; / 1125,0;+15,5%", False),
        ("1000,5; / 1125,6 (+12,5%);", True),
        ("1.000,5; / 1.125,6 (+25,5%);", False),
        ("1.000; / 998,5 (-0,2%);", True),
        ("1,000; / 998 (-0.2%);", True),  # no comma of the file can be a decimal one
        ("1,000; / 1,125 (+22.5%);", False),
    ],
)
def test_commas_between_semicolons(cells: str, right: bool) -> None:
    base, awq = cells.split("/")
    report = audit(f"method;output tok/s;change\nBF16;{base.strip()}\nAWQ;{awq.strip()}\n", "s.csv")
    assert bool(of_kind(report, Kind.WRONG_PERCENTAGE)) is not right
    assert not report.unread


def test_digits_behind_a_comma_are_no_change_of_their_own() -> None:
    rows = ("BF16 | 1000 | | 100", "AWQ | 1125 | +12,5% | 1304")
    report = table(*rows, head="Method | Output tok/s | Change | TTFT", prose="AWQ increases TTFT by 1,204%.")
    assert not of_kind(report, Kind.WRONG_PERCENTAGE)
    assert report.claims == ()


@pytest.mark.parametrize(
    ("sentence", "outcome"),
    [
        ("AWQ is faster at concurrency 1.", Outcome.CONFIRMED),
        ("AWQ is slower with 64 concurrent requests.", Outcome.CONFIRMED),
        ("AWQ is faster than BF16 at a concurrency of 64.", Outcome.CONTRADICTED),
        ("AWQ is faster at concurrencies 1 and 64.", Outcome.CONTRADICTED),
        ("AWQ is faster at concurrency 1 and has lower TTFT.", Outcome.CONFIRMED),
        ("AWQ is faster at concurrency 32.", Outcome.NOT_CHECKED),
        ("AWQ is faster below concurrency 64.", Outcome.NOT_CHECKED),
        ("AWQ is faster at low batch sizes.", Outcome.NOT_CHECKED),
        ("AWQ is slower in high-concurrency settings.", Outcome.NOT_CHECKED),
        ("AWQ is slower than BF16.", Outcome.CONTRADICTED),
        ("AWQ improves throughput by 50% at concurrency 1.", Outcome.CONFIRMED),
        ("AWQ improves throughput by 50% at concurrency 64.", Outcome.CONTRADICTED),
        ("AWQ improves throughput by 40% at concurrency 32.", Outcome.NOT_CHECKED),
        ("AWQ improves throughput by 40%.", Outcome.CONTRADICTED),
    ],
)
def test_a_claim_about_a_load_is_about_its_rows(sentence: str, outcome: Outcome) -> None:
    rows = ("BF16 | 1 | 100 | 20", "AWQ | 1 | 150 | 15", "BF16 | 64 | 1000 | 200", "AWQ | 64 | 900 | 300")
    report = table(*rows, head="Method | Concurrency | Output tok/s | Mean TTFT (ms)", prose=sentence)
    assert [claim.outcome for claim in report.claims] == [outcome]


@pytest.mark.parametrize(
    ("sentence", "outcome"),
    [
        ("FP8 improves throughput by 50 %.", Outcome.CONFIRMED),
        ("FP8 is 1.5x faster than BF16.", Outcome.CONFIRMED),
        ("FP8 is 25 % faster than AWQ.", Outcome.CONFIRMED),
        ("FP8 is 50 % faster than AWQ.", Outcome.CONTRADICTED),
        ("Throughput +20% with AWQ, TTFT -10%.", Outcome.CONFIRMED),
        ("AWQ: TTFT -10%, throughput +20%.", Outcome.CONFIRMED),
        ("AWQ: TTFT -20%.", Outcome.CONTRADICTED),
        ("We saw up to 50 % more throughput.", Outcome.CONFIRMED),
        ("We saw up to 80 % more throughput.", Outcome.CONTRADICTED),
        ("FP8 gains about 45 % in throughput.", Outcome.NOT_CHECKED),
        ("FP8 gains 40-45 % in throughput.", Outcome.NOT_CHECKED),
        ("AWQ gains 45 % in MMLU.", Outcome.NOT_CHECKED),
        ("FP8 is fast, with 90 % GPU utilization, in throughput.", Outcome.NOT_CHECKED),
        ("AWQ needs 2.5x less memory, with the same throughput.", Outcome.NOT_CHECKED),
        ("NVFP4 gains 45 % in throughput.", Outcome.NOT_CHECKED),
    ],
)
def test_figures_in_prose(sentence: str, outcome: Outcome) -> None:
    report = table("BF16 | 1000 | 100 | 10", "FP8 | 1500 | 50 | 8", "AWQ | 1200 | 90 | 9", prose=sentence)
    assert {claim.outcome for claim in report.claims} == {outcome}
    assert bool(of_kind(report, Kind.WRONG_PERCENTAGE)) is (outcome is Outcome.CONTRADICTED)


@pytest.mark.parametrize(
    ("sentence", "outcome"),
    [
        ("FP8 outperforms BF16.", Outcome.CONFIRMED),
        ("AWQ outperforms FP8.", Outcome.CONTRADICTED),
        ("AWQ has lower TTFT than BF16.", Outcome.CONFIRMED),
        ("AWQ increases TTFT.", Outcome.CONTRADICTED),
        ("Weight-only quantization degrades throughput.", Outcome.CONTRADICTED),
        ("Weight-activation quantization improves throughput.", Outcome.CONFIRMED),
        ("FP8 is the best in throughput.", Outcome.CONFIRMED),
        ("AWQ is the best in throughput.", Outcome.CONTRADICTED),
        ("AWQ can be slower than BF16 in throughput.", Outcome.NOT_CHECKED),
        ("AWQ is not slower than BF16 in throughput.", Outcome.NOT_CHECKED),
        ("Most users find AWQ slower in throughput.", Outcome.NOT_CHECKED),
        ("FP8 reduces memory and improves throughput.", Outcome.CONFIRMED),
        ("When memory is short, AWQ degrades throughput.", Outcome.NOT_CHECKED),
    ],
)
def test_directions_in_prose(sentence: str, outcome: Outcome) -> None:
    report = table("BF16 | 1000 | 100 | 10", "FP8 | 1500 | 50 | 8", "AWQ | 1200 | 90 | 9", prose=sentence)
    assert [claim.outcome for claim in report.claims] == [outcome]
    assert bool(of_kind(report, Kind.CONTRADICTED_CLAIM)) is (outcome is Outcome.CONTRADICTED)


@pytest.mark.parametrize("sentence", ["FP8 keeps the quality.", "AWQ reduces memory.", "We like AWQ.", "It is faster."])
def test_what_is_no_claim_about_speed_is_not_listed(sentence: str) -> None:
    assert table("BF16 | 1000 | 100 | 10", "AWQ | 1200 | 90 | 9", prose=sentence).claims == ()


def test_a_class_on_newer_versions_picks_its_kernel() -> None:
    rows = ("AWQ | 1000 | 100 | 10", "AWQ Marlin | 1001 | 101 | 10.01")
    (found,) = of_kind(table(*rows, prose="vLLM 0.24.0"), Kind.EQUAL_ROWS)
    assert found.hint == "in vLLM 0.24.0 awq and awq_marlin are one class, which picks its kernel by itself"
    (unknown,) = of_kind(table(*rows), Kind.EQUAL_ROWS)
    assert unknown.hint is None


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        ("AWQ Marlin | 1006 | 104 | 10.02", Kind.EQUAL_ROWS),
        ("AWQ Marlin | 1008 | 100 | 10", Kind.INDISTINGUISHABLE_ROWS),  # two passes: 0.7 %
        ("AWQ Marlin | 1000 | 106 | 10", Kind.INDISTINGUISHABLE_ROWS),  # 5 %
        ("AWQ Marlin | 1000 | 100 | 10.04", Kind.INDISTINGUISHABLE_ROWS),  # 0.3 %
        ("AWQ Marlin | 1080 | 100 | 10", None),  # starts: 7.9 %
        ("AWQ Marlin | 1000 | 116 | 10", None),  # 15 %
        ("AWQ Marlin | 1000 | 100 | 11.3", None),  # 12 %
        ("GPTQ Marlin | 1020 | 100 | 10", None),  # another method
    ],
)
def test_how_close_rows_must_be(other: str, kind: Kind | None) -> None:
    report = table("AWQ | 1000 | 100 | 10", other)
    found = [f.kind for f in report.findings if f.kind in (Kind.EQUAL_ROWS, Kind.INDISTINGUISHABLE_ROWS)]
    assert found == ([kind] if kind else [])


def test_repeats_keep_close_kernels_apart_but_not_equal_ones() -> None:
    head = "Method | Output tok/s | Mean TPOT (ms) | runs"
    close = table("AWQ | 1000 | 10 | 5", "AWQ Marlin | 1030 | 9.8 | 5", head=head)
    assert not of_kind(close, Kind.INDISTINGUISHABLE_ROWS)
    assert not of_kind(close, Kind.SINGLE_RUNS)
    same = table("AWQ | 1000 | 10 | 5", "AWQ Marlin | 1001 | 10 | 5", head=head)
    assert of_kind(same, Kind.EQUAL_ROWS)
    assert of_kind(table("AWQ | 1000 | 10 | 1", "BF16 | 1030 | 9.8 | 1", head=head), Kind.SINGLE_RUNS)


def test_several_rows_of_one_variant_are_repeats() -> None:
    report = table("BF16 | 1000 | 100 | 10", "BF16 | 1010 | 101 | 10.1", "FP8 | 1500 | 50 | 8", "FP8 | 1490 | 51 | 8.1")
    assert not of_kind(report, Kind.SINGLE_RUNS)
    assert not of_kind(report, Kind.EQUAL_ROWS)


def test_the_noise_floor_can_be_stated() -> None:
    text = STUDY.read_text()
    (found,) = of_kind(audit(text, "s.md", noise_floor=1.0), Kind.SINGLE_RUNS)
    assert found.arithmetic == ()
    assert floor(Family.TTFT, 7.9) == floor(Family.TTFT, None) == 15.0


def test_conditions_are_compared_apart() -> None:
    text = "method,concurrency,output tok/s\nbf16,1,100\nbf16,64,4000\nfp8,1,150 (+50%)\nfp8,64,5000 (+50%)\n"
    report = audit(text, "s.csv")
    (found,) = of_kind(report, Kind.WRONG_PERCENTAGE)
    assert found.places[0].line == 5
    assert "+25.0 %" in found.sentence


def test_memory_and_quality_are_no_conditions() -> None:
    head = "Precision | Batch | Latency (s) | Tokens/s | Speedup | GPU memory (GB) | MMLU"
    rows = ("FP16 | 1 | 2.00 | 50 | 1.0x | 16 | 65%", "FP8 | 1 | 1.30 | 80 | 1.6x | 9 | 64%")
    more = ("FP16 | 32 | 3.00 | 1000 | 1.0x | 16 | 65%", "FP8 | 32 | 2.00 | 1500 | 1.7x | 9 | 64%")
    (found,) = of_kind(table(*rows, *more, head=head), Kind.WRONG_PERCENTAGE)
    assert found.places[0].text == "1.7x"
    assert "give 1.500x" in found.sentence


def test_a_baseline_can_be_named_and_can_stand_in_another_table() -> None:
    rows = ("AWQ | 1000 | 100 | 10", "FP8 | 1500 (+50%) | 50 | 8", "INT8 | 1300 (+60%) | 60 | 9")
    assert not of_kind(table(*rows), Kind.WRONG_PERCENTAGE)
    text = "\n".join(
        ["| Method | Output tok/s | Mean TTFT (ms) | TPOT |", "|-|-|-|-|", *(f"| {row} |" for row in rows)]
    )
    assert len(of_kind(audit(text, "s.md", baseline="awq"), Kind.WRONG_PERCENTAGE)) == 1
    other = "| Method | Output tok/s | Mean TTFT (ms) | TPOT |\n|-|-|-|-|\n| BF16 | 800 | 90 | 12 |\n| AWQ | 1000 | 100 | 10 |"
    borrowed = of_kind(audit(f"{other}\n\ntext\n\n{text}", "s.md"), Kind.WRONG_PERCENTAGE)
    assert [found.places[0].row for found in borrowed] == ["FP8", "INT8"]  # of 800 they are +87.5 % and +62.5 %
    with pytest.raises(Unreadable, match="no row of a table with metrics is called 'nf4'"):
        audit(text, "s.md", baseline="nf4")


def test_tables_may_lie_on_their_side() -> None:
    text = "| Metric | BF16 | FP8 |\n|-|-|-|\n| Output tok/s | 1000 | 1500 (+60%) |\n| Mean TTFT (ms) | 100 | 90 |"
    (found,) = of_kind(audit(text, "s.md"), Kind.WRONG_PERCENTAGE)
    assert found.places[0].row == "FP8"
    assert found.places[0].line == 3


def test_a_time_is_counted_backwards_only_where_its_column_says_so() -> None:
    report = table("BF16 | 1000 | 100 | 10", "FP8 | 1000 | 80 (+25%) | 10")  # 100 / 80, printed as a change
    assert of_kind(report, Kind.WRONG_PERCENTAGE)


def test_no_difference_is_a_result_where_it_was_repeated() -> None:
    rows = ("BF16 | 1000 ± 5 | 100 | 10", "FP8 | 1001 ± 5 | 100 | 10")
    assert not of_kind(table(*rows), Kind.EQUAL_ROWS)
    (found,) = of_kind(table(*(row.replace(" ± 5", "") for row in rows)), Kind.EQUAL_ROWS)
    assert found.sentence.endswith("the table shows no difference between them")


@pytest.mark.parametrize(
    ("prose", "single"),
    [
        ("Each figure is the mean of three server starts.", False),
        ("With n = 5.", False),
        ("Bars are 95% confidence intervals.", False),
        ("Three servers were used.", True),
        ("It starts in 3 seconds; n = 1.", True),
    ],
)
def test_prose_can_speak_of_repeats(prose: str, single: bool) -> None:
    assert (
        bool(of_kind(table("BF16 | 1000 | 100 | 10", "FP8 | 1500 | 50 | 8", prose=prose), Kind.SINGLE_RUNS)) is single
    )


def test_commands_go_on_over_lines() -> None:
    command = "```\nvllm bench serve --model m \\\n  --ignore-eos --temperature 0 \\\n  --request-rate 4\n```\n"
    report = table("BF16 | 1000 | 100 | 10", "FP8 | 1500 | 50 | 8", prose=command)
    assert not of_kind(report, Kind.UNCONTROLLED_LOAD)
    assert not of_kind(report, Kind.QUEUEING_TTFT)


def test_an_fp8_cache_is_no_fp8_checkpoint() -> None:
    rows = ("BF16 | 1000 | 100 | 10", "FP8 static | 1500 | 50 | 8", "BF16 + KV cache FP8 | 1010 | 100 | 10")
    report = table(*rows, prose="FP8 improves throughput by 1 %. KV cache FP8 improves throughput by 1 %.")
    assert [claim.outcome for claim in report.claims] == [Outcome.CONTRADICTED, Outcome.CONFIRMED]


# Reading


@pytest.mark.parametrize(
    ("name", "text", "line", "message"),
    [
        ("s.md", "", 1, "no table with a metric"),
        ("s.md", "# Notes\n\n| a | b |\n|-|-|\n| 1 | 2 |", 3, "no table with a metric"),
        ("s.md", "| Method | TTFT |\n|-|-|", 1, "no table with a metric"),
        ("s.md", "| Method | TTFT |\n|-|-|\n| FP8 | good |", 1, "no table with a metric"),
        ("s.csv", "", 1, "a header and at least one row"),
        ("s.csv", "method,ttft\na,1\nb,2,3\n", 3, "3 cells, but the header has 2"),
        ("s.csv", "method,ttft\n" + "a,1\n" * 2001, 2, "more than 2000 rows"),
    ],
)
def test_what_cannot_be_audited_says_where(name: str, text: str, line: int, message: str) -> None:
    with pytest.raises(Unreadable, match=message) as error:
        audit(text, name)
    assert error.value.line == line


def test_cells_that_are_no_numbers_are_listed() -> None:
    report = table("BF16 | fast | 100 | 10", "FP8 | OOM | - | 9")
    assert [(place.line, place.text) for place in report.unread] == [(6, "fast")]


def test_control_characters_do_not_reach_a_terminal() -> None:
    report = table("BF16 | 1000 | 100 | 10", "FP8\x1b[31m | 1500 (+60%) | 50 | 8")
    assert [finding.places[0].row for finding in of_kind(report, Kind.WRONG_PERCENTAGE)] == ["FP8 [31m"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "| " + "total " * 20000 + "| a |\n|-|-|\n| FP8 | 1 |\n",
        "| Method | tok/s |\n|-|-|\n| BF16 | 1 |\n| FP8 | 2 |\n\n" + "FP8 +30% throughput, " * 3000,
    ],
    ids=["header", "sentence"],
)
def test_long_lines_take_no_long_time(text: str) -> None:
    try:
        assert audit(text, "s.md").claims
    except Unreadable:
        assert text.startswith("| total")


WORDS = ["BF16", "FP8 Static", "AWQ Marlin", "GPTQ (Int8)", "weight-only", "default kernels", "custom kernels", "faster",
         "than", "best", "outperforms", "degrades", "TTFT", "throughput", "+26.7%", "1.5x", "up to", "±", "0", "-1",
         "1e9", "1,234.5", "n/a", "%", "\n", "|", "|-|-|", "# ", "```\n", "vllm bench serve", "--ignore-eos", "vLLM 0.9",
         "Method | tok/s | TTFT\n|-|-|-|\n", ", ", ". ", "when", "among", "1e400", "9" * 400]  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(
    text=st.text() | st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join),
    name=st.sampled_from(["s.md", "s.csv"]),
)
@example(text="Method | tok/s\n|-|-|\n| BF16 | 1e308 |\n| FP8 | 1e-308 (+5%) |", name="s.md")
@example(text="method,tok/s\nBF16,0\nFP8,5 (+5%)\n", name="s.csv")
def test_no_text_crashes_it(text: str, name: str) -> None:
    try:
        report = audit(text, name)
    except Unreadable as error:
        assert error.line >= 1
    else:
        assert Report.model_validate_json(report.model_dump_json()) == report
