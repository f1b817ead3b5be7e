"""The bundle for machines without a network: all that `up` and `helm install` need, in parts of a few megabytes.

What is unpacked looks like a checkout (`cluster/`, `charts/`, `benchmarks/studies/`) with `carried/` beside:

    carried/bundle.json         images, oldest C library, processor
    carried/bin/                the Go programs
    carried/programs/           containerd, runc, ip, nft, ... (`cluster.programs`), CNI plugins
    carried/images/NAME/        an OCI layout each; its layers are links into
    carried/layers/             the layers, each once, however many images share it
    carried/archives/           images that the user added, as they were
    files/NAME/                 files that the user added

Each large layer is an archive of its own, named by its digest: after a change of the sources only small parts change.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster import archives, binaries, cache, carried, host, images, programs
from cluster.archives import Archive, Entry
from cluster.install import PART, SUMS
from cluster.layout import HERE, REPOSITORY, ClusterError
from cluster.progress import Progress

DEFAULT_OUTPUT = REPOSITORY / "dist" / "bundle"
DEFAULT_PART = "60MB"

#: Of the checkout, what runs or is read on the target.
_SOURCES = ("cluster", "charts", "benchmarks/studies", "LICENSE")
_SMALL_LAYER = 4_000_000
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NAME = re.compile(r"[\w][\w.+-]*")


@dataclass(frozen=True)
class Extra:
    """What the user adds: files that come to lie in `files/name`."""

    name: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> Extra:
        """Read NAME=PATH.

        Raises:
            ClusterError: it is none, or there is nothing at the path.
        """
        name, equals, path = text.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ClusterError(f"--add {text}: write NAME=PATH, the name of letters, digits, '.', '-' and '_'", 2)
        return cls(name, _existing(Path(path), "--add"))


def parse_size(text: str) -> int:
    """Bytes of a size such as 60MB or 64MiB.

    Raises:
        ClusterError: it is none, or not positive.
    """
    size = re.fullmatch(r"(\d+)\s*([kMGK]i?B)", text)
    if not size or size[2] not in _UNITS or int(size[1]) == 0:
        raise ClusterError(f"--part-size {text}: write a number and a unit ({', '.join(_UNITS)}), as in 60MB", 2)
    return int(size[1]) * _UNITS[size[2]]


def make(
    output: Path, part_bytes: int, progress: Progress, *, with_engine: bool, extras: Iterable[Extra], added: list[Path]
) -> None:
    """Gather, pack and cut everything into `output`; `added` are archives of images.

    Raises:
        ClusterError: we are a bundle ourselves, or something to be packed is not there.
    """
    if carried.here():
        raise ClusterError("This is an unpacked bundle: make one in a checkout, on a machine with a network.", 2)
    host.prepare(progress, build_images=True)
    _refuse_foreign_folder(output)
    wanted = [images.OPERATOR, *([images.ENGINE] if with_engine else [])]
    layouts = {"pause": images.pause(progress)} | {image.short: images.built(image, progress) for image in wanted}
    program_entries = programs.entries()
    description = {
        "images": list(layouts),
        "glibc": programs.needed_glibc(program_entries),
        "machine": platform.machine(),
    }
    image_entries, layer_archives = _images(layouts)
    sources = [entry for name in _SOURCES for entry in archives.files_below(REPOSITORY / name, name)]
    text = json.dumps(description, indent=1).encode()
    go = [binaries.kube(progress), binaries.pause(progress)]
    made = [
        Archive("quantbench", (*sources, Entry(f"carried/{carried.DESCRIPTION}", text), *image_entries)),
        Archive("programs", tuple(program_entries)),
        Archive("kubernetes", tuple(Entry(f"carried/bin/{path.name}", path, executable=True) for path in go)),
        *layer_archives,
        *_added(extras, added),
    ]
    _write(output, made, part_bytes, progress)


def _images(layouts: dict[str, Path]) -> tuple[list[Entry], list[Archive]]:
    """The layouts as members of the first archive, and an archive for each large layer."""
    members, layers = [], {}
    for short, layout in layouts.items():
        folder = f"carried/images/{short}"
        for path in sorted(layout.rglob("*")):
            if path.is_dir():
                continue
            name = str(path.relative_to(layout))
            if path.parent.name == "sha256":
                layers[path.name] = path
                members.append(Entry(f"{folder}/{name}", link=f"../../../../layers/{path.name}"))
            else:
                members.append(Entry(f"{folder}/{name}", path))
    separate = []
    for digest, path in sorted(layers.items()):
        entry = Entry(f"carried/layers/{digest}", path)
        if path.stat().st_size < _SMALL_LAYER:
            members.append(entry)
        else:
            separate.append(Archive(f"layer-{digest[:12]}", (entry,)))
    return members, separate


def _added(extras: Iterable[Extra], added: list[Path]) -> list[Archive]:
    """Archives of what the user added, stored: wheels, models and images are compressed, or do not compress."""
    members: dict[str, dict[str, Entry]] = {}
    for extra in extras:
        folder = f"files/{extra.name}"
        name = folder if extra.path.is_dir() else f"{folder}/{extra.path.name}"
        found = list(archives.files_below(extra.path, name))
        if not found:
            raise ClusterError(f"{extra.path} holds no files", 2)
        for entry in found:
            if members.setdefault(extra.name, {}).setdefault(entry.name, entry) is not entry:
                raise ClusterError(f"two files of the bundle would be {entry.name}: give one another name", 2)
    made = [Archive(f"files-{name}", tuple(entries.values()), compress=False) for name, entries in members.items()]
    for path in (_existing(path, "--image") for path in added):
        if not _NAME.fullmatch(path.name):
            raise ClusterError(f"--image {path}: name the file with letters, digits, '.', '-' and '_' only", 2)
        entry = Entry(f"carried/{carried.ARCHIVES}/{path.name}", path)
        made.append(Archive(f"image-{path.name}", (entry,), compress=False))
    names = [archive.name for archive in made]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ClusterError(f"added twice: {', '.join(sorted(twice))}", 2)
    return made


def _write(output: Path, made: list[Archive], part_bytes: int, progress: Progress) -> None:
    output.mkdir(parents=True, exist_ok=True)
    parts: list[tuple[str, str]] = []
    for archive in made:
        with progress.step(f"pack {archive.name}") as step:
            packed = _packed(archive)
            parts += archives.split(packed, archive.file_name, output, part_bytes)
            step.detail(f"{packed.stat().st_size / 1e6:,.1f} MB")
    archives.write_sums(output, parts)
    wanted = {name for name, _ in parts}
    for path in output.iterdir():
        if PART.fullmatch(path.name) and path.name not in wanted:  # of an earlier bundle
            path.unlink()
    (output / "install.py").write_bytes((HERE / "install.py").read_bytes())
    total = sum((output / name).stat().st_size for name in wanted)
    progress.line(f"{output}: {len(parts)} parts, {total / 1e6:,.1f} MB, beside {SUMS} and install.py")


def _packed(archive: Archive) -> Path:
    """The archive in the cache."""

    def write(draft: Path) -> None:
        with draft.open("wb") as out:
            archives.write(archive, out)

    return cache.obtain("bundle", archive.file_name, archive.fingerprint(), write)


def _existing(path: Path, option: str) -> Path:
    if not path.exists():
        raise ClusterError(f"{option} {path}: there is no such file or folder", 2)
    return path.resolve()


def _refuse_foreign_folder(output: Path) -> None:
    """Raise when the folder holds something else: parts of an earlier bundle are removed from it."""
    if output.exists():
        for path in output.iterdir():
            if path.name not in {SUMS, "install.py"} and not PART.fullmatch(path.name):
                raise ClusterError(f"{output} holds {path.name}, which is no part of a bundle: choose another", 2)
