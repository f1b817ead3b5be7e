"""What is looked at beside a pass: requests waiting, and what a GPU monitor says."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from benchmarks.loadrunner.watch import GPUMonitor, WaitingWatch, requests_waiting

WAITING = 'vllm:num_requests_waiting{engine="%d",model_name="a b"} %s'
OTHERS = """# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 900.0
vllm:num_requests_running{engine="0"} 700.0
"""


@contextmanager
def answering(status: int = 200) -> Iterator[Any]:
    """A server whose every GET is answered with its `body`; `asked` keeps the paths."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.asked.append((self.path, self.client_address[1]))
            body = server.bodies.pop(0) if len(server.bodies) > 1 else server.bodies[0]
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.bodies, server.url = [], [b""], f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (OTHERS + WAITING % (0, "17.0"), 17),
        (WAITING % (0, "17.0") + "\n" + WAITING % (1, "3.0") + "\n" + OTHERS, 20),
        ("vllm:num_requests_waiting 2", 2),
        (OTHERS, None),
        (WAITING % (0, "NaN"), None),
        (WAITING % (0, "many"), None),
        ("", None),
    ],
)
def test_requests_waiting(text: str, found: int | None) -> None:
    assert requests_waiting(text.encode()) == found


def test_the_peak_of_the_measured_time() -> None:
    with answering() as server:
        server.bodies = [(WAITING % (0, waiting)).encode() for waiting in ("3.0", "9.0", "0.0", "4.0")]
        measuring = threading.Event()
        with WaitingWatch(server.url, measuring.is_set, period=0.02) as watch:
            time.sleep(0.2)
            assert server.asked == [], "nothing is asked before the measured time"
            measuring.set()
            deadline = time.monotonic() + 10
            while len(server.asked) < 6:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            measuring.clear()
            time.sleep(0.1)
            asked = len(server.asked)
            server.bodies = [(WAITING % (0, "99.0")).encode()]
            time.sleep(0.2)
            assert len(server.asked) == asked, "nor after it"
        assert watch.peak == 9
        assert {path for path, _ in server.asked} == {"/metrics"}
        assert len({port for _, port in server.asked}) == 1, "one connection"
        time.sleep(0.1)
        assert len(server.asked) == asked
        assert not [thread for thread in threading.enumerate() if thread.name == "requests-waiting"]


def test_a_server_that_does_not_answer() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with WaitingWatch(f"http://127.0.0.1:{taken.getsockname()[1]}", lambda: True, period=0.01) as watch:
            time.sleep(0.1)
    assert watch.peak is None


def test_a_connection_that_breaks_is_opened_anew() -> None:
    with answering() as server:
        port = server.server_port
        with WaitingWatch(server.url, lambda: True, period=0.02) as watch:
            server.bodies = [b"vllm:num_requests_waiting 5"]
            time.sleep(0.2)
            assert watch.peak == 5
            watch._connection.sock.shutdown(socket.SHUT_RDWR)
            server.bodies = [b"vllm:num_requests_waiting 8"]
            deadline = time.monotonic() + 10
            while watch.peak != 8:
                assert time.monotonic() < deadline
                time.sleep(0.02)
    assert len({number for _, number in server.asked}) >= 2
    assert port


def test_looking_costs_the_measured_loop_nothing() -> None:
    """A reading of as much text as vLLM's /metrics has, in CPU time of the thread that reads it."""
    bucket = 'vllm:e2e_request_latency_seconds_bucket{engine="0",le="%d",model_name="Qwen/Qwen3-8B"} 12345.0\n'
    body = "".join(bucket % place for place in range(1200)) + WAITING % (0, "17.0") + "\n"
    assert len(body) > 100_000
    with answering() as server:
        server.bodies = [body.encode()]
        watch = WaitingWatch(server.url, lambda: True)
        watch._read()
        costs = []
        for _ in range(20):
            before = time.thread_time()
            assert watch._read() == 17
            costs.append(time.thread_time() - before)
        watch._connection.close()
    # Once a second: below a five-hundredth of the core that the client has. The least of many, for a busy machine.
    assert min(costs) < 0.002, costs
    print(f"{1000 * min(costs):.2f} ms, median {1000 * sorted(costs)[10]:.2f} ms")


# --- the GPU monitor -------------------------------------------------------------------------------------------

SUMMARY = {"samples": 3, "throttledShare": 0.5, "throttleReasons": ["SwPowerCap"]}
H100 = {"name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-0", "driver": "550.90.07", "computeCapability": "9.0"}


def test_what_the_monitor_says(capfd: pytest.CaptureFixture[str]) -> None:
    with answering() as server:
        server.bodies = [json.dumps({"gpus": [H100], "summary": SUMMARY, "error": "it ended"}).encode()]
        monitor = GPUMonitor(server.url)
        assert monitor.gpus() == [H100]
        assert monitor.summary(12.5, 13.25) == SUMMARY
        assert server.asked[1][0] == "/gpu?since=12.5&until=13.25"
    assert capfd.readouterr().err == "loadrunner: GPU monitor: it ended\n", "said once"


@pytest.mark.parametrize(
    "body",
    ["", "[]", "null", '{"gpus": 5, "summary": []}', '{"gpus": ["x"]}', "[" * 100_000, '{"summary": {"x": "%s"}}' % ("y" * 3000)],
    ids=lambda body: body[:20],
)  # fmt: skip
def test_odd_answers_are_no_readings(body: str) -> None:
    with answering() as server:
        server.bodies = [body.encode()]
        monitor = GPUMonitor(server.url)
        assert (monitor.gpus(), monitor.summary(1, 2)) == ([], None)


def test_sixty_four_gpus_fit_into_a_line() -> None:
    with answering() as server:
        gpu = dict.fromkeys(H100, "x" * 100) | {"more": "y"}
        server.bodies = [json.dumps({"gpus": [gpu] * 70}).encode()]
        found = GPUMonitor(server.url).gpus()
    assert len(found) == 64
    assert len(json.dumps(found)) < 14_800


def test_no_monitor(capfd: pytest.CaptureFixture[str]) -> None:
    with answering(status=404) as server:
        assert GPUMonitor(server.url).summary(1, 2) is None
    assert GPUMonitor(server.url).summary(1, 2) is None
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    monitor = GPUMonitor(None)
    assert (monitor.gpus(), monitor.summary(1, 2)) == ([], None)
    assert capfd.readouterr().err == ""
