"""The operator's settings, from its environment."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from quantbench import __version__
from quantbench.resources.programs import RunnerImage


@dataclass(frozen=True)
class Settings:
    """How this process works.

    Attributes:
        namespaces: namespaces to watch; empty for the whole cluster.
        runner: the image that brings the load runner.
        lease_namespace: namespace of the leader's Lease; None runs without election, for a single local process.
        lease_name: its name.
        identity: this process among the candidates.
        port: HTTP port of /healthz, /readyz and /metrics; 0 serves none.
        workers: objects worked on at the same time.
        json_logs: one JSON object per log line instead of text.
    """

    namespaces: tuple[str, ...]
    runner: RunnerImage
    lease_namespace: str | None
    lease_name: str
    identity: str
    port: int
    workers: int
    json_logs: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read ``QUANTBENCH_*``.

        Raises:
            ValueError: a number is none.
        """
        names = environment.get("QUANTBENCH_NAMESPACES", "")
        return cls(
            namespaces=tuple(name.strip() for name in names.split(",") if name.strip()),
            runner=RunnerImage(
                environment.get("QUANTBENCH_OPERATOR_IMAGE") or f"quantbench/operator:{__version__}",
                environment.get("QUANTBENCH_OPERATOR_IMAGE_PULL_POLICY") or "IfNotPresent",
            ),
            lease_namespace=environment.get("QUANTBENCH_LEASE_NAMESPACE") or None,
            lease_name=environment.get("QUANTBENCH_LEASE_NAME") or "quantbench-operator",
            identity=environment.get("POD_NAME") or socket.gethostname(),
            port=_number(environment, "QUANTBENCH_HTTP_PORT", 8080),
            workers=_number(environment, "QUANTBENCH_WORKERS", 8, least=1),
            json_logs=environment.get("QUANTBENCH_LOG_FORMAT", "json") == "json",
        )


def _number(environment: Mapping[str, str], name: str, default: int, *, least: int = 0) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"{name}={text!r} is not a whole number of at least {least}")
    return int(text)
