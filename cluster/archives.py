"""Archives in parts: tar streams that are the same for the same contents, compressed by all cores, cut into pieces."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from cluster.install import PART, SUMS
from cluster.layout import ClusterError

#: Compressed one by one, side by side; a smaller block compresses worse, a larger one needs more memory.
_BLOCK = 32 << 20
#: Threads at most: each takes some 400 MB.
_THREADS = 8
#: All machine code here is for x86-64; liblzma's filter for it saves a tenth of a program.
_FILTERS = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": _BLOCK}]
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One member of an archive: a file's content, a text, or (`link`) a symbolic link to another member."""

    name: str
    content: Path | bytes = b""
    executable: bool = False
    link: str = ""


@dataclass(frozen=True)
class Archive:
    """An archive to be made. Without `compress` it is stored: for what is compressed already."""

    name: str
    entries: tuple[Entry, ...]
    compress: bool = True

    @property
    def file_name(self) -> str:
        return f"{self.name}.tar.xz" if self.compress else f"{self.name}.tar"

    def fingerprint(self) -> str:
        """Hash of everything that decides the archive's bytes."""
        digest = hashlib.sha256(f"{self.compress} {_BLOCK} {_FILTERS}".encode())
        for entry in self.entries:
            digest.update(f"{entry.name}\0{entry.executable}\0{entry.link}\0{_digest(entry.content)}\n".encode())
        return digest.hexdigest()[:16]


def files_below(folder: Path, name: str) -> Iterator[Entry]:
    """Every file below a folder (compiled Python left out) or the file itself, to be called `name` in the archive.

    A link from a file to a file of the folder stays one, as in a Hugging Face cache, where each snapshot's file is a
    link to a blob. Others are followed: what they lead to may lie outside the folder.

    Raises:
        ClusterError: a link leads nowhere, or to a folder that holds it.
    """
    if not folder.is_dir():
        yield Entry(name, folder, _is_executable(folder))
        return
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        inside = f"{name}/{path.relative_to(folder)}"
        if path.is_symlink() and not path.exists():
            raise ClusterError(f"{path} is a link to nowhere", 2)
        if path.is_symlink() and path.is_dir():
            if path.resolve() in {parent.resolve() for parent in path.parents}:
                raise ClusterError(f"{path} is a link to a folder that holds it", 2)
            yield from files_below(path, inside)
        elif link := _link_within(path, folder):
            yield Entry(inside, link=link)
        elif path.is_file():
            yield Entry(inside, path, _is_executable(path))


def _link_within(path: Path, folder: Path) -> str:
    """Where a link leads if that is relative and a file that the archive of the folder holds at the same place."""
    if not path.is_symlink() or path.readlink().is_absolute() or not path.is_file():
        return ""
    leads_to = Path(os.path.normpath(path.parent / path.readlink()))
    packed = leads_to.is_relative_to(folder) and "__pycache__" not in leads_to.parts
    return str(path.readlink()) if packed and leads_to.samefile(path) else ""


def write(archive: Archive, out: BinaryIO) -> None:
    """Write an archive: members in the order given, without owners and times, so that it is always the same."""
    if archive.compress:
        with _Compressor(out) as stream:
            _write_tar(archive.entries, stream)
    else:
        _write_tar(archive.entries, out)


def split(source: Path, name: str, folder: Path, part_bytes: int) -> Iterator[tuple[str, str]]:
    """Cut a file into `folder`/`name`.part-NN of at most `part_bytes`; yield names and SHA-256 in order."""
    with source.open("rb") as content:
        for number in range(max(1, -(-source.stat().st_size // part_bytes))):
            part = f"{name}.part-{number:02}"
            assert PART.fullmatch(part), part
            digest, left = hashlib.sha256(), part_bytes
            with (folder / part).open("wb") as out:
                while chunk := content.read(min(_CHUNK, left)):
                    left -= len(chunk)
                    digest.update(chunk)
                    out.write(chunk)
            yield part, digest.hexdigest()


def write_sums(folder: Path, parts: Iterable[tuple[str, str]]) -> None:
    """Write the list of the parts."""
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in parts))


def _write_tar(entries: Iterable[Entry], stream: BinaryIO | io.BufferedIOBase) -> None:
    with tarfile.open(fileobj=cast(BinaryIO, stream), mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for entry in entries:
            member = tarfile.TarInfo(entry.name)
            member.mode = 0o755 if entry.executable else 0o644
            if entry.link:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
                tar.addfile(member)
            elif isinstance(entry.content, bytes):
                member.size = len(entry.content)
                tar.addfile(member, io.BytesIO(entry.content))
            else:
                member.size = entry.content.stat().st_size
                with entry.content.open("rb") as content:
                    tar.addfile(member, content)


class _Compressor(io.BufferedIOBase):
    """A stream that compresses blocks side by side and writes them in order.

    Each block is an xz stream of its own; a file of several is an xz file, too (xz file format, section 2).
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._block = bytearray()
        self._threads = min(_THREADS, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(self._threads)
        self._pending: deque[Future[bytes]] = deque()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._block += data
        while len(self._block) >= _BLOCK:
            self._submit(bytes(self._block[:_BLOCK]))
            del self._block[:_BLOCK]
        return len(data)

    def close(self) -> None:
        if not self.closed:
            with self._pool:
                if self._block:
                    self._submit(bytes(self._block))
                while self._pending:
                    self._out.write(self._pending.popleft().result())
        super().close()

    def _submit(self, block: bytes) -> None:
        self._pending.append(self._pool.submit(lzma.compress, block, filters=_FILTERS))
        while len(self._pending) > self._threads:
            self._out.write(self._pending.popleft().result())


def _digest(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)
