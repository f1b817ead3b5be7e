"""The load specification: what `QUANTBENCH_LOAD` and `QUANTBENCH_SERVER` may say.

The operator and this runner come from the same image, so an unknown key is an error: a setting that is silently
ignored would falsify a measurement.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from .errors import LOAD_SPEC_INVALID, RunnerError

SCHEMA: Final = 1
MAX_SPEC_CHARACTERS: Final = 262_144
MAX_LOADS: Final = 64
MAX_REPEATS: Final = 100
MAX_PROMPTS: Final = 1_000_000
MAX_CONCURRENCY: Final = 1_000_000
MAX_TOKENS: Final = 10_000_000
MAX_PERCENTILES: Final = 16
MAX_TEXT: Final = 4096
# numpy.random.seed, which vLLM calls with the same number, takes 32 bits.
MAX_SEED: Final = 2**32 - 1

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:[-+._a-zA-Z0-9]*)")


@dataclass(frozen=True)
class ShareGPT:
    """Conversations of a ShareGPT file: first turn as prompt, length of the second as number of tokens wanted."""

    path: str


@dataclass(frozen=True)
class Random:
    """Random tokens; lengths in tokens, each drawn from ``length * (1 ± range_ratio)``."""

    input_len: int
    output_len: int
    range_ratio: float


@dataclass(frozen=True)
class Load:
    """One load: requests per second (infinite: all at once) and/or a bound on concurrent requests."""

    name: str
    request_rate: float
    max_concurrency: int | None
    burstiness: float
    num_prompts: int
    warmup_prompts: int
    repeats: int


@dataclass(frozen=True)
class LoadSpec:
    """Everything one load pod does, in the order in which it does it."""

    engine_version: tuple[int, int, int]
    model: str
    tokenizer: str
    dataset: ShareGPT | Random
    ignore_eos: bool
    temperature: float
    seed: int
    percentiles: tuple[float, ...]
    server_ready_timeout: float
    loads: tuple[Load, ...]


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Release of a vLLM version string (``v0.24.0``, ``0.32.0+cpu``, ``0.24.1rc1.dev5``), None if it has none."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch or 0)


def parse_server(text: str | None) -> str:
    """Base URL without a trailing slash. Raises RunnerError (LoadSpecInvalid)."""
    if not text:
        raise _invalid("QUANTBENCH_SERVER is not set")
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or parts.path not in ("", "/") or parts.query or parts.fragment or len(text) > MAX_TEXT:
        raise _invalid(f"QUANTBENCH_SERVER must be a base URL such as http://10.0.0.1:8000, not {_short(text)}")
    return text.rstrip("/")


def parse_spec(text: str | None) -> LoadSpec:
    """Validate the JSON of `QUANTBENCH_LOAD`. Raises RunnerError (LoadSpecInvalid) that names the field."""
    if not text:
        raise _invalid("QUANTBENCH_LOAD is not set")
    if len(text) > MAX_SPEC_CHARACTERS:
        raise _invalid(f"QUANTBENCH_LOAD has {len(text)} characters, more than {MAX_SPEC_CHARACTERS}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"QUANTBENCH_LOAD is not JSON: {error}") from None
    fields = _Fields(document, "")
    schema = fields.take("schema", _integer(0, 1_000_000))
    if schema != SCHEMA:
        raise _invalid(f"schema: {schema} is not {SCHEMA}; operator and load runner are of different versions")
    spec = LoadSpec(
        engine_version=fields.take("engineVersion", _version),
        model=fields.take("model", _text),
        tokenizer=fields.take("tokenizer", _text),
        dataset=fields.take("dataset", _dataset),
        ignore_eos=fields.take("ignoreEOS", _boolean),
        temperature=fields.take("temperature", _number(0, 2)),
        seed=fields.take("seed", _integer(0, MAX_SEED)),
        percentiles=fields.take("percentiles", _percentiles),
        server_ready_timeout=fields.take("serverReadyTimeoutSeconds", _number(0, 604_800)),
        loads=fields.take("loads", _loads),
    )
    fields.finish()
    return spec


def _invalid(message: str) -> RunnerError:
    return RunnerError(LOAD_SPEC_INVALID, message)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class _Fields:
    """Takes the keys of one JSON object; every error names the path of the key."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise _invalid(f"{path or 'QUANTBENCH_LOAD'}: an object is expected, not {_short(value)}")
        self._left: dict[str, object] = dict(value)
        self._path = path

    def take(self, key: str, convert: Callable[[object, str], Any]) -> Any:
        path = f"{self._path}.{key}" if self._path else key
        if key not in self._left:
            raise _invalid(f"{path}: missing")
        return convert(self._left.pop(key), path)

    def finish(self) -> None:
        if self._left:
            path = f"{self._path}." if self._path else ""
            raise _invalid(f"{path}{_short(min(self._left))[1:-1]}: unknown")


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise _invalid(f"{path}: a printable text of 1 to {MAX_TEXT} characters is expected, not {_short(value)}")
    return value


def _boolean(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise _invalid(f"{path}: true or false is expected, not {_short(value)}")
    return value


def _integer(low: int, high: int) -> Callable[[object, str], int]:
    def convert(value: object, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _invalid(f"{path}: a whole number from {low} to {high} is expected, not {_short(value)}")
        return value

    return convert


def _number(low: float, high: float, *, exclusive: bool = False) -> Callable[[object, str], float]:
    def convert(value: object, path: str) -> float:
        number = float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else math.nan
        if isinstance(value, bool) or not low <= number <= high or (exclusive and number in (low, high)):
            sides = "between" if exclusive else "from"
            raise _invalid(f"{path}: a number {sides} {low:g} to {high:g} is expected, not {_short(value)}")
        return number

    return convert


def _version(value: object, path: str) -> tuple[int, int, int]:
    version = parse_version(value) if isinstance(value, str) else None
    if version is None:
        raise _invalid(f"{path}: a vLLM version such as 0.24.0 is expected, not {_short(value)}")
    return version


def _dataset(value: object, path: str) -> ShareGPT | Random:
    fields = _Fields(value, path)
    if not isinstance(value, Mapping) or len(value.keys() & {"shareGPT", "random"}) != 1:
        raise _invalid(f"{path}: either shareGPT or random is expected, not {_short(value)}")
    if "shareGPT" in value:
        dataset: ShareGPT | Random = fields.take("shareGPT", _share_gpt)
    else:
        dataset = fields.take("random", _random)
    fields.finish()
    return dataset


def _share_gpt(value: object, path: str) -> ShareGPT:
    fields = _Fields(value, path)
    dataset = ShareGPT(path=fields.take("path", _text))
    fields.finish()
    return dataset


def _random(value: object, path: str) -> Random:
    fields = _Fields(value, path)
    dataset = Random(
        input_len=fields.take("inputLen", _integer(1, MAX_TOKENS)),
        output_len=fields.take("outputLen", _integer(1, MAX_TOKENS)),
        range_ratio=fields.take("rangeRatio", _number(0, 1)),
    )
    if dataset.range_ratio >= 1:
        raise _invalid(f"{path}.rangeRatio: must be less than 1")
    fields.finish()
    return dataset


def _percentiles(value: object, path: str) -> tuple[float, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_PERCENTILES:
        raise _invalid(f"{path}: a list of 1 to {MAX_PERCENTILES} numbers is expected, not {_short(value)}")
    convert = _number(0, 100, exclusive=True)
    return tuple(convert(item, f"{path}[{index}]") for index, item in enumerate(value))


def _request_rate(value: object, path: str) -> float:
    try:
        rate = float(value) if isinstance(value, str) and len(value) <= 40 else math.nan
    except ValueError:
        rate = math.nan
    # float() also takes "Infinity", "1_0" and "٣"; one spelling of infinity is enough.
    if not rate > 0 or (math.isinf(rate) and value != "inf") or not str(value).isascii() or "_" in str(value):
        raise _invalid(f'{path}: "inf" or requests per second as a text such as "2.5" is expected, not {_short(value)}')
    return rate


def _max_concurrency(value: object, path: str) -> int | None:
    return None if value is None else _integer(1, MAX_CONCURRENCY)(value, path)


def _load(value: object, path: str) -> Load:
    fields = _Fields(value, path)
    name = fields.take("name", _text)
    if _NAME.fullmatch(name) is None:
        raise _invalid(f"{path}.name: a DNS label is expected, not {_short(name)}")
    load = Load(
        name=name,
        request_rate=fields.take("requestRate", _request_rate),
        max_concurrency=fields.take("maxConcurrency", _max_concurrency),
        burstiness=fields.take("burstiness", _number(0, 1e9, exclusive=True)),
        num_prompts=fields.take("numPrompts", _integer(1, MAX_PROMPTS)),
        warmup_prompts=fields.take("warmupPrompts", _integer(0, MAX_PROMPTS)),
        repeats=fields.take("repeats", _integer(1, MAX_REPEATS)),
    )
    fields.finish()
    return load


def _loads(value: object, path: str) -> tuple[Load, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_LOADS:
        raise _invalid(f"{path}: a list of 1 to {MAX_LOADS} loads is expected, not {_short(value)}")
    loads = tuple(_load(item, f"{path}[{index}]") for index, item in enumerate(value))
    names = [load.name for load in loads]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _invalid(f"{path}[{index}].name: {_short(name)} is used twice")
    return loads
