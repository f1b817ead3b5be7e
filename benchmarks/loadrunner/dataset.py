"""Checks of a ShareGPT file, with messages that say what is wrong where.

vLLM parses the whole file for every pass and fails with a bare KeyError or JSONDecodeError. Here the cheap checks
come before vLLM's slow import, and the file (hundreds of MB) is parsed once for all passes.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from .errors import DATASET_INVALID, DATASET_MISSING, RunnerError

_BLOCK: Final = 4096
_BLANK: Final = b" \t\r\n"


@dataclass(frozen=True)
class Conversations:
    """A parsed ShareGPT file: its entries, and how many have the two turns that a request needs."""

    path: str
    entries: list[Any]
    with_two_turns: int


def check_file(path: str) -> None:
    """What can be said without parsing: the file exists and looks like a whole JSON list.

    Raises RunnerError (DatasetMissing, DatasetInvalid).
    """
    with _opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        head = _first_byte(descriptor, size)
        tail = _last_byte(descriptor, size)
    if head is None or tail is None:
        raise _invalid(path, "the file is empty")
    if head == b"\xef":
        raise _invalid(path, "the file starts with a byte order mark, which vLLM's JSON parser refuses")
    if head != b"[":
        hint = " (one object, or JSON Lines)" if head == b"{" else ""
        raise _invalid(path, f"a JSON list of conversations is expected, but the file starts with {_show(head)}{hint}")
    if tail != b"]":
        raise _invalid(path, f"the JSON list is cut off: the file ends with {_show(tail)} at byte {size}, not with ']'")


def load_conversations(path: str) -> Conversations:
    """Parse and check the whole file. Raises RunnerError (DatasetMissing, DatasetInvalid)."""
    with _opened(path) as descriptor, open(descriptor, encoding="utf-8", closefd=False) as file:
        try:
            with _without_gc():
                entries = json.load(file)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno} (character {error.pos} of {len(error.doc)})"
            cut = "; the file looks cut off" if len(error.doc) - error.pos < _BLOCK else ""
            raise _invalid(path, f"not JSON at {where}: {error.msg}{cut}") from None
        except UnicodeDecodeError as error:
            raise _invalid(path, f"not UTF-8 at byte {error.start}: {error.reason}") from None
        except (ValueError, RecursionError) as error:
            raise _invalid(path, f"not JSON that can be read: {error}") from None
        except OSError as error:
            raise RunnerError(DATASET_MISSING, f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(entries, list):
        raise _invalid(path, f"a JSON list of conversations is expected, not {type(entries).__name__}")
    return Conversations(path, entries, _count_usable(path, entries))


def _count_usable(path: str, entries: list[Any]) -> int:
    usable = 0
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise _invalid(path, f"entry {index} is not an object but {type(entry).__name__}")
        if "conversations" not in entry:
            continue  # vLLM passes over it
        turns = entry["conversations"]
        if not isinstance(turns, list):
            raise _invalid(path, f"entry {index}: 'conversations' is not a list but {type(turns).__name__}")
        if len(turns) < 2:
            continue
        for number, turn in enumerate(turns[:2]):
            if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
                raise _invalid(path, f"entry {index}: turn {number} has no text 'value'")
        usable += 1
    if usable == 0:
        raise _invalid(path, f"none of its {len(entries)} entries is a conversation of two turns or more")
    return usable


def _invalid(path: str, message: str) -> RunnerError:
    return RunnerError(DATASET_INVALID, f"{path}: {message}")


def _show(byte: bytes) -> str:
    return repr(byte.decode("latin-1"))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RunnerError(DATASET_MISSING, f"{path}: no such file in the load pod; is its volume mounted?") from None
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise RunnerError(DATASET_MISSING, f"{path}: cannot be opened: {text}") from None
    try:
        if os.path.isdir(path):
            raise RunnerError(DATASET_MISSING, f"{path}: is a folder, a ShareGPT JSON file is expected")
        yield descriptor
    finally:
        os.close(descriptor)


def _first_byte(descriptor: int, size: int) -> bytes | None:
    for offset in range(0, size, _BLOCK):
        block = os.pread(descriptor, _BLOCK, offset).lstrip(_BLANK)
        if block:
            return block[:1]
    return None


def _last_byte(descriptor: int, size: int) -> bytes | None:
    for end in range(size, 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        block = os.pread(descriptor, end - start, start).rstrip(_BLANK)
        if block:
            return block[-1:]
    return None


@contextlib.contextmanager
def _without_gc() -> Iterator[None]:
    """Building millions of objects, none of them garbage, the collector only costs time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
