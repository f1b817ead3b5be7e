"""NVIDIA GPUs planted in a folder: what a driver shows of them in dev, proc and usr, on a machine that has none.

The device files lead to /dev/null, which needs no root. Minor numbers run against the driver's order.
"""

from pathlib import Path

PRODUCT = "NVIDIA H100 80GB HBM3"


def uuid(index: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def plant(root: Path, count: int) -> None:
    """Plant `count` GPUs."""
    for folder in ("dev", "proc", "usr/bin", "usr/local/nvidia/lib64"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{minor}" for minor in range(count))):
        (root / "dev" / name).symlink_to("/dev/null")
    for index in range(count):
        folder = root / "proc" / "driver" / "nvidia" / "gpus" / f"0000:0{index}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(
            f"Model: \t\t {PRODUCT}\nGPU UUID: \t {uuid(index)}\nDevice Minor: \t {count - 1 - index}\n"
        )
    rows = "\n".join(f"{uuid(index)}, {PRODUCT}, 81559, 9.0, 570.86.15" for index in range(count))
    tool = root / "usr" / "bin" / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{rows}\nEND\n")
    tool.chmod(0o755)
