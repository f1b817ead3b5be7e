"""The cluster by kind, where a Docker engine answers: the same images, the same kubeconfig, the same labels."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster import binaries, cache, commands, record
from cluster.embedded import Health
from cluster.images import ALL, Image, build_arguments
from cluster.layout import CLIENTS, HERE, ClusterError, Layout
from cluster.progress import Progress
from cluster.record import Record

KIND_VERSION = "v0.33.0"
NAME = "quantbench"
CONFIGURATION = HERE / "kind.yaml"
_INFO_SECONDS = 15


def docker_answers() -> bool:
    """Whether `docker info` reaches an engine."""
    if not shutil.which("docker"):
        return False
    try:
        command = ["docker", "info", "--format", "{{.ServerVersion}}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INFO_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


@dataclass(frozen=True)
class Kind:
    """The `kind` program, and the command lines it is called with."""

    program: str
    name: str = NAME

    def create(self, configuration: Path, kubeconfig: Path) -> list[str]:
        where = ["--config", str(configuration), "--kubeconfig", str(kubeconfig)]
        return [self.program, "create", "cluster", "--name", self.name, *where, "--wait", "180s"]

    def delete(self, kubeconfig: Path) -> list[str]:
        return [self.program, "delete", "cluster", "--name", self.name, "--kubeconfig", str(kubeconfig)]

    def clusters(self) -> list[str]:
        return [self.program, "get", "clusters"]

    def export_kubeconfig(self, kubeconfig: Path) -> list[str]:
        return [self.program, "export", "kubeconfig", "--name", self.name, "--kubeconfig", str(kubeconfig)]

    def load_image(self, reference: str) -> list[str]:
        return [self.program, "load", "docker-image", reference, "--name", self.name]

    def load_archive(self, archive: Path) -> list[str]:
        return [self.program, "load", "image-archive", str(archive), "--name", self.name]


def docker_build(image: Image) -> list[str]:
    """The command line that builds an image from its Dockerfile's own base image."""
    return ["docker", "build", *build_arguments(image, base=None), "--tag", image.reference, str(image.context)]


def up(layout: Layout, progress: Progress, *, with_images: bool) -> None:
    """Have the kind cluster, its kubeconfig and the clients; with images also those, built and loaded."""
    own = record.load(layout)
    if own and own.provider != "kind":
        raise ClusterError(f"{layout.state} holds an {own.provider} cluster: take it down first.", status=2)
    kind = Kind(_kind(progress))
    Record("kind", layout.address).save(layout)
    if NAME in commands.output(kind.clusters()).split():
        commands.output(kind.export_kubeconfig(layout.kubeconfig))
    else:
        with progress.step("create kind cluster") as step:
            commands.run(kind.create(configuration(layout), layout.kubeconfig), step=step, log=cache.log_file("kind"))
    layout.kubeconfig.chmod(0o600)
    _clients(layout, progress)
    if with_images:
        provide(progress)


def provide(progress: Progress, wanted: tuple[Image, ...] = ALL) -> None:
    """Build images with Docker, whose own cache knows what changed, and load them into the node."""
    kind = Kind(_kind(progress))
    for image in wanted:
        with progress.step(f"build image {image.short}") as step:
            commands.run(docker_build(image), step=step, log=cache.log_file(f"image-{image.short}"))
        with progress.step(f"load image {image.short}") as step:
            commands.run(kind.load_image(image.reference), step=step)


def import_file(archive: Path, progress: Progress) -> None:
    """Load an image archive into the node."""
    with progress.step(f"load {archive.name}") as step:
        commands.run(Kind(_kind(progress)).load_archive(archive), step=step)


def down(layout: Layout, progress: Progress, remove_state: Callable[[Layout], None]) -> None:
    """Delete the kind cluster and the state folder. Docker keeps the images it built."""
    kind = Kind(_kind(progress))
    with progress.step("delete kind cluster") as step:
        commands.run(kind.delete(layout.kubeconfig), step=step)
    remove_state(layout)


def health(layout: Layout) -> list[Health]:
    """Whether the API server answers and the node is Ready."""
    kubectl = [str(layout.bin / "kubectl"), "--kubeconfig", str(layout.kubeconfig), "--request-timeout=5s"]
    ready = "{.items[*].status.conditions[?(@.type=='Ready')].status}"
    checks = {
        "kube-apiserver": ([*kubectl, "get", "--raw=/readyz"], "ok"),
        "node": ([*kubectl, "get", "nodes", f"--output=jsonpath={ready}"], "True"),
    }
    found = []
    for name, (command, wanted) in checks.items():
        try:
            answer = commands.output(command, timeout=20).strip()
            found.append(Health(name, None if answer == wanted else f"is not ready: {answer}"))
        except ClusterError as error:
            found.append(Health(name, str(error).splitlines()[-1]))
    return found


def configuration(layout: Layout) -> Path:
    """The cluster's configuration with the state's data folder filled in, which the node shares with this machine."""
    layout.data.mkdir(mode=0o755, parents=True, exist_ok=True)
    written = layout.state / CONFIGURATION.name
    written.write_text(CONFIGURATION.read_text().replace("@DATA@", str(layout.data)))
    return written


def _kind(progress: Progress) -> str:
    """The `kind` program: the one on the PATH, or built from its Go module."""
    if found := shutil.which("kind"):
        return found

    def make(draft: Path) -> None:
        folder = draft.with_suffix(".bin")
        with progress.step(f"build kind {KIND_VERSION} (Go)") as step:
            install = [binaries.find_go(), "install", "-v", f"sigs.k8s.io/kind@{KIND_VERSION}"]
            commands.run(
                install, env={"GOBIN": str(folder), "CGO_ENABLED": "0"}, step=step, log=cache.log_file("build-kind")
            )
        (folder / "kind").replace(draft)
        folder.rmdir()

    return str(cache.obtain("bin", "kind", cache.fingerprint([], KIND_VERSION), make))


def _clients(layout: Layout, progress: Progress) -> None:
    """Link kubectl and helm into the cluster's `bin`: those on the PATH, or a build of ours."""
    layout.bin.mkdir(parents=True, exist_ok=True)
    for name in CLIENTS:
        if found := shutil.which(name):
            binaries.link_to(layout.bin / name, Path(os.path.realpath(found)))
        else:
            binaries.link(layout, binaries.kube(progress), [name])
