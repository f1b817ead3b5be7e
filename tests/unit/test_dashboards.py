"""Dashboards and rules ask for what the operator has, and say what they show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core_support.fleets import largest
from core_support.scrape import exposition, state_of
from prometheus_support.dashboards import FILES, load, panels, queries
from prometheus_support.server import ROOT, RULES, promtool

NAMES = set(re.findall(r"^# TYPE (\S+)", "".join(exposition(state_of(*largest()))), re.MULTILINE))
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
EXPRESSIONS = [rule["expr"] for group in GROUPS for rule in group["rules"]]
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}
UNITS = {"s", "percentunit", "none", "ops", "reqps", "bytes"}


def metrics(expression: str) -> set[str]:
    """Metrics that an expression names; of histograms and summaries their families."""
    found = re.findall(r"\b(?:quantbench|process)[_:][a-z0-9_]+\b(?=[\s\[{)]|$)", expression)
    return {re.sub(r"_(bucket|sum|count)$", "", name) if name not in NAMES else name for name in found}


def test_there_is_something_to_look_at() -> None:
    assert [file.stem for file in FILES] == ["fleet", "operator", "study"]
    assert len(queries()) > 40
    assert all(metrics(query.expression) for query in queries())


@pytest.mark.parametrize("query", queries(), ids=str)
def test_panels_ask_for_metrics_that_exist(query: Any) -> None:
    assert metrics(query.expression) <= NAMES | RECORDED


def test_rules_ask_for_metrics_that_exist() -> None:
    for expression in EXPRESSIONS:
        assert metrics(expression)
        assert metrics(expression) <= NAMES | RECORDED, expression


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_panel_says_what_it_shows(file: Path) -> None:
    dashboard = load(file)
    assert dashboard["title"].startswith("QuantBenchmark / ")
    assert dashboard["uid"] == f"quantbench-{file.stem}"
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(set(titles)) == len(titles)
    for panel in panels(dashboard):
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        unit = panel["fieldConfig"]["defaults"]["unit"]
        assert unit in UNITS or unit.startswith("suffix: "), panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert target["legendFormat"]
    identities = [panel["id"] for panel in dashboard["panels"]]
    assert identities == list(range(1, len(identities) + 1))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_panels_do_not_overlap(file: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in load(file)["panels"]:
        at = panel["gridPos"]
        fields = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not fields & taken, panel["title"]
        taken |= fields


STUDIES = {"running": (1, 0, 0), "done": (1, 1, 0), "held": (1, 0, 1), "refused": (0, 0, 0), "refused-held": (0, 0, 1)}
"""Accepted, complete and suspended."""
STATES = {
    "running": "Running",
    "done": "Complete",
    "held": "Suspended",
    "refused": "Refused",
    "refused-held": "Refused",
}


@pytest.mark.parametrize(("file", "title", "ref"), [("study", "State", "A"), ("fleet", "Studies", "C")])
def test_a_study_that_does_not_run_is_not_said_to(file: str, title: str, ref: str, tmp_path: Path) -> None:
    (panel,) = [one for path in FILES if path.stem == file for one in panels(load(path)) if one["title"] == title]
    (asked,) = [target["expr"] for target in panel["targets"] if target["refId"] == ref]
    fields = panel["fieldConfig"]
    columns = [
        item
        for one in fields.get("overrides", [])
        if one["matcher"]["options"] == "State"
        for item in one["properties"]
    ]
    mapped = fields["defaults"].get("mappings") or next(item["value"] for item in columns if item["id"] == "mappings")
    values = {result["text"]: value for value, result in mapped[0]["options"].items()}
    series = [
        {
            "series": f'quantbench_benchmark_{name}{{namespace="n",benchmark="{study}",pod="{pod}"}}',
            "values": f"{value}x5",
        }
        for study, facts in STUDIES.items()
        for name, value in zip(("accepted", "complete", "suspended"), facts, strict=True)
        for pod in ("a", "b")
    ]
    chosen = [(study, asked.replace("$namespace", "n").replace("$benchmark", study)) for study in STUDIES]
    cases = []
    for study, expression in chosen:
        labels = f'{{namespace="n", benchmark="{study}"}}' if file == "fleet" else f'{{benchmark="{study}"}}'
        one = f'({expression}) and on (benchmark) quantbench_benchmark_complete{{benchmark="{study}"}}'
        found = [{"labels": labels, "value": float(values[STATES[study]])}]
        cases.append({"expr": one, "eval_time": "2m", "exp_samples": found})
    test = {
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": cases}],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", tmp_path / "test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_panel_shows_the_length_of_a_queue_as_a_latency() -> None:
    """TTFT of a saturated server grows with the number of requests sent."""
    shown = [query for query in queries() if "result_time_to_first_token" in query.expression]
    assert len(shown) >= 2
    for query in shown:
        assert re.search(r"unless on \(variant, target, load\) .*quantbench_result_saturated", query.expression)


def test_the_metrics_are_named_as_prometheus_has_it() -> None:
    done = promtool("check", "metrics", text="".join(exposition(state_of(*largest()))))
    # promtool's only complaint is about the client library's own metric, whose name every Prometheus client gives it.
    ours = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("quantbench")]
    assert ours == []
    assert done.returncode in (0, 3), done.stderr


def test_promtool_notices_a_bad_name() -> None:
    done = promtool(
        "check", "metrics", text="# HELP a_milliseconds x.\n# TYPE a_milliseconds counter\na_milliseconds 1\n"
    )
    assert done.returncode == 3
    assert "a_milliseconds" in done.stdout + done.stderr


def test_the_rules_are_well_formed_and_do_what_they_say() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stderr
    done = promtool("test", "rules", ROOT / "tests" / "data" / "prometheus" / "rules.test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    cases = yaml.safe_load((ROOT / "tests" / "data" / "prometheus" / "rules.test.yaml").read_text())["tests"]
    fired = {check["alertname"] for case in cases for check in case["alert_rule_test"] if check["exp_alerts"]}
    assert fired == {rule["alert"] for group in GROUPS for rule in group["rules"] if "alert" in rule}
