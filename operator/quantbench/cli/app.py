"""The commands. Each one parses, calls one function and prints."""

import asyncio
import json
import logging
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import kopf
import typer
from rich.console import Console
from rich.live import Live

from quantbench import __version__
from quantbench.cli import read, tables
from quantbench.exports import ExportError, Study
from quantbench.kube import ApiError
from quantbench.settings import Settings

app = typer.Typer(
    no_args_is_help=True, add_completion=True, help="Which quantization to serve, on which GPU, and how many."
)
console = Console()
errors = Console(stderr=True)

NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the benchmark.")]
NameArgument = Annotated[str, typer.Argument(help="Name of the QuantBenchmark.")]
POLL_SECONDS = 2.0


def _version(wanted: bool) -> None:
    if wanted:
        console.print(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Which quantization to serve, on which GPU, and how many."""


@app.command()
def operator() -> None:
    """Run the operator in this process; settings come from QUANTBENCH_* variables."""
    from quantbench.handlers import run_operator

    try:
        settings = Settings.from_environment()
    except ValueError as error:
        errors.print(f"quantbench: {error}", markup=False)
        raise typer.Exit(2) from error
    kopf.configure(log_format=kopf.LogFormat.JSON if settings.json_logs else kopf.LogFormat.PLAIN)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    asyncio.run(run_operator(settings))


@app.command()
def watch(name: NameArgument, namespace: NamespaceOption = "default") -> None:
    """Show a study's progress until it ends; exit status 1 when it was refused or nothing was measured."""
    study = _run(_watch(namespace, name))
    console.print(tables.results(study))
    raise typer.Exit(0 if study.measured else 1)


async def _watch(namespace: str, name: str) -> Study:
    async with read.connected(read.Access(namespace)) as (kube, _):
        shown: set[str] = set()
        with Live(console=console, refresh_per_second=4, transient=True, redirect_stdout=False) as live:
            while True:
                study = await read.study(kube, namespace, name)
                if console.is_terminal:
                    live.update(tables.progress(study))
                else:
                    for line in tables.progress_lines(study):
                        if line not in shown:
                            console.print(line, markup=False, highlight=False)
                            shown.add(line)
                if study.ended or study.refused:
                    return study
                await asyncio.sleep(POLL_SECONDS)


@app.command()
def results(
    name: NameArgument,
    namespace: NamespaceOption = "default",
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
) -> None:
    """Print a study's figures."""
    study = _run(_read(namespace, name))
    if output == "json":
        print(json.dumps([cell.to_json() for cell in study.benchmark.status.cells], indent=2))
    else:
        console.print(tables.results(study))


@app.command()
def stages(name: NameArgument, namespace: NamespaceOption = "default") -> None:
    """Print where each run's time went, and where the operator kept others waiting."""
    study = _run(_read(namespace, name))
    console.print(tables.usage(study.runs))
    console.print(tables.gaps(study.runs))


class AuditOutput(StrEnum):
    """Forms of an audit's report."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


@app.command()
def audit(
    file: Annotated[Path, typer.Argument(help="Markdown with tables, or CSV (.csv, .tsv).", show_default=False)],
    output: Annotated[AuditOutput, typer.Option("--output", "-o", help="Form of the report.")] = AuditOutput.TEXT,
    baseline: Annotated[
        str | None, typer.Option(help="Name of the row that others are compared with, where the names do not tell.")
    ] = None,
    noise_floor: Annotated[
        float | None,
        typer.Option(min=0.0, max=1000.0, help="Throughput difference in percent that one run each cannot show (7.9)."),
    ] = None,
) -> None:
    """Check published figures by their own arithmetic: percentages, equal kernels, single runs, conclusions.

    Exit status: 0 nothing found, 1 findings, 2 the file cannot be read or holds no table of figures.
    """
    from quantbench.audit.document import Unreadable
    from quantbench.audit.rules import audit as check
    from quantbench.cli import audit as view

    try:
        report = check(view.read_file(file), file.name, baseline, noise_floor)
    except Unreadable as error:
        where = f"{file}:{error.line}" if error.line else str(file)
        errors.print(f"quantbench: {where}: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    if output is AuditOutput.JSON:
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    elif output is AuditOutput.MARKDOWN:
        print(view.as_markdown(report))
    else:
        console.print(view.as_text(report), highlight=False, soft_wrap=not console.is_terminal)
    raise typer.Exit(1 if report.findings else 0)


async def _read(namespace: str, name: str) -> Study:
    async with read.connected(read.Access(namespace)) as (kube, _):
        return await read.study(kube, namespace, name)


def _run(coroutine: Coroutine[Any, Any, Study]) -> Study:
    try:
        return asyncio.run(coroutine)
    except (ApiError, ExportError, read.NotFound) as error:
        errors.print(f"quantbench: {error}", markup=False)
        raise typer.Exit(1) from error
