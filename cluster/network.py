"""The cluster's own network namespace, joined to the host by one pair of interfaces and three routes.

Nothing else of the host's network is touched, and the namespace has no default route: no packet of a pod leaves the
machine. The host reaches the API server, pods and Services through the pair.
"""

from __future__ import annotations

import json
from pathlib import Path

from cluster import processes
from cluster.commands import output
from cluster.layout import (
    HOST_ADDRESS,
    HOST_INTERFACE,
    NETWORK_NAMESPACE,
    NODE_ADDRESS,
    POD_CIDR,
    SERVICE_CIDR,
    ClusterError,
)

_INSIDE = "eth0"
_HANDLE = Path("/run/netns") / NETWORK_NAMESPACE


def ensure(state: Path) -> None:
    """Have the namespace, the pair, addresses and routes; what is there already is left as it is.

    Raises:
        ClusterError: the namespace belongs to a cluster with another state folder.
    """
    if other := other_owner(state):
        raise ClusterError(
            f"The cluster of {other} is up, and one machine can hold one. Take it down with "
            f"`python3 cluster down --state {other}`, or use it with --state."
        )
    if NETWORK_NAMESPACE not in _namespaces():
        output(["ip", "netns", "add", NETWORK_NAMESPACE])
    if HOST_INTERFACE not in _links():
        output(
            ["ip", "link", "add", HOST_INTERFACE, "type", "veth", "peer", "name", _INSIDE, "netns", NETWORK_NAMESPACE]
        )
    inside = ["ip", "-n", NETWORK_NAMESPACE]
    output(["ip", "address", "replace", f"{HOST_ADDRESS}/30", "dev", HOST_INTERFACE])
    output(["ip", "link", "set", HOST_INTERFACE, "up"])
    output([*inside, "address", "replace", f"{NODE_ADDRESS}/30", "dev", _INSIDE])
    output([*inside, "link", "set", "lo", "up"])
    output([*inside, "link", "set", _INSIDE, "up"])
    for cidr in (POD_CIDR, SERVICE_CIDR):
        output(["ip", "route", "replace", cidr, "via", NODE_ADDRESS])
    # kube-proxy turns Service addresses into pods' on the way out, but the kernel wants a route before it looks.
    output([*inside, "route", "replace", SERVICE_CIDR, "via", HOST_ADDRESS])
    # The namespace is the router between host and pods; /proc/sys/net shows the namespace of whoever looks.
    output(["nsenter", f"--net={_HANDLE}", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])


def other_owner(state: Path) -> str | None:
    """The state folder of another cluster whose processes live in the namespace."""
    return next((p.state for p in processes.marked() if p.state != str(state) and _is_inside(p.pid)), None)


def remove() -> None:
    """Remove the namespace with all in it (bridge, nftables rules), and the pair with its routes."""
    if NETWORK_NAMESPACE in _namespaces():
        output(["ip", "netns", "delete", NETWORK_NAMESPACE])
    # The pair's host end goes with its peer, but the kernel takes the namespace apart at its leisure.
    if HOST_INTERFACE in _links():
        output(["ip", "link", "delete", HOST_INTERFACE])


def complaint() -> str | None:
    """What is missing of the network; None when all is there."""
    if NETWORK_NAMESPACE not in _namespaces():
        return f"there is no network namespace {NETWORK_NAMESPACE}"
    if HOST_INTERFACE not in _links():
        return f"there is no interface {HOST_INTERFACE}"
    return None


def _namespaces() -> set[str]:
    # Not just the file below /run/netns: after a crash it may be there without a namespace.
    listed = json.loads(output(["ip", "-json", "netns", "list"]) or "[]")
    return {entry["name"] for entry in listed}


def _links() -> set[str]:
    return {entry["ifname"] for entry in json.loads(output(["ip", "-json", "link", "show"]))}


def _is_inside(pid: int) -> bool:
    try:
        return (processes.PROC / str(pid) / "ns" / "net").stat().st_ino == _HANDLE.stat().st_ino
    except OSError:
        return False
