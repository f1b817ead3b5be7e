"""What a simulated server is: read from JSON, in which an unknown key is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Traps:
    """What is wrong with the server, or with what it says; by default nothing."""

    prefix_cache: bool = False
    """Prompts seen before are answered from the cache, although command line and /metrics say that there is none."""
    early_end: float = 0.0
    """Largest share of a request's tokens that is missing although it ignores end-of-sequence."""
    drop_every: int | None = None
    """Each n-th request's connection breaks in the middle of the answer."""
    refuse_every: int | None = None
    """Each n-th request is answered with status 500."""
    miss_every: int | None = None
    """Each n-th generated token is not counted in /metrics."""
    dies_at_request: int | None = None
    """The engine dies when this request (from 1) has come; streams in flight end early, the process exits."""


@dataclass(frozen=True)
class LogLines:
    """The server's log: a real one, with what a test wants to be said differently."""

    file: str
    """Of tests/data/engine/logs."""
    replace: tuple[tuple[str, str], ...] = ()
    """Texts to replace, each of which must be there."""
    without: tuple[str, ...] = ()
    """Lines that hold one of these texts, each of which must be there, are left out."""
    structure: str | None = None
    """Given: the model's layers are printed, with this quantization class; empty: as layers that are not quantized."""


@dataclass(frozen=True)
class Config:
    """One server. Times in seconds before they are compressed."""

    log: LogLines
    model: str = "m"
    version: str = "0.24.0"
    max_num_seqs: int = 256
    max_model_len: int = 2048
    kv_cache_dtype: str = "auto"
    start_seconds: float = 0.0
    step_seconds: float = 0.010
    step_seconds_per_request: float = 0.0005
    prefill_seconds_per_token: float = 0.00001
    start_sigma: float = 0.0
    """Standard deviation of the start effect's logarithm."""
    pass_sigma: float = 0.0
    """Standard deviation of the pass effect's logarithm."""
    seed: str = "0"
    """Of all that is drawn."""
    speedup: float = 1.0
    exit_code: int | None = None
    """Given: the server writes its log and ends with this status before it listens."""
    traps: Traps = field(default_factory=Traps)

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers."""
        return tuple(int(part) for part in self.version.split(".")[:3])


def parse_config(text: str) -> Config:
    """The JSON of ``--config``, or of the file that ``@path`` names.

    Raises:
        ValueError: no JSON, or an unknown key.
    """
    document = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    traps = _only(Traps, document.pop("traps", {}), "traps")
    log = document.pop("log")
    log["replace"] = tuple((old, new) for old, new in log.get("replace", ()))
    log["without"] = tuple(log.get("without", ()))
    known = _only(Config, document, "")
    return Config(**known, log=LogLines(**_only(LogLines, log, "log")), traps=Traps(**traps))


def _only(kind: type, document: Mapping[str, Any], path: str) -> dict[str, Any]:
    unknown = document.keys() - {item.name for item in fields(kind)}
    if unknown:
        raise ValueError(f"unknown: {', '.join(f'{path}.{key}'.lstrip('.') for key in sorted(unknown))}")
    return dict(document)
