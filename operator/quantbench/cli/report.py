"""`quantbench report`: a study as one file to read, to send and to keep."""

from pathlib import Path
from typing import Annotated

import typer

from quantbench import __version__
from quantbench.cli import read
from quantbench.cli.common import (
    AsItStands,
    Baseline,
    Context,
    Exit,
    Kubeconfig,
    Namespace,
    Source,
    errors,
    fail,
    load,
)
from quantbench.cli.output import write_files
from quantbench.exports import Study
from quantbench.report import build, to_markdown

MARKDOWN = (".md", ".markdown")
HTML = (".html", ".htm")
STANDARD_OUTPUT = Path("-")


def report(
    study: Source,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File to write, .html or .md by its name; - writes Markdown to standard output."
        ),
    ] = Path("report.html"),
    baseline: Baseline = None,
    as_it_stands: AsItStands = False,
) -> None:
    """Write a study's report: the answer, the matrix, charts, failures, configuration, and how to run it again.

    HTML is one file that loads nothing else; it needs Matplotlib and Jinja2 (uv tool install '.[report]'). Values that
    look like credentials are left out. Exit status: 0 written, 2 it cannot be written or read, 3 no such study, 4 the
    cluster did not answer.
    """
    form = output.suffix.lower()
    if output != STANDARD_OUTPUT and form not in (*HTML, *MARKDOWN):
        fail(Exit.WRONG_INPUT, f"--output {output}: the name must end with .html or .md")
    found = load(study, read.Access(namespace, context, kubeconfig), baseline, as_it_stands=as_it_stands)
    text = _html(found) if form in HTML else to_markdown(build(found, __version__))
    if output == STANDARD_OUTPUT:
        print(text, end="")
        return
    write_files({output: text})
    errors.print(f"written: {output}", markup=False, highlight=False, soft_wrap=True)


def _html(study: Study) -> str:
    try:
        from quantbench.report.html import to_html  # Matplotlib takes half a second, and may be missing
    except ModuleNotFoundError as error:
        fail(Exit.WRONG_INPUT, f"HTML needs {error.name}: uv tool install '.[report]', or write Markdown (.md)")
    return to_html(build(study, __version__))
