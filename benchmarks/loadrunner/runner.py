"""The whole of one load pod: import, wait for the server, warm up and repeat each load, report."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import resource
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Final
from urllib.parse import urlsplit

from .dataset import Conversations, check_file, load_conversations
from .engine import EngineBenchmark, import_benchmark
from .errors import (
    ENGINE_BENCHMARK_FAILED,
    LOAD_SPEC_INVALID,
    SERVER_DIED,
    SERVER_NOT_READY,
    RunnerError,
)
from .flags import OLDEST
from .output import TERMINATION_LOG, Output, reserve_stdout
from .passes import Passed, PassRunner, pass_record
from .server import Server
from .spec import Load, LoadSpec, ShareGPT, parse_server, parse_spec
from .watch import GPUMonitor

EXIT_FAILED: Final = 1
EXIT_TERMINATED: Final = 128 + signal.SIGTERM
WARMUP_LABEL: Final = "warmup"


def main() -> int:
    """Run what the environment says. Exit status 0 if every pass was run, 1 after an ``error`` line, 143 on SIGTERM."""
    output = Output(reserve_stdout(), os.environ.get("QUANTBENCH_TERMINATION_LOG") or TERMINATION_LOG)

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        output.exit_now(EXIT_TERMINATED)

    signal.signal(signal.SIGTERM, terminate)
    session = _Session(output, os.environ)
    try:
        session.run()
    except RunnerError as error:
        output.error(error.reason, error.message)
    except Exception as error:  # noqa: BLE001  the operator must hear of a fault in this program too
        traceback.print_exc()
        output.error(ENGINE_BENCHMARK_FAILED, f"unexpected {type(error).__name__}: {error}")
    else:
        output.end(complete=True, passes=session.passes)
        return 0
    output.end(complete=False, passes=session.passes)
    return EXIT_FAILED


class _Session:
    """One run of one specification."""

    def __init__(self, output: Output, environ: Mapping[str, str]) -> None:
        self.passes = 0
        self._output = output
        self._environ = environ

    def run(self) -> None:
        """Everything between ``started`` and ``end``. Raises RunnerError."""
        started = time.monotonic()
        self._output.event("started", time.time(), python=platform.python_version())
        spec = parse_spec(self._environ.get("QUANTBENCH_LOAD"))
        server = Server(parse_server(self._environ.get("QUANTBENCH_SERVER")))
        if spec.engine_version < OLDEST:
            raise RunnerError(
                LOAD_SPEC_INVALID,
                f"engineVersion: vLLM before {'.'.join(map(str, OLDEST))} has no benchmark that this runner knows",
            )
        if isinstance(spec.dataset, ShareGPT):
            check_file(spec.dataset.path)
        _prepare_process(server.base_url)
        engine = import_benchmark(spec.engine_version)
        self._output.event(
            "imported", time.time(), seconds=time.monotonic() - started, engineVersion=engine.reported_version
        )
        gpus = GPUMonitor(self._environ.get("QUANTBENCH_GPU_MONITOR") or None)
        runner = PassRunner(spec, engine, server, gpus, self._environ.get("QUANTBENCH_RAW_DIR") or None)
        self._draw_prompts(spec, engine, runner)
        # vLLM does this at the start of each pass; the first time it goes through all that was imported (0.6 s).
        gc.collect()
        gc.freeze()
        self._wait_for_server(server, started, spec.server_ready_timeout)
        found = gpus.gpus()
        if found:
            self._output.event("gpus", time.time(), gpus=found)
        for load in spec.loads:
            self._warm_up(load, runner, server)
            for repeat in range(1, load.repeats + 1):
                self._measure(load, repeat, spec, runner, server)

    def _draw_prompts(self, spec: LoadSpec, engine: EngineBenchmark, runner: PassRunner) -> None:
        """All prompts of all passes, while the server is still loading; then the parsed file is let go."""
        started = time.monotonic()
        conversations: Conversations | None = None
        if isinstance(spec.dataset, ShareGPT):
            conversations = load_conversations(spec.dataset.path)
        different: dict[int, int | None] = {}
        for load in spec.loads:
            for prompts in filter(None, (load.num_prompts, load.warmup_prompts)):
                if prompts not in different:
                    different[prompts] = engine.draw(runner.arguments(load, prompts, "draw", "/tmp"), conversations)
        self._output.event(
            "dataset",
            time.time(),
            seconds=time.monotonic() - started,
            conversations=conversations.with_two_turns if conversations else None,
            # vLLM repeats prompts when the data has fewer usable ones than asked for.
            repeatedPrompts={
                load.name: max(0, load.num_prompts - (different[load.num_prompts] or load.num_prompts))
                for load in spec.loads
            },
        )

    def _wait_for_server(self, server: Server, started: float, timeout: float) -> None:
        failure = server.wait_until_healthy(started + timeout)
        if failure is not None:
            raise RunnerError(SERVER_NOT_READY, f"{server.base_url} is not healthy after {timeout:g} s: {failure}")
        self._output.event("ready", time.time(), seconds=time.monotonic() - started)
        self._output.event("server", time.time(), **server.describe())

    def _warm_up(self, load: Load, runner: PassRunner, server: Server) -> None:
        if load.warmup_prompts == 0:
            return
        started = time.monotonic()
        passed = runner.run(load, load.warmup_prompts, WARMUP_LABEL)
        _raise_if_over(passed, f"warm-up of {load.name}", server)
        self._output.event(
            "warmup",
            time.time(),
            load=load.name,
            seconds=time.monotonic() - started,
            completed=passed.completed,
            failed=passed.failed,
        )

    def _measure(self, load: Load, repeat: int, spec: LoadSpec, runner: PassRunner, server: Server) -> None:
        passed = runner.run(load, load.num_prompts, str(repeat))
        self._output.emit(pass_record(load, repeat, spec.percentiles, passed))
        self.passes += 1
        _raise_if_over(passed, f"repeat {repeat} of {load.name}", server)


def _raise_if_over(passed: Passed, what: str, server: Server) -> None:
    """Raises RunnerError if the server is gone or vLLM's benchmark itself failed.

    The server is asked even if no request failed: when its engine dies, the streams in flight end early, and vLLM's
    client counts them as completed.
    """
    failure = server.dead()
    if failure is not None:
        raise RunnerError(SERVER_DIED, f"{server.base_url} is not healthy after {what}: {failure}")
    if passed.outcome.exit_code != 0:
        raise RunnerError(ENGINE_BENCHMARK_FAILED, f"{what}: {passed.outcome.error}")


def _prepare_process(base_url: str) -> None:
    # vLLM's client honours the proxies of the environment; the measured path must not.
    host = urlsplit(base_url).hostname or ""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host)))
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # One socket per request in flight: the usual soft limit of 1024 files is too few for an infinite rate.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.stderr.flush()
