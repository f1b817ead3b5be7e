"""The long-running processes of a cluster: found, started and ended without a record that could be wrong.

A daemon carries two marks in its environment: which cluster it belongs to, and which component it is. The kernel
keeps them as long as the process lives, so there is no pid file to go stale, no moment between the start and the
note of it, and no recycled pid to hit: a process is signalled through a descriptor that was opened before its mark
and its start time were read.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.layout import ClusterError

STATE_MARK = "QUANTBENCH_CLUSTER_STATE"
COMPONENT_MARK = "QUANTBENCH_CLUSTER_COMPONENT"
INPUTS_MARK = "QUANTBENCH_CLUSTER_INPUTS"

PROC = Path("/proc")
_LOG_TAIL_LINES = 15
_LOOKS = 4
#: Kept, as Python warns of a child that is forgotten while it runs; these are meant to outlive us.
_children: list[subprocess.Popen[bytes]] = []
_BETWEEN_LOOKS_SECONDS = 0.05


@dataclass(frozen=True)
class Daemon:
    """A component that should run: its program, and what calls for its restart when it changes.

    `inputs` are files it reads at its start; `build` names the build of the program, where the command is a link.
    """

    name: str
    command: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    namespace: str | None = None
    build: str = ""

    def digest(self) -> str:
        """Hash of the command line, the build and the contents of `inputs`."""
        digest = hashlib.sha256("\0".join([*self.command, self.namespace or "", self.build]).encode())
        for path in self.inputs:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Process:
    """A live process that belongs to a cluster. `started` is its start in clock ticks since boot."""

    pid: int
    started: int
    state: str
    component: str
    inputs: str
    program: str

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to exactly this process; False when it no longer exists."""
        try:
            handle = os.pidfd_open(self.pid)
        except (ProcessLookupError, PermissionError):
            return False
        try:
            if _start_time(self.pid) != self.started:  # the pid went to another process
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def marked(state: Path | None = None) -> Iterator[Process]:
    """Every live process that carries our marks: of the cluster in `state`, or of any cluster."""
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        process = _read(int(entry.name))
        if process and (state is None or process.state == str(state)):
            yield process


def running(state: Path, names: Iterable[str]) -> dict[str, Process]:
    """The live daemons of a cluster by component name. Their own children are left out."""
    wanted = set(names)
    found: dict[str, Process] = {}
    for process in marked(state):
        # containerd's shims inherit its marks; its own program name tells the daemon from them. Until `nsenter` has
        # replaced itself by the program, it stands for it.
        if process.component in wanted and process.program in {process.component, "nsenter"}:
            found[process.component] = process
    return found


def start(daemon: Daemon, state: Path, logs: Path, env: dict[str, str] | None = None) -> None:
    """Start a daemon in a session of its own, its output going to `logs`/NAME.log (the last run's to NAME.log.1)."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{daemon.name}.log"
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    marks = {STATE_MARK: str(state), COMPONENT_MARK: daemon.name, INPUTS_MARK: daemon.digest()}
    # `nsenter` replaces itself by the program. `ip netns exec` would also give it a mount namespace of its own, in
    # which kubelet's volume mounts would stay hidden from containerd.
    enter = ["nsenter", f"--net=/run/netns/{daemon.namespace}", "--"] if daemon.namespace else []
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*enter, *daemon.command],
            cwd=state,
            env={**os.environ, **(env or {}), **marks},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children.append(process)


def ensure(daemon: Daemon, state: Path, logs: Path, env: dict[str, str] | None = None) -> bool:
    """Have a daemon running with the command and inputs given; True when it had to be started.

    One that runs with other inputs, after a change of version or configuration, is replaced.
    """
    live = running(state, [daemon.name]).get(daemon.name)
    if live and live.inputs == daemon.digest():
        return False
    if live:
        stop([live], grace_seconds=10)
    start(daemon, state, logs, env)
    return True


def check_alive(name: str, state: Path, logs: Path) -> None:
    """Raise with the end of its log when a daemon that should be running is gone.

    While `nsenter` replaces itself by the program, a process shows no environment for a moment: one look is no proof.
    """
    if not any(_seen(name, state) for _ in range(_LOOKS)):
        log = logs / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        tail = "\n".join(line[:300] for line in lines[-_LOG_TAIL_LINES:])
        raise ClusterError(f"{name} has ended; the end of {log}:\n{tail}")


def stop(processes: Iterable[Process], grace_seconds: float) -> None:
    """Ask processes to end, and after `grace_seconds` make them."""
    left = [process for process in processes if process.signal(signal.SIGTERM)]
    deadline = time.monotonic() + grace_seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [process for process in left if alive(process)]
    kill(left)


def kill(processes: Iterable[Process], timeout_seconds: float = 10) -> None:
    """End processes without asking, and wait until they are gone."""
    left = [process for process in processes if process.signal(signal.SIGKILL)]
    deadline = time.monotonic() + timeout_seconds
    while left := [process for process in left if alive(process)]:
        if time.monotonic() > deadline:
            names = ", ".join(f"{process.component} ({process.pid})" for process in left)
            raise ClusterError(f"these processes do not end: {names}")
        time.sleep(0.01)


def alive(process: Process) -> bool:
    """Whether the very process is still there; one that only waits to be collected by its parent is not."""
    return _start_time(process.pid) == process.started


def _seen(name: str, state: Path) -> bool:
    if name in running(state, [name]):
        return True
    time.sleep(_BETWEEN_LOOKS_SECONDS)
    return False


def _read(pid: int) -> Process | None:
    started = _start_time(pid)
    if started is None:
        return None
    try:
        environment = (PROC / str(pid) / "environ").read_bytes()
        command = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:  # ended meanwhile, or another user's
        return None
    marks = dict(
        entry.decode(errors="replace").split("=", 1)
        for entry in environment.split(b"\0")
        if entry.startswith(b"QUANTBENCH_CLUSTER_")
    )
    if STATE_MARK not in marks or COMPONENT_MARK not in marks:
        return None
    program = os.path.basename(command.split(b"\0", 1)[0].decode(errors="replace"))
    return Process(pid, started, marks[STATE_MARK], marks[COMPONENT_MARK], marks.get(INPUTS_MARK, ""), program)


def _start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot (field 22 of proc_pid_stat(5)); None when gone or a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if state in {"Z", "X"} else int(fields[18])
