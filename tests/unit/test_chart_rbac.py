"""What the operator may do: exactly what it calls, where it works, and nothing that this project refuses itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import quantbench
from chart_support.chart import NAMESPACE, VALUE_SETS, chosen, of_kind, one, operator_env, operator_pod, refusal, render
from quantbench.kube import RESOURCES

CODE = Path(quantbench.__file__).parent
READ = {"get", "list", "watch"}
Grants = dict[tuple[str, str], set[str]]

WHERE_BENCHMARKS_ARE: Grants = {
    ("quantbench.dev", "quantbenchmarks"): READ | {"delete"},
    ("quantbench.dev", "quantbenchmarks/status"): {"get", "patch"},
    ("quantbench.dev", "quantbenchmarkruns"): READ | {"create", "patch"},
    ("quantbench.dev", "quantbenchmarkruns/status"): {"get", "patch"},
    ("", "pods"): READ | {"create", "patch", "delete"},
    ("", "pods/log"): {"get"},
    ("batch", "jobs"): READ | {"create", "patch", "delete"},
    ("", "events"): {"create", "patch"},
}
"""Every verb that the operator has, by API group and resource. A change here is a change of its power."""
LITERAL_VERBS = {"get", "list", "watch", "patch"}
"""Methods of `Kube` that are named like the verb they need."""
every_set = pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)


def grants(role: Mapping[str, Any]) -> Grants:
    found: Grants = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def operators(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Roles of both kinds that a binding gives to the account of the operator's pod."""
    account = operator_pod(documents)["spec"]["serviceAccountName"]
    subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
    bindings = [*of_kind(documents, "RoleBinding"), *of_kind(documents, "ClusterRoleBinding")]
    return [
        one(documents, binding["roleRef"]["kind"], binding["roleRef"]["name"], binding["metadata"].get("namespace"))
        for binding in bindings
        if binding["subjects"] == [subject]
    ]


def work_roles(documents: list[dict[str, Any]]) -> dict[str | None, Grants]:
    """Namespace (None: the cluster) → what the operator may do with benchmarks there."""
    return {
        role["metadata"].get("namespace"): grants(role)
        for role in operators(documents)
        if not role["metadata"]["name"].endswith("-lease")
    }


def test_by_default_the_releases_own_namespace() -> None:
    assert work_roles(render()) == {NAMESPACE: WHERE_BENCHMARKS_ARE}
    assert operator_env(render())["QUANTBENCH_NAMESPACES"] == NAMESPACE


def test_a_role_in_each_watched_namespace_and_in_no_other() -> None:
    documents = render({"watch": {"namespaces": ["team-a", "team-b"]}})
    assert work_roles(documents) == {"team-a": WHERE_BENCHMARKS_ARE, "team-b": WHERE_BENCHMARKS_ARE}
    assert operator_env(documents)["QUANTBENCH_NAMESPACES"] == "team-a,team-b"


def test_the_cluster_only_when_asked() -> None:
    documents = render({"watch": {"cluster": True}})
    assert work_roles(documents) == {None: WHERE_BENCHMARKS_ARE}
    assert operator_env(documents)["QUANTBENCH_NAMESPACES"] == ""


def test_both_at_once_is_a_contradiction() -> None:
    assert "exclude each other" in refusal({"watch": {"cluster": True, "namespaces": ["team-a"]}})


@every_set
def test_nothing_that_the_project_refuses_itself(values: dict) -> None:
    for role in [*of_kind(render(values), "Role"), *of_kind(render(values), "ClusterRole")]:
        for (group, resource), verbs in grants(role).items():
            assert resource.split("/")[0] not in {"secrets", "nodes", "configmaps", "serviceaccounts"}
            assert not resource.startswith(("pods/exec", "pods/attach", "pods/portforward"))
            assert group != "rbac.authorization.k8s.io"
            assert not verbs & {"*", "escalate", "bind", "impersonate"}
            assert "*" not in (group, resource)


@every_set
def test_one_lease_by_name(values: dict) -> None:
    documents = render(values)
    env = operator_env(documents)
    (role,) = [role for role in operators(documents) if role["metadata"]["name"].endswith("-lease")]
    assert role["metadata"]["namespace"] == env["QUANTBENCH_LEASE_NAMESPACE"] == NAMESPACE
    create, use = role["rules"]
    assert create == {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]}
    assert use["resourceNames"] == [env["QUANTBENCH_LEASE_NAME"]]
    assert set(use["verbs"]) == {"get", "update", "patch"}


def test_every_kind_that_the_code_knows_has_a_rule_and_no_other_has() -> None:
    known = set()
    for resource in RESOURCES.values():
        group, _, _ = resource.group_version.rpartition("/")
        known.add((group, resource.plural))
    granted = {
        (group, resource) for role in operators(render()) for group, resource in grants(role) if "/" not in resource
    }
    assert granted == known


def calls() -> Iterator[tuple[str, str, str]]:
    """Kind, verb and place of what the code asks of the API server, as far as it says the kind literally."""
    for file in sorted(CODE.rglob("*.py")):
        # The command line runs with the rights of its user, and what the report shows is for people to apply.
        if not {"cli", "report"} & set(file.parts):
            for node in ast.walk(ast.parse(file.read_text())):
                for kind, verb in asked_by(node):
                    yield kind, verb, f"{file.name}:{getattr(node, 'lineno', 0)}"


def asked_by(node: ast.AST) -> list[tuple[str, str]]:
    """Kinds and verbs that one expression asks for."""
    match node:
        case ast.Call(func=ast.Name("Delete"), args=[ast.Constant(str(kind)), *_]):
            return [(kind, "delete")]
        case ast.Call(func=ast.Name("PatchSpec")):
            return [("QuantBenchmarkRun", "patch")]
        case ast.Call(func=ast.Attribute(attr=verb), args=[ast.Constant(str(kind)), *_]) if verb in LITERAL_VERBS:
            return [(kind, verb)] if kind in RESOURCES else []
        case ast.Dict():
            # A manifest is applied, and what that creates takes both verbs.
            kind = manifest_kind(node)
            return [(kind, "create"), (kind, "patch")] if kind else []
    return []


def manifest_kind(node: ast.Dict) -> str:
    """Kind of the object that a dictionary literal is the manifest of; an empty string if it is none."""
    fields = {
        key.value: value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)
    }
    match fields:
        case {"apiVersion": _, "metadata": _, "kind": ast.Constant(str(kind))} if kind in RESOURCES:
            return kind
    return ""


def test_what_the_code_asks_for_is_granted() -> None:
    granted: Grants = {}
    for role in operators(render()):
        for key, verbs in grants(role).items():
            granted.setdefault(key, set()).update(verbs)
    asked = list(calls())
    assert {(kind, verb) for kind, verb, _ in asked} >= {
        ("Pod", "delete"), ("Pod", "list"), ("Job", "create"), ("Event", "create"), ("QuantBenchmark", "delete"),
        ("Lease", "patch"), ("QuantBenchmarkRun", "create"), ("QuantBenchmarkRun", "patch"),
    }, "the search finds too little to mean anything"  # fmt: skip
    for kind, verb, place in asked:
        resource = RESOURCES[kind]
        group, _, _ = resource.group_version.rpartition("/")
        assert verb in granted[(group, resource.plural)], f"{place} wants to {verb} {resource.plural}"


def test_only_the_pod_asks_for_the_accounts_token() -> None:
    documents = render()
    assert one(documents, "ServiceAccount")["automountServiceAccountToken"] is False
    assert operator_pod(documents)["spec"]["automountServiceAccountToken"] is True


def test_roles_of_people() -> None:
    assert not of_kind(render(), "ClusterRole")
    documents = render({"rbac": {"aggregateRoles": True}})
    view, edit = one(documents, "ClusterRole", "quantbench-view"), one(documents, "ClusterRole", "quantbench-edit")
    both = {("quantbench.dev", "quantbenchmarks"): READ, ("quantbench.dev", "quantbenchmarkruns"): READ}
    assert grants(view) == both
    writing = {"create", "update", "patch", "delete", "deletecollection"}
    # Runs hold results: they are the operator's to write.
    assert grants(edit) == {("quantbench.dev", "quantbenchmarks"): writing}
    # The selectors of the built-in roles, as in `kubectl get clusterrole admin -o yaml`.
    reached = {
        role: {
            document["metadata"]["name"]
            for document in (view, edit)
            if chosen(
                {"matchLabels": {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true"}},
                document["metadata"]["labels"],
            )
        }
        for role in ("view", "edit", "admin")
    }
    people = {"quantbench-view", "quantbench-edit"}
    assert reached == {"view": {"quantbench-view"}, "edit": people, "admin": people}
