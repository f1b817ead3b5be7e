"""Prometheus and promtool, which the tests of metrics, dashboards and rules run: from the PATH, else from Debian.

Debian's package is unpacked into the cache without being installed, so no root is needed and nothing else changes.
"""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster import cache, commands
from cluster.layout import ClusterError
from cluster.progress import Progress

_PACKAGE = "prometheus"
_ADVICE = (
    "Install Prometheus so that `prometheus` and `promtool` are on the PATH: the package `prometheus` of Debian and"
    " Ubuntu, `brew install prometheus`, or https://prometheus.io/download/"
)


@dataclass(frozen=True)
class Programs:
    """Where the two programs are."""

    prometheus: Path
    promtool: Path


def programs(progress: Progress) -> Programs:
    """The programs, fetched if they are neither on the PATH nor in the cache.

    Raises:
        ClusterError: they are not there and cannot be fetched; the message says what to install.
    """
    found = shutil.which("prometheus"), shutil.which("promtool")
    if found[0] and found[1]:
        return Programs(Path(found[0]), Path(found[1]))
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise ClusterError(f"There is no Prometheus here. {_ADVICE}.", status=2)
    release = Path("/etc/os-release")
    key = cache.fingerprint([release] if release.exists() else [], platform.machine(), _PACKAGE)

    def make(draft: Path) -> None:
        with progress.step("fetch Prometheus (Debian's package)"):
            _fetch(draft)

    root = cache.obtain("prometheus", "debian", key, make)
    return Programs(root / "usr/bin/prometheus", root / "usr/bin/promtool")


def _fetch(draft: Path) -> None:
    """Unpack Debian's package into `draft`."""
    work = draft.with_name(f"{draft.name}.work")
    cache.remove(work)
    (work / "lists/partial").mkdir(parents=True)
    (work / "archives/partial").mkdir(parents=True)
    # Lists of our own: those of the system may be missing or old, and only root may renew them.
    apt = ["apt-get", "-o", f"Dir::State::Lists={work}/lists", "-o", f"Dir::Cache={work}"]
    if os.geteuid() == 0:
        # root's apt would hand the download to a user who may not enter the cache.
        apt += ["-o", "APT::Sandbox::User=root"]
    log = cache.log_file("prometheus")
    try:
        commands.run([*apt, "update"], log=log)
        commands.run([*apt, "download", _PACKAGE], cwd=work, log=log)
        (package,) = work.glob(f"{_PACKAGE}_*.deb")
        commands.run(["dpkg", "-x", package, draft], log=log)
        if not (draft / "usr/bin/promtool").exists():
            raise ClusterError(f"{package.name} holds no promtool.")
    except commands.Cancelled:
        raise
    except ClusterError as error:
        raise ClusterError(f"{error}\n{_ADVICE}.", status=2) from error
    finally:
        cache.remove(work)
