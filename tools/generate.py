"""Write the files that follow from the code: CRDs from the models, the reference from models and tables, dashboards.

With ``--check`` nothing is written: exit status 1 and the names of the files that are out of date.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dashboards import fleet, health, study
from quantbench.api.schema import QUANT_BENCHMARK, QUANT_BENCHMARK_RUN
from reference import api, capabilities, cli, crds, methods, metrics, published, studies

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Target:
    """A generated file: where it stands, from the repository's root, and what makes its text."""

    path: str
    build: Callable[[], str]


TARGETS = [
    Target("crds/quantbenchmarks.yaml", partial(crds.text, QUANT_BENCHMARK)),
    Target("crds/quantbenchmarkruns.yaml", partial(crds.text, QUANT_BENCHMARK_RUN)),
    # Copies, because a packaged chart cannot reach out of its folder.
    Target("charts/quantbench/files/crds/quantbenchmarks.yaml", partial(crds.text, QUANT_BENCHMARK)),
    Target("charts/quantbench/files/crds/quantbenchmarkruns.yaml", partial(crds.text, QUANT_BENCHMARK_RUN)),
    Target("charts/quantbench/files/dashboards/study.json", study.dashboard),
    Target("charts/quantbench/files/dashboards/fleet.json", fleet.dashboard),
    Target("charts/quantbench/files/dashboards/operator.json", health.dashboard),
    Target("docs/reference/api.md", api.text),
    Target("docs/reference/cli.md", cli.text),
    Target("docs/reference/methods.md", methods.text),
    Target("docs/reference/capabilities.md", capabilities.text),
    Target("docs/reference/metrics.md", metrics.text),
    Target("docs/reference/published-study.md", partial(studies.text, ROOT)),
    Target("docs/published-study-h100.md", partial(published.text, ROOT)),
    Target(f"{published.RESULTS}/report.md", partial(published.report, ROOT)),
]


def drifted(targets: Sequence[Target], root: Path) -> list[str]:
    """Paths of the targets that are missing or hold another text than would be written."""
    return [target.path for target in targets if _read(root / target.path) != target.build()]


def write(targets: Sequence[Target], root: Path) -> list[str]:
    """Write the targets that differ; returns their paths."""
    changed = drifted(targets, root)
    for target in targets:
        if target.path in changed:
            file = root / target.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(target.build(), encoding="utf-8")
    return changed


def _read(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


def main() -> int:
    """Exit status 1 when a check finds differences."""
    parser = argparse.ArgumentParser(description="Write the generated files.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    if not parser.parse_args().check:
        for path in write(TARGETS, ROOT):
            print(f"wrote {path}")
        return 0
    stale = drifted(TARGETS, ROOT)
    for path in stale:
        print(f"{path} is out of date: run `make generate`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
