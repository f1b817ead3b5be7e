"""Scripts whose pods run real processes: a simulated engine as the server, the real load runner as the load.

Each server gets a loopback address of its own, so that all can listen on the port that the operator gives them.
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from harness.kubelet import PodLife, Script

REPOSITORY = Path(__file__).resolve().parents[3]
TESTS = REPOSITORY / "tests"
PORT = 8000
PROBE_SECONDS = 0.05
EXIT_SECONDS = 10
# Other sessions on this machine have servers on loopback addresses too.
_addresses = (
    f"127.{16 + secrets.randbelow(224)}.{number // 250 % 250 + 1}.{number % 250 + 1}" for number in itertools.count()
)


def free_address() -> str:
    """A loopback address on which nothing listens on the server's port."""
    for address in _addresses:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((address, PORT))
                return address
    raise AssertionError("unreachable: there is always another address")


def simulates(log: str | Mapping[str, Any] = "cpu-0.32-bf16.log", **config: Any) -> Script:
    """A server pod that runs a simulated engine.

    Args:
        log: name of a real log, or what `simengine.config.LogLines` takes.
        config: further fields of `simengine.config.Config`; the pod's command line and image fill in what they say.
            What is drawn depends on variant and block, so that it is the same each time the test runs.
    """

    async def script(life: PodLife) -> None:
        life.ip = free_address()
        lines = {"file": log} if isinstance(log, str) else dict(log)
        settings = {**from_command_line(life), "seed": f"{life.variant}/{block_of(life)}", "log": lines, **config}
        command = ["-m", "simengine", "--host", life.ip, "--port", str(PORT), "--config", json.dumps(settings)]
        await life.run()
        async with process(life, command, {"PYTHONPATH": str(TESTS)}) as engine:
            probe = asyncio.create_task(startup_probe(life))
            try:
                code = await engine.wait()
            finally:
                probe.cancel()
        await life.end(status_of(code))

    return script


def block_of(life: PodLife) -> int:
    """Which server start of its variant this is."""
    name = life.raw["metadata"]["labels"]["quantbench.dev/run"]
    runs = life.kubelet.world.now(life.namespace, "QuantBenchmarkRun")
    return next(int(run["spec"]["block"]) for run in runs if run["metadata"]["name"] == name)


def from_command_line(life: PodLife) -> dict[str, Any]:
    """What the pod's ``vllm serve`` command says that the simulated engine understands."""
    given = dict(word.removeprefix("--").split("=", 1) for word in life.container["command"] if "=" in word)
    version = re.search(r":v?(\d+\.\d+\.\d+)", life.container["image"])
    known = {
        "version": version[1] if version else None,
        "model": given.get("served-model-name"),
        "kv_cache_dtype": given.get("kv-cache-dtype"),
        "max_num_seqs": int(given["max-num-seqs"]) if "max-num-seqs" in given else None,
        "max_model_len": int(given["max-model-len"]) if "max-model-len" in given else None,
    }
    return {key: value for key, value in known.items() if value is not None}


async def startup_probe(life: PodLife) -> None:
    """What the kubelet's startup probe does, only more often."""
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://{life.ip}:{PORT}/health") as answer:
                    if answer.status == 200:
                        break
            await asyncio.sleep(PROBE_SECONDS)
    await life.serve()


def runs_loads(*, throttle: tuple[float, float] | None = None) -> Script:
    """A load pod that runs the real load runner with the Job's own environment.

    Args:
        throttle: seconds that the process is stopped and seconds that it may then run, again and again, as the kernel
            does with a container that has used up its CPU limit.
    """

    async def script(life: PodLife) -> None:
        await life.run()
        with tempfile.TemporaryDirectory() as folder:
            seal = Path(folder) / "termination-log"
            environment = {
                **life.env,
                "HOME": folder,
                "TMPDIR": folder,
                "PYTHONPATH": str(TESTS / "fake_vllm"),
                "FAKE_VLLM_VERSION": json.loads(life.env["QUANTBENCH_LOAD"])["engineVersion"],
                "QUANTBENCH_TERMINATION_LOG": str(seal),
            }
            # As the init container brings it: in a folder with nothing else that Python could find.
            program = Path(folder) / "quantbench" / "loadrunner"
            shutil.copytree(REPOSITORY / "benchmarks" / "loadrunner", program)
            async with process(life, [str(program)], environment) as runner:
                slow = asyncio.create_task(throttled(runner, *throttle)) if throttle else None
                try:
                    code = await runner.wait()
                finally:
                    if slow:
                        slow.cancel()
                    life.termination_message = seal.read_text() if seal.exists() else ""
        await life.end(status_of(code), message=life.termination_message)

    return script


async def throttled(child: asyncio.subprocess.Process, stopped: float, running: float) -> None:
    """Stop the process and let it go on, until it ends."""
    with contextlib.suppress(ProcessLookupError):
        while child.returncode is None:
            child.send_signal(signal.SIGSTOP)
            await asyncio.sleep(stopped)
            child.send_signal(signal.SIGCONT)
            await asyncio.sleep(running)


def status_of(returncode: int) -> int:
    """The exit status that a container runtime tells of a process."""
    return returncode if returncode >= 0 else 128 - returncode


@asynccontextmanager
async def process(
    life: PodLife, command: list[str], environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process whose output becomes the pod's log; it is ended with the block, as a container with its pod."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert child.stdout is not None
    copy = asyncio.create_task(copied(child.stdout, life))
    try:
        yield child
    finally:
        await ended(child)
        await copy


async def copied(stream: asyncio.StreamReader, life: PodLife) -> None:
    """Hand a process's output on to the pod's log."""
    while data := await stream.read(65536):
        life.write(data)


async def ended(child: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL for one that does not mind it."""
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGCONT)
        child.terminate()
    try:
        await asyncio.wait_for(child.wait(), EXIT_SECONDS)
    except TimeoutError:
        child.kill()
        await child.wait()
