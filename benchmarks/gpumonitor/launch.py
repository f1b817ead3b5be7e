"""Fork the monitor, then become the server."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from typing import Final

NVIDIA_SMI: Final = "nvidia-smi"
EXIT_USAGE: Final = 64
EXIT_CANNOT_RUN: Final = 126
EXIT_NOT_FOUND: Final = 127


def main(arguments: Sequence[str]) -> int:
    """Does not return if the command can be run. Exit status as of a shell if not: 127 not found, 126 not runnable."""
    if len(arguments) < 2 or arguments[0] != "--":
        print("usage: gpumonitor -- COMMAND [ARGUMENT …]", file=sys.stderr)
        return EXIT_USAGE
    command = list(arguments[1:])
    tool = shutil.which(NVIDIA_SMI)
    if tool is not None and shutil.which(command[0]) is not None:
        _fork_monitor(tool)
    # Python ignores these two; the command must find them as if it had been started directly.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"gpumonitor: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_CANNOT_RUN


def _fork_monitor(tool: str) -> None:
    server = os.getpid()
    try:
        child = os.fork()
    except OSError:
        return  # Serving matters more than watching.
    if child:
        return
    status = 1
    try:
        # The container's log is the server's alone, and ends with it.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        from .monitor import run

        status = run(tool, server)
    finally:
        os._exit(status)
