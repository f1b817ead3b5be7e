"""The report says everything that the study says, shows it to everybody, and loads nothing."""

import html.parser
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from core_support import objects, simulated
from core_support.speed import seconds_of
from core_support.studies import finished, spec_of
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Difference, FindingKind
from quantbench.cli import app
from quantbench.cli.read import read_path
from quantbench.exports import Study, as_it_stands, to_document
from quantbench.report import build, draw, evidence, to_markdown
from quantbench.report.configuration import END_OF_YAML
from quantbench.report.document import Chart, Charts, Forest, Items, Lines, Report, Stacks, Table
from quantbench.report.draw import MARKERS, SERIES
from quantbench.report.html import to_html
from quantbench.report.plots import pareto

VOID = {"meta", "link", "br", "hr", "img", "input"}
ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "operator/quantbench/report/templates"


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: texts, tags, ids, references."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes what is not open"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(study: Study) -> Page:
    return Page(to_html(build(study, "9.9.9")))


def plain(markdown: str) -> str:
    """What a reader of the Markdown sees."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    leaves = itertools.chain.from_iterable([token, *(token.children or [])] for token in tokens)
    return " ".join(" ".join(leaf.content for leaf in leaves if leaf.type in {"text", "fence", "code_inline"}).split())


@pytest.fixture(scope="module")
def rich() -> Study:
    return simulated.rich_study()


@pytest.fixture(scope="module")
def rich_page(rich: Study) -> Page:
    return page(rich)


def said(study: Study) -> set[str]:
    """Every fact of a study that a report must not lose."""
    status = study.benchmark.status
    facts = {str(status.summary), study.benchmark.name, study.benchmark.spec.model}
    for cell in status.cells:
        facts |= {cell.variant, cell.target, str(cell.verdict), cell.message or "", cell.same_as or ""}
        facts |= {cell.fingerprint or "", cell.effective or ""} | {row.load for row in cell.loads}
        facts |= {f"{row.total_tokens_per_second:,.0f}" for row in cell.loads if row.total_tokens_per_second >= 1000}
    for finding in status.findings:
        facts |= {finding.message, *finding.evidence}
    for run in study.runs:
        facts |= {run.spec.engine.model, run.spec.engine.image, *run.spec.engine.args}
        facts |= {variable.name for variable in run.spec.engine.env}
        outcome, attested = run.status.verdict, run.status.attestation
        if outcome:
            facts |= {str(outcome.name)}
            facts |= (
                {outcome.message, outcome.log_line or "", outcome.hint or ""} if outcome.name != "Measured" else set()
            )
        if attested:
            facts |= {str(attested.engine_version), *(str(gpu.uuid) for gpu in attested.gpus), attested.gpus[0].name}
        facts |= {str(one.invalid_reason) for one in run.status.passes if not one.valid}
    return {" ".join(fact.split()) for fact in facts} - {""}


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_nothing_that_the_study_says_is_lost(rich: Study, rich_page: Page, form: str) -> None:
    text = rich_page.text if form == "html" else plain(to_markdown(build(rich, "9.9.9")))
    facts = said(rich)
    assert len(facts) > 150
    assert sorted(fact for fact in facts if fact not in text) == []


def test_the_answer_stands_before_everything_else(rich: Study, rich_page: Page) -> None:
    summary = str(rich.benchmark.status.summary)
    assert rich_page.text.index(summary) < rich_page.text.index("Every variant against the baseline")
    lines = to_markdown(build(rich, "0")).splitlines()
    assert plain(lines[4]) == summary


EVIL = '<script>alert("1")</script> | a\'b & `c` **d** [e](http://evil.example/x) <img src=x onerror=y>'


def evil_study() -> Study:
    spec = simulated.rich_spec(model=EVIL[:100], engine={"args": [f"--chat-template={EVIL}"]})

    def status(variant: str, target: str, block: int) -> objects.JsonObject:
        if variant in ("bnb", "kv-fp8"):
            return simulated.failed("Failed", EVIL, EVIL, EVIL)
        found = simulated.measured(spec, speed=1.1, seed=f"{variant}/{block}", mark=variant)
        found["attestation"] |= {"attentionBackend": EVIL[:60], "quantization": EVIL[:60]}
        found["attestation"]["gpus"] = [{"name": EVIL[:90]}]
        found["passes"][0] |= {"valid": False, "invalidReason": EVIL[:60], "message": EVIL}
        return found

    return simulated.with_status(simulated.study_of(spec, status), summary=EVIL)


def test_what_others_wrote_is_text_and_nothing_else(rich_page: Page) -> None:
    study = evil_study()
    raw = to_html(build(study, "0"))
    seen = Page(raw)
    assert EVIL in seen.text
    # The same elements as in a harmless study: nothing that was written by others became one.
    assert {tag for tag, _ in seen.tags} == {tag for tag, _ in rich_page.tags}
    assert not seen.all("script") + seen.all("img")
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]


def test_markdown_shows_what_others_wrote_as_text() -> None:
    text = to_markdown(build(evil_study(), "0"))
    assert EVIL in plain(text)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    leaves = [leaf for token in tokens for leaf in [token, *(token.children or [])]]
    assert {leaf.content for leaf in leaves if leaf.type in ("html_inline", "html_block")} <= {"<br>"}
    assert not [leaf for leaf in leaves if leaf.type in ("link_open", "image", "code_block")]


def test_tables_of_the_markdown_keep_their_shape(rich: Study) -> None:
    for study in (rich, evil_study()):
        report = build(study, "0")
        tokens = MarkdownIt("commonmark").enable("table").parse(to_markdown(report))
        rows: list[int] = []
        shapes = []
        for token in tokens:
            if token.type == "table_open":
                rows = []
            elif token.type == "tr_open":
                rows.append(0)
            elif token.type in ("th_open", "td_open"):
                rows[-1] += 1
            elif token.type == "table_close":
                assert len(set(rows)) == 1
                shapes.append((len(rows) - 1, rows[0]))
        expected = [(len(table.rows), len(table.columns)) for table in tables(report)]
        assert shapes == expected


def tables(report: Report) -> list[Table]:
    return [block for section in report.sections for block in section.blocks if isinstance(block, Table)]


def charts(report: Report) -> list[Chart]:
    blocks = [block for section in report.sections for block in section.blocks]
    return [chart for block in blocks if isinstance(block, Charts) for chart in block.charts]


def test_nothing_is_loaded_from_anywhere(rich_page: Page) -> None:
    for tag, attributes in rich_page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    style = (TEMPLATES / "report.css").read_text()
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"url\((?!#)", to_html(build(simulated.rich_study(), "0")))


def test_ids_are_unique_and_references_lead_somewhere(rich_page: Page) -> None:
    ids = [str(attributes["id"]) for _, attributes in rich_page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in rich_page.tags:
        wanted = [str(attributes["href"])[1:]] if "href" in attributes else []
        wanted += re.findall(r"url\(#([^)]+)\)", " ".join(str(value) for value in attributes.values()))
        wanted += str(attributes.get("aria-labelledby") or "").split()
        assert set(wanted) <= set(ids)


def test_tables_and_charts_can_be_read_without_seeing_them(rich: Study, rich_page: Page) -> None:
    assert len(rich_page.all("caption")) == len(rich_page.all("table")) == len(tables(build(rich, "0")))
    assert all(th.get("scope") in ("col", "row") for th in rich_page.all("th"))
    pictures = rich_page.all("svg")
    assert len(pictures) == len(charts(build(rich, "0"))) == 9
    assert all(svg.get("role") == "img" and svg.get("aria-labelledby") for svg in pictures)
    assert all(chart.description.startswith(chart.title) for chart in charts(build(rich, "0")))
    assert rich_page.all("html") == [{"lang": "en"}]


def test_a_verdict_is_never_said_by_colour_alone(rich: Study) -> None:
    matrix = tables(build(rich, "0"))[0]
    words = {row[0].text: " ".join((row[1].text, *row[1].more)) for row in matrix.rows}
    assert "faster" in words["fp8-dynamic"]
    assert "slower" in words["w4a16"]
    assert "same configuration as awq-marlin" in words["gptq-int4"]
    assert "OutOfMemory" in words["bnb"]
    assert "baseline" in words["bf16"]
    assert "noise floor" in words["control"]
    pairs = {(place % len(SERIES), place % len(MARKERS)) for place in range(33)}
    assert len(pairs) == 33, "two variants of one chart look alike"


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast_suffices_in_both_schemes(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (TEMPLATES / "report.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", blocks[scheme]))
    assert len(colours) > 25
    grounds = {"ink": ["page", "card", "code"], "soft": ["page", "card"], "accent": ["page", "card"]}
    for tone in ("better", "worse", "equal", "open", "failed"):
        grounds["ink"].append(f"{tone}-back")
        grounds[tone] = [f"{tone}-back"]
    grounds["worse"].append("card")
    low = {(text, on): contrast(colours[text], colours[on]) for text, ons in grounds.items() for on in ons}
    assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}
    assert all(contrast(colours[f"s{number}"], colours["card"]) >= 4.5 for number in range(1, 9))


def test_saturated_values_are_marked_everywhere(rich: Study) -> None:
    report = build(rich, "0")
    every = next(table for table in tables(report) if "latencies" in table.caption)
    marked = [row for row in every.rows if "at limit" in row[5].more]
    full = [row for cell in rich.benchmark.status.cells for row in cell.loads if row.saturated]
    assert len(marked) == len(full) > 0
    hollow = [
        point
        for chart in charts(report)
        if isinstance(chart.shown, Lines)
        for line in chart.shown.lines
        for point in line.points
        if point.hollow
    ]
    assert hollow
    assert all("at limit" in point.said for point in hollow)
    assert "length of a queue" in to_markdown(report)


def test_one_start_is_called_one_run() -> None:
    study = simulated.rich_study(simulated.rich_spec(sampling={"starts": 1, "maxStarts": 1}))
    assert {row.difference for cell in study.benchmark.status.cells for row in cell.loads} >= {Difference.ONE_RUN}
    report = build(study, "0")
    matrix = tables(report)[0]
    assert all("one run" in " ".join(entry.more) for row in matrix.rows for entry in row[1:] if "tok/s" in str(entry))
    assert not [entry for row in matrix.rows for entry in row if entry.tone in ("better", "worse")]
    assert "one run" in page(study).text


def test_starts_that_compiled_and_starts_from_a_cache_are_told_apart() -> None:
    study = read_path(ROOT / "benchmarks" / "results" / "published-study-h100" / "sitting-1.json")
    report = build(study, "0")
    table = next(table for table in tables(report) if table.caption == "What a server start takes")
    rows = [[entry.text for entry in row] for row in table.rows if row[0].text == "bf16"]
    assert [row[1:6] for row in rows] == [
        ["h100", "compiled", "1", "6.0", "145.6"],
        ["h100", "from the cache", "1", "1.0", "44.0"],
    ]
    (chart,) = [chart for chart in charts(report) if chart.title.startswith("Cold start")]
    assert isinstance(chart.shown, Stacks)
    assert [stack.name for stack in chart.shown.stacks][:2] == ["bf16, compiled", "bf16, from the cache"]


def test_figures_beside_bars_are_not_cut_off() -> None:
    study = read_path(ROOT / "benchmarks" / "results" / "published-study-h100" / "sitting-1.json")
    forests = [chart.shown for chart in charts(build(study, "0")) if isinstance(chart.shown, Forest)]
    assert len({(forest.limits, forest.letters) for forest in forests}) == 1
    assert "1.231× (1.004–1.509)" in [bar.figure for bar in forests[0].bars]
    for forest in forests:
        figure, _ = draw._forest(forest)
        right = [text.get_window_extent().x1 for text in figure.axes[0].texts]
        assert len(right) == len(forest.bars)
        assert max(right) <= figure.bbox.x1


def test_findings_that_take_something_away_are_warnings() -> None:
    study = as_it_stands(read_path(ROOT / "benchmarks" / "results" / "published-study-h100" / "sitting-1.json"))
    (items,) = evidence.findings(study)
    assert isinstance(items, Items)
    warned = {item.label for item in items.items if item.warning}
    assert warned == {"Starts disagree", "API server bound", "Throttled"}
    assert warned < {item.label for item in items.items}


def test_a_load_that_was_not_reached_is_no_failure() -> None:
    study = as_it_stands(read_path(ROOT / "benchmarks" / "results" / "published-study-h100" / "sitting-2.json"))
    matrix = {row[0].text: row[1:] for row in tables(build(study, "0"))[0].rows}
    shown = [(entry.text, entry.more, entry.tone) for entry in matrix["int8-w8a8"]]
    assert shown[3] == ("not reached", (), "open")
    assert shown[0] == ("1.06×", ("one run", "19,261 tok/s"), "open")
    assert {entry.tone for entry in matrix["gguf"]} == {"failed"}
    verdicts = [
        (row[0].text, row[place].tone)
        for table, place in (("Refused or failed", 1), ("How every variant ended", 2))
        for row in next(one for one in tables(build(study, "0")) if one.caption == table).rows
        if row[place].text == "CutOff"
    ]
    assert verdicts == [("int8-w8a8", "open"), ("kv-fp8", "open")] * 2


@pytest.mark.parametrize(("complete", "said"), [(False, "not measured yet"), (True, "not measured")])
def test_what_was_not_started_may_follow_while_the_study_goes_on(complete: bool, said: str) -> None:
    spec = spec_of()
    last = spec.variants[-1].name
    whole = finished(spec, complete=complete)
    cells = tuple(
        cell.model_copy(update={"verdict": None, "loads": (), "finished": 0}) if cell.variant == last else cell
        for cell in whole.benchmark.status.cells
    )
    status = whole.benchmark.status.model_copy(update={"cells": cells})
    study = replace(whole, benchmark=replace(whole.benchmark, status=status))
    matrix = {row[0].text: row[1] for row in tables(build(study, "0"))[0].rows}
    assert matrix[last].text == said


def test_kinds_of_findings_are_words() -> None:
    assert evidence._words(FindingKind.API_SERVER_BOUND) == "API server bound"
    assert evidence._words(FindingKind.NO_DIFFERENCE) == "No difference"
    assert all(re.fullmatch(r"([A-Z][a-z]+|API)( [a-z]+)*", evidence._words(kind)) for kind in FindingKind)


def test_passes_left_out_are_counted_and_explained(rich: Study) -> None:
    report = build(rich, "0")
    left_out = next(table for table in tables(report) if table.caption.startswith("Passes left out"))
    assert [[entry.text for entry in row[:5]] for row in left_out.rows] == [
        ["w4a16", "h100", "saturated", "ServerDisagrees", "1"]
    ]
    passes = sum(len(run.status.passes) for run in rich.runs)
    assert f"{passes - 1} of {passes} measured passes count." in to_markdown(report)


def test_a_spec_that_is_applied_again_is_the_same(rich: Study) -> None:
    text = next(
        token.content for token in MarkdownIt().parse(to_markdown(build(rich, "0"))) if END_OF_YAML in token.content
    )
    document = yaml.safe_load(text.split("\n", 1)[1].removesuffix(f"{END_OF_YAML}\n"))
    assert QuantBenchmarkSpec.model_validate(document["spec"]) == rich.benchmark.spec
    assert document["metadata"] == {"name": "demo", "namespace": "bench"}
    # An empty directory is said by an empty object, which is no default.
    scratch = {"volumes": [{"name": "scratch", "emptyDir": {}}, *objects.FULL["engine"]["podTemplate"]["volumes"]]}
    full = objects.study(**objects.merged(objects.FULL, {"engine": {"podTemplate": scratch}}))
    again = build(Study(objects.benchmark(full), ()), "0").sections[-1].blocks[-1]
    document = yaml.safe_load(again.text.split("\n", 1)[1].removesuffix(f"{END_OF_YAML}\n"))
    assert QuantBenchmarkSpec.model_validate(document["spec"]) == full


def test_credentials_are_left_out() -> None:
    env = [{"name": "HF_TOKEN", "value": "hf_do_not_tell"}]
    spec = simulated.rich_spec(engine={"podTemplate": {"env": env}})
    study = simulated.rich_study(spec)
    for text in (to_html(build(study, "0")), to_markdown(build(study, "0"))):
        assert "do_not_tell" not in text
        assert "HF_TOKEN" in text
        assert "look like credentials" in text


def only_failures() -> Study:
    spec = simulated.rich_spec()
    return simulated.study_of(spec, lambda *_: simulated.failed("OutOfMemory", "no memory", simulated.OOM_LINE, "less"))


def refused() -> Study:
    study = Study(objects.benchmark(simulated.rich_spec()), ())
    condition = {"type": "Accepted", "status": "False", "reason": "InvalidSpec", "message": "spec.loads: too many"}
    read = objects.benchmark(
        simulated.rich_spec(), status={"conditions": [condition | {"lastTransitionTime": objects.at()}]}
    )
    return replace(study, benchmark=read)


def along_rates() -> Study:
    spec = simulated.rich_spec(
        loads=[{"name": f"r{rate}", "requestRate": rate, "numPrompts": 100} for rate in (1, 2, 4)]
    )
    return simulated.rich_study(spec)


def two_targets() -> Study:
    return simulated.rich_study(simulated.rich_spec(targets=[{"name": "h100"}, {"name": "l4", "gpus": 0}]))


SENSIBLE = {
    "no result": (lambda: Study(objects.benchmark(simulated.rich_spec()), ()), "Nothing is measured yet.", 0),
    "refused": (refused, "The study was not accepted: spec.loads: too many", 0),
    "only failures": (only_failures, "OutOfMemory", 0),
    "single load": (lambda: simulated.rich_study(simulated.rich_spec(loads=[{"name": "only"}])), "faster", 3),
    "single variant": (lambda: simulated.rich_study(simulated.rich_spec(variants=[{"name": "bf16", "method": "BF16"}])), "noise floor", 9),
    "under way": (lambda: simulated.rich_study(ended=False, blocks=1), "under way, 9/27 runs", 9),
    "two targets": (two_targets, "Ratio to bf16 at c16", 18),
    "request rates": (along_rates, "TPOT", 8),
}  # fmt: skip


@pytest.mark.parametrize("name", SENSIBLE)
def test_every_study_gives_a_sensible_report(name: str) -> None:
    make, words, pictures = SENSIBLE[name]
    study = make()
    seen = page(study)
    assert words in seen.text
    assert len(seen.all("svg")) == pictures
    for table in tables(build(study, "0")):
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert table.rows
    assert "nan" not in seen.text.lower().split()
    assert "None" not in seen.text.split()
    assert "kubectl apply" in seen.text


@pytest.mark.parametrize("shape", [(16, 25, 1, 25), (4, 10, 10, 2), (1, 32, 12, 2)], ids=str)
def test_large_studies_take_less_than_five_seconds(shape: tuple[int, int, int, int]) -> None:
    study = simulated.large_study(*shape)
    assert seconds_of(lambda: to_html(build(study, "0")), bound=5.0) < 5.0
    report = build(study, "0")
    text = to_html(report)
    assert len(text) < 8 << 20
    cells = study.benchmark.status.cells
    every = [row for table in tables(report) if "latencies" in table.caption for row in table.rows]
    assert len(every) == sum(len(cell.loads) for cell in cells) >= 384
    # The status of so many rows holds no fingerprint; the runs do.
    marks = {run.status.attestation.fingerprint for run in study.runs if run.status.attestation}
    assert all(str(mark) in text for mark in marks)


def test_the_front_holds_what_no_other_point_beats() -> None:
    assert pareto([[(1.0, 10.0), (3.0, 30.0)], [(2.0, 9.0), (3.0, 31.0)], [(5.0, 31.0)]]) == ((0, 0), (1, 1))
    assert pareto([[(1.0, 1.0)], [(1.0, 2.0)]]) == ((1, 0),)
    assert pareto([]) == ()


@pytest.fixture
def export(rich: Study, tmp_path: Path) -> Path:
    path = tmp_path / "study.json"
    path.write_text(json.dumps(to_document(rich, "0")))
    return path


def test_the_command_writes_either_form(export: Path, rich: Study, tmp_path: Path) -> None:
    run = CliRunner()
    for name in ("a.html", "b.md"):
        done = run.invoke(app, ["report", str(export), "-o", str(tmp_path / "new" / name)])
        assert done.exit_code == 0, done.output
        assert str(rich.benchmark.status.summary).split(" (")[0] in (tmp_path / "new" / name).read_text()
    assert (tmp_path / "new/a.html").read_text().startswith("<!doctype html>")
    shown = run.invoke(app, ["report", str(export), "-o", "-"])
    assert shown.stdout == (tmp_path / "new/b.md").read_text()


def test_the_command_says_what_is_wrong(export: Path, tmp_path: Path) -> None:
    run = CliRunner()
    wrong = run.invoke(app, ["report", str(export), "-o", str(tmp_path / "a.pdf")])
    assert wrong.exit_code == 2
    assert ".html or .md" in wrong.output
    blocked = run.invoke(app, ["report", str(export), "-o", str(export / "a.md")])
    assert blocked.exit_code == 2
    assert run.invoke(app, ["report", str(tmp_path / "missing.json"), "-o", "-"]).exit_code == 2


def test_without_the_extra_html_says_what_to_install(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "quantbench.report.html")
    done = CliRunner().invoke(app, ["report", str(export), "-o", str(tmp_path / "a.html")])
    assert done.exit_code == 2
    assert ".[report]" in done.output
    assert CliRunner().invoke(app, ["report", str(export), "-o", str(tmp_path / "a.md")]).exit_code == 0


def test_neither_the_operator_nor_markdown_imports_the_libraries() -> None:
    code = "import sys, quantbench.handlers, quantbench.cli, quantbench.report; print({'jinja2', 'matplotlib'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )
