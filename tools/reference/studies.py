"""What is known of the published study's rows before any GPU is taken, as `quantbench plan` says it."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from quantbench.api.benchmark import CONTROL, QuantBenchmarkSpec
from quantbench.engine.rows import Fate
from quantbench.fates import CellFate
from quantbench.plan import engine_version, fates
from reference.markdown import code, codes, page, table

FOLDER = "benchmarks/studies"
GPUS = {"rtx4090": "RTX 4090 (24 GB)", "a100": "A100 (80 GB)", "h100": "H100 (80 GB)"}
SUFFIXES = ("-0.9.2", "")
ABOUT = f"""
"The Impact of Quantization on vLLM Inference Performance" (GPUStack's performance lab) measured Qwen3-8B on three GPUs
with vLLM 0.9.2. Its rows are studies to apply, in `{FOLDER}/`, with that version and with a current one. This is
what `quantbench plan` says of each row: its [fate](capabilities.md), and the linear kernel that is expected.
"""


def text(root: Path) -> str:
    """The page, from the studies below the repository's root."""
    parts = []
    for gpu, title in GPUS.items():
        files = [f"published-study-{gpu}{suffix}.yaml" for suffix in SUFFIXES]
        specs = [_spec(root / FOLDER / file) for file in files]
        versions = [f"vLLM {engine_version(spec.engine)}" for spec in specs]
        cells = [{cell.variant: cell for cell in fates(spec) if cell.variant != CONTROL} for spec in specs]
        variants = list(dict.fromkeys(variant for of_version in cells for variant in of_version))
        rows = [(variant, *(_shown(of_version.get(variant)) for of_version in cells)) for variant in variants]
        said = [row for version, of_version in zip(versions, cells, strict=True) for row in _said(version, of_version)]
        parts += [
            f"## {title}",
            codes(files),
            table(("Variant", *versions), rows),
            table(("Variant", "Version", "Why"), said),
        ]
    return page("The published study, planned", ABOUT, *parts)


def _spec(file: Path) -> QuantBenchmarkSpec:
    return QuantBenchmarkSpec.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))["spec"])


def _shown(cell: CellFate | None) -> str:
    return "" if cell is None else f"{code(cell.fate)} {' or '.join(cell.kernels)}".strip()


def _said(version: str, cells: dict[str, CellFate]) -> Iterator[tuple[str, str, str]]:
    for variant, cell in cells.items():
        if cell.fate is not Fate.SUPPORTED:
            yield variant, version, "; ".join(filter(None, (cell.message, cell.hint)))
