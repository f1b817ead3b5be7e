"""`quantbench plan`: what a study would do, from its YAML alone."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from pydantic_core import to_json
from rich.console import Group
from rich.table import Table
from rich.text import Text

from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import API_VERSION
from quantbench.api.rules import violations
from quantbench.cli.common import Exit, console, errors, fail, plain
from quantbench.cli.tables import GAP
from quantbench.engine.rows import Fate
from quantbench.exports.document import located
from quantbench.plan import SpecInvalid
from quantbench.preview import Assumptions, CellPreview, Preview, preview

KIND = "QuantBenchmark"
OBJECT_NAME, LONGEST_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", 253
"""Names of objects in Kubernetes: RFC 1123 subdomains."""
MOST_BYTES = 8 << 20
_FIELDS = {"apiVersion", "kind", "metadata", "spec", "status"}
_STYLES = {
    Fate.SUPPORTED: "green",
    Fate.UNSUPPORTED: "red",
    Fate.PLUGIN_NEEDED: "red",
    Fate.SILENTLY_UNQUANTIZED: "red",
}


class Output(StrEnum):
    """Forms of a plan."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True)
class Problem:
    """What is wrong with a document."""

    where: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.path}: {self.message}" if self.path else f"{self.where}: {self.message}"


def plan(
    file: Annotated[
        Path, typer.Option("--filename", "-f", help="YAML with one or several QuantBenchmarks; - for standard input.")
    ],
    output: Annotated[Output, typer.Option("--output", "-o", help="Form of the plan.")] = Output.TEXT,
    engine_version: Annotated[
        str | None,
        typer.Option(help="Plan for this version of vLLM instead, e.g. 0.24.0: what if.", show_default=False),
    ] = None,
    start_seconds: Annotated[
        float, typer.Option(min=0, help="Assumed: from having a node until the server answers [s].")
    ] = Assumptions.start_seconds,
    request_seconds: Annotated[
        float, typer.Option(min=0, help="Assumed: one request of a busy server, first to last byte [s].")
    ] = Assumptions.request_seconds,
    pass_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Assumed: every pass, whatever its load [s].", show_default=False),
    ] = None,
) -> None:
    """Check a study and show what it would do; needs no cluster.

    Lists the cells, each with the flags and the environment of its server and what is known not to work, the order of
    the runs, the number of server starts, and an estimate of GPU-hours and duration from the assumed durations. Exit
    status: 0 it can be applied, 2 it has errors, which are printed with their paths.
    """
    assumptions = Assumptions(start_seconds, request_seconds, pass_seconds)
    problems: list[Problem] = []
    plans: list[Preview] = []
    for where, document in documents(file):
        made = planned(where, document, engine_version, assumptions)
        if isinstance(made, Preview):
            plans.append(made)
        else:
            problems += made
    if output is Output.JSON and not problems:
        print(json.dumps([made.to_json() for made in plans], indent=2, ensure_ascii=False))
    elif output is Output.TEXT:
        for made in plans:
            console.print(view(made), highlight=False, soft_wrap=plain())
    for problem in problems:
        errors.print(f"quantbench: {problem}", markup=False, highlight=False, soft_wrap=True)
    if problems:
        raise typer.Exit(Exit.WRONG_INPUT)


def planned(where: str, document: Any, engine_version: str | None, assumptions: Assumptions) -> Preview | list[Problem]:
    """The plan of one document, or everything that is wrong with it."""
    problems = [Problem(where, path, message) for path, message in _head(document)]
    if problems:
        return problems
    try:
        spec = written_spec(document.get("spec"))
    except ValidationError as error:
        return [Problem(where, path, message) for path, message in located(error)]
    except (ValueError, RecursionError) as error:
        return [Problem(where, "spec", f"cannot be written as JSON: {error}")]
    broken = violations(spec)
    if broken:
        return [Problem(where, path, message) for path, message in broken]
    if engine_version is not None:
        spec = spec.model_copy(update={"engine": spec.engine.model_copy(update={"version": engine_version})})
    try:
        return preview(str(document["metadata"]["name"]), spec, assumptions)
    except SpecInvalid as error:
        return [Problem(where, wrong.path, wrong.message) for wrong in error.errors]


def written_spec(spec: Any) -> QuantBenchmarkSpec:
    """A specification as strictly as the API server takes it: "200" is no number, "no" no boolean.

    Raises:
        ValueError: what it holds, or that it does not fit (ValidationError).
    """
    # Strict Python would take no list for a tuple and no text for a name of the API; strict JSON does.
    content = to_json(_sent(spec), inf_nan_mode="constants")
    return QuantBenchmarkSpec.model_validate_json(content, strict=True, by_name=False)


def _sent(value: Any) -> Any:
    """What of a YAML document counts: kubectl writes 200.0 as 200, and the API server takes null for absent."""
    if isinstance(value, dict):
        return {key: _sent(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_sent(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _head(document: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(document, Mapping):
        yield "", "not an object"
        return
    if document.get("apiVersion") != API_VERSION:
        yield "apiVersion", f"{API_VERSION} expected, {document.get('apiVersion')!r} found"
    if document.get("kind") != KIND:
        yield "kind", f"{KIND} expected, {document.get('kind')!r} found"
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str) or not name:
        yield "metadata.name", "a name is needed"
    elif len(name) > LONGEST_NAME or not re.fullmatch(OBJECT_NAME, name):
        yield "metadata.name", f"lower-case letters, digits, - and . are expected, {name[:80]!r} found"
    for field in (key for key in document if key not in _FIELDS):
        yield str(field), "unknown field"


def documents(file: Path) -> list[tuple[str, Any]]:
    """The documents of a YAML file, each with what to call it; ends the command where there is none."""
    shown = "standard input" if str(file) == "-" else str(file)
    try:
        raw = sys.stdin.buffer.read(MOST_BYTES + 1) if str(file) == "-" else _read(file)
        if len(raw) > MOST_BYTES:
            fail(Exit.WRONG_INPUT, f"{shown}: larger than {MOST_BYTES >> 20} MiB")
        found = [document for document in yaml.safe_load_all(raw.decode()) if document is not None]
    except OSError as error:
        fail(Exit.WRONG_INPUT, f"{shown}: {error.strerror or error}")
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        fail(Exit.WRONG_INPUT, f"{shown}: not YAML: {' '.join(str(error).split())}")
    if not found:
        fail(Exit.WRONG_INPUT, f"{shown}: no document")
    return [(f"{shown}, document {place}" if len(found) > 1 else shown, item) for place, item in enumerate(found, 1)]


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MOST_BYTES + 1)


def view(made: Preview) -> Group:
    """A plan for people."""
    parts: list[Text | Table] = [
        Text(f"{made.name}: vLLM {made.engine_version}, plan {made.plan_hash}", style="bold"),
        _cells(made.cells),
    ]
    parts += [Text("\nServers", style="bold"), *_servers(made.cells)]
    parts += [Text("\nOrder of the server starts", style="bold"), *_order(made)]
    parts += [Text("\nEstimate", style="bold"), *(Text(line) for line in _estimate(made))]
    parts += [Text(f"! {warning}", style="yellow") for warning in made.warnings]
    return Group(*parts, Text())


def _cells(cells: tuple[CellPreview, ...]) -> Table:
    table = Table(box=None, padding=GAP, pad_edge=False, header_style="bold")
    for column in ("VARIANT", "TARGET", "FATE"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    table.add_column("STARTS", justify="right", no_wrap=True)
    table.add_column("WHY", overflow="fold", min_width=20)
    for cell in cells:
        starts = _between(cell.starts, cell.most_starts)
        style = _STYLES.get(cell.fate, "yellow")
        table.add_row(cell.variant, cell.target, Text(cell.fate, style=style), starts, Text(cell.message))
    return table


def _servers(cells: tuple[CellPreview, ...]) -> Iterator[Text]:
    """The flags that all servers share once, then what each has of its own."""
    able = [cell for cell in cells if cell.starts]
    common = [arg for arg in able[0].args if all(arg in cell.args for cell in able)] if able else []
    env = [pair for pair in able[0].env if all(pair in cell.env for cell in able)] if able else []
    if len(able) > 1:
        yield Text("  all: " + " ".join([*common, *(f"{key}={value}" for key, value in env)]))
    else:
        common, env = [], []
    for cell in able:
        own = [arg for arg in cell.args if arg not in common]
        own += [f"{key}={value}" for key, value in cell.env if (key, value) not in env]
        yield Text(f"  {cell.variant} on {cell.target}: {' '.join(['vllm serve', cell.model, *own])}")
        for note in cell.notes:
            yield Text(f"    {note}", style="dim")


def _order(made: Preview) -> Iterator[Text]:
    blocks: dict[tuple[int, str], list[str]] = {}
    for run in made.runs:
        if not run.refusal:
            blocks.setdefault((run.block, run.target), []).append(run.variant)
    for (block, target), variants in blocks.items():
        yield Text(f"  block {block} on {target}: {', '.join(variants)}")
    if made.server_starts[1] > made.server_starts[0]:
        yield Text("  further blocks only while a ratio is neither decided nor precise", style="dim")


def _estimate(made: Preview) -> Iterator[str]:
    given = made.assumptions
    passes = f"{given.pass_seconds:g} s per pass" if given.pass_seconds is not None else (
        f"{given.request_seconds:g} s per request under load"
    )  # fmt: skip
    yield f"  server starts  {_between(*made.server_starts)}"
    yield f"  GPU-hours      {_between(*made.gpu_hours, digits=1)}"
    yield f"  duration       {_between(*made.hours, digits=1)} h, if a node is free at once"
    yield f"  assumed, not measured: {given.start_seconds:g} s per server start, {passes}"
    yield "  (--start-seconds, --request-seconds, --pass-seconds)"


def _between(least: float, most: float, digits: int = 0) -> str:
    low, high = f"{least:.{digits}f}", f"{most:.{digits}f}"
    return low if low == high else f"{low} to {high}"
