"""What a node leaves outside its state folder, and how it is taken back: nothing may stay behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cluster import cache, processes
from cluster.layout import ClusterError
from cluster.node import CGROUP, CNI_NETWORK

#: Kernel settings that kubelet sets for the whole machine (setupKernelTunables in its container manager).
_SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
#: Folders whose place is fixed in the programs: kubelet's device plugins and links to logs, the CNI library's
#: results, the sockets of containerd's shims, ours below /run/netns.
_FOLDERS = (
    "/var/lib/kubelet",
    "/var/lib/kubelet/device-plugins",
    "/var/log/containers",
    "/var/lib/cni",
    "/var/lib/cni/results",
    "/run/containerd",
    "/run/netns",
)
#: What kubelet looks for in version 2 of control groups (supportedControllers in cgroup_v2_manager_linux.go).
_CONTROLLERS = ("cpu", "cpuset", "memory", "hugetlb", "pids")
_RESULTS = Path("/var/lib/cni/results")
_LOG_LINKS = Path("/var/log/containers")


def survey() -> tuple[dict[str, str], tuple[str, ...]]:
    """The kernel settings as they are, and which of the folders do not exist yet: taken before the first start."""
    known = {name: Path("/proc/sys") / name for name in _SYSCTLS}
    settings = {name: path.read_text().strip() for name, path in known.items() if path.exists()}
    return settings, tuple(folder for folder in _FOLDERS if not Path(folder).exists())


def create_cgroup(controllers: tuple[str, ...]) -> None:
    """Make the control group of all pods in every hierarchy; kubelet wants it there before it starts.

    In version 2 a group has the controllers that its parent passes on, and kubelet refuses to start unless ours has
    all of its own that the root has (cgroup_v2_manager_linux.go, Validate).
    """
    for mount in _cgroup_mounts():
        if listing := _passed_on(mount):
            for controller in controllers:
                _pass_on(listing, controller)
        (mount / CGROUP).mkdir(exist_ok=True)


def disabled_controllers() -> tuple[str, ...]:
    """Controllers that kubelet wants and the root of control groups, version 2, has but does not pass on."""
    for mount in _cgroup_mounts():
        if listing := _passed_on(mount):
            there = (mount / "cgroup.controllers").read_text().split()
            passed = listing.read_text().split()
            return tuple(name for name in there if name in _CONTROLLERS and name not in passed)
    return ()


def disable_controllers(controllers: tuple[str, ...]) -> None:
    """Take back what `create_cgroup` enabled; what someone else uses meanwhile stays."""
    for mount in _cgroup_mounts():
        if listing := _passed_on(mount):
            for controller in controllers:
                with suppress(OSError):
                    listing.write_text(f"-{controller}")


def end_pods() -> None:
    """End every process below the pods' control group, and remove the group."""
    deadline = time.monotonic() + 20
    while groups := [mount / CGROUP for mount in _cgroup_mounts() if (mount / CGROUP).exists()]:
        for pid in {pid for group in groups for pid in _members(group)}:
            _kill(pid)
        for group in groups:
            _remove_empty(group)
        if time.monotonic() > deadline:
            raise ClusterError(f"control groups cannot be removed: {', '.join(map(str, groups))}")
        time.sleep(0.02)


def unmount_below(folder: Path) -> None:
    """Unmount everything below a folder, the innermost first; detached, as a reader may still be in it."""
    points = sorted(_mount_points_below(folder), key=len, reverse=True)
    if points:
        subprocess.run(["umount", "--lazy", "--", *points], capture_output=True, check=False)
    if left := _mount_points_below(folder):
        raise ClusterError(f"cannot be unmounted: {', '.join(left)}")


def restore(state: Path, sysctls: dict[str, str], created: tuple[str, ...]) -> None:
    """Put the settings back and remove our files outside the state folder, which must still be there."""
    for name, value in sysctls.items():
        path = Path("/proc/sys") / name
        if path.read_text().strip() != value:
            path.write_text(value)
    for socket in _shim_sockets(state):
        socket.unlink(missing_ok=True)
    for result in _RESULTS.glob(f"{CNI_NETWORK}-*"):
        result.unlink(missing_ok=True)
    for link in _LOG_LINKS.glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(f"{state}/"):
            link.unlink(missing_ok=True)
    for folder in created:
        if folder == "/run/netns":
            _leave_namespace_folder(Path(folder))
        elif not processes_use(Path(folder)):
            cache.remove(Path(folder))


def processes_use(folder: Path) -> bool:
    """Whether someone else has a mount below a folder that was not there before us: then it is not ours to remove."""
    return bool(_mount_points_below(folder))


def _leave_namespace_folder(folder: Path) -> None:
    """Remove /run/netns, which `ip netns add` makes a mount of itself, once the last namespace is gone."""
    if folder.exists() and not any(folder.iterdir()):
        subprocess.run(["umount", "--", str(folder)], capture_output=True, check=False)
        folder.rmdir()


def _shim_sockets(state: Path) -> Iterator[Path]:
    """Sockets of containerd's shims, whose folder is fixed; each shim notes its own in the state folder."""
    for note in state.glob("containerd/state/io.containerd.runtime.v2.task/*/*/address"):
        yield Path(note.read_text().strip().removeprefix("unix://"))


def _cgroup_mounts() -> list[Path]:
    """Mount points of the control group hierarchies: several in version 1, one in version 2."""
    mounts = (line.split() for line in (processes.PROC / "self" / "mounts").read_text().splitlines())
    points = [Path(fields[1]) for fields in mounts if fields[2] in {"cgroup", "cgroup2"}]
    return [point for point in points if os.access(point, os.W_OK)]


def _passed_on(mount: Path) -> Path | None:
    """The file of a version 2 hierarchy that says which controllers its groups get; None in version 1."""
    listing = mount / "cgroup.subtree_control"
    return listing if listing.exists() else None


def _pass_on(listing: Path, controller: str) -> None:
    try:
        listing.write_text(f"+{controller}")
    except OSError as error:  # the root of a container's namespace may hold processes, or have a controller refused
        raise ClusterError(f"kubelet needs the controller {controller}, which {listing} refuses: {error}") from error


def _members(group: Path) -> Iterator[int]:
    for listing in group.rglob("cgroup.procs"):
        try:
            yield from map(int, listing.read_text().split())
        except OSError:  # the group went away meanwhile
            continue


def _kill(pid: int) -> None:
    """End a process, unless its number has gone to one outside the control group since it was read."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if f"/{CGROUP}/" in (processes.PROC / str(pid) / "cgroup").read_text():
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        return
    finally:
        os.close(handle)


def _remove_empty(group: Path) -> None:
    """Remove a control group and those below; one that still has members stays for the next round."""
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            continue


def _mount_points_below(folder: Path) -> list[str]:
    """Mount points below (or at) a folder, as the kernel writes them with the octal escapes taken back."""
    points = []
    for line in (processes.PROC / "self" / "mounts").read_text().splitlines():
        point = line.split()[1].encode().decode("unicode_escape")
        if point == str(folder) or point.startswith(f"{folder}/"):
            points.append(point)
    return points
