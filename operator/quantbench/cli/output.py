"""Where the commands' results go: files that are written whole or not at all, and standard output."""

import codecs
import errno
import io
import json
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from quantbench.cli.common import Exit, fail

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)
"""What is wrong with a standard output that takes no more."""
_NOT_REPLACEABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)
"""A folder that takes no new file, or a file that is a mount, may still let the file itself be written."""


def write_files(files: Mapping[Path, str]) -> None:
    """Write texts; what was there stays until its successor is complete. Ends the command where one cannot be."""
    for path, text in files.items():
        raw = text.encode(errors="backslashreplace")
        try:
            with suppress(FileExistsError):
                path.parent.mkdir(parents=True)
            _write(path, raw)
        except OSError as error:
            fail(Exit.WRONG_INPUT, f"{path}: {error.strerror or error}")


def _write(path: Path, raw: bytes) -> None:
    exists = path.exists()
    if exists and not path.is_file():  # a device, a pipe
        path.write_bytes(raw)
        return
    try:
        _replace(path.resolve(), raw)
    except OSError as error:
        if not exists or error.errno not in _NOT_REPLACEABLE:
            raise
        path.write_bytes(raw)


def _replace(path: Path, raw: bytes) -> None:
    beside = path.with_name(f".quantbench-{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as opened:
            opened.write(raw)
        if path.exists():
            shutil.copymode(path, beside)
            with suppress(PermissionError):
                os.chown(beside, path.stat().st_uid, path.stat().st_gid)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks, as JSON writes it: JSON stays JSON, and a table can be read."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


class Commands(TyperGroup):
    """The group of all commands; a standard output that fails is no result that is missing."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; ends with `Exit.NOT_WRITTEN` if standard output did not take all of it."""
        codecs.register_error("escaped", _escaped)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="escaped")
        try:
            try:
                return super().invoke(ctx)
            finally:
                print(end="", flush=True)
        except OSError as error:
            if error.filename is not None or error.errno not in _UNWRITABLE:
                raise
            # Else the interpreter would write what is left as it ends, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):
                fail(Exit.NOT_WRITTEN, f"standard output: {error.strerror}")
            raise typer.Exit(Exit.NOT_WRITTEN) from error
