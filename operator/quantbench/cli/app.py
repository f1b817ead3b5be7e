"""The commands. Each one parses, calls one function and prints."""

import asyncio
import json
import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quantbench import __version__
from quantbench.cli.common import AsItStands, Exit, console, errors, fail
from quantbench.cli.cut import cut
from quantbench.cli.output import Commands
from quantbench.cli.plan import plan
from quantbench.cli.report import report
from quantbench.cli.studies import COMMANDS
from quantbench.settings import Settings

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    help="Which quantization to serve, on which GPU, and how many.",
)


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
    import kopf  # takes a third of a second, which no other command should wait for

    from quantbench.handlers import run_operator

    try:
        settings = Settings.from_environment()
    except ValueError as error:
        errors.print(f"quantbench: {error}", markup=False)
        raise typer.Exit(2) from error
    kopf.configure(log_format=kopf.LogFormat.JSON if settings.json_logs else kopf.LogFormat.PLAIN)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    asyncio.run(run_operator(settings))


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
    against: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Compare with this study instead: an export, several joined by commas, or a name in the cluster.",
            show_default=False,
        ),
    ] = None,
    conclusions: Annotated[
        Path | None,
        typer.Option(
            help="With --against: YAML with the study's conclusions; absent: FILE with the ending .yaml, if it exists.",
            show_default=False,
        ),
    ] = None,
    as_it_stands: AsItStands = False,
) -> None:
    """Check published figures by their own arithmetic: percentages, equal kernels, single runs, conclusions.

    With --against, put them beside what was measured: row by row with intervals, and each conclusion judged by them.
    Exit status: 0 nothing found, or compared, 1 findings, or nothing to compare, 2 a file cannot be read or holds no
    table of figures, 3 no such study, 4 the cluster did not answer.
    """
    from quantbench.audit.document import Unreadable
    from quantbench.audit.rules import audit as check
    from quantbench.cli import audit as view

    if against is None and conclusions is not None:
        fail(Exit.WRONG_INPUT, "--conclusions: needs --against")
    if against is None and as_it_stands:
        fail(Exit.WRONG_INPUT, "--as-it-stands: needs --against")
    if against is not None and noise_floor is not None:
        fail(Exit.WRONG_INPUT, "--noise-floor: the measured intervals of --against replace it")
    try:
        if against is not None:
            _print_comparison(file, against, conclusions, baseline, output, as_it_stands)
            return
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


def _print_comparison(
    file: Path, against: str, conclusions: Path | None, baseline: str | None, output: AuditOutput, as_it_stands: bool
) -> None:
    from quantbench.cli.published import compared
    from quantbench.published.markdown import to_markdown

    found = compared(file, against, conclusions, baseline, as_it_stands=as_it_stands)
    if output is AuditOutput.JSON:
        print(json.dumps(found.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False))
    else:
        print(to_markdown(found), end="")


for name, command in COMMANDS.items():
    app.command(name)(command)
app.command("plan")(plan)
app.command("cut")(cut)
app.command("report")(report)
