"""The few requests that the cluster's own start needs of its API server; everything else is kubectl's."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from typing import Any

from cluster.layout import ClusterError, Layout
from cluster.progress import Step

_REQUEST_SECONDS = 5.0


def get(layout: Layout, port: int, path: str) -> tuple[int, str]:
    """GET a path as the administrator; status 0 when nothing answers."""
    trust = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
    trust.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
    return _get(layout.address, port, path, trust)


def get_unverified(address: str, port: int, path: str) -> tuple[int, str]:
    """GET a path of a component that serves a certificate it made itself: health endpoints only."""
    return _get(address, port, path, ssl._create_unverified_context())


def get_json(layout: Layout, port: int, path: str) -> dict[str, Any] | None:
    """GET an object; None unless the answer is 200."""
    status, body = get(layout, port, path)
    return json.loads(body) if status == http.client.OK else None


def wait(step: Step, what: str, ready: Callable[[], str | None], *, seconds: float, pause: float = 0.1) -> None:
    """Ask `ready` again and again until it has no more complaint.

    Raises:
        ClusterError: it still had one after `seconds`; it may raise by itself as well.
    """
    deadline = time.monotonic() + seconds
    while complaint := ready():
        step.detail(complaint)
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} is not ready after {seconds:.0f} s: {complaint}")
        time.sleep(pause)
    step.detail("")


def _get(address: str, port: int, path: str, trust: ssl.SSLContext) -> tuple[int, str]:
    connection = http.client.HTTPSConnection(address, port, timeout=_REQUEST_SECONDS, context=trust)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()
