"""Daemons are known by marks in their environment, and only the very process that was seen is ever signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import processes
from cluster.layout import ClusterError
from cluster.processes import Daemon

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    folder.mkdir()
    yield folder
    processes.kill(processes.marked(folder))


def sleeper(state: Path, name: str = "etcd", seconds: str = "600") -> Daemon:
    """A daemon that sleeps, called by its component's name as the real ones are."""
    link = state / name
    if not link.exists():
        link.symlink_to("/bin/sleep")
    return Daemon(name, (str(link), seconds))


def find(state: Path, name: str = "etcd") -> processes.Process:
    return _until(lambda: processes.running(state, [name]).get(name))


def _until(look: Callable[[], processes.Process | None]) -> processes.Process:
    for _ in range(200):
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError("not seen")


def test_a_daemon_is_found_by_its_marks_alone(state: Path, tmp_path: Path):
    processes.start(sleeper(state), state, tmp_path / "logs")
    process = find(state)
    assert process.component == "etcd"
    assert os.getsid(process.pid) == process.pid, "Ctrl-C in our terminal must not reach it"
    assert not list(processes.marked(tmp_path / "another state"))


def test_one_that_runs_as_wanted_is_left_alone_and_one_that_does_not_is_replaced(state: Path, tmp_path: Path):
    logs = tmp_path / "logs"
    assert processes.ensure(sleeper(state), state, logs)
    first = find(state)
    assert not processes.ensure(sleeper(state), state, logs)
    assert find(state).pid == first.pid
    assert processes.ensure(sleeper(state, seconds="700"), state, logs)
    assert find(state).pid != first.pid
    assert not processes.alive(first)


def test_a_changed_input_or_build_calls_for_a_restart(tmp_path: Path):
    config = tmp_path / "config"
    config.write_text("a")
    daemon = Daemon("etcd", ("etcd",), (config,), build="kube-1")
    digests = {daemon.digest(), replace(daemon, build="kube-2").digest()}
    config.write_text("b")
    digests.add(daemon.digest())
    assert len(digests) == 3


def test_a_child_that_inherits_the_marks_is_not_taken_for_the_daemon(state: Path, tmp_path: Path):
    link = state / "containerd"
    link.symlink_to("/bin/sh")
    processes.start(Daemon("containerd", (str(link), "-c", "/bin/sleep 600 & exec sleep 601")), state, tmp_path / "l")
    children = _until(lambda: next((p for p in processes.marked(state) if p.program == "sleep"), None))
    assert children.component == "containerd"
    # One look: between two the shell may have become the second sleep.
    found = processes.running(state, ["containerd"])
    assert all(process.program == "containerd" for process in found.values())


def test_a_recycled_pid_is_not_signalled(state: Path, tmp_path: Path):
    processes.start(sleeper(state), state, tmp_path / "logs")
    process = find(state)
    stranger = replace(process, started=process.started - 1)  # the pid was another process's when it was noted
    assert not stranger.signal(signal.SIGKILL)
    time.sleep(0.05)
    assert processes.alive(process)


def test_a_zombie_counts_as_gone():
    child = subprocess.Popen(["sleep", "600"])
    started = processes._start_time(child.pid)
    assert started is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes._start_time(child.pid) is None
    child.wait()


def test_what_ignores_the_request_is_made_to_end(state: Path, tmp_path: Path):
    link = state / "etcd"
    link.symlink_to("/bin/sh")
    command = (str(link), "-c", "trap '' TERM; echo trapped; while :; do sleep 0.05; done")
    processes.start(Daemon("etcd", command), state, tmp_path / "logs")
    process = find(state)
    _until(lambda: process if "trapped" in (tmp_path / "logs" / "etcd.log").read_text() else None)
    processes.stop([process], grace_seconds=0.1)
    assert not processes.alive(process)


def test_a_dead_daemon_is_reported_with_the_end_of_its_log(state: Path, tmp_path: Path):
    link = state / "etcd"
    link.symlink_to("/bin/sh")
    processes.start(Daemon("etcd", (str(link), "-c", "echo port is taken >&2; exit 3")), state, tmp_path / "logs")
    assert processes._children[-1].wait(10) == 3
    with pytest.raises(ClusterError, match="port is taken"):
        processes.check_alive("etcd", state, tmp_path / "logs")


def test_the_log_of_the_last_run_is_kept(state: Path, tmp_path: Path):
    logs = tmp_path / "logs"
    processes.start(sleeper(state), state, logs)
    (logs / "etcd.log").write_text("why it died")
    processes.start(sleeper(state), state, logs)
    assert (logs / "etcd.log.1").read_text() == "why it died"
