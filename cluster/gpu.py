"""NVIDIA GPUs of this machine: found, offered to pods by our device plugin, described by the node's labels.

NVIDIA's GPU operator does that on other clusters; it needs a container registry, a package manager and the container
toolkit. See `cluster/kube/deviceplugin` for what stands in for it here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cluster import api, cache
from cluster.commands import output
from cluster.layout import GPU_PLUGIN, NODE_NAME, ClusterError, Layout
from cluster.processes import Daemon
from cluster.record import Record

RESOURCE = "nvidia.com/gpu"
#: Another folder in the place of /: for tests with GPUs that are not there, and, an empty one, to leave GPUs out.
ROOT_VARIABLE = "QUANTBENCH_GPU_ROOT"
#: In the folder of device plugins, whose place is fixed in kubelet (DevicePluginPath of its API).
_SOCKET = Path("/var/lib/kubelet/device-plugins/quantbench-nvidia.sock")


def root() -> str:
    """The folder whose dev, proc and usr show GPUs, empty where there are none: no driver has made its device file."""
    folder = Path(os.environ.get(ROOT_VARIABLE) or "/").resolve()
    return str(folder) if (folder / "dev" / "nvidiactl").exists() else ""


def labels(layout: Layout, own: Record) -> dict[str, str]:
    """The labels that NVIDIA's GPU Feature Discovery would give the node; none without a GPU.

    Raises:
        ClusterError: the driver does not answer.
    """
    if not own.gpu_root:
        return {}
    try:
        printed = output([layout.bin / GPU_PLUGIN, "--labels", "--root", own.gpu_root])
    except ClusterError as error:
        raise ClusterError(
            f"The GPUs cannot be read: {error}\nTo leave them out, take the cluster down and set {ROOT_VARIABLE} to an "
            "empty folder."
        ) from error
    found: dict[str, str] = json.loads(printed.splitlines()[-1])
    return found


def daemon(layout: Layout, own: Record, binary: Path) -> Daemon:
    """The device plugin. It looks for kubelet's socket by itself, and again after each start of kubelet."""
    return Daemon(GPU_PLUGIN, (str(layout.bin / GPU_PLUGIN), f"--root={own.gpu_root}"), build=binary.name)


def complaint(layout: Layout, own: Record) -> str | None:
    """What is wrong with the GPUs that the node offers; None if nothing, or if there are none to offer."""
    if not own.gpu_root:
        return None
    node = api.get_json(layout, own.ports.apiserver, f"/api/v1/nodes/{NODE_NAME}") or {}
    status = node.get("status", {})
    known, usable = (int(status.get(part, {}).get(RESOURCE, "0")) for part in ("capacity", "allocatable"))
    if not known:
        return f"the node does not offer {RESOURCE} yet"
    return None if usable == known else f"{known - usable} of {known} GPUs are unhealthy"


def remove_socket() -> None:
    """Remove the plugin's socket, which it leaves behind when it is killed."""
    cache.remove(_SOCKET)
