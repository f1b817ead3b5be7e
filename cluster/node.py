"""The node: containerd, kubelet and kube-proxy, with their configuration files."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

from cluster import api, cache, carried, gpu, pki, processes
from cluster.commands import output
from cluster.layout import (
    GPU_PLUGIN,
    NETWORK_NAMESPACE,
    NODE_LABELS,
    NODE_NAME,
    NODE_POD_CIDR,
    PAUSE_IMAGE,
    POD_CIDR,
    ClusterError,
    Layout,
)
from cluster.processes import Daemon
from cluster.progress import Progress
from cluster.record import Ports, Record

NAMES = ("containerd", "kubelet", "kube-proxy", GPU_PLUGIN)
#: containerd's own namespace (not the kernel's) in which Kubernetes keeps images and containers.
CONTAINERD_NAMESPACE = "k8s.io"
#: All pods live below this control group, so that ``down`` finds every process of theirs.
CGROUP = "quantbench"
#: Name of the CNI network; the plugins' files outside the state folder begin with it.
CNI_NETWORK = "quantbench"
#: The CNI plugins that are used here.
CNI_PLUGINS = ("bridge", "host-local", "loopback")
#: Where distributions put them.
_CNI_FOLDERS = (carried.FOLDER / carried.CNI, Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
_UNIX_PATH_LIMIT = 107
#: The longest path of a socket below the state folder: kubelet's draft of one, whose name is a random number.
_LONGEST_SOCKET = "kubelet/pod-resources/4294967295"


def cni_folder() -> Path | None:
    """The folder with the CNI plugins."""
    return next((folder for folder in _CNI_FOLDERS if all((folder / name).exists() for name in CNI_PLUGINS)), None)


def write_configuration(layout: Layout) -> None:
    """Write the configuration files of containerd, the CNI plugins and kubelet."""
    if len(str(layout.state / _LONGEST_SOCKET)) > _UNIX_PATH_LIMIT:
        raise ClusterError(f"{layout.state} is too long a path for kubelet's sockets: choose a shorter --state", 2)
    for folder in (layout.config / "cni", layout.state / "kubelet" / "plugins", layout.state / "pod-logs"):
        folder.mkdir(parents=True, exist_ok=True)
    containerd = containerd_configuration(layout, str(cni_folder()), snapshotter(layout))
    pki.write_private(layout.config / "containerd.toml", containerd)
    pki.write_private(layout.config / "cni" / "10-quantbench.conflist", json.dumps(cni_configuration(layout)))
    pki.write_private(layout.config / "kubelet.json", json.dumps(kubelet_configuration(layout), indent=1))


def snapshotter(layout: Layout) -> str:
    """The snapshotter for this state folder: layers cannot be laid over each other on every file system.

    An overlay itself, the root of most containers, is no place for one's upper folder: there each layer is copied.
    """
    folder = layout.state / "overlay-probe"
    try:
        places = [folder / name for name in ("lower", "upper", "work", "merged")]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        options = ",".join(f"{place.name}dir={place}" for place in places[:3])
        output(["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, places[3]])
    except ClusterError:
        return "native"
    finally:
        cache.remove(folder)
    return "overlayfs"


def containerd_configuration(layout: Layout, cni_plugins: str, snapshotter: str) -> str:
    """Return containerd's TOML: everything below the state folder."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    root = layout.state / "containerd"
    return f"""version = 2
root = "{root}/root"
state = "{root}/state"
[grpc]
  address = "{layout.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE runc cannot lower a score and dies with "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[{cri}.cni]
  bin_dir = "{cni_plugins}"
  conf_dir = "{layout.config}/cni"
[{cri}.containerd]
  snapshotter = "{snapshotter}"
[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
  Root = "{root}/runc"
"""


def cni_configuration(layout: Layout) -> dict[str, object]:
    """A bridge in the cluster's namespace; no masquerading, hence no iptables."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": NODE_POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(layout.state / "cni"),
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,  # a pod may reach itself through a Service
        "ipam": ipam,
    }
    return {"cniVersion": "1.0.0", "name": CNI_NETWORK, "plugins": [bridge]}


def kubelet_configuration(layout: Layout) -> dict[str, object]:
    """KubeletConfiguration v1beta1."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "podLogsDir": str(layout.state / "pod-logs"),
        "volumePluginDir": str(layout.state / "kubelet" / "plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": ["pods"],
        # No name service runs here; pods get addresses from their environment.
        "resolvConf": "",
        # The disk is the host's, and what fills it is not the pods' fault: keep from evicting until it is really full.
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        # Images come from an import; what the kubelet removed could not be pulled again.
        "imageGCHighThresholdPercent": 100,
    }


def containerd(layout: Layout) -> Daemon:
    """containerd, in the cluster's network namespace, as the CNI plugins work in the one they are called from."""
    config = layout.config / "containerd.toml"
    return Daemon("containerd", (_program("containerd"), "--config", str(config)), (config,), NETWORK_NAMESPACE)


def daemons(layout: Layout, own: Record, binary: Path, gpu_labels: Mapping[str, str]) -> list[Daemon]:
    """Return kubelet, kube-proxy where the kernel can serve Services, and the device plugin where there are GPUs."""
    config = layout.config / "kubelet.json"
    labels = ",".join(f"{name}={value}" for name, value in {**NODE_LABELS, **gpu_labels}.items())
    kubelet = (
        str(layout.bin / "kubelet"),
        f"--config={config}",
        f"--kubeconfig={layout.pki / 'kubelet.kubeconfig'}",
        f"--root-dir={layout.state / 'kubelet'}",
        f"--cert-dir={layout.state / 'kubelet' / 'pki'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={layout.address}",
        f"--node-labels={labels}",
    )
    proxy = (
        str(layout.bin / "kube-proxy"),
        f"--kubeconfig={layout.pki / 'proxy.kubeconfig'}",
        f"--hostname-override={NODE_NAME}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={POD_CIDR}",
        "--conntrack-max-per-core=0",  # the machine's connection table is not ours to size
        f"--healthz-bind-address={layout.address}:10256",
        f"--metrics-bind-address={layout.address}:10249",
    )
    authority = layout.pki / "ca.crt"
    wanted = [Daemon("kubelet", kubelet, (config, authority), NETWORK_NAMESPACE, build=binary.name)]
    if own.services:
        wanted.append(Daemon("kube-proxy", proxy, (authority,), NETWORK_NAMESPACE, build=binary.name))
    if own.gpu_root:
        wanted.append(gpu.daemon(layout, own, binary))
    return wanted


def start_containerd(layout: Layout, progress: Progress) -> None:
    """Have containerd running and answering."""
    with progress.step("containerd") as step:
        processes.ensure(containerd(layout), layout.state, layout.logs)

        def complaint() -> str | None:
            processes.check_alive("containerd", layout.state, layout.logs)
            return None if containerd_answers(layout) else "waiting for its socket"

        api.wait(step, "containerd", complaint, seconds=60)


def start(layout: Layout, own: Record, wanted: list[Daemon], progress: Progress) -> None:
    """Have these daemons running, the node Ready, and its GPUs offered."""
    with progress.step("node") as step:
        for daemon in wanted:
            processes.ensure(daemon, layout.state, layout.logs)

        def complaint() -> str | None:
            for daemon in wanted:
                processes.check_alive(daemon.name, layout.state, layout.logs)
            return unready(layout, own.ports) or gpu.complaint(layout, own)

        api.wait(step, f"node {NODE_NAME}", complaint, seconds=120)


def unready(layout: Layout, ports: Ports) -> str | None:
    """Why the node is not Ready; None when it is."""
    node = api.get_json(layout, ports.apiserver, f"/api/v1/nodes/{NODE_NAME}")
    if node is None:
        return "not registered"
    for condition in node.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            return None if condition["status"] == "True" else str(condition.get("message", "not ready"))
    return "no condition yet"


def component_health(layout: Layout, own: Record) -> dict[str, str | None]:
    """A complaint, or None where healthy, for every daemon that belongs to this node."""
    live = processes.running(layout.state, NAMES)
    names = [name for name in NAMES if name != GPU_PLUGIN or own.gpu_root]
    health = {name: None if name in live else "is not running" for name in names}
    if "containerd" in live and not containerd_answers(layout):
        health["containerd"] = "does not answer on its socket"
    if "kubelet" in live and (problem := unready(layout, own.ports)):
        health["kubelet"] = f"node is not Ready: {problem}"
    if GPU_PLUGIN in live:
        health[GPU_PLUGIN] = gpu.complaint(layout, own)
    return health


def ctr(layout: Layout) -> list[str]:
    """The command line of containerd's own client, up to its verb."""
    return [_program("ctr"), "--address", str(layout.containerd_socket), "--namespace", CONTAINERD_NAMESPACE]


def import_command(layout: Layout) -> list[str]:
    """The command that imports an archive of images, up to the archive's name, for the snapshotter of Kubernetes."""
    configuration = tomllib.loads((layout.config / "containerd.toml").read_text())
    chosen = configuration["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["snapshotter"]
    return [*ctr(layout), "images", "import", "--snapshotter", chosen]


def containerd_answers(layout: Layout) -> bool:
    """Whether containerd takes requests."""
    if not layout.containerd_socket.exists():
        return False
    try:
        output([*ctr(layout), "version"], timeout=5)
    except ClusterError:
        return False
    return True


def _program(name: str) -> str:
    return shutil.which(name, path=carried.search_path()) or name
