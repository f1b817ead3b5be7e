"""NVIDIA GPUs planted in a folder: what a driver shows of them in dev, proc and usr, on a machine that has none.

The device files are /dev/null's, made by mknod, which wants root. Minor numbers run against the driver's order.
"""

import os
import stat
from pathlib import Path

PRODUCT, LABEL = "NVIDIA H100 80GB HBM3", "NVIDIA-H100-80GB-HBM3"
_NULL = os.makedev(1, 3)


def uuid(index: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def plant(root: Path, count: int, *, in_proc: bool = True) -> None:
    """Plant `count` GPUs; without `in_proc` as in a sandbox that hides the driver's part of /proc."""
    for folder in ("dev", "proc", "usr/bin", "usr/local/nvidia/lib64"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{minor}" for minor in range(count))):
        os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, _NULL)
        (root / "dev" / name).chmod(0o666)
    for index in range(count if in_proc else 0):
        folder = root / "proc" / "driver" / "nvidia" / "gpus" / f"0000:0{index}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(
            f"Model: \t\t {PRODUCT}\nGPU UUID: \t {uuid(index)}\nDevice Minor: \t {count - 1 - index}\n"
        )
    rows = "\n".join(f"{uuid(index)}, {PRODUCT}, 81559, 9.0, 570.86.15" for index in range(count))
    tool = root / "usr" / "bin" / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{rows}\nEND\n")
    tool.chmod(0o755)
