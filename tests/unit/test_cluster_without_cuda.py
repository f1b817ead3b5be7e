"""The stand-in for CUDA libraries, shown on small libraries that need one that is not there."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.layout import HERE

SCRIPT = HERE / "images" / "without_cuda.py"
TOOLS = ("gcc", "readelf", "as", "ld", "strip")
pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not all(map(shutil.which, TOOLS)), reason=f"needs x86-64 and {', '.join(TOOLS)}"
)


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """A torch of two functions: one adds, one calls into a versioned and an unversioned library that then go away."""
    folder = tmp_path / "site-packages" / "torch" / "lib"
    folder.mkdir(parents=True)
    (tmp_path / "cublas.map").write_text("libcublas.so.13 { cublasCreate; };")
    _link(
        tmp_path, folder / "libcublas.so.13", "int cublasCreate(void) { return 1; }", "-Wl,--version-script=cublas.map"
    )
    _link(tmp_path, folder / "libnccl.so.2", "int ncclSend(void) { return 1; }")
    source = """
    int cublasCreate(void); int ncclSend(void);
    int add(int a, int b) { return a + b; }
    int multiply_on_gpu(void) { return cublasCreate() + ncclSend(); }
    """
    _link(tmp_path, folder / "libtorch_cuda.so", source, "-L", str(folder), "-l:libcublas.so.13", "-l:libnccl.so.2")
    for name in ("libcublas.so.13", "libnccl.so.2"):
        (folder / name).unlink()
    return folder.parents[1]


def make_do(site_packages: Path) -> None:
    """Run the script as the image's build does."""
    subprocess.run([sys.executable, SCRIPT, site_packages], check=True)


def _link(folder: Path, target: Path, source: str, *options: str) -> None:
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(target), f"-Wl,-soname,{target.name}"]
    command += ["-Wl,-rpath,$ORIGIN", "-Wl,-z,now", "-x", "none", *options]
    subprocess.run(command, input=source, text=True, cwd=folder, check=True)


def test_what_misses_its_libraries_loads_and_works_until_it_calls_them(site_packages: Path):
    torch = site_packages / "torch" / "lib" / "libtorch_cuda.so"
    with pytest.raises(OSError, match=r"libcublas\.so\.13|libnccl\.so\.2"):
        ctypes.CDLL(str(torch))
    make_do(site_packages)
    assert ctypes.CDLL(str(torch)).add(2, 3) == 5
    code = f"import ctypes; ctypes.CDLL({str(torch)!r}).multiply_on_gpu()"
    called = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert called.returncode == -6
    assert "no CUDA libraries" in called.stderr


def test_a_library_that_is_there_is_not_replaced(site_packages: Path, tmp_path: Path):
    real = site_packages / "nvidia" / "nccl" / "lib" / "libnccl.so.2"
    real.parent.mkdir(parents=True)
    _link(tmp_path, real, "int ncclSend(void) { return 1; }")
    make_do(site_packages)
    stood_in = {path.name for path in (site_packages / "torch" / "lib").iterdir() if path.is_symlink()}
    assert stood_in == {"libcublas.so.13"}


def test_development_files_go(site_packages: Path):
    header = site_packages / "torch" / "include" / "torch.h"
    header.parent.mkdir(parents=True)
    header.touch()
    make_do(site_packages)
    assert not header.exists()
