"""The cache of downloads and builds: things named by a hash of what they were made from, put in place in one step."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.layout import cache_folder


def log_file(name: str) -> Path:
    """Where the output of a build goes; the last one is kept."""
    path = cache_folder() / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def fingerprint(paths: Iterable[Path], *words: str) -> str:
    """Hash of files (folders: all files below, compiled Python left out) with their names, and of `words`."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(f"{len(word)}:{word}".encode())
    for root in paths:
        below = sorted(root.rglob("*")) if root.is_dir() else [root]
        for path in below:
            if path.is_file() and "__pycache__" not in path.parts:
                content = path.read_bytes()
                mode = path.stat().st_mode & 0o111
                digest.update(f"{path.relative_to(root.parent)}:{mode}:{len(content)}:".encode() + content)
    return digest.hexdigest()[:16]


def obtain(kind: str, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The file `kind`/`name`-`key` of the cache, made by `make(draft)` if it is not there.

    Two processes that want the same file: the second waits for the first. Older files of the same name are removed.
    """
    folder = cache_folder() / kind
    folder.mkdir(parents=True, exist_ok=True)
    stem, dot, suffix = name.partition(".")
    wanted = folder / f"{stem}-{key}{dot}{suffix}"
    if wanted.exists():
        return wanted
    with locked(folder / f".{name}.lock"):
        if not wanted.exists():
            draft = folder / f".{name}.draft"
            remove(draft)
            make(draft)
            draft.replace(wanted)
            for older in folder.glob(f"{stem}-{'?' * len(key)}{dot}{suffix}"):
                if older != wanted:
                    remove(older)
    return wanted


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock that the kernel drops when this process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file or a folder with all below it, if there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
