"""Scripts for the pods of a test: what a server or a load generator does from its start to its end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from harness.kubelet import PodLife, Script
from harness.loadrun import Load, LoadRun

LOGS = Path(__file__).resolve().parents[2] / "data" / "engine" / "logs"
Changes = Callable[[PodLife, Load, int], Mapping[str, Any]]


def real_log(name: str) -> str:
    """The log of a real vLLM server."""
    return (LOGS / name).read_text()


METHOD_LOGS: Mapping[str, str] = {
    "BF16": "bf16",
    "INT8W8A8": "int8",
    "W4A16": "w4a16",
    "AWQ": "awq",
    "GPTQInt4": "gptq-int4",
    "FP8Dynamic": "fp8-dynamic",
    "FP8Online": "fp8-online-channel",
}
READY = "Application startup complete."


def start_up(life: PodLife, name: str | None = None) -> str:
    """What a real server that runs what the pod's variant asks for logs until it is ready; ``name``: another's log.

    Most logs were taken without the operator's flag against prefix caching.
    """
    variant = life.run_spec["variant"]
    log = "kv-fp8" if variant["kvCacheDType"] != "auto" else METHOD_LOGS[variant["method"]]
    text = real_log(name or f"cpu-0.32-{log}.log").partition(READY)[0]
    return text.replace("enable_prefix_caching=True", "enable_prefix_caching=False") + READY + "\n"


# --- servers -------------------------------------------------------------------------------------------------


def serves(log: str | None = None, change: Callable[[str], str] = str) -> Script:
    """A server that starts, becomes ready and serves until it is deleted.

    Args:
        log: the log of another server than the variant's.
        change: what is different in its log.
    """

    async def script(life: PodLife) -> None:
        life.write(change(start_up(life, log)))
        await life.run()
        await life.serve()
        await life.for_ever()

    return script


def serves_once(free: asyncio.Event) -> Script:
    """A server that is ready only after ``free`` is set."""

    async def script(life: PodLife) -> None:
        life.write(start_up(life))
        await life.run()
        await free.wait()
        await life.serve()
        await life.for_ever()

    return script


def dies_starting(log: str, exit_code: int = 1) -> Script:
    """A server that ends before it is ready, with a real server's log."""

    async def script(life: PodLife) -> None:
        await life.run()
        life.write(real_log(log))
        await life.end(exit_code)

    return script


def never_ready(log: str = "INFO 11-24 07:00:00 [loader.py:1] Loading weights\n") -> Script:
    """A server that runs and loads for ever."""

    async def script(life: PodLife) -> None:
        await life.run()
        life.write(log)
        await life.for_ever()

    return script


def dies_under_load(
    log: str = "cpu-0.32-engine-killed-serving.log",
    exit_code: int = 0,
    after_passes: int = 1,
    reason: str | None = None,
) -> Script:
    """A server that ends once it has served so many passes."""

    async def script(life: PodLife) -> None:
        life.write(start_up(life))
        await life.run()
        await life.serve()
        while life.passes < after_passes:
            life.pass_done.clear()
            await life.pass_done.wait()
        life.write(real_log(log).partition(READY)[2])
        await life.end(exit_code, reason)

    return script


def waits(reason: str, message: str = "") -> Script:
    """A pod whose container cannot start."""

    async def script(life: PodLife) -> None:
        await life.network()
        await life.waiting(reason, message)
        await life.for_ever()

    return script


def no_address() -> Script:
    """A pod that has a node and nothing more."""

    async def script(life: PodLife) -> None:
        await life.for_ever()

    return script


def out_of_memory() -> Script:
    """A container that the kernel kills for its memory limit."""

    async def script(life: PodLife) -> None:
        await life.run()
        await life.end(137, "OOMKilled")

    return script


def evicted(first: Script | None = None, *, attempts: int = 1) -> Script:
    """Evicted by the kubelet in its first attempts, then ``first`` (serves)."""

    async def script(life: PodLife) -> None:
        if life.attempt > attempts:
            await (first or serves())(life)
            return
        await life.run()
        if life.component == "server":
            life.write(start_up(life))
            await life.serve()
        await life.evict()

    return script


# --- load generators -----------------------------------------------------------------------------------------


@asynccontextmanager
async def running(life: PodLife) -> AsyncIterator[LoadRun]:
    """A load container that runs and has imported the engine."""
    await life.run()
    load_run = LoadRun(life)
    try:
        load_run.event("started", python="3.12.0")
        load_run.event("imported", seconds=0.01, engineVersion="0.32.0")
        load_run.event("dataset", seconds=0.01, conversations=None, repeatedPrompts={})
        yield load_run
    finally:
        load_run.close()


async def server_answers(load_run: LoadRun) -> bool:
    """Wait for the server as the runner does; False when it ended before."""
    server = load_run.server
    tasks = [asyncio.create_task(server.healthy.wait()), asyncio.create_task(server.over.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return server.healthy.is_set()


def measures(
    changes: Changes = lambda life, load, repeat: {}, *, pause: float = 0.0, hold: asyncio.Event | None = None
) -> Script:
    """A load generator that runs every pass of its specification.

    Args:
        changes: what vLLM's benchmark reports differently in a pass.
        pause: time between passes [s].
        hold: before the last pass the generator waits for it.
    """

    async def script(life: PodLife) -> None:
        async with running(life) as load_run:
            if await server_answers(load_run):
                load_run.ready()
                failure = await _passes(life, load_run, changes, pause, hold)
            else:
                failure = ("ServerNotReady", "the server is not healthy after 1 s: connection refused")
            if failure:
                load_run.error(*failure)
            load_run.end(complete=failure is None)
        await life.end(1 if failure else 0, message=life.termination_message)

    return script


async def _passes(
    life: PodLife, load_run: LoadRun, changes: Changes, pause: float, hold: asyncio.Event | None
) -> tuple[str, str] | None:
    wanted = [(load, repeat) for load in load_run.spec.loads for repeat in range(1, load.repeats + 1)]
    for load, repeat in wanted:
        if repeat == 1 and load.warmup_prompts:
            load_run.event("warmup", load=load.name, seconds=0.01, completed=load.warmup_prompts, failed=0)
        if hold is not None and (load, repeat) == wanted[-1]:
            await hold.wait()
        load_run.measure(load, repeat, changes(life, load, repeat))
        # The server's script has its turn here.
        await asyncio.sleep(pause)
        if load_run.server.over.is_set():
            return "ServerDied", f"the server is not healthy after repeat {repeat} of {load.name}: connection refused"
    return None


def reports(reason: str, message: str) -> Script:
    """A load generator that fails before its first pass."""

    async def script(life: PodLife) -> None:
        async with running(life) as load_run:
            load_run.error(reason, message)
            load_run.end(complete=False)
        await life.end(1, message=life.termination_message)

    return script


def tampered(change: Callable[[bytes, str], tuple[bytes, str]], exit_code: int = 0) -> Script:
    """A load generator whose log and termination message are changed before its end shows."""

    async def script(life: PodLife) -> None:
        async with running(life) as load_run:
            await server_answers(load_run)
            load_run.ready()
            await _passes(life, load_run, lambda life, load, repeat: {}, 0.0, None)
            load_run.end(complete=True)
        log, seal = change(bytes(life.log), life.termination_message)
        life.log = bytearray(log)
        await life.end(exit_code, message=seal)

    return script


DEFAULTS: Mapping[str, Script] = {"server": serves(), "load": measures()}


@contextlib.asynccontextmanager
async def held() -> AsyncIterator[asyncio.Event]:
    """An event that is set at the end, whatever happens."""
    event = asyncio.Event()
    try:
        yield event
    finally:
        event.set()
