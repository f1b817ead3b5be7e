"""The monitor process: reads `nvidia-smi`, answers over HTTP, ends with the server.

``GET /gpu?since=UNIX&until=UNIX`` answers JSON: ``gpus`` (name, uuid, driver, computeCapability), ``summary`` of the
readings of that time (`readings.summarise`), null if there are none, and ``error``, why `nvidia-smi` gives none.

The driver answers these queries without a CUDA context: they take no GPU memory and no work of its cores.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from .readings import FIELD_SETS, Ring, parse_line

PORT: Final = 8001
PERIOD_MILLISECONDS: Final = 500
RESTART_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 30.0
WATCH_SECONDS: Final = 0.5
MAX_ERROR_CHARACTERS: Final = 200


class Sampler:
    """Runs `nvidia-smi` for ever; asks with older names of fields where a driver does not know the newer ones."""

    def __init__(self, tool: str, ring: Ring, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.error: str | None = None
        self._tool = tool
        self._ring = ring
        self._sleep = sleep

    def run(self) -> None:
        """For ever: a driver that gives nothing may do so a while later."""
        sets: Sequence[Mapping[str, str]] = FIELD_SETS
        while True:
            answered = next((fields for fields in sets if self._sample(fields)), None)
            sets = sets if answered is None else (answered,)
            self._sleep(RESTART_SECONDS if answered else RETRY_SECONDS)

    def _sample(self, fields: Mapping[str, str]) -> bool:
        """One `nvidia-smi`, until it ends; whether it gave readings."""
        query = [f"--query-gpu={','.join(fields.values())}", "--format=csv,noheader,nounits"]
        names, count, other = tuple(fields), 0, ""
        try:
            process = subprocess.Popen(
                [self._tool, *query, "-lms", str(PERIOD_MILLISECONDS)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            self.error = f"{self._tool}: {error.strerror}"
            return False
        with process:
            for line in process.stdout or ():
                found = parse_line(line, names, time.time())
                if found is None:
                    other = line.strip() or other
                    continue
                self._ring.add(*found)
                self.error = None
                count += 1
        self.error = f"{self._tool} ended with status {process.returncode}: {other}"[:MAX_ERROR_CHARACTERS]
        return count > 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, family: socket.AddressFamily, port: int, sampler: Sampler, ring: Ring, server: int) -> None:
        self.address_family = family
        self.sampler, self.ring, self.watched = sampler, ring, server
        super().__init__(("", port), _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:  # for IPv4 as well
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)  # not HTTPServer's, which looks up names

    def service_actions(self) -> None:
        # Called at every turn of serve_forever. A process whose parent has ended belongs to another one.
        if os.getppid() != self.watched:
            os._exit(0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no matter."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        times = [_time(parse_qs(url.query).get(key)) for key in ("since", "until")]
        if url.path != "/gpu" or None in times:
            self.send_error(404 if url.path != "/gpu" else 400)
            return
        since, until = times
        ring = self.server.ring
        answer = {
            "gpus": ring.gpus(),
            "summary": ring.summary(since or 0.0, until or 0.0),
            "error": self.server.sampler.error,
        }
        body = json.dumps(answer).encode("ascii")
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def _time(values: Sequence[str] | None) -> float | None:
    try:
        number = float(values[0]) if values else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _listen(port: int, sampler: Sampler, ring: Ring, server: int) -> _Server:
    with contextlib.suppress(OSError):  # no IPv6 on this node
        return _Server(socket.AF_INET6, port, sampler, ring, server)
    return _Server(socket.AF_INET, port, sampler, ring, server)


def run(tool: str, server: int) -> int:
    """Sample and answer until the process `server`, this one's parent, has ended."""
    ring = Ring()
    sampler = Sampler(tool, ring)
    port = int(os.environ.get("QUANTBENCH_GPU_MONITOR_PORT") or PORT)
    http = _listen(port, sampler, ring, server)
    threading.Thread(target=sampler.run, daemon=True).start()
    http.serve_forever(poll_interval=WATCH_SECONDS)
    return 0
