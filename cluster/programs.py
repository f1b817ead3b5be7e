"""The node's programs as a bundle carries them: Debian's binaries, each with the libraries that it alone shall see."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from cluster import carried, node
from cluster.archives import Entry
from cluster.commands import output
from cluster.layout import ClusterError

#: They need the C library alone; runc libseccomp as well, which apt brings to every Debian and Ubuntu. Its `runc init`
#: starts without an environment and from a copy in memory, so neither LD_LIBRARY_PATH nor an RPATH would reach it.
PLAIN = ("containerd", "containerd-shim-runc-v2", "ctr", "runc")
#: They need libraries that a machine may lack, and start no other program that would inherit them.
WRAPPED = ("ip", "nft", "openssl")

#: The C library belongs to the machine, as its loader does.
_C_LIBRARY = re.compile(r"(linux-vdso|ld-linux.*|lib(c|m|dl|rt|pthread|resolv))\.so\.\d+")
_WRAPPER = """#!/bin/sh
# Only this program sees the libraries that were carried with it.
here=${{0%/*}}/..
LD_LIBRARY_PATH=$here/lib
OPENSSL_CONF=$here/openssl.cnf
export LD_LIBRARY_PATH OPENSSL_CONF
exec "$here/libexec/{name}" "$@"
"""
_OPENSSL_CONFIGURATION = Path("/etc/ssl/openssl.cnf")


def entries() -> list[Entry]:
    """The programs, their libraries and the CNI plugins, as members of an archive."""
    bin_folder = f"carried/{carried.PROGRAMS}"
    root = bin_folder.rpartition("/")[0]
    found = [Entry(f"{bin_folder}/{name}", _find(name), executable=True) for name in PLAIN]
    libraries: dict[str, Path] = {}
    for name in WRAPPED:
        wrapper = _WRAPPER.format(name=name).encode()
        found += [
            Entry(f"{bin_folder}/{name}", wrapper, executable=True),
            Entry(f"{root}/libexec/{name}", _find(name), executable=True),
        ]
        libraries |= dict(_libraries(_find(name)))
    found += [Entry(f"{root}/lib/{name}", path) for name, path in sorted(libraries.items())]
    found.append(Entry(f"{root}/openssl.cnf", _OPENSSL_CONFIGURATION))
    plugins = node.cni_folder()
    assert plugins, "host.prepare has seen to it"
    found += [Entry(f"carried/{carried.CNI}/{name}", plugins / name, executable=True) for name in node.CNI_PLUGINS]
    return found


def needed_glibc(members: list[Entry]) -> str:
    """The oldest C library with all the symbol versions that the members ask for."""
    versions = {(2, 0)}
    for member in members:
        if isinstance(member.content, Path):
            asked = re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?:\.\d+)?(?=\0)", member.content.read_bytes())
            versions |= {(int(major), int(minor)) for major, minor in asked}
    return ".".join(map(str, max(versions)))


def _find(name: str) -> Path:
    found = shutil.which(name, path=carried.search_path())
    if not found:
        raise ClusterError(f"There is no `{name}` here to be packed.", status=2)
    return Path(found).resolve()


def _libraries(program: Path) -> Iterator[tuple[str, Path]]:
    """The shared libraries of a program, all levels, but for the C library: (name it is loaded by, file)."""
    for line in output(["ldd", program]).splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if arrow and not _C_LIBRARY.fullmatch(name):
            yield name, Path(rest.rpartition(" (")[0]).resolve()
