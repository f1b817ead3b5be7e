"""What a state folder holds besides processes: which kind of cluster it is, its ports, what to put back on the host."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Literal

from cluster.layout import ClusterError, Layout
from cluster.pki import write_private

Provider = Literal["embedded", "control-plane", "kind"]


@dataclass(frozen=True)
class Ports:
    """Ports of the control plane's components at the cluster's address."""

    etcd: int = 2379
    etcd_peer: int = 2380
    apiserver: int = 6443
    controller_manager: int = 10257
    scheduler: int = 10259


#: The port of the `kubernetes` Service: without kube-proxy the API server itself listens there.
SERVICE_PORT = 443


@dataclass(frozen=True)
class Record:
    """The state folder's `cluster.json`. Written before what it tells of is done, so that ``down`` can undo it."""

    provider: Provider
    address: str
    ports: Ports = Ports()
    #: Whether kube-proxy serves Services: not where the kernel cannot do what it asks of nftables.
    services: bool = True
    #: The folder whose dev, proc and usr show NVIDIA GPUs, empty where the machine has none.
    gpu_root: str = ""
    #: Controllers that were enabled in the root of control groups, version 2, for our pods.
    controllers: tuple[str, ...] = ()
    #: Kernel settings that kubelet changes for the whole machine, with their values before.
    sysctls: dict[str, str] = field(default_factory=dict)
    #: Folders outside the state folder that did not exist before.
    created: tuple[str, ...] = ()

    def save(self, layout: Layout) -> None:
        layout.state.mkdir(parents=True, exist_ok=True)
        write_private(layout.record, json.dumps(asdict(self), indent=1))


def load(layout: Layout) -> Record | None:
    """The record of a state folder, None if there is none."""
    try:
        raw = json.loads(layout.record.read_text())
        return Record(
            provider=raw["provider"],
            address=raw["address"],
            ports=Ports(**raw["ports"]),
            services=raw.get("services", True),
            gpu_root=raw.get("gpu_root", ""),
            controllers=tuple(raw.get("controllers", ())),
            sysctls=dict(raw["sysctls"]),
            created=tuple(raw["created"]),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"{layout.record} is not a cluster's record: {error}") from error


def free_ports(address: str) -> Ports:
    """Ports nobody listens on. They are held all at once while choosing, so that no two are the same."""
    with ExitStack() as held:

        def one() -> int:
            listener = held.enter_context(socket.create_server((address, 0)))
            port: int = listener.getsockname()[1]
            return port

        return Ports(one(), one(), one(), one(), one())
