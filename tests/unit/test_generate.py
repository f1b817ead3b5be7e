"""Generated files are what would be generated, and the check notices when they are not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from quantbench.api.conditions import ConditionType, Reason, Stage
from quantbench.api.names import Kernel, Method, Verdict
from quantbench.api.schema import KINDS, custom_resource_definition
from quantbench.engine.flags import OWNED_FLAGS
from quantbench.metrics import State, operator_families, study_families
from quantbench.metrics.families import OPERATOR_GAUGES

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The generator as a module."""
    sys.path.insert(0, str(TOOL.parent))
    try:
        spec = importlib.util.spec_from_file_location("generate", TOOL)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["generate"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOL.parent))
    return module


def test_nothing_has_drifted() -> None:
    result = subprocess.run([sys.executable, str(TOOL), "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_drift_is_noticed_and_mended(generate: ModuleType, tmp_path: Path) -> None:
    assert generate.drifted(generate.TARGETS, tmp_path) == [target.path for target in generate.TARGETS]
    assert generate.write(generate.TARGETS, tmp_path) == [target.path for target in generate.TARGETS]
    assert generate.drifted(generate.TARGETS, tmp_path) == []
    crd = tmp_path / "crds" / "quantbenchmarks.yaml"
    crd.write_text(crd.read_text().replace("maximum: 64", "maximum: 65", 1))
    assert generate.drifted(generate.TARGETS, tmp_path) == ["crds/quantbenchmarks.yaml"]
    assert generate.write(generate.TARGETS, tmp_path) == ["crds/quantbenchmarks.yaml"]


def test_the_check_fails_with_the_names(generate: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    generate.write(generate.TARGETS, tmp_path)
    (tmp_path / "docs" / "reference" / "metrics.md").unlink()
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert generate.main() == 1
    assert capsys.readouterr().err == "docs/reference/metrics.md is out of date: run `make generate`\n"
    assert not (tmp_path / "docs" / "reference" / "metrics.md").exists()


@pytest.mark.parametrize("kind", KINDS, ids=[kind.kind for kind in KINDS])
def test_crds_are_the_models(kind: object) -> None:
    file = ROOT / "crds" / f"{kind.plural}.yaml"  # type: ignore[attr-defined]
    assert file.read_text().startswith("# Generated from operator/quantbench/api by `make generate`")
    assert "&id" not in file.read_text()
    assert yaml.safe_load(file.read_text()) == custom_resource_definition(kind)  # type: ignore[arg-type]


def test_the_reference_names_everything() -> None:
    api = (ROOT / "docs" / "reference" / "api.md").read_text()
    for names in (Method, Kernel, Verdict, ConditionType, Reason, Stage):
        for name in names:
            assert f"| `{name}` | {name.meaning} |" in api
    for path in ("spec.variants[].kvCacheDType", "spec.targets[].nodeSelector", "status.cells[].loads[].ratio"):
        assert f"`{path}`" in api
    assert "| `spec.limits.parallelism` | integer | `1` | ≥ 1; ≤ 64 |  | Servers at a time. |" in api
    assert "| `spec.model` | string | **required** | ≤ 512 characters | fixed |" in api


def test_the_methods_page_shows_flags_and_refusals() -> None:
    page = (ROOT / "docs" / "reference" / "methods.md").read_text()
    assert all(f"### {method}" in page for method in Method)
    assert all(f"| `{flag}` |" in page for flag in OWNED_FLAGS)
    for row in (
        "| granularity PerTensor | ≥ 0.14, < 0.20 | `--quantization=fp8` |",
        "| granularity PerTensor | ≥ 0.20 | `--quantization=fp8_per_tensor` |",
        "| kernel Auto | ≥ 0.28 |  |  |  | **PluginMissing**: bitsandbytes left vLLM in 0.28;",
    ):
        assert row in page, row


def test_the_metrics_page_names_every_metric() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    for family in (*operator_families(dict.fromkeys(OPERATOR_GAUGES, 0.0)), *study_families(State())):
        assert f"| `{family.name}` | {family.type} |" in page
    assert "| `quantbench_api_requests_total` | counter | `verb` `kind` `code` |" in page


def test_every_row_of_a_table_has_as_many_cells_as_its_header() -> None:
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        width = 0
        for line in page.read_text().splitlines():
            cells = line.replace("\\|", "").count("|")
            if not line.startswith("|"):
                width = 0
            else:
                width = width or cells
                assert cells == width, f"{page.name}: {line[:80]}"
