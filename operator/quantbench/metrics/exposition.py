"""Prometheus' text format, written directly.

The client library makes an object of every sample, which takes some seconds for the hundreds of thousands of series of
two hundred studies; the format itself is a line per sample.
https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True)
class Family:
    """All series of one metric: its name, type, meaning, the names of its labels, and its lines."""

    name: str
    type: str
    about: str
    labels: tuple[str, ...]
    lines: Iterable[str]

    def text(self) -> str:
        """The family in the text format; empty without a series."""
        body = "".join(self.lines)
        return f"# HELP {self.name} {self.about}\n# TYPE {self.name} {self.type}\n{body}" if body else ""


def pairs(labels: Mapping[str, str]) -> str:
    """``a="1",b="2"``, escaped."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def line(name: str, labels: str, value: float) -> str:
    """One sample; `labels` as `pairs` writes them."""
    shown = repr(value) if math.isfinite(value) else str(value).replace("inf", "Inf").replace("nan", "NaN")
    return f"{name}{{{labels}}} {shown}\n" if labels else f"{name} {shown}\n"
