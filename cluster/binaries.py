"""The Go programs of the cluster, built from `cluster/kube` and `cluster/pause` when the cache has none."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from cluster import cache, carried, commands
from cluster.layout import CLIENTS, HELM_VERSION, HERE, KUBERNETES_VERSION, SERVERS, ClusterError, Layout
from cluster.progress import Progress

#: Oldest `go` command that can read the modules: since 1.21 it fetches a newer toolchain by itself where needed.
OLDEST_GO = (1, 21)

_MAJOR, _MINOR = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
#: Without these the components call themselves v0.0.0-master, and helm refuses charts that ask for a version.
_VERSIONS = {
    "k8s.io/component-base/version.gitVersion": KUBERNETES_VERSION,
    "k8s.io/component-base/version.gitMajor": _MAJOR,
    "k8s.io/component-base/version.gitMinor": _MINOR,
    "k8s.io/component-base/version.gitTreeState": "clean",
    "helm.sh/helm/v4/internal/version.version": HELM_VERSION,
    "helm.sh/helm/v4/internal/version.kubeClientVersionMajor": _MAJOR,
    "helm.sh/helm/v4/internal/version.kubeClientVersionMinor": _MINOR,
    "helm.sh/helm/v4/pkg/chart/common.k8sVersionMajor": _MAJOR,
    "helm.sh/helm/v4/pkg/chart/common.k8sVersionMinor": _MINOR,
}


def kube(progress: Progress) -> Path:
    """The multi-call binary (etcd, Kubernetes, kubectl, helm); 5 to 7 minutes on two cores where nothing is cached."""
    flags = " ".join(f"-X {name}={value}" for name, value in _VERSIONS.items())
    return _build("kube", HERE / "kube", f"-s -w {flags}", progress)


def pause(progress: Progress) -> Path:
    """The program of the sandbox image."""
    return _build("pause", HERE / "pause", "-s -w", progress)


def link(layout: Layout, binary: Path, names: Iterable[str] = (*SERVERS, *CLIENTS)) -> None:
    """Bring the binary into the cluster's `bin` folder and give it its names there.

    A hard link where the file system allows: the cluster keeps its binary when the cache gets a newer one.
    """
    layout.bin.mkdir(parents=True, exist_ok=True)
    own = layout.bin / binary.name
    if not own.exists():
        draft = layout.bin / ".binary.draft"
        draft.unlink(missing_ok=True)
        try:
            draft.hardlink_to(binary)
        except OSError:
            shutil.copy2(binary, draft)
        draft.replace(own)
    for name in names:
        link_to(layout.bin / name, Path(own.name))
    for older in layout.bin.glob("kube-" + "?" * 16):
        if older != own:
            older.unlink()


def link_to(place: Path, target: Path) -> None:
    """Make or turn a symbolic link in one step."""
    if place.is_symlink() and place.readlink() == target:
        return
    draft = place.with_name(f".{place.name}.draft")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(place)


def _build(name: str, source: Path, ldflags: str, progress: Progress) -> Path:
    if carried.here():
        return carried.binary(name)
    key = cache.fingerprint([source], ldflags)

    def make(draft: Path) -> None:
        go = find_go()
        with progress.step(f"build {name} (Go)") as step:
            commands.run(
                [go, "build", "-v", "-trimpath", f"-ldflags={ldflags}", "-o", draft, "."],
                cwd=source,
                # A static program runs in any image and on any Linux.
                env={"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
                step=step,
                log=cache.log_file(f"build-{name}"),
                summarise=_PackageCount(),
            )

    return cache.obtain("bin", name, key, make)


class _PackageCount:
    """Words a line of ``go build -v``: how many packages are compiled, and which one just was."""

    def __init__(self) -> None:
        self.packages = 0

    def __call__(self, line: str) -> str:
        if line.startswith("go: "):
            return line.removeprefix("go: ")
        self.packages += 1
        return f"{self.packages} packages compiled, {line}"


def find_go() -> str:
    """The `go` command.

    Raises:
        ClusterError: there is none, or it is too old.
    """
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    wanted = ".".join(map(str, OLDEST_GO))
    advice = f"Kubernetes is built here from its Go modules: install Go {wanted} or newer (https://go.dev/dl/)"
    if not found:
        raise ClusterError(f"There is no `go` command. {advice} and put it on the PATH.", status=2)
    version = commands.output([found, "env", "GOVERSION"]).strip()
    numbers = re.match(r"go(\d+)\.(\d+)", version)
    if not numbers or (int(numbers[1]), int(numbers[2])) < OLDEST_GO:
        raise ClusterError(f"{os.path.realpath(found)} is {version}. {advice}.", status=2)
    return found
