"""The figures of a study as flat rows and as one document, for scripts."""

from collections.abc import Iterator

from quantbench.api.base import JsonObject
from quantbench.api.status import LoadResult
from quantbench.exports.study import Study

_OF_CELL = ("benchmark", "model", "variant", "method", "target", "verdict", "fingerprint", "sameAs")
_OF_ROW = tuple(field.alias or name for name, field in LoadResult.model_fields.items())
COLUMNS = (*_OF_CELL, *_OF_ROW)
"""Column names of the CSV: those of the API, so that units are part of them."""


def rows(study: Study) -> Iterator[dict[str, object]]:
    """One per variant, target and load; a cell without figures has one without a load."""
    spec = study.benchmark.spec
    variants = {variant.name: variant for variant in spec.variants}
    for cell in study.benchmark.status.cells:
        variant = variants.get(cell.variant) or variants.get(spec.baseline)
        head: dict[str, object] = {
            "benchmark": study.benchmark.name,
            "model": (variant.model if variant else None) or spec.model,
            "variant": cell.variant,
            "method": str(variant.method) if variant else "",
            "target": cell.target,
            "verdict": str(cell.verdict) if cell.verdict else "",
            "fingerprint": cell.fingerprint or "",
            "sameAs": cell.same_as or "",
        }
        for row in cell.loads:
            yield head | row.to_json()
        if not cell.loads:
            yield head


def summary_document(study: Study) -> JsonObject:
    """What was found, without the runs it rests on."""
    benchmark = study.benchmark
    status = benchmark.status.to_json()
    kept = ("progress", "summary", "gpuHours", "planHash", "cells", "findings", "crossovers")
    return {
        "name": benchmark.name,
        "namespace": benchmark.namespace,
        "model": benchmark.spec.model,
        "baseline": benchmark.spec.baseline,
        "engineVersions": study.engine_versions(),
        "complete": study.ended,
    } | {key: status[key] for key in kept if key in status}
