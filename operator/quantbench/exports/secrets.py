"""What looks like a credential leaves no cluster: exports and reports are made to be passed on."""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel

from quantbench.api.pod import EnvVar
from quantbench.api.run import ClientHealth, ColdStart, GPUSamples, Latency, ServerCounters
from quantbench.exports.study import Study
from quantbench.observe import Benchmark, Run

REDACTED = "REDACTED"
_NAME = r"SECRET|PASSW|CREDENTIAL|AUTH|API_?KEY|ACCESS_?KEY|(?:^|_)(?:KEY|PASS|PAT)(?:_|$)"
_SECRET_VARIABLE = re.compile(rf"{_NAME}|TOKEN(?!IZER|S_PER)", re.IGNORECASE)
_SECRET_ARGUMENT = re.compile(rf"{_NAME}|TOKEN$", re.IGNORECASE)
"""Arguments of vLLM have many tokens that are no secrets: --max-num-batched-tokens, --return-tokens-as-token-ids."""
_ARGUMENT = re.compile(r"(--[\w.-]+)(?:(=|\s+)(.+))?", re.DOTALL)
_IN_TEXT = re.compile(r"(?P<url>://)[^\s/\"'<>]+@(?!sha256:)|^(?:Bearer|Basic)\s+\S+$|\bhf_[A-Za-z0-9]{30,}")
"""User and password of an address, the value of an HTTP Authorization header, a token of the Hugging Face Hub."""
_NUMBERS = frozenset({int, float, bool, type(None), Latency, ServerCounters, ClientHealth, GPUSamples, ColdStart})
"""Most of what a study holds; none of it is free text."""
_Read = TypeVar("_Read", Benchmark, Run)


def shareable(study: Study) -> Study:
    """The study without what looks like a credential, in specifications as well as in the words of servers' logs."""
    return dataclasses.replace(study, benchmark=_cleaned(study.benchmark), runs=tuple(map(_cleaned, study.runs)))


def _cleaned(read: _Read) -> _Read:
    return dataclasses.replace(read, spec=without_secrets(read.spec), status=without_secrets(read.status))


def without_secrets(value: Any) -> Any:
    """A part of an object without what looks like a credential; the same object where there is none."""
    if isinstance(value, str):
        return _IN_TEXT.sub(_hidden, value) if _IN_TEXT.search(value) else value
    if isinstance(value, BaseModel):
        if isinstance(value, EnvVar) and value.value is not None and _secret(value.name, value.value):
            return value.model_copy(update={"value": REDACTED})
        changed = dict(_changed(value.__dict__.items()))
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, dict):
        return {**value, **dict(_changed(value.items()))}
    if isinstance(value, tuple | list):
        cleaned = list(_items(value))
        return type(value)(cleaned) if any(new is not old for new, old in zip(cleaned, value, strict=True)) else value
    return value


def _changed(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for key, item in items:
        if type(item) not in _NUMBERS:
            cleaned = without_secrets(item)
            if cleaned is not item:
                yield key, cleaned


def _items(items: Iterable[Any]) -> Iterator[Any]:
    """`--api-key VALUE` may stand in one argument or in several."""
    hide = False
    for item in items:
        argument = _ARGUMENT.fullmatch(item) if isinstance(item, str) and item.startswith("--") else None
        if argument:
            name, between, _ = argument.groups()
            secret = _SECRET_ARGUMENT.search(name.replace("-", "_")) is not None
            hide = secret and between is None
            yield f"{name}{between}{REDACTED}" if secret and between else without_secrets(item)
        else:
            hide = hide and not str(item).startswith("-")
            yield REDACTED if hide else without_secrets(item)


def _secret(name: str, value: str) -> bool:
    without_scheme = "PROXY" in name.upper() and "@" in value and "://" not in value
    return without_scheme or _SECRET_VARIABLE.search(name) is not None


def _hidden(found: re.Match[str]) -> str:
    return f"{found['url']}{REDACTED}@" if found["url"] else REDACTED
