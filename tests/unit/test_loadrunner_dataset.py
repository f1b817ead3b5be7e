"""ShareGPT files: every way to be wrong has a message that says where."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loadrunner.dataset import check_file, load_conversations
from benchmarks.loadrunner.errors import DATASET_INVALID, DATASET_MISSING, RunnerError
from loadrunner_support.harness import conversations


def check(path: Path) -> int:
    check_file(str(path))
    return load_conversations(str(path)).with_two_turns


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "data.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_a_good_file(tmp_path: Path) -> None:
    entries = [*conversations(5), {"id": "no conversation"}, {"conversations": [{"value": "alone"}]}]
    path = written(tmp_path, b"\n " + json.dumps(entries, indent=1).encode() + b" \n" * 5000)
    assert check(path) == 5
    assert load_conversations(str(path)).entries == entries


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n" * 9000, "the file is empty"),
        ({"data": []}, "starts with '{' (one object, or JSON Lines)"),
        (b'"text"', "starts with '\"'"),
        (b"\xef\xbb\xbf[]", "byte order mark"),
        (json.dumps(conversations(3)).encode()[:-40], "cut off: the file ends with"),
        ([], "none of its 0 entries"),
        ([{"conversations": [{"value": "alone"}]}], "none of its 1 entries"),
        ([{"conversations": []}, 7], "entry 1 is not an object but int"),
        ([{"conversations": "text"}], "entry 0: 'conversations' is not a list but str"),
        ([{"conversations": [{"value": "a"}, {"text": "b"}]}], "entry 0: turn 1 has no text 'value'"),
        ([{"conversations": [{"value": None}, {"value": "b"}]}], "entry 0: turn 0 has no text 'value'"),
        (b"[\n{},\n{]", "not JSON at line 3, column 2"),
        (b'[{"a": 1}, oops' + b" " * 9000 + b"]", "not JSON at line 1, column 12 (character 11 of"),
        (b'[{"a": "\xff"}]', "not UTF-8 at byte 8"),
        (b"[" * 200_000 + b"]", "not JSON"),
    ],
)
def test_a_bad_file(tmp_path: Path, content: Any, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(RunnerError) as caught:
        check(path)
    assert caught.value.reason == DATASET_INVALID
    assert caught.value.message.startswith(f"{path}: ")
    assert message in caught.value.message


def test_a_file_cut_between_two_brackets_is_called_cut_off(tmp_path: Path) -> None:
    text = json.dumps(conversations(3))
    path = written(tmp_path, text[: text.rindex("]", 0, -1) + 1].encode())
    check_file(str(path))
    with pytest.raises(RunnerError, match="the file looks cut off"):
        load_conversations(str(path))


def test_no_such_file(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.json", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(RunnerError, match=message) as caught:
            check_file(str(path))
        assert caught.value.reason == DATASET_MISSING
    with pytest.raises(RunnerError, match="cannot be opened"):
        check_file("\0")


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunnerError, match="the file is empty"):
        check_file(str(tmp_path / "pipe"))


def test_an_unreadable_file(tmp_path: Path) -> None:
    path = written(tmp_path, [])
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file (root)")
    with pytest.raises(RunnerError, match="cannot be opened: Permission denied"):
        check_file(str(path))
