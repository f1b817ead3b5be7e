"""The chart's dashboards as Grafana reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "charts" / "quantbench" / "files" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Query:
    """One query of one panel."""

    dashboard: str
    panel: str
    expression: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel}: {self.expression}"

    def asked(self, variables: Mapping[str, str]) -> str:
        """The expression with Grafana's variables in their places, the longest names first."""
        text = self.expression
        for name in sorted(variables, key=len, reverse=True):
            text = text.replace(f"${name}", variables[name])
        # $1 is a group of a regular expression; Grafana leaves it alone.
        assert not re.search(r"\$\D", text), f"a variable without a value: {text}"
        return text


def load(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text()))


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel but the headings."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def queries() -> list[Query]:
    """Every query of every panel of every dashboard."""
    return [
        Query(file.stem, panel["title"], target["expr"], bool(target.get("instant")))
        for file in FILES
        for panel in panels(load(file))
        for target in panel["targets"]
    ]
