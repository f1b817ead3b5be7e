"""Who may connect to whom, asked of the rendered policies with the labels that the operator really sets."""

from __future__ import annotations

from typing import Any

import pytest

from chart_support.bench import server_and_load
from chart_support.chart import NAMESPACE, of_kind, operator_pod, render
from chart_support.network import Pod, accepts
from quantbench.resources import labels
from quantbench.resources.server import GPU_MONITOR_PORT, PORT

MONITORING = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
WATCHED = {"watch": {"namespaces": ["team-a", "team-b"]}}
SERVER, LOAD = (Pod("team-a", pod["metadata"]["labels"]) for pod in server_and_load())
PROMETHEUS = Pod("monitoring", {"app.kubernetes.io/name": "prometheus"})
STRANGER = Pod("team-a", {"app": "other"})


def policies(**network: Any) -> list[dict[str, Any]]:
    return of_kind(render({**WATCHED, "networkPolicy": network}), "NetworkPolicy")


def operator() -> Pod:
    return Pod(NAMESPACE, operator_pod(render(WATCHED))["metadata"]["labels"])


def test_a_server_hears_the_load_pods_of_its_namespace() -> None:
    assert accepts(policies(), SERVER, PORT, LOAD)
    assert accepts(policies(), SERVER, GPU_MONITOR_PORT, LOAD)


@pytest.mark.parametrize(
    ("port", "source"),
    [
        (GPU_MONITOR_PORT + 1, LOAD),
        (GPU_MONITOR_PORT, STRANGER),
        (GPU_MONITOR_PORT, Pod("team-b", LOAD.labels)),
        (PORT, STRANGER),
        (PORT, SERVER),
        (PORT, Pod("team-b", LOAD.labels)),
        (PORT, Pod("team-a", {labels.COMPONENT: labels.LOAD})),
        (PORT, PROMETHEUS),
        (PORT, Pod(NAMESPACE, {"app.kubernetes.io/name": "quantbench"})),
    ],
)
def test_a_server_hears_nobody_else(port: int, source: Pod) -> None:
    assert not accepts(policies(), SERVER, port, source)
    assert accepts([], SERVER, port, source), "the question itself must be able to have the other answer"


def test_servers_of_every_watched_namespace_are_closed() -> None:
    for namespace in ("team-a", "team-b"):
        assert not accepts(policies(), Pod(namespace, SERVER.labels), PORT, PROMETHEUS)


@pytest.mark.parametrize("source", [SERVER, LOAD, STRANGER, PROMETHEUS])
@pytest.mark.parametrize("port", [PORT, 8080])
def test_load_pods_hear_nobody(port: int, source: Pod) -> None:
    assert not accepts(policies(monitoring=MONITORING), LOAD, port, source)


def test_the_operator_hears_prometheus_where_that_is_named() -> None:
    assert not accepts(policies(), operator(), 8080, PROMETHEUS)
    assert accepts(policies(monitoring=MONITORING), operator(), 8080, PROMETHEUS)
    assert not accepts(policies(monitoring=MONITORING), operator(), 8081, PROMETHEUS)
    assert not accepts(policies(monitoring=MONITORING), operator(), 8080, Pod(NAMESPACE))


def test_the_operators_port_follows_its_value() -> None:
    found = of_kind(render({"httpPort": 9090, "networkPolicy": {"monitoring": MONITORING}}), "NetworkPolicy")
    assert accepts(found, operator(), 9090, PROMETHEUS)
    assert not accepts(found, operator(), 8080, PROMETHEUS)


def test_named_monitoring_scrapes_servers_at_their_one_port() -> None:
    found = policies(monitoring=MONITORING)
    assert accepts(found, SERVER, PORT, PROMETHEUS)
    assert not accepts(found, SERVER, GPU_MONITOR_PORT, PROMETHEUS)
    assert accepts(found, SERVER, PORT, LOAD)


def test_other_pods_of_the_namespace_are_left_alone() -> None:
    for stranger in ({"app": "other"}, {"app.kubernetes.io/name": "quantbench"}):
        assert accepts(policies(), Pod("team-a", stranger), 80, PROMETHEUS)
        assert accepts(policies(), Pod(NAMESPACE, stranger), 80, PROMETHEUS)


def test_namespaces_can_be_named_where_the_whole_cluster_is_watched() -> None:
    cluster = {"watch": {"cluster": True}}
    assert accepts(of_kind(render(cluster), "NetworkPolicy"), SERVER, PORT, STRANGER)
    named = {**cluster, "networkPolicy": {"namespaces": ["team-a"]}}
    assert not accepts(of_kind(render(named), "NetworkPolicy"), SERVER, PORT, STRANGER)


def test_the_toggle() -> None:
    assert policies(enabled=False) == []
