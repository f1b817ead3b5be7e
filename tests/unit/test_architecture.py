"""The rooms and their doors: import contracts, and that they would notice an intruder."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import quantbench

ROOT = Path(__file__).parents[2]
PACKAGE = Path(quantbench.__file__).parent
CONTRACTS = ConfigParser()
CONTRACTS.read(ROOT / ".importlinter")


def lines(contract: str, key: str) -> list[str]:
    return CONTRACTS[f"importlinter:contract:{contract}"][key].split()


PURE = [name.removeprefix("quantbench.") for name in lines("pure", "source_modules")]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts for the package in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    options = ["--config", str(ROOT / ".importlinter")]
    return subprocess.run(
        [*command, *options], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_contracts_are_kept() -> None:
    result = lint(PACKAGE.parent)
    assert result.returncode == 0, result.stdout
    assert "4 kept, 0 broken" in result.stdout


def test_intruders_are_noticed(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "quantbench", ignore=shutil.ignore_patterns("__pycache__"))
    for module, intruder in (
        ("plan.py", "import random"),
        ("status.py", "from quantbench.kube import Kube"),
        ("execute.py", "import kopf"),
        ("controller.py", "import kubernetes.aio"),
    ):
        with (tmp_path / "quantbench" / module).open("a") as file:
            file.write(f"\n{intruder}\n")
    (tmp_path / "quantbench" / "newcomer.py").write_text('"""A module without a place."""\n')
    result = lint(tmp_path)
    assert result.returncode == 1
    assert "0 kept, 4 broken" in result.stdout
    for found in (
        "quantbench.plan -> random",
        "quantbench.execute -> kopf",
        "quantbench.controller -> kubernetes",
        "quantbench.status is not allowed to import quantbench.kube",
        "newcomer",
    ):
        assert found in result.stdout, found


@pytest.mark.parametrize(
    ("contract", "allowed"), [("kopf", {"handlers", "cli.app"}), ("kubernetes", {"kube", "cli.read"})]
)
def test_the_contracts_name_every_module(contract: str, allowed: set[str]) -> None:
    named = {name.removeprefix("quantbench.") for name in lines(contract, "source_modules")}
    assert not named & allowed
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    cli = {f"cli.{path.stem}" for path in (PACKAGE / "cli").glob("*.py")} - {"cli.__init__"}
    assert named | allowed == (modules - {"cli", "__init__", "__main__"}) | cli


CLOCKS = {
    "now",
    "utcnow",
    "today",
    "time",
    "time_ns",
    "monotonic",
    "perf_counter",
    "getenv",
    "environ",
    "open",
    "urandom",
}


def impure_names(source: str) -> set[str]:
    """Calls and attributes that read a clock, the environment or files."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            found.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLOCKS:
            found.add(node.func.id)
    return found


def sources(module: str) -> list[Path]:
    folder = PACKAGE / module.replace(".", "/")
    return sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


@pytest.mark.parametrize("module", PURE)
def test_the_core_reads_no_clock(module: str) -> None:
    allowed = {"now"} if module == "decide" else set()  # decisions are told the time: `self.now`
    for path in sources(module):
        assert impure_names(path.read_text()) <= allowed, path
        if allowed:
            assert "datetime.now" not in path.read_text()


@pytest.mark.parametrize(
    "source",
    [
        "datetime.now(UTC)",
        "datetime.utcnow()",
        "clock.time()",
        "time()",
        "open('x')",
        "os.environ['X']",
        "date.today()",
    ],
)
def test_a_clock_would_be_noticed(source: str) -> None:
    assert impure_names(source)


def test_nothing_of_the_core_is_missing_from_the_contract() -> None:
    assert set(PURE) == {
        "answer",
        "api",
        "audit",
        "comparisons",
        "decide",
        "effective",
        "engine",
        "fates",
        "exports",
        "findings",
        "metrics.exposition",
        "metrics.facts",
        "metrics.state",
        "observe",
        "plan",
        "raw",
        "preview",
        "published",
        "regimes",
        "report",
        "resources",
        "results",
        "stages",
        "statistics",
        "status",
        "times",
        "validity",
    }


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 420
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 62, f"{node.name} is too long"
