"""The embedded cluster as a whole: up, down, status. Each can be called at any time, also after another was cut off."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster import (
    binaries,
    cache,
    carried,
    commands,
    controlplane,
    footprint,
    gpu,
    host,
    images,
    network,
    node,
    pki,
    processes,
    record,
)
from cluster.layout import NETWORK_NAMESPACE, NODE_NAME, ClusterError, Layout, cache_folder
from cluster.progress import Progress
from cluster.record import Ports, Record

#: Said of kube-proxy.
_NO_SERVICES = "left out, as this kernel lacks nftables: of all Services only `kubernetes` is reachable"


@dataclass(frozen=True)
class Health:
    """One line of ``status``: a component, and what is wrong with it, None if nothing."""

    name: str
    complaint: str | None
    pid: int | None = None
    #: What is worth knowing though nothing is wrong.
    note: str = ""


def up(layout: Layout, progress: Progress, *, with_images: bool) -> None:
    """Bring up a cluster with a node, or repair it; what runs as it should is left alone.

    The Go build and the image builds, which take minutes where nothing is cached, go on side by side.
    """
    host.prepare(progress, build_images=with_images and not carried.here())
    own = _own_record(layout, "embedded")
    network.ensure(layout.state, services=own.services)
    pki.ensure(layout, NODE_NAME, _server(layout, own))
    footprint.create_cgroup(own.controllers)
    node.write_configuration(layout)
    node.start_containerd(layout, progress)

    def kubernetes() -> None:
        binary = binaries.kube(progress)
        binaries.link(layout, binary)
        images.provide_pause(layout, progress)
        control_plane = controlplane.daemons(layout, own.ports, binary, NETWORK_NAMESPACE)
        controlplane.start(layout, own.ports, control_plane, progress)
        node.start(layout, own, node.daemons(layout, own, binary, gpu.labels(layout, own)), progress)

    def container_images() -> None:
        if carried.here():
            images.provide_carried(layout, progress)
        elif with_images:
            images.provide(layout, progress)

    commands.together(kubernetes, container_images)


def up_control_plane(layout: Layout, progress: Progress) -> None:
    """Bring up etcd, API server, controller manager and scheduler alone: without root, without a node."""
    host.require_openssl()
    own = _own_record(layout, "control-plane")
    binary = binaries.kube(progress)
    binaries.link(layout, binary)
    pki.ensure(layout, NODE_NAME, _server(layout, own))
    wanted = controlplane.daemons(layout, own.ports, binary, namespace=None)
    controlplane.start(layout, own.ports, wanted, progress)


def down(layout: Layout, progress: Progress) -> None:
    """End every process of the cluster and take back all it left, the state folder last.

    Nothing is asked to end: what it would save is removed a moment later.
    """
    own = record.load(layout)
    _refuse_foreign_folder(layout, own)
    with progress.step("take the cluster down") as step:
        step.detail("processes")
        while left := list(processes.marked(layout.state)):
            processes.kill(left)
        if host.can_embed() and (own is None or own.provider == "embedded") and not network.other_owner(layout.state):
            step.detail("pods and mounts")
            footprint.end_pods()
            footprint.unmount_below(layout.state)
            gpu.remove_socket()
            step.detail("network")
            network.remove()
            footprint.restore(layout.state, own.sysctls if own else {}, own.created if own else ())
            footprint.disable_controllers(own.controllers if own else ())
        step.detail("state folder")
        remove_state(layout)
        step.detail("")


def health(layout: Layout) -> list[Health]:
    """Every component with its complaint."""
    own = record.load(layout)
    if own is None:
        return [Health("cluster", f"there is none in {layout.state}")]
    live = processes.running(layout.state, (*controlplane.NAMES, *node.NAMES))
    found = controlplane.component_health(layout, own.ports)
    if own.provider == "embedded":
        found["network"] = network.complaint()
        found |= node.component_health(layout, own)
    listed = []
    for name, complaint in sorted(found.items()):
        gone = name != "network" and name not in live
        process = live.get(name)
        if name == "kube-proxy" and not own.services:
            listed.append(Health(name, None, note=_NO_SERVICES))
            continue
        listed.append(Health(name, "is not running" if gone else complaint, process.pid if process else None))
    return listed


def _server(layout: Layout, own: Record) -> str:
    return f"https://{layout.address}:{own.ports.apiserver}"


def _own_record(layout: Layout, provider: record.Provider) -> Record:
    """The record of this state folder, written now if it is a new one."""
    own = record.load(layout)
    _refuse_foreign_folder(layout, own)
    if own and (own.provider != provider or own.address != layout.address):
        raise ClusterError(
            f"{layout.state} holds a cluster of another kind ({own.provider} at {own.address}): "
            f"take it down first, `python3 cluster down --state {layout.state}`, or choose another --state.",
            status=2,
        )
    if own is None:
        if provider == "control-plane":
            own = Record(provider, layout.address, record.free_ports(layout.address))
        else:
            sysctls, created = footprint.survey()
            services = network.serves_services()
            own = Record(
                provider,
                layout.address,
                Ports() if services else Ports(apiserver=record.SERVICE_PORT),
                services=services,
                gpu_root=gpu.root(),
                controllers=footprint.disabled_controllers(),
                sysctls=sysctls,
                created=created,
            )
        own.save(layout)
    return own


def _refuse_foreign_folder(layout: Layout, own: Record | None) -> None:
    """Raise when the state folder is someone else's: ``down`` would remove it.

    ``binaries`` links programs into it before there is a cluster.
    """
    if own is None and layout.state.exists() and any(entry != layout.bin for entry in layout.state.iterdir()):
        raise ClusterError(f"{layout.state} is not empty and no cluster's folder: choose another --state.", status=2)


def remove_state(layout: Layout) -> None:
    """Remove the state folder, its record last, so that a removal that is cut off can be taken up again."""
    if not layout.state.exists():
        return
    for entry in layout.state.iterdir():
        if entry != layout.record:
            cache.remove(entry)
    layout.record.unlink(missing_ok=True)
    layout.state.rmdir()


def remove_cache(progress: Progress) -> None:
    """Remove all downloads and builds."""
    folder: Path = cache_folder()
    with progress.step(f"remove {folder}"):
        if folder.exists():
            footprint.unmount_below(folder)  # buildah may have been killed while it had a container mounted
            shutil.rmtree(folder)
