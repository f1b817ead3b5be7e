"""One study as one JSON document, which needs no cluster to be read again.

The document holds the objects as the API server stores them, cut to what identifies and describes the work. Values that
look like credentials are left out, because such a file is made to be passed on.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from quantbench.api.base import JsonObject
from quantbench.api.names import API_VERSION
from quantbench.exports.secrets import shareable
from quantbench.exports.study import ExportError, Study, in_order
from quantbench.observe import Benchmark, Run, read_benchmark, read_run

KIND = "QuantBenchmarkExport"
"""Kind of the document; no resource of the API has this name."""


def to_document(study: Study, version: str) -> JsonObject:
    """The export of a study.

    Args:
        study: what to write.
        version: of the program that writes it.
    """
    study = shareable(study)
    benchmark = study.benchmark
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "generator": f"quantbench {version}",
        "benchmark": _object("QuantBenchmark", benchmark, {}),
        "runs": [_object("QuantBenchmarkRun", run, {"creationTimestamp": run.created_at}) for run in study.runs],
    }


def from_document(document: Any, *, with_runs: bool = True) -> Study:
    """The study of an export.

    Args:
        document: the JSON.
        with_runs: whether to read the runs, too; figures are there without them, and thousands take seconds.

    Raises:
        ExportError: it is no export, or does not fit the models; with the field's path.
    """
    if not isinstance(document, Mapping) or document.get("kind") != KIND:
        found = document.get("kind") if isinstance(document, Mapping) else type(document).__name__
        raise ExportError(f"not an export of a study: kind {KIND} expected, {found!r} found")
    if document.get("apiVersion") != API_VERSION:
        raise ExportError(f"apiVersion: {API_VERSION} expected, {document.get('apiVersion')!r} found")
    runs = document.get("runs")
    if not isinstance(document.get("benchmark"), dict) or not isinstance(runs, list):
        raise ExportError("benchmark must be an object and runs a list")
    where = "benchmark"
    try:
        benchmark = read_benchmark(document["benchmark"])
        read = []
        for index, run in enumerate(runs if with_runs else ()):
            where = f"runs[{index}]"
            read.append(read_run(run))
    except ValidationError as error:
        raise ExportError(f"{where}: {field_errors(error)}") from error
    except KeyError as error:
        raise ExportError(f"{where}: metadata.{error.args[0]} is missing") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ExportError(f"{where}: {error}") from error
    places: dict[tuple[str, str, int], str] = {}
    for run in read:
        place = (*run.cell, run.spec.block)
        if place in places:
            other, cell = places[place], f"{run.spec.variant.name} on {run.spec.target.name}"
            raise ExportError(f"runs: {other} and {run.name} are both {cell} in block {run.spec.block}")
        places[place] = run.name
    return Study(benchmark, in_order(read))


def field_errors(error: ValidationError, root: str = "spec") -> str:
    """The wrong fields of an object, each with its path as kubectl writes it."""
    return "; ".join(f"{path}: {message}" for path, message in located(error, root))


def located(error: ValidationError, root: str = "spec") -> list[tuple[str, str]]:
    """Path and message of every wrong field."""
    found = []
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # wrong items are not counted; they are named themselves
        path = root
        for part in item["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
        found.append((path, _message(item)))
    return found


def _message(item: ErrorDetails) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown field"
    if item["type"] == "string_type" and isinstance(item["input"], bool | int | float):
        return "write it as a string, in quotes"
    return item["msg"].removeprefix("Value error, ")


def _object(kind: str, read: Benchmark | Run, more: JsonObject) -> JsonObject:
    head = {"name": read.name, "namespace": read.namespace, "uid": read.uid, "generation": read.generation, **more}
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": head,
        "spec": _json(read.spec),
        "status": _json(read.status),
    }


def _json(model: BaseModel) -> JsonObject:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
