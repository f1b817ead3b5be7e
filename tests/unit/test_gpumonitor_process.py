"""The GPU monitor as a process: what it starts is the server itself, and the monitor lives as long as that."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpumonitor.monitor import Sampler
from benchmarks.gpumonitor.readings import Ring
from benchmarks.loadrunner.watch import GPUMonitor

HERE = Path(__file__).parent
MONITOR = HERE.parents[1] / "benchmarks" / "gpumonitor"
SERVER = """
import os, signal, sys, time
print("pid", os.getpid(), flush=True)
print("SIGPIPE", signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN, file=sys.stderr)
signal.signal(signal.SIGTERM, lambda *_: (print("terminated"), sys.exit(17)))
time.sleep(60)
"""


def until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class Pod:
    """A command under the monitor, with the stand-in for `nvidia-smi` or without any."""

    def __init__(self, folder: Path, *command: str, smi: str | None = "") -> None:
        tools = folder / "tools"
        tools.mkdir()
        if smi is not None:
            shutil.copy(HERE / "gpumonitor_support" / "nvidia-smi", tools)
        self.pids_file = folder / "pids"
        with socket.socket() as free:
            free.bind(("", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, str(MONITOR), "--", *command],
            env={
                "PATH": f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin",
                "PYTHONDONTWRITEBYTECODE": "1",
                "QUANTBENCH_GPU_MONITOR_PORT": str(self.port),
                "FAKE_SMI": smi or "",
                "FAKE_SMI_PIDS": str(self.pids_file),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def smi_pids(self) -> list[int]:
        return [int(line) for line in self.pids_file.read_text().split()] if self.pids_file.exists() else []

    def ask(self, since: float = 0.0, until: float = 1e12) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/gpu?since={since}&until={until}") as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:
            return None

    def summary(self) -> dict[str, Any] | None:
        return (self.ask() or {}).get("summary")

    def wait(self) -> tuple[int, str, str]:
        """Exit status, output and errors of the server."""
        stdout, stderr = self.process.communicate(timeout=20)
        return self.process.returncode, stdout, stderr


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    made: list[Pod] = []

    def start(*command: str, smi: str | None = "") -> Pod:
        made.append(Pod(tmp_path, *command, smi=smi))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.communicate()


def test_the_server_keeps_its_process_and_the_monitor_ends_with_it(pod: Callable[..., Pod]) -> None:
    running = pod("python3", "-c", SERVER)
    summary = until(running.summary)
    assert summary["throttleReasons"] == ["SwPowerCap"]
    (smi,) = running.smi_pids()
    monitor = int(Path(f"/proc/{smi}/stat").read_text().split()[3])
    assert int(Path(f"/proc/{monitor}/stat").read_text().split()[3]) == running.process.pid
    assert {os.readlink(f"/proc/{monitor}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
    running.process.send_signal(signal.SIGTERM)
    status, stdout, stderr = running.wait()
    assert (status, stdout) == (17, f"pid {running.process.pid}\nterminated\n")
    # As Python sets it for every program that it runs itself: nothing was left of the monitor's Python.
    assert stderr == "SIGPIPE True\n"
    until(lambda: not alive(monitor))
    until(lambda: not alive(smi))


def test_a_kill_takes_the_monitor_along(pod: Callable[..., Pod]) -> None:
    running = pod("sleep", "60")
    until(running.summary)
    (smi,) = running.smi_pids()
    running.process.kill()
    assert running.wait()[0] == -signal.SIGKILL
    until(lambda: not alive(smi))
    assert running.ask() is None


@pytest.mark.parametrize("smi", ["", None])
def test_a_server_that_fails_to_start_is_seen_as_it_is(pod: Callable[..., Pod], smi: str | None) -> None:
    script = "import sys; print('out'); print('ValueError: no such kernel', file=sys.stderr); sys.exit(3)"
    started = time.monotonic()
    assert pod("python3", "-c", script, smi=smi).wait() == (3, "out\n", "ValueError: no such kernel\n")
    assert time.monotonic() - started < 10, "nothing holds the server's output open after its end"


def test_signals_have_their_default_effect(pod: Callable[..., Pod]) -> None:
    # Python ignores SIGPIPE; a program started directly does not.
    status, _, _ = pod("sh", "-c", "kill -PIPE $$; exit 5", smi=None).wait()
    assert status == -signal.SIGPIPE


@pytest.mark.parametrize("smi", ["", None])
def test_a_command_that_is_not_there(pod: Callable[..., Pod], smi: str | None) -> None:
    running = pod("vllm-is-not-here", "serve", smi=smi)
    assert running.wait() == (127, "", "gpumonitor: cannot run vllm-is-not-here: No such file or directory\n")
    assert running.smi_pids() == []


def test_usage(tmp_path: Path) -> None:
    for arguments in ([], ["--"], ["vllm", "serve"]):
        done = subprocess.run([sys.executable, str(MONITOR), *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (64, "")
        assert done.stderr.startswith("usage: gpumonitor -- COMMAND")


def test_without_the_tool_nothing_is_forked(pod: Callable[..., Pod]) -> None:
    running = pod("python3", "-c", SERVER, smi=None)
    assert running.process.stdout is not None
    running.process.stdout.readline()
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text()
    assert children == ""
    assert running.ask() is None


def test_readings_of_a_time(pod: Callable[..., Pod]) -> None:
    running = pod("sleep", "60")
    until(running.summary)
    began = time.time()
    time.sleep(1.2)
    ended = time.time()
    time.sleep(0.6)
    answer = running.ask(began, ended)
    assert answer is not None
    # Two GPUs, each half a second; a stamp is cut to milliseconds.
    assert 2 <= answer["summary"]["samples"] <= 6
    assert answer["summary"]["meanSMClockMegahertz"] == 1930
    assert answer["summary"]["minSMClockMegahertz"] == 1880
    assert answer["error"] is None
    past = running.ask(0, began - 3600)
    assert past is not None
    assert past["summary"] is None
    assert [gpu["uuid"] for gpu in past["gpus"]] == ["GPU-0", "GPU-1"]
    assert past["gpus"][0] == {
        "name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-0", "driver": "550.90.07", "computeCapability": "9.0"
    }  # fmt: skip
    # The load runner asks the same.
    monitor = GPUMonitor(f"http://127.0.0.1:{running.port}")
    assert monitor.gpus() == past["gpus"]
    assert monitor.summary(began, ended) == answer["summary"]
    for path, status in (
        ("/gpu?since=1", 400),
        ("/gpu?since=x&until=2", 400),
        ("/gpu?since=nan&until=2", 400),
        ("/", 404),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{running.port}{path}")
        caught.value.close()
        assert caught.value.code == status


@pytest.mark.parametrize(("smi", "tries", "capability"), [("", 1, "9.0"), ("old", 2, "9.0"), ("oldest", 3, None)])
def test_older_drivers(pod: Callable[..., Pod], smi: str, tries: int, capability: str | None) -> None:
    running = pod("sleep", "60", smi=smi)
    assert until(running.summary)["throttledShare"] == 1.0
    answer = running.ask()
    assert answer is not None
    assert answer["gpus"][0]["computeCapability"] == capability
    assert len(running.smi_pids()) == tries


def test_a_driver_without_devices(pod: Callable[..., Pod]) -> None:
    running = pod("sleep", "60", smi="none")
    until(lambda: len(running.smi_pids()) == 3)
    answer = until(lambda: (found := running.ask()) and found["error"] and found)
    assert (answer["gpus"], answer["summary"]) == ([], None)
    assert answer["error"].endswith("ended with status 6: No devices were found")
    assert alive(running.process.pid), "serving goes on"


class Enough(Exception):
    """The sampler has slept often enough."""


def test_a_driver_that_fails_for_a_while_is_asked_again(tmp_path: Path) -> None:
    """At first, and after readings: three failures in a row, one for each set of fields, were the end of all readings."""
    tool, calls = tmp_path / "smi", tmp_path / "calls"
    line = "2026/11/28 10:00:00.000, H100, GPU-1, 550, 1980, 300, 40, 0x0, 9.0"
    tool.write_text(f'#!/bin/sh\necho >> {calls}\ncase $(wc -l < {calls}) in 4|9) echo "{line}";; esac\n')
    tool.chmod(0o755)
    ring, left = Ring(), iter(range(6))

    def sleep(_seconds: float) -> None:
        if next(left, None) is None:
            raise Enough

    with pytest.raises(Enough):
        Sampler(str(tool), ring, sleep=sleep).run()
    summary = ring.summary(0.0, 1e12)
    assert summary is not None
    assert summary["samples"] == 2
    assert len(calls.read_text().splitlines()) == 9, "once it has answered, it is asked in this way only"


def test_a_tool_that_ends_is_started_again(pod: Callable[..., Pod]) -> None:
    running = pod("sleep", "60", smi="once")
    until(lambda: len(running.smi_pids()) == 2)
    assert until(running.summary)["samples"] >= 2


def test_a_taken_port_costs_the_server_nothing(pod: Callable[..., Pod]) -> None:
    first = pod("sleep", "60")
    until(first.summary)
    command = [sys.executable, str(MONITOR), "--", "sh", "-c", "sleep 1; exit 4"]
    environment = {
        **os.environ,
        "PATH": f"{first.pids_file.parent / 'tools'}:/usr/bin:/bin",
        "QUANTBENCH_GPU_MONITOR_PORT": str(first.port),
        "FAKE_SMI_PIDS": str(first.pids_file),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "")
