"""What runs in engine images: Python 3.10 syntax, and the standard library alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from benchmarks import gpumonitor, loadrunner

SOURCES = sorted(path for package in (gpumonitor, loadrunner) for path in Path(package.__path__[0]).glob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_python_3_10_and_nothing_installed(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 10))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_there_is_something_to_look_at() -> None:
    assert {path.parent.name for path in SOURCES if path.name == "__main__.py"} == {"gpumonitor", "loadrunner"}
