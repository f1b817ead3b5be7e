#!/usr/bin/env python3
"""Unpack a bundle: check the parts, join them, unpack them into a folder.

    python3 install.py --to DIR

Run it as often as you like, also while parts still arrive: what is whole is unpacked, what is unpacked already is
left alone, what is missing or damaged is named. Only the standard library is used (Python 3.11 or newer), and nothing
else of this project, since this file travels beside the parts.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import re
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

#: Of every part its SHA-256 and its name, in the order in which they belong together; `sha256sum -c` reads it, too.
SUMS = "SHA256SUMS"
#: NAME.tar or NAME.tar.xz, then the number of the part.
PART = re.compile(r"(?P<archive>[\w.+-]+\.tar(?:\.xz)?)\.part-(?P<number>\d+)")
#: Below the target: for each unpacked archive which one it was, and its files.
RECORDS = ".bundle"

_CHUNK = 1 << 20


class BundleError(Exception):
    """What is wrong with the parts, in one line for each."""


@dataclass
class Archive:
    """One archive of the bundle: its parts as (name, SHA-256), in order."""

    name: str
    parts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.parts).encode()).hexdigest()


def read_sums(folder: Path) -> list[Archive]:
    """The archives that SHA256SUMS lists.

    Raises:
        BundleError: there is no such file, or a line of it is none.
    """
    path = folder / SUMS
    if not path.is_file():
        raise BundleError(f"{path} is missing: it lists the parts")
    archives: dict[str, Archive] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        digest, _, name = line.partition("  ")
        part = PART.fullmatch(name)
        if not part or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise BundleError(f"{path}, line {number}: not the checksum of a part: {line[:80]!r}")
        archive = archives.setdefault(part["archive"], Archive(part["archive"]))
        if int(part["number"]) != len(archive.parts):
            raise BundleError(f"{path}, line {number}: {name} is out of order")
        archive.parts.append((name, digest))
    if not archives:
        raise BundleError(f"{path} lists no parts")
    return list(archives.values())


def install(source: Path, target: Path) -> list[str]:
    """Unpack what is whole into `target`; return what is still missing or damaged, one line each.

    Raises:
        BundleError: there is no list of the parts, or `target` is a folder of something else.
    """
    archives = read_sums(source)
    records = target / RECORDS
    if target.exists() and not records.exists() and any(target.iterdir()):
        raise BundleError(f"{target} is not empty and holds no bundle: choose another --to")
    records.mkdir(parents=True, exist_ok=True)
    wanted = {archive.name for archive in archives}
    for record in records.glob("*.json"):
        if record.stem not in wanted:  # of another version of the bundle
            _remove(target, _files(record))
            record.unlink()
    complaints = []
    for archive in archives:
        record = records / f"{archive.name}.json"
        if record.exists() and json.loads(record.read_text())["digest"] == archive.digest:
            continue
        wrong = _complaints(source, archive)
        if wrong:
            complaints += wrong
            continue
        print(f"unpack {archive.name} ({len(archive.parts)} parts)", flush=True)
        # While files are mixed no record speaks of them, and an unpacking that is interrupted is begun again. What the
        # older record lists is kept: it is still to be removed.
        older = record.with_suffix(".older")
        if record.exists():
            record.replace(older)
        files = _unpack([source / name for name, _ in archive.parts], archive.name.endswith(".xz"), target)
        elsewhere = set().union(*(_files(other) for other in records.glob("*.json") if other != record))
        _remove(target, _files(older) - files - elsewhere)  # a file may have moved to another archive
        record.write_text(json.dumps({"digest": archive.digest, "files": sorted(files)}))
        older.unlink(missing_ok=True)
    return complaints


def _complaints(source: Path, archive: Archive) -> list[str]:
    """What is wrong with the parts of an archive. They are read only when all are there."""
    missing = [f"{name} is missing" for name, _ in archive.parts if not (source / name).is_file()]
    if missing:
        return missing
    damaged = [name for name, digest in archive.parts if _digest(source / name) != digest]
    return [f"{name} is damaged: its SHA-256 is not the one in {SUMS}" for name in damaged]


def _unpack(parts: list[Path], compressed: bool, target: Path) -> set[str]:
    """Unpack joined parts; return the names of the files."""
    files = set()
    with ExitStack() as held:
        stream = cast(BinaryIO, held.enter_context(io.BufferedReader(_Joined(parts), _CHUNK)))
        if compressed:
            stream = cast(BinaryIO, held.enter_context(lzma.open(stream)))
        tar = held.enter_context(tarfile.open(fileobj=stream, mode="r|"))
        if hasattr(tarfile, "data_filter"):  # since 3.11.4: refuses to leave the target
            tar.extraction_filter = tarfile.data_filter
        for member in tar:
            _refuse_to_leave(target, member)
            # All members are of one time; who tells versions by size and time, as Python does its compiled modules,
            # would take the next one for this.
            member.mtime = time.time()
            if not member.isdir():
                # Unlinked, not overwritten: the old file may be a program that runs, or have a second name elsewhere.
                (target / member.name).unlink(missing_ok=True)
                files.add(member.name)
            tar.extract(member, target)
    return files


def _refuse_to_leave(target: Path, member: tarfile.TarInfo) -> None:
    """Raise for a member outside the target, one behind a link out of it, such a link itself, or a special file."""
    place = target / member.name
    reached = [place.parent, place.parent / member.linkname] if member.issym() else [place.parent]
    inside = all(path.resolve().is_relative_to(target) for path in reached)
    if ".." in place.parts or not inside or not (member.isreg() or member.issym() or member.isdir()):
        raise BundleError(f"{member.name!r} in the archive would leave {target}")


def _files(record: Path) -> set[str]:
    return set(json.loads(record.read_text())["files"]) if record.exists() else set()


def _remove(target: Path, files: set[str]) -> None:
    for name in files:
        (target / name).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class _Joined(io.RawIOBase):
    """The parts, read as the one file that they were."""

    def __init__(self, parts: list[Path]) -> None:
        self._content = self._read(parts)
        self._rest = b""

    def _read(self, parts: list[Path]) -> Iterator[bytes]:
        for part in parts:
            with part.open("rb") as content:
                while chunk := content.read(_CHUNK):
                    yield chunk

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._content, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def main(arguments: list[str] | None = None) -> int:
    """Unpack; the exit status is 0 when all is there, 1 when parts are missing or damaged, 2 for all else."""
    options = _parser().parse_args(arguments)
    if sys.version_info < (3, 11):  # noqa: UP036  (the target's Python, which nothing has chosen)
        print("error: this needs Python 3.11 or newer", file=sys.stderr)
        return 2
    target = options.to.expanduser().resolve()
    try:
        complaints = install(options.source, target)
    except (BundleError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if complaints:
        print("\n".join(complaints), file=sys.stderr)
        print("Not complete. Run this again when these parts are there.", file=sys.stderr)
        return 1
    print(f"All is unpacked in {target}. Start the cluster as root: python3 {target}/cluster up")
    return 0


def _parser() -> argparse.ArgumentParser:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(
        prog="python3 install.py", description="Check, join and unpack the parts of a bundle; may be run again."
    )
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to unpack into")
    parser.add_argument("--from", type=Path, default=here, dest="source", metavar="DIR", help="folder of the parts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
