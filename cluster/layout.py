"""Versions, addresses and paths: everything that two modules of this room must agree on."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

KUBERNETES_VERSION = "v1.34.4"
HELM_VERSION = "v4.0.4"

#: Folder of the checkout.
REPOSITORY = Path(__file__).resolve().parent.parent
#: Folder of this room.
HERE = Path(__file__).resolve().parent

NETWORK_NAMESPACE = "quantbench"
HOST_INTERFACE = "qb0"
# All addresses are from 198.18.0.0/15, which RFC 2544 sets aside for benchmarks: no real network uses it, so none
# is shadowed.
HOST_ADDRESS = "198.18.0.1"
NODE_ADDRESS = "198.18.0.2"
POD_CIDR = "198.18.128.0/17"
NODE_POD_CIDR = "198.18.128.0/24"
SERVICE_CIDR = "198.19.0.0/24"
SERVICE_ADDRESS = "198.19.0.1"

NODE_NAME = "quantbench"
NODE_LABELS = {"nvidia.com/gpu.product": "NONE", "quantbench.dev/device": "cpu"}

OPERATOR_IMAGE = "localhost/quantbench/operator:0.1.0"
ENGINE_IMAGE = "localhost/quantbench/vllm-cpu:0.32.0"
BASE_IMAGE = "localhost/quantbench/base:bookworm"
PAUSE_IMAGE = "localhost/quantbench/pause:1"

GPU_PLUGIN = "nvidia-device-plugin"
SERVERS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    GPU_PLUGIN,
)
CLIENTS = ("kubectl", "helm")


class ClusterError(Exception):
    """Something the person at the keyboard can act on; shown without a traceback.

    `status` is the exit status: 1 for a failure, 2 for a machine or a command line that cannot work.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Layout:
    """Where one cluster keeps its things. Everything below `state` goes away with ``down``."""

    state: Path
    address: str = NODE_ADDRESS
    control_plane_only: bool = False

    @property
    def bin(self) -> Path:
        return self.state / "bin"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def data(self) -> Path:
        """Models and prompts of the demo."""
        return self.state / "data"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd.sock"

    @property
    def record(self) -> Path:
        """What kind of cluster this is: see `cluster.record`."""
        return self.state / "cluster.json"


def cache_folder() -> Path:
    """The folder for downloads and builds, which outlives clusters."""
    own = os.environ.get("QUANTBENCH_CACHE")
    if own:
        return Path(own).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "quantbench"


def on_linux() -> bool:
    """Whether namespaces, cgroups and containerd can be had at all."""
    return sys.platform == "linux"
