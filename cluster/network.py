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
    SERVICE_ADDRESS,
    SERVICE_CIDR,
    ClusterError,
)

_INSIDE = "eth0"
_HANDLE = Path("/run/netns") / NETWORK_NAMESPACE
#: One rule of each kind that kube-proxy's nftables mode writes (k8s.io/kubernetes/pkg/proxy/nftables/proxier.go).
_PROBE = """table ip probe {
 map services { type ipv4_addr . inet_proto . inet_service : verdict; }
 chain endpoint { meta mark set meta mark or 0x4000; meta l4proto tcp dnat to 192.0.2.1:6443; }
 chain service { numgen random mod 2 vmap { 0 : goto endpoint, 1 : goto endpoint }; }
 chain output { type nat hook output priority -100; ip daddr . meta l4proto . th dport vmap @services;
  fib daddr type local ip daddr 192.0.2.2 tcp dport 443 goto service; }
 chain postrouting { type nat hook postrouting priority 100; meta mark and 0x4000 != 0 masquerade fully-random; }
 chain forward { type filter hook forward priority -110; ct state new ip daddr 192.0.2.3 reject; }
}"""


def serves_services() -> bool:
    """Whether this kernel takes the kinds of rules that kube-proxy writes; asked in a namespace of its own."""
    try:
        output(["unshare", "--net", "nft", _PROBE])
    except ClusterError:
        return False
    return True


def ensure(state: Path, *, services: bool) -> None:
    """Have the namespace, the pair, addresses and routes; what is there already is left as it is.

    Without `services`, for which kube-proxy is needed, the address of the `kubernetes` Service is the namespace's own,
    so that what listens in the namespace on all addresses, the API server, is reached there by pods and host.

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
    if not services:
        output([*inside, "address", "replace", f"{SERVICE_ADDRESS}/32", "dev", "lo"])
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
