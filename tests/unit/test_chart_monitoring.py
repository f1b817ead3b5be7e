"""Monitors find the ports that exist, and keep the labels that results carry."""

from __future__ import annotations

from typing import Any

import pytest

from chart_support.bench import server_and_load
from chart_support.chart import NAMESPACE, VALUE_SETS, chosen, of_kind, one, operator_pod, render
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
