"""What NetworkPolicies let in: the part of their semantics that the chart uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chart_support.chart import chosen


@dataclass(frozen=True)
class Pod:
    """One end of a connection."""

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)


def accepts(policies: Iterable[Mapping[str, Any]], to: Pod, port: int, source: Pod) -> bool:
    """Whether a TCP connection gets in. A pod that no policy selects is open; policies add up."""
    selecting = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == to.namespace
        and "Ingress" in policy["spec"]["policyTypes"]
        and chosen(policy["spec"]["podSelector"], to.labels)
    ]
    if not selecting:
        return True
    rules = [rule for policy in selecting for rule in policy["spec"]["ingress"]]
    return any(_port(rule, port) and _peer(rule, to, source) for rule in rules)


def _port(rule: Mapping[str, Any], port: int) -> bool:
    ports = rule.get("ports", [])
    return not ports or any(entry == {"protocol": "TCP", "port": port} for entry in ports)


def _peer(rule: Mapping[str, Any], to: Pod, source: Pod) -> bool:
    peers = rule.get("from", [])
    return not peers or any(_one(peer, to, source) for peer in peers)


def _one(peer: Mapping[str, Any], to: Pod, source: Pod) -> bool:
    assert peer.keys() <= {"namespaceSelector", "podSelector"}, f"not understood here: {peer}"
    if "namespaceSelector" in peer:
        near = chosen(peer["namespaceSelector"], {"kubernetes.io/metadata.name": source.namespace})
    else:
        near = source.namespace == to.namespace
    return near and chosen(peer.get("podSelector", {}), source.labels)
