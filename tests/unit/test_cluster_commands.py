"""Programs that are run to their end: failures say what happened, and one failing ends the others."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cluster import commands
from cluster.layout import ClusterError
from cluster.progress import Progress, Step


@pytest.fixture(autouse=True)
def _not_cancelled():
    commands._cancelled.clear()
    yield
    commands._cancelled.clear()


def test_a_failure_shows_the_status_the_end_of_the_output_and_the_log(tmp_path: Path):
    log = tmp_path / "build.log"
    with pytest.raises(ClusterError) as caught:
        commands.run(["sh", "-c", "seq 100; echo no space left; exit 7"], log=log)
    text = str(caught.value)
    assert "status 7" in text
    assert "no space left" in text
    assert "\n50\n" not in text, "the whole output is in the log"
    assert str(log) in text
    assert "\n50\n" in log.read_text()


def test_the_newest_line_is_the_steps_detail():
    step = Step("build")
    commands.run(["sh", "-c", "echo first; echo second; echo '-->'"], step=step, summarise=str.upper)
    assert "SECOND" in step.render("…")


def test_a_missing_program_is_named():
    with pytest.raises(ClusterError, match="no-such-program"):
        commands.output(["no-such-program"])


def test_one_failing_task_ends_the_programs_of_the_others_and_its_error_is_the_one_raised():
    def slow() -> None:
        commands.run(["sleep", "60"])

    def failing() -> None:
        time.sleep(0.2)
        raise ClusterError("the disk is full")

    started = time.monotonic()
    with pytest.raises(ClusterError, match="the disk is full"):
        commands.together(slow, failing)
    assert time.monotonic() - started < 10


def test_tasks_run_at_the_same_time():
    meeting = threading.Barrier(2, timeout=5)
    commands.together(lambda: meeting.wait() and None, lambda: meeting.wait() and None)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent death signal")
def test_a_program_ends_when_we_are_killed(tmp_path: Path):
    root = Path(__file__).resolve().parents[2]
    source = f"import sys; sys.path[0] = {str(root)!r}; from cluster import commands; commands.run(['sleep', '601.25'])"
    ours = subprocess.Popen([sys.executable, "-c", source])
    assert _wait_for(lambda: _sleeps() == 1)
    ours.kill()
    ours.wait()
    assert _wait_for(lambda: _sleeps() == 0)


def _sleeps() -> int:
    found = 0
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += entry.read_bytes() == b"sleep\x00601.25\x00"
        except OSError:
            continue
    return found


def _wait_for(condition) -> bool:
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_steps_show_their_end_their_failure_and_signs_of_life(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cluster.progress.FIRST_SIGN_SECONDS", 0.02)
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.step("one") as step:
        step.detail("half\nway")
        time.sleep(0.1)
    with pytest.raises(ValueError, match="bad"), progress.step("two"):
        raise ValueError("bad")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("  … one")
    assert "half way" in lines[0]
    assert any(line.startswith("  ✓ one") for line in lines)
    assert lines[-1].startswith("  ✗ two")
