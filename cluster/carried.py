"""What a bundle brought along: programs, the Kubernetes binary and images, found instead of installed and built.

`cluster.bundle` packs a folder that looks like a checkout and holds `carried/` beside `cluster/`; see there.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
from pathlib import Path
from typing import Any

from cluster.layout import REPOSITORY, ClusterError

FOLDER = REPOSITORY / "carried"
#: What the bundle says of itself; without this file we are a checkout.
DESCRIPTION = "bundle.json"
#: Folders below FOLDER.
PROGRAMS, CNI, ARCHIVES = "programs/bin", "programs/cni", "archives"

#: runc's, which no search path of ours reaches: see `cluster.programs`.
_SECCOMP = "libseccomp.so.2"
_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def here() -> bool:
    """Whether this is an unpacked bundle: then nothing is downloaded or built."""
    return (FOLDER / DESCRIPTION).exists()


def description() -> dict[str, Any]:
    """What the bundle says of itself: `images` by short name; oldest `glibc` and `machine` for its programs."""
    raw: dict[str, Any] = json.loads((FOLDER / DESCRIPTION).read_text())
    return raw


def search_path() -> str:
    """Where the node's programs are looked for: those of the bundle fit each other, so they come first."""
    return f"{FOLDER / PROGRAMS}:{_SYSTEM}" if here() else _SYSTEM


def use_programs() -> None:
    """Let this process, and all that it starts, find the carried programs first."""
    if here():
        os.environ["PATH"] = f"{FOLDER / PROGRAMS}:{os.environ.get('PATH', _SYSTEM)}"


def binary(name: str) -> Path:
    """A carried Go program, whose name holds the hash of its sources.

    Raises:
        ClusterError: its part of the bundle has not been unpacked.
    """
    found = sorted((FOLDER / "bin").glob(f"{name}-{'?' * 16}"))
    if not found:
        raise ClusterError(f"{FOLDER / 'bin'} holds no {name}: {_ADVICE}", status=2)
    return found[-1]


def image(short: str) -> Path:
    """The layout of a carried image.

    Raises:
        ClusterError: the bundle was packed without it, or parts of it have not been unpacked.
    """
    folder = FOLDER / "images" / short
    if not folder.exists():
        raise ClusterError(f"This bundle holds no image {short}; it holds {', '.join(images())}.", status=2)
    lost = [path for path in (folder / "blobs" / "sha256").iterdir() if not path.exists()]
    if lost:
        raise ClusterError(f"{len(lost)} layers of the image {short} are not unpacked: {_ADVICE}", status=2)
    return folder


def images() -> list[str]:
    """Short names of the carried images."""
    return list(description()["images"])


def archives() -> list[Path]:
    """Archives of further images that whoever made the bundle added."""
    return sorted((FOLDER / ARCHIVES).glob("*"))


def unfit() -> str | None:
    """What keeps the carried programs from running here; None if nothing does."""
    machine = description()["machine"]
    if platform.machine() != machine:
        return f"The programs of this bundle are for {machine}; this machine is {platform.machine()}."
    needed = description()["glibc"]
    words = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    found = words[1] if len(words) == 2 else "none"
    if found == "none" or _numbers(found) < _numbers(needed):
        return f"The programs of this bundle need glibc {needed} or newer; this machine has {found}."
    try:
        ctypes.CDLL(_SECCOMP)
    except OSError:
        return f"The carried runc needs {_SECCOMP}, which this machine lacks: install the package libseccomp2."
    return None


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


_ADVICE = "run install.py again when the missing parts are there; it names them."
