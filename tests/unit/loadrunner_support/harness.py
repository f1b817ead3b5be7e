"""A small HTTP server that counts like vLLM, and a way to run the load runner as the process it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

HERE = Path(__file__).parent
RUNNER = HERE.parents[2] / "benchmarks" / "loadrunner"
MODEL = "tiny"


class FakeServer(ThreadingHTTPServer):
    """Serves /health, /metrics and chat completions; what it counts appears `count_delay` seconds late."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.healthy = True
        self.dies_at_request: int | None = None
        self.delay = 0.0
        self.count_delay = 0.0
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.running = 0
        self.finished = 0
        self.waiting = 0
        self.gpus: dict[str, Any] | None = None
        self.since = self.until = 0.0

    def count(self, prompt: int, generated: int) -> None:
        time.sleep(self.count_delay)
        with self.lock:
            self.prompt_tokens += prompt
            self.generation_tokens += generated
            self.finished += 1
            self.running -= 1

    def metrics(self) -> str:
        with self.lock:
            label = 'engine="0",model_name="tiny"'
            return (
                "# HELP vllm:prompt_tokens_total Number of prefill tokens processed.\n"
                "# TYPE vllm:prompt_tokens_total counter\n"
                f"vllm:prompt_tokens_total{{{label}}} {float(self.prompt_tokens)}\n"
                f"vllm:generation_tokens_total{{{label}}} {float(self.generation_tokens)}\n"
                f'vllm:request_success_total{{engine="0",finished_reason="length"}} {float(self.finished)}\n'
                f"vllm:num_requests_running{{{label}}} {float(self.running)}\n"
                'vllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="False",engine="0"} 1.0\n'
                f"vllm:num_requests_waiting{{{label}}} {float(self.waiting if self.running else 0)}\n"
            )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no matter."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(200 if self.server.healthy else 503, b"")
        elif self.path == "/version":
            self._answer(200, b'{"version":"0.32.0"}')
        elif self.path.startswith("/gpu?"):
            query = parse_qs(urlsplit(self.path).query)
            self.server.since, self.server.until = float(query["since"][0]), float(query["until"][0])
            self._answer(200, json.dumps(self.server.gpus).encode())
        else:
            self._answer(200, self.server.metrics().encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        if body["model"] != MODEL:
            self._answer(404, b"{}")
            return
        with server.lock:
            server.requests.append({**body, "id": self.headers["x-request-id"]})
            dead = server.dies_at_request is not None and len(server.requests) >= server.dies_at_request
            server.healthy = server.healthy and not dead
            server.running += not dead
        if dead:
            self.close_connection = True
            return
        time.sleep(server.delay)
        prompt, generated = len(prompt_of(body).split()), body["max_completion_tokens"]
        tokens = [{"choices": [{"index": 0, "delta": {"content": " word"}}]}] * generated
        usage = {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": generated}}
        events = [json.dumps(chunk) for chunk in (*tokens, usage)]
        self._answer(200, "".join(f"data: {event}\n\n" for event in (*events, "[DONE]")).encode())
        server.count(prompt, generated)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def prompt_of(body: Mapping[str, Any]) -> str:
    """What a chat request asks."""
    (message,) = body["messages"]
    return str(message["content"])


@contextmanager
def serving() -> Iterator[FakeServer]:
    server = FakeServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def a_load(name: str = "saturated", **changes: Any) -> dict[str, Any]:
    load = {"name": name, "requestRate": "inf", "maxConcurrency": None, "burstiness": 1.0}
    return {**load, "numPrompts": 6, "warmupPrompts": 0, "repeats": 1, **changes}


def a_spec(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "schema": 1,
        "engineVersion": "0.32.0",
        "model": MODEL,
        "tokenizer": "/models/tiny",
        "dataset": {"random": {"inputLen": 5, "outputLen": 3, "rangeRatio": 0.0}},
        "ignoreEOS": True,
        "temperature": 0.0,
        "seed": 0,
        "percentiles": [50, 90, 99.9],
        "serverReadyTimeoutSeconds": 20,
        "loads": [a_load()],
    }
    return {**spec, **changes}


def conversations(count: int) -> list[dict[str, Any]]:
    return [
        {"id": str(i), "conversations": [{"value": f"question {i} ?"}, {"value": "word " * (2 + i % 5)}]}
        for i in range(count)
    ]


@dataclasses.dataclass
class Run:
    """What came out of one load runner process."""

    status: int
    stdout: str
    stderr: str
    termination: dict[str, Any]
    seconds_after_signal: float | None = None

    @property
    def parts(self) -> list[str]:
        lines = self.stdout.splitlines()
        assert all(line.startswith("QUANTBENCH {") and len(line) < 15_000 for line in lines), self.stdout
        return [line.removeprefix("QUANTBENCH ") for line in lines]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(part, parse_constant=_refuse) for part in self.parts]

    def kind(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["kind"] == kind]

    def assert_whole(self) -> None:
        """Count and digest of the termination message are those of the lines."""
        assert self.termination["lines"] == len(self.parts)
        assert self.termination["sha256"] == hashlib.sha256("\n".join(self.parts).encode()).hexdigest()


def _refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} in a result line")


def installed(folder: Path) -> Path:
    """The load runner as the load pod's init container brings it: in a folder with nothing else that Python could find."""
    place = folder / "quantbench" / RUNNER.name
    shutil.copytree(RUNNER, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return place


class Runner:
    """A load runner process against the stand-in for vLLM."""

    def __init__(self, folder: Path, server: str, spec: Mapping[str, Any] | str, **environ: str) -> None:
        self._termination = folder / "termination-log"
        self._termination.touch()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(HERE.parents[1] / "fake_vllm"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(folder),
            "QUANTBENCH_SERVER": server,
            "QUANTBENCH_LOAD": spec if isinstance(spec, str) else json.dumps(spec),
            "QUANTBENCH_TERMINATION_LOG": str(self._termination),
            **environ,
        }
        self._signalled: float | None = None
        self.process = subprocess.Popen(
            [sys.executable, str(installed(folder))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_lines(self, count: int) -> None:
        """Until so many result lines are written: the termination message is rewritten after each."""
        deadline = time.monotonic() + 20
        while f'"lines":{count},' not in self._termination.read_text():
            assert time.monotonic() < deadline, "the load runner wrote too few lines"
            time.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        self._signalled = time.monotonic()
        self.process.send_signal(number)

    def wait(self) -> Run:
        try:
            stdout, stderr = self.process.communicate(timeout=30)
        finally:
            self.process.kill()
        after = None if self._signalled is None else time.monotonic() - self._signalled
        termination = json.loads(self._termination.read_text() or "{}")
        return Run(self.process.returncode, stdout, stderr, termination, after)
