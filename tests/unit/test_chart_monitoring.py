"""Monitors find the ports that exist, and keep the labels that results carry."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from chart_support.bench import server_and_load
from chart_support.chart import CHART, NAMESPACE, ROOT, VALUE_SETS, chosen, of_kind, one, operator_pod, render
from quantbench.metrics import families
from quantbench.resources import labels

MONITORS = ("ServiceMonitor", "PodMonitor")


def with_metrics(**metrics: Any) -> list[dict[str, Any]]:
    return render({"metrics": {name: {"enabled": True, **more} for name, more in metrics.items()}})


@pytest.mark.parametrize("kind", ["Service", *MONITORS])
def test_nothing_by_default(kind: str) -> None:
    assert not of_kind(render(), kind)


def test_the_service_leads_to_the_operator() -> None:
    documents = with_metrics(service={})
    spec, pod = one(documents, "Service")["spec"], operator_pod(documents)
    assert chosen({"matchLabels": spec["selector"]}, pod["metadata"]["labels"])
    assert spec["ports"][0]["targetPort"] in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert not of_kind(documents, "ServiceMonitor")


def test_the_service_monitor_brings_its_service_and_finds_it() -> None:
    documents = with_metrics(serviceMonitor={"labels": {"release": "prometheus"}})
    monitor, service = one(documents, "ServiceMonitor"), one(documents, "Service")
    assert chosen(monitor["spec"]["selector"], service["metadata"]["labels"])
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"] == NAMESPACE
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_the_pod_monitor_finds_the_operator_without_a_service() -> None:
    documents = with_metrics(podMonitor={"interval": "7s"})
    assert not of_kind(documents, "Service")
    monitor, pod = one(documents, "PodMonitor"), operator_pod(documents)
    assert chosen(monitor["spec"]["selector"], pod["metadata"]["labels"])
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert (endpoint["path"], endpoint["interval"]) == ("/metrics", "7s")


@pytest.mark.parametrize("kind", MONITORS)
def test_the_namespace_of_a_result_stays_that_of_its_benchmark(kind: str) -> None:
    """Prometheus puts the scraped pod's namespace in its place unless told to honour what is there."""
    assert "namespace" in families.STUDY
    spec = one(with_metrics(serviceMonitor={}, podMonitor={}), kind, "quantbench-operator")["spec"]
    (endpoint,) = spec["endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True


def test_the_engines_monitor_finds_servers_and_says_whose_they_are() -> None:
    documents = render(
        {"watch": {"namespaces": ["team-a", "team-b"]}, "engineMetrics": {"podMonitor": {"enabled": True}}}
    )
    spec = one(documents, "PodMonitor")["spec"]
    server, load = server_and_load()
    assert chosen(spec["selector"], server["metadata"]["labels"])
    assert not chosen(spec["selector"], load["metadata"]["labels"])
    assert not chosen(spec["selector"], operator_pod(documents)["metadata"]["labels"])
    assert spec["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}
    ports = [port["name"] for port in server["spec"]["containers"][0]["ports"]]
    # The other port is for the load generator, and no exposition.
    assert [endpoint["port"] for endpoint in spec["podMetricsEndpoints"]] == ["http"]
    assert ports == ["http", "gpu"]
    wanted = {labels.BENCHMARK, labels.RUN, labels.VARIANT, labels.TARGET}
    assert set(spec["podTargetLabels"]) == wanted <= server["metadata"]["labels"].keys()


def test_the_engines_monitor_looks_everywhere_where_the_cluster_is_watched() -> None:
    documents = render({**VALUE_SETS["cluster"], "engineMetrics": {"podMonitor": {"enabled": True}}})
    assert one(documents, "PodMonitor")["spec"]["namespaceSelector"] == {"any": True}


DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))


def test_dashboards_and_rules_are_asked_for() -> None:
    assert not of_kind(render(), "ConfigMap")
    assert not of_kind(render(), "PrometheusRule")


def test_grafanas_sidecar_finds_every_dashboard_unchanged() -> None:
    maps = of_kind(with_metrics(dashboards={}), "ConfigMap")
    assert len(maps) == len(DASHBOARDS) == 3
    for found, file in zip(sorted(maps, key=lambda one: one["metadata"]["name"]), DASHBOARDS, strict=True):
        assert found["metadata"]["name"] == f"quantbench-{file.stem}"
        assert found["metadata"]["namespace"] == NAMESPACE
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert found["metadata"]["annotations"] == {"grafana_folder": "QuantBenchmark"}
        ((name, text),) = found["data"].items()
        assert name == f"quantbench-{file.name}"
        assert json.loads(text) == json.loads(file.read_text())
        # Three-way merges of kubectl keep the object in an annotation of at most 256 KiB.
        assert len(text) < 200_000


def test_dashboards_go_where_grafana_looks() -> None:
    more = {"namespace": "monitoring", "labels": {"team": "ml"}, "annotations": {"k8s-sidecar-target-directory": "/x"}}
    for found in of_kind(with_metrics(dashboards=more), "ConfigMap"):
        assert found["metadata"]["namespace"] == "monitoring"
        assert found["metadata"]["labels"]["team"] == "ml"
        assert found["metadata"]["annotations"]["k8s-sidecar-target-directory"] == "/x"


def test_the_rules_are_those_that_promtool_tests() -> None:
    rule = one(with_metrics(rules={"labels": {"release": "prometheus"}}), "PrometheusRule")
    rules = (CHART / "files" / "rules.yaml").read_text()
    assert 'quantbench_leader{namespace="RELEASE-NAMESPACE"}' in rules
    assert rule["spec"] == yaml.safe_load(rules.replace("RELEASE-NAMESPACE", NAMESPACE))
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_every_alert_has_its_runbook() -> None:
    where = "https://example.org/runbooks.md"
    rule = one(with_metrics(rules={"runbooks": where}), "PrometheusRule")
    alerts = [rule for group in rule["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert [alert["alert"] for alert in alerts] == headings
    for alert in alerts:
        assert alert["annotations"]["runbook_url"] == f"{where}#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("info", "warning", "critical")
        assert {"summary", "description"} <= alert["annotations"].keys()
