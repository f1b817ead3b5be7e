"""What the machine must have before a node can run on it, and how it gets what is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cluster import cache, carried, commands, node
from cluster.layout import ClusterError, on_linux
from cluster.progress import Progress

#: Program → Debian package.
_NODE_PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "nft": "nftables",
    "openssl": "openssl",
    "nsenter": "util-linux",
    "mount": "mount",
}
_BUILD_PROGRAMS = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
#: mmdebstrap checks signatures with Debian's keys, which Ubuntu does not have.
_DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

NEITHER_ROOT_NOR_DOCKER = """A cluster needs one of two things here, and has neither:
  - Docker: start it (or install it, https://docs.docker.com/engine/install/), so that `docker info` answers; then
    the cluster is made with kind, on Linux and macOS, without root; or
  - root on Linux (Debian or Ubuntu): run the same command with sudo; then the embedded cluster is used."""


def can_embed() -> bool:
    """Whether the embedded cluster can run: Linux, and root."""
    return on_linux() and os.geteuid() == 0


def require_openssl() -> None:
    """Raise unless openssl is there: all that the control plane needs beside its own binary."""
    if not shutil.which("openssl"):
        raise ClusterError("There is no `openssl` command: install the package openssl.", status=2)


def prepare(progress: Progress, *, build_images: bool) -> None:
    """Install the Debian packages that are missing; a bundle installs nothing, as it carries them.

    Raises:
        ClusterError: not root on Linux, or packages are missing where there is no apt-get (the message names them).
    """
    if not can_embed():
        raise ClusterError(NEITHER_ROOT_NOR_DOCKER, status=2)
    if carried.here() and (complaint := carried.unfit()):
        raise ClusterError(complaint, status=2)
    missing = missing_packages(build_images=build_images)
    if not missing:
        return
    if carried.here():
        raise ClusterError(f"Neither this machine nor the bundle has (names as in Debian): {' '.join(missing)}", 2)
    if not shutil.which("apt-get"):
        raise ClusterError(f"Install these with your package manager (names as in Debian): {' '.join(missing)}", 2)
    log = cache.log_file("apt")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with progress.step(f"install {len(missing)} packages (apt)") as step:
        commands.run(["apt-get", "update"], env=env, step=step, log=log)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        commands.run(install, env=env, step=step, log=log)
        step.detail(" ".join(missing))


def missing_packages(*, build_images: bool) -> list[str]:
    """Debian packages that must be installed first."""
    wanted = _NODE_PROGRAMS | (_BUILD_PROGRAMS if build_images else {})
    missing = {package for program, package in wanted.items() if not shutil.which(program, path=carried.search_path())}
    if node.cni_folder() is None:
        missing.add("containernetworking-plugins")
    if build_images and not _DEBIAN_KEYS.exists():
        missing.add("debian-archive-keyring")
    return sorted(missing)
