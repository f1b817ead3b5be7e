"""What the commands share: kubectl's flags, exit statuses, the consoles, and one way to fail."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from quantbench.cli import read
from quantbench.exports import ExportError, Study
from quantbench.kube import ApiError


class Terminal(Console):
    """A console that leaves it to the program's end to judge a standard output that fails."""

    def on_broken_pipe(self) -> None:
        """The reader has stopped: nothing follows."""
        raise  # noqa: PLE0704  # called while the error is handled


console = Terminal()
errors = Console(stderr=True)

COMPLETION_SECONDS = 1.5
"""How long a pressed Tab key waits for the cluster."""


class Exit(IntEnum):
    """Exit statuses; every command's help names those that it uses. Each may end with NOT_WRITTEN, too."""

    OK = 0
    NO_RESULT = 1
    WRONG_INPUT = 2
    NOT_FOUND = 3
    NO_ANSWER = 4
    NOT_WRITTEN = 5


MEANINGS = {
    Exit.OK: "done",
    Exit.NO_RESULT: "no result: nothing measured, nothing to compare, findings of an audit, a study that was refused",
    Exit.WRONG_INPUT: "wrong arguments, a file that cannot be read, a specification with errors",
    Exit.NOT_FOUND: "no such object in the cluster",
    Exit.NO_ANSWER: "the cluster did not answer, or refused the request",
    Exit.NOT_WRITTEN: "any command: standard output could not be written, or its reader stopped",
}


def _names(context: typer.Context, incomplete: str) -> list[str]:
    """Benchmarks of the namespace for the shell's completion; files are completed by the shell itself."""
    given = {key: context.params.get(key) for key in ("namespace", "context", "kubeconfig")}
    found = asyncio.run(read.names(read.Access(**given), COMPLETION_SECONDS))
    return [name for name in found if name.startswith(incomplete)]


Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace of the study; that of the context if absent.")
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
Kubeconfig = Annotated[str | None, typer.Option("--kubeconfig", help="Path of the kubeconfig.")]
Name = Annotated[str, typer.Argument(help="Name of the QuantBenchmark.", autocompletion=_names, show_default=False)]
Source = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="Name of a QuantBenchmark, or path of an export or of results of vllm bench;"
        " exports of one study may be joined by commas.",
        autocompletion=_names,
        show_default=False,
    ),
]
Baseline = Annotated[
    str | None, typer.Option(help="Variant to compare with, for results of vllm bench, which do not say.")
]

AsItStands = Annotated[
    bool,
    typer.Option(
        "--as-it-stands",
        help="Of exports of studies that were cut off: judge what they hold, as if nothing followed.",
    ),
]


def fail(status: Exit, message: object) -> NoReturn:
    """Say why on standard error, and end."""
    errors.print(f"quantbench: {message}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(status)


@contextmanager
def failures() -> Iterator[None]:
    """What goes wrong inside becomes a sentence and an exit status."""
    try:
        yield
    except read.NotFound as error:
        fail(Exit.NOT_FOUND, error)
    except ApiError as error:
        fail(Exit.NO_ANSWER, error if error.status else f"the cluster did not answer: {error.reason}: {error.message}")
    except ExportError as error:
        fail(Exit.WRONG_INPUT, error)


def load(
    source: str,
    access: read.Access,
    baseline: str | None = None,
    *,
    with_runs: bool = True,
    as_it_stands: bool = False,
) -> Study:
    """The study of a source; ends the command where there is none."""
    if as_it_stands and not read.is_path(source):
        why = f"runs of {source} may follow in the cluster: lower its spec.limits.gpuHours to end it, or export it"
        fail(Exit.WRONG_INPUT, f"--as-it-stands: {why}")
    with failures():
        return read.load_study(source, access, baseline, with_runs=with_runs, as_it_stands=as_it_stands)


def plain() -> bool:
    """Whether lines must not be wrapped or cut for a terminal's width."""
    return not console.is_terminal and "COLUMNS" not in os.environ
