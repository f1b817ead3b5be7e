"""The operator's pod: restricted, told its settings by the names it reads, and found by the selectors meant for it."""

from __future__ import annotations

import ast
import inspect
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from chart_support.bench import server_and_load
from chart_support.chart import (
    NAMESPACE,
    VALUE_SETS,
    chosen,
    of_kind,
    one,
    operator_env,
    operator_pod,
    refusal,
    render,
)
from chart_support.pod_security import violations
from quantbench import health, settings
from quantbench.controller import Controller
from quantbench.resources.programs import RunnerImage
from quantbench.settings import Settings

every_set = pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
A_CONTAINER: dict[str, Any] = {
    "name": "c",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
A_POD: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [A_CONTAINER],
}


def container(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (only,) = operator_pod(documents)["spec"]["containers"]
    return only


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"hostNetwork": True}, ["hostNetwork"]),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, ["volume v"]),
        ({"securityContext": {"runAsNonRoot": True}}, ["c: seccompProfile"]),
        ({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, ["c: runAsNonRoot"]),
        ({"containers": [{"name": "c"}]}, ["c: allowPrivilegeEscalation", "c: capabilities.drop"]),
        ({"containers": [A_CONTAINER | {"ports": [{"hostPort": 80}]}]}, ["c: hostPort"]),
        ({"initContainers": [A_CONTAINER | {"name": "i", "securityContext": {"privileged": True}}]},
         ["i: privileged", "i: allowPrivilegeEscalation", "i: capabilities.drop"]),
    ],
)  # fmt: skip
def test_the_judge_of_restricted_pods_sees_faults(change: dict, said: list[str]) -> None:
    assert violations(A_POD | change) == said


@every_set
def test_the_operator_is_restricted(values: dict) -> None:
    documents = render(values)
    assert violations(operator_pod(documents)["spec"]) == []
    assert container(documents)["securityContext"]["readOnlyRootFilesystem"] is True
    assert operator_pod(documents)["spec"]["securityContext"]["runAsUser"] == 65532
    mounts = {mount["mountPath"]: mount["name"] for mount in container(documents)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in operator_pod(documents)["spec"]["volumes"]}
    assert "emptyDir" in volumes[mounts["/tmp"]]


def test_the_pods_of_benchmarks_are_restricted_too() -> None:
    """What README promises of them, so that a namespace can enforce it."""
    for pod in server_and_load():
        assert violations(pod["spec"]) == []
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert "serviceAccountName" not in pod["spec"]


def read_by_settings() -> set[str]:
    """Names of environment variables in settings.py."""
    tree = ast.parse(inspect.getsource(settings))
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {string for string in strings if string == "POD_NAME" or string.startswith("QUANTBENCH_")}


@every_set
def test_every_setting_is_set_under_the_name_that_is_read(values: dict) -> None:
    extra = {entry["name"] for entry in values.get("extraEnv", [])}
    assert set(operator_env(render(values))) - extra == read_by_settings()


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_operator_understands_its_environment(name: str) -> None:
    env = operator_env(render(VALUE_SETS[name]))
    assert env.pop("POD_NAME") == {"fieldRef": {"fieldPath": "metadata.name"}}
    found = Settings.from_environment({**env, "POD_NAME": "pod"})
    full = name == "full"
    image = container(render(VALUE_SETS[name]))["image"]
    assert found == Settings(
        namespaces={"defaults": (NAMESPACE,), "cluster": ()}.get(name, ("team-a", "team-b")),
        runner=RunnerImage(image, "Always" if full else "IfNotPresent"),
        lease_namespace=NAMESPACE,
        lease_name="the-lease" if full else "quantbench-operator",
        identity="pod",
        port=9090 if full else 8080,
        workers=16 if full else 8,
        json_logs=not full,
    )


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "localhost/quantbench/operator:0.1.0"),
        ({"repository": "r.example:5000/o", "tag": "1"}, "r.example:5000/o:1"),
        ({"tag": "1", "digest": "sha256:" + "0" * 64}, "localhost/quantbench/operator@sha256:" + "0" * 64),
    ],
)
def test_the_load_runner_comes_from_the_same_image(image: dict, reference: str) -> None:
    documents = render({"image": image})
    assert container(documents)["image"] == operator_env(documents)["QUANTBENCH_OPERATOR_IMAGE"] == reference


def served_paths() -> set[str]:
    app = health.application(cast(Controller, None), CollectorRegistry())
    return {resource.canonical for resource in app.router.resources()}


@every_set
def test_probes_ask_what_is_served_at_the_port_that_is_told(values: dict) -> None:
    documents = render(values)
    (port,) = container(documents)["ports"]
    assert str(port["containerPort"]) == operator_env(documents)["QUANTBENCH_HTTP_PORT"]
    probes = {kind: container(documents)[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert {probe["path"] for probe in probes.values()} <= served_paths()
    assert (probes["liveness"]["path"], probes["readiness"]["path"]) == ("/healthz", "/readyz")


@every_set
def test_selectors_take_the_operator_and_nothing_of_benchmarks(values: dict) -> None:
    documents = render(values)
    labels = operator_pod(documents)["metadata"]["labels"]
    others = [pod["metadata"]["labels"] for pod in server_and_load()]
    selectors = [one(documents, "Deployment")["spec"]["selector"]]
    selectors += [{"matchLabels": service["spec"]["selector"]} for service in of_kind(documents, "Service")]
    for selector in selectors:
        assert chosen(selector, labels)
        assert not any(chosen(selector, other) for other in others)


def test_one_pod_stopped_before_the_next_unless_asked_otherwise() -> None:
    spec = one(render(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    spec = one(render({"replicas": 2, "strategy": "RollingUpdate"}), "Deployment")["spec"]
    assert spec["replicas"] == 2
    # Helm must own what it has to take away on the way back to Recreate.
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_everything_of_the_full_set_arrives_in_the_pod() -> None:
    values = VALUE_SETS["full"]
    pod = operator_pod(render(values))
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"):
        assert pod["spec"][name] == values[name]
    assert container(render(values))["resources"] == values["resources"]
    assert pod["metadata"]["annotations"].items() >= values["podAnnotations"].items()
    assert pod["metadata"]["labels"]["team"] == "ml"
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
    assert values["extraEnv"][0] in container(render(values))["env"]


@pytest.mark.parametrize("name", sorted(read_by_settings()))
def test_extra_variables_cannot_replace_settings(name: str) -> None:
    assert "extraEnv" in refusal({"extraEnv": [{"name": name, "value": "x"}]})
