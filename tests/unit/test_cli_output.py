"""What the commands write reaches its file whole, or leaves it as it was; standard output may fail, too."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core_support.studies import finished
from quantbench.cli.common import MEANINGS, Exit
from quantbench.exports import to_document

PROGRAM = f"{sys.executable} -m quantbench"


def sh(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command line in a folder that holds the export study.json; $Q is the program."""
    known = {"PATH": os.environ["PATH"], "HOME": str(folder), "Q": PROGRAM, **environment}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=known, capture_output=True, timeout=60, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    study = to_document(finished(), "1.0")
    (tmp_path / "study.json").write_text(json.dumps(study, ensure_ascii=False), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("export study.json --to keep.json", "keep.json"),
        ("import study.json --to keep.json", "keep.json"),
        ("report study.json --output keep.md", "keep.md"),
    ],
)
def test_a_full_disk_leaves_the_file_that_was_there(folder: Path, command: str, file: str) -> None:
    (folder / file).write_text("yesterday's")
    # The limit would cut Python's own files, too.
    ended = sh(f"ulimit -f 4; PYTHONDONTWRITEBYTECODE=1 $Q {command}", folder)
    assert ended.returncode == Exit.WRONG_INPUT
    assert ended.stderr.decode() == f"quantbench: {file}: File too large\n"
    assert (folder / file).read_text() == "yesterday's"
    assert sorted(path.name for path in folder.iterdir()) == sorted(["study.json", file])


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/dev/full", "No space left on device"),
        ("folder", "Is a directory"),
        ("study.json/new.json", "Not a directory"),
    ],
)
def test_what_cannot_be_written_is_named(folder: Path, target: str, why: str) -> None:
    (folder / "folder").mkdir()
    ended = sh(f"$Q export study.json --to {target}", folder)
    assert ended.returncode == Exit.WRONG_INPUT
    assert ended.stderr.decode() == f"quantbench: {target}: {why}\n"


def test_devices_are_written_in_place(folder: Path) -> None:
    ended = sh("$Q export study.json --to /dev/stdout", folder)
    assert json.loads(ended.stdout)["kind"] == "QuantBenchmarkExport"
    assert sh("$Q export study.json --to >(cat > piped); wait $!; sleep 0.2", folder).returncode == Exit.OK
    assert json.loads((folder / "piped").read_text())["kind"] == "QuantBenchmarkExport"


def test_permissions_and_links_stay(folder: Path) -> None:
    (folder / "kept.json").write_text("old")
    (folder / "kept.json").chmod(0o640)
    (folder / "link.json").symlink_to("kept.json")
    assert sh("umask 027; $Q export study.json --to link.json", folder).returncode == Exit.OK
    assert (folder / "link.json").is_symlink()
    assert json.loads((folder / "kept.json").read_text())["kind"] == "QuantBenchmarkExport"
    assert stat.S_IMODE((folder / "kept.json").stat().st_mode) == 0o640
    assert sh("umask 022; $Q export study.json --to deep/new.json", folder).returncode == Exit.OK
    assert stat.S_IMODE((folder / "deep" / "new.json").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "command", ["results study.json", "results study.json -o json", "export study.json", "report study.json -o -"]
)
def test_standard_output_that_cannot_be_written_has_its_own_status(folder: Path, command: str) -> None:
    ended = sh(f"$Q {command} > /dev/full", folder)
    assert ended.returncode == Exit.NOT_WRITTEN
    assert ended.stderr.decode() == "quantbench: standard output: No space left on device\n"
    assert Exit.NOT_WRITTEN in MEANINGS


@pytest.mark.parametrize("command", ["results study.json", "export study.json"])
def test_a_reader_that_stops_is_no_missing_result_and_nothing_is_said(folder: Path, command: str) -> None:
    ended = sh(f"$Q {command} | true; echo ${{PIPESTATUS[0]}}", folder)
    assert ended.stdout.decode() == f"{Exit.NOT_WRITTEN}\n"
    assert ended.stderr == b""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_an_encoding_lacks_is_escaped_as_in_json(folder: Path, encoding: str) -> None:
    study = to_document(finished(summary="é – 😀"), "1.0")
    (folder / "study.json").write_text(json.dumps(study, ensure_ascii=False), encoding="utf-8")
    table = sh("$Q results study.json", folder, PYTHONIOENCODING=encoding)
    assert table.returncode == Exit.OK
    assert b"\\u2013" in table.stdout
    exported = sh("$Q export study.json", folder, PYTHONIOENCODING=encoding)
    assert exported.returncode == Exit.OK
    assert json.loads(exported.stdout.decode(encoding))["benchmark"]["status"]["summary"] == "é – 😀"
