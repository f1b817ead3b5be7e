"""Make an environment with torch's CUDA build serve on CPUs without the CUDA libraries, and small.

Usage: python3 without_cuda.py SITE_PACKAGES

torch's shared objects name the CUDA libraries as needed, 2 GB of them, so the loader refuses to load torch without
them; yet on a machine without a GPU none of their functions is ever called. Here one small library takes the place
of all that are missing: it defines every symbol that torch wants from them, and each ends the process with a word of
explanation. Needs binutils (readelf, as, ld, strip); x86-64 only, as is torch's CUDA build on the index.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

STAND_IN = "libcuda-absent.so"

#: Below site-packages: development files, profilers, and what only a GPU would load.
SUPERFLUOUS = (
    "torch/include",
    "torch/lib/libtorch_cuda_linalg.so",
    "torch/lib/libcaffe2_nvrtc.so",
    "torch/bin/protoc*",
    "nvidia/*/include",
    "nvidia/*/lib/*.a",
    "nvidia/*/lib/libnvperf_*.so",
    "nvidia/*/lib/libcheckpoint.so",
    "nvidia/*/lib/libpcsamplingutil.so",
)
#: Shared objects that carry debugging information or symbol tables nobody reads at run time.
STRIPPED = ("torch/lib/*.so", "vllm/*.so", "llvmlite/binding/*.so")


@dataclass
class Wants:
    """What shared objects want of others."""

    libraries: set[str] = field(default_factory=set)
    #: Library → names of the symbol versions wanted of it.
    versions: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: Symbol → its version, "" if it has none.
    symbols: dict[str, str] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)


def main(site_packages: Path) -> None:
    """Prune, strip and complete the environment with these site-packages."""
    for pattern in SUPERFLUOUS:
        for path in site_packages.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for pattern in STRIPPED:
        for path in site_packages.glob(pattern):
            subprocess.run(["strip", "--strip-unneeded", path], check=True)
    stand_in_for_missing(site_packages / "torch" / "lib", site_packages)


def stand_in_for_missing(folder: Path, site_packages: Path) -> None:
    """Put the stand-in into `folder`, under the names of all CUDA libraries that its shared objects miss."""
    objects = sorted(folder.glob("*.so*"))
    present = {path.name for path in objects} | {path.name for path in site_packages.glob("nvidia/*/lib/*.so*")}
    wants = Wants()
    for path in objects:
        read_wants(path, wants)
    missing = {name for name in wants.libraries - present if name.startswith(("libcu", "libnv", "libnccl"))}
    build_stand_in(folder / STAND_IN, *symbols_of(missing, wants))
    for name in missing:
        (folder / name).symlink_to(STAND_IN)
    print(f"{STAND_IN} stands in for {', '.join(sorted(missing))}")


def read_wants(path: Path, wants: Wants) -> None:
    """Add what one shared object wants and defines."""
    dump = subprocess.run(
        ["readelf", "--wide", "--dynamic", "--version-info", "--dyn-syms", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    library = ""
    for line in dump.splitlines():
        if found := re.search(r"\(NEEDED\).*\[(.+)\]", line):
            wants.libraries.add(found[1])
        elif found := re.search(r"Version: \d+  File: (\S+)", line):
            library = found[1]
        elif found := re.match(r"\s+0x\w+:\s+Name: (\S+)  Flags", line):
            wants.versions[library].add(found[1])
        elif found := re.match(r"\s*\d+: \w+ +\d+ \w+ +(\w+) +\w+ +(\w+) ([^@\s]+)@*(\S*)", line):
            binding, section, symbol, version = found.groups()
            if section != "UND":
                wants.defined.add(symbol)
            elif binding == "GLOBAL":  # a weak one may stay without a definition
                wants.symbols[symbol] = version


def symbols_of(missing: set[str], wants: Wants) -> tuple[dict[str, list[str]], list[str]]:
    """The symbols to define: by version, and those without one.

    A symbol without a version does not say which library it is wanted of; the vendor's prefixes do.
    """
    versions = {version for library in missing for version in wants.versions[library]}
    versioned: dict[str, list[str]] = {version: [] for version in versions}
    plain = []
    for symbol, version in sorted(wants.symbols.items()):
        if version in versions:
            versioned[version].append(symbol)
        elif not version and symbol not in wants.defined and symbol.startswith(("cu", "nccl", "nv")):
            plain.append(symbol)
    return versioned, plain


def build_stand_in(target: Path, versioned: dict[str, list[str]], plain: list[str]) -> None:
    """Assemble and link the stand-in: all symbols are one function."""
    symbols = [symbol for group in versioned.values() for symbol in group] + plain
    names = "\n".join(f".globl {name}\n.type {name}, @function\n.set {name}, absent" for name in symbols)
    source = f"""
.section .rodata
message: .string "a CUDA function was called, but this image has no CUDA libraries: it serves on CPUs"
.text
absent:
    sub $8, %rsp
    lea message(%rip), %rdi
    xor %eax, %eax
    call warnx@PLT
    call abort@PLT
{names}
.section .note.GNU-stack,"",@progbits
"""
    script = "".join(f"{version} {{ {' '.join(f'{n};' for n in group)} }};\n" for version, group in versioned.items())
    with tempfile.TemporaryDirectory() as folder:
        versions, assembled = Path(folder, "versions"), Path(folder, "stand-in.o")
        versions.write_text(script)
        subprocess.run(["as", "-o", assembled, "-"], input=source, text=True, check=True)
        link = ["ld", "-shared", f"-soname={target.name}", f"--version-script={versions}"]
        subprocess.run([*link, "-o", target, assembled], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
