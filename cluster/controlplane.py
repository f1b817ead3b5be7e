"""etcd, API server, controller manager and scheduler: their command lines, their start, their health."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from cluster import api, processes
from cluster.layout import POD_CIDR, SERVICE_CIDR, Layout
from cluster.processes import Daemon
from cluster.progress import Progress
from cluster.record import Ports

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

#: Two busy cores, a cold disk cache: the API server has been seen to take 20 s.
_READY_SECONDS = 120


def daemons(layout: Layout, ports: Ports, binary: Path, namespace: str | None) -> list[Daemon]:
    """The control plane's components in the order of their start."""
    inputs = (layout.pki / "ca.crt",)
    made = [
        ("etcd", _etcd(layout, ports)),
        ("kube-apiserver", _apiserver(layout, ports)),
        ("kube-controller-manager", _controller_manager(layout, ports)),
        ("kube-scheduler", _scheduler(layout, ports)),
    ]
    # The name of the binary in the cache holds a hash of its sources.
    return [
        Daemon(name, (str(layout.bin / name), *flags), inputs, namespace, build=binary.name) for name, flags in made
    ]


def _etcd(layout: Layout, ports: Ports) -> list[str]:
    client = f"http://{_etcd_address(layout)}:{ports.etcd}"
    peer = f"http://{_etcd_address(layout)}:{ports.etcd_peer}"
    return [
        f"--data-dir={layout.state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # A cluster that lives for an afternoon need not survive a power cut, and gets many times faster without the
        # wait for the disk.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver(layout: Layout, ports: Ports) -> list[str]:
    pki = layout.pki
    flags = [
        f"--etcd-servers=http://{_etcd_address(layout)}:{ports.etcd}",
        # In the cluster's own network it is heard at every address of the namespace, that of the `kubernetes` Service
        # included, where there is no kube-proxy to turn it into another.
        f"--bind-address={layout.address if layout.control_plane_only else '0.0.0.0'}",
        f"--advertise-address={layout.address}",
        f"--secure-port={ports.apiserver}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--service-account-key-file={pki / 'service-accounts.key'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",  # beside the default ones, PodSecurity among them
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        # Without it the API server looks the node's name up in DNS, which nobody serves.
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged",  # as everywhere; whether a pod may be privileged is PodSecurity's to say
    ]
    if layout.control_plane_only:
        # A loopback address cannot stand in Endpoints, and no pod is there to need the `kubernetes` Service. The
        # kubelet's part is played by a test, with a certificate of its own making: no --kubelet-certificate-authority.
        flags.append("--endpoint-reconciler-type=none")
    else:
        flags.append(f"--kubelet-certificate-authority={pki / 'ca.crt'}")
    return flags


def _controller_manager(layout: Layout, ports: Ports) -> list[str]:
    flags = [
        f"--kubeconfig={layout.pki / 'controller-manager.kubeconfig'}",
        f"--service-account-private-key-file={layout.pki / 'service-accounts.key'}",
        f"--root-ca-file={layout.pki / 'ca.crt'}",
        "--use-service-account-credentials",
        # At the default of 20 requests a second its own start takes 5 s.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--leader-elect=false",
        f"--bind-address={layout.address}",
        f"--secure-port={ports.controller_manager}",
    ]
    if not layout.control_plane_only:
        flags += ["--allocate-node-cidrs", f"--cluster-cidr={POD_CIDR}", "--node-cidr-mask-size=24"]
    return flags


def _scheduler(layout: Layout, ports: Ports) -> list[str]:
    return [
        f"--kubeconfig={layout.pki / 'scheduler.kubeconfig'}",
        "--leader-elect=false",
        f"--bind-address={layout.address}",
        f"--secure-port={ports.scheduler}",
    ]


def _etcd_address(layout: Layout) -> str:
    # etcd speaks without authentication, so it listens where only this network namespace hears it.
    return layout.address if layout.control_plane_only else "127.0.0.1"


def start(layout: Layout, ports: Ports, wanted: list[Daemon], progress: Progress) -> None:
    """Have the control plane running and ready: able to create pods, with admission and scheduling at work.

    Each component is started when the one it depends on answers: what finds nobody there waits for seconds before it
    tries again, which took longer than all the rest.
    """
    with progress.step("control plane") as step:

        def wait(what: str, unready: Callable[[], str | None]) -> None:
            api.wait(step, what, unready, seconds=_READY_SECONDS, pause=0.05)

        def complaint() -> str | None:
            for daemon in wanted:
                processes.check_alive(daemon.name, layout.state, layout.logs)
            return unready(layout, ports)

        for daemon in wanted:
            processes.ensure(daemon, layout.state, layout.logs)
            if daemon.name == "etcd" and layout.control_plane_only:
                wait("etcd", lambda: _unheard(layout.address, ports.etcd))
            elif daemon.name == "kube-apiserver":
                wait("the API server", lambda: _unready_apiserver(layout, ports))
        wait("the control plane", complaint)


def _unready_apiserver(layout: Layout, ports: Ports) -> str | None:
    for name in ("etcd", "kube-apiserver"):
        processes.check_alive(name, layout.state, layout.logs)
    status, body = api.get(layout, ports.apiserver, "/readyz?verbose")
    return None if status == 200 else _failing(body)


def unready(layout: Layout, ports: Ports) -> str | None:
    """What the control plane still lacks; None when it is ready."""
    for name, answer in component_health(layout, ports).items():
        if answer:
            return f"{name} {answer}"
    # The controller manager makes it; without it the API server refuses every pod.
    if api.get_json(layout, ports.apiserver, "/api/v1/namespaces/default/serviceaccounts/default") is None:
        return "waiting for the first service account"
    return None


def component_health(layout: Layout, ports: Ports) -> dict[str, str | None]:
    """A complaint, or None where healthy, for every component of the control plane."""
    status, body = api.get(layout, ports.apiserver, "/readyz?verbose")
    health: dict[str, str | None] = {"kube-apiserver": None if status == 200 else f"is not ready: {_failing(body)}"}
    health["etcd"] = "is not reached by the API server" if status == 0 or "[-]etcd" in body else None
    others = (
        ("kube-controller-manager", ports.controller_manager, "/healthz"),
        ("kube-scheduler", ports.scheduler, "/readyz"),  # which says that it has seen the cluster
    )
    for name, port, path in others:
        status, _ = api.get_unverified(layout.address, port, path)
        health[name] = None if status == 200 else f"is not ready at {path}"
    return health


def _failing(body: str) -> str:
    """The checks that an answer of /readyz?verbose shows as failing."""
    failing = [line.removeprefix("[-]").split(" ")[0] for line in body.splitlines() if line.startswith("[-]")]
    return ", ".join(failing[:3]) or "no answer"


def _unheard(address: str, port: int) -> str | None:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return "waiting for etcd"
    return None
