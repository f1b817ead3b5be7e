"""The control plane that the tests run against: the project's own, or the one that the environment names."""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[3]
GIVEN = "QUANTBENCH_TEST_KUBECONFIG"
START_SECONDS = 1800
"""The first start on a machine builds Kubernetes from source."""


@contextmanager
def control_plane() -> Iterator[Path]:
    """A kubeconfig of a running control plane; it ends with the block, unless $QUANTBENCH_TEST_KUBECONFIG named it.

    Raises:
        AssertionError: it could not be built or started. That is a failure, not a reason to skip.
    """
    given = os.environ.get(GIVEN)
    if given:
        yield Path(given)
        return
    with _own_folder() as state:
        _cluster("down", state)
        try:
            _cluster("up", state, "--control-plane-only", "--address", "127.0.0.1")
            yield state / "kubeconfig"
        finally:
            _cluster("down", state)


def _cluster(command: str, state: Path, *arguments: str) -> None:
    words = ["cluster", command, "--state", str(state), *arguments]
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, timeout=START_SECONDS, check=False)
    assert done.returncode == 0, f"`python3 {' '.join(words)}` ended with status {done.returncode}"


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A state folder that no other session uses.

    Its place is always the same, so that what a killed session left running is found and ended by the next one.
    """
    checkout = hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:8]
    for number in range(8):
        state = Path(tempfile.gettempdir()) / f"quantbench-integration-{checkout}-{number}"
        with open(f"{state}.lock", "w") as lock:
            if _locked(lock):
                yield state
                return
    raise AssertionError("eight sessions run at the same time")


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
