"""The one exception that ends a load run, with the reason that the operator reads."""

from __future__ import annotations

DATASET_MISSING = "DatasetMissing"
DATASET_INVALID = "DatasetInvalid"
SERVER_NOT_READY = "ServerNotReady"
SERVER_DIED = "ServerDied"
ENGINE_BENCHMARK_FAILED = "EngineBenchmarkFailed"
LOAD_SPEC_INVALID = "LoadSpecInvalid"


class RunnerError(Exception):
    """A failure after which no further pass makes sense: printed as an ``error`` line, exit status 1."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
