"""The commands that look at studies. Each one parses, calls one function and prints."""

import asyncio
import csv
import json
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Group

from quantbench import __version__
from quantbench.cli import logs as log_view
from quantbench.cli import read, tables, watching
from quantbench.cli.common import (
    AsItStands,
    Baseline,
    Context,
    Exit,
    Kubeconfig,
    Name,
    Namespace,
    Source,
    console,
    fail,
    failures,
    load,
    plain,
)
from quantbench.cli.compare import view as comparison_view
from quantbench.cli.output import write_files
from quantbench.exports import Study, to_document
from quantbench.exports.benchmark_report import to_report
from quantbench.exports.comparison import compare as put_together
from quantbench.exports.rows import COLUMNS, rows, summary_document
from quantbench.exports.vllm_bench import to_result


class Output(StrEnum):
    """Forms of results."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Shown(StrEnum):
    """Forms of a comparison."""

    TABLE = "table"
    JSON = "json"


class Form(StrEnum):
    """Forms of an export."""

    QUANTBENCH = "quantbench"
    VLLM = "vllm"
    LLM_D = "llm-d"


class Part(StrEnum):
    """Whose log."""

    SERVER = "server"
    LOAD = "load"


def watch(name: Name, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Show a study's progress until it ends, then its results.

    Requests that fail are tried again for a minute. Exit status: 0 measured, 1 the study was refused or nothing was
    measured, 3 no such study, 4 the cluster did not answer.
    """
    with failures():
        study = asyncio.run(watching.watch_cluster(name, read.Access(namespace, context, kubeconfig), console))
    _show(study)
    raise typer.Exit(Exit.OK if study.measured else Exit.NO_RESULT)


def results(
    study: Source,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="Form of the results.")] = Output.TABLE,
    baseline: Baseline = None,
    as_it_stands: AsItStands = False,
) -> None:
    """Print a study's figures: one row per variant, target and load, each with its ratio to the baseline.

    Exit status: 0 there are figures, 1 there are none, 2 the file cannot be read, 3 no such study, 4 the cluster did
    not answer.
    """
    access = read.Access(namespace, context, kubeconfig)
    found = load(study, access, baseline, with_runs=False, as_it_stands=as_it_stands)
    if output is Output.JSON:
        print(json.dumps(summary_document(found), indent=2, ensure_ascii=False))
    elif output is Output.CSV:
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows(found))
    else:
        _show(found)
    raise typer.Exit(Exit.OK if found.measured else Exit.NO_RESULT)


def compare(
    first: Source,
    second: Source,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Annotated[Shown, typer.Option("--output", "-o", help="Form of the comparison.")] = Shown.TABLE,
) -> None:
    """Put two studies side by side: the second's figures over the first's, cell by cell.

    Warns where version, model, GPUs, settings, workload, lengths or effective configurations differ. Exit status: 0
    compared, 1 no cell in common, 2 a file cannot be read, 3 no such study, 4 the cluster did not answer.
    """
    access = read.Access(namespace, context, kubeconfig)
    found = put_together(load(first, access), load(second, access))
    if output is Shown.JSON:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        tables.fitting(console, comparison_view(found, first, second), plain=plain())
    raise typer.Exit(Exit.OK if found.rows else Exit.NO_RESULT)


def stages(study: Source, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Print where each run's time went, and where the operator kept others waiting.

    Exit status: 0 printed, 2 the file cannot be read, 3 no such study, 4 the cluster did not answer.
    """
    found = load(study, read.Access(namespace, context, kubeconfig))
    tables.fitting(console, Group(tables.usage(found.runs), tables.gaps(found.runs)), plain=plain())


def export(
    study: Source,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="quantbench: one JSON file with everything; vllm: a result file of vllm bench serve per pass;"
            " llm-d: a Benchmark Report 0.2 (YAML) per pass.",
        ),
    ] = Form.QUANTBENCH,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="File, or folder for a file per pass; absent: standard output.", show_default=False),
    ] = None,
    baseline: Baseline = None,
) -> None:
    """Write a study with its runs to files that need no cluster to be read again.

    Values that look like credentials are left out. Exit status: 0 written, 2 it cannot be written or read, 3 no such
    study, 4 the cluster did not answer.
    """
    found = load(study, read.Access(namespace, context, kubeconfig), baseline)
    if form is Form.QUANTBENCH:
        text = json.dumps(to_document(found, __version__), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        if to is None:
            print(text, end="")
        else:
            write_files({to: text})
        return
    if to is None:
        fail(Exit.WRONG_INPUT, f"--format {form} writes a file per pass: say where, --to FOLDER")
    write_files({to / path: text for path, text in _per_pass(found, form).items()})


def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Exports of one study, or one file or folder of vllm bench serve or vllm bench sweep serve.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write; absent: standard output.", show_default=False)
    ] = None,
    baseline: Baseline = None,
    as_it_stands: AsItStands = False,
) -> None:
    """Turn results of other tools, or several exports of one study, into one export.

    Blocks stay blocks; exports that hold different runs for one place of the plan are refused, and so are results of
    one variant or load that tell another checkpoint or other work. Targets and starts are known of files of --format
    vllm alone; others are taken for one start of each variant. Exit status: 0 written, 2 a file cannot be read or they
    do not fit together.
    """
    for path in paths:
        if not path.exists():
            fail(Exit.WRONG_INPUT, f"{path}: no such file or folder")
    with failures():
        found = read.load_paths(paths, baseline, as_they_stand=as_it_stands)
    text = json.dumps(to_document(found, __version__), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if to is None:
        print(text, end="")
    else:
        write_files({to: text})


def logs(
    run: Annotated[str, typer.Argument(help="Name of a run, as `kubectl get qbr` shows it.", show_default=False)],
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    part: Annotated[Part, typer.Option("--of", help="Whose log.")] = Part.SERVER,
    tail: Annotated[int | None, typer.Option(min=1, help="Last lines only.", show_default=False)] = None,
) -> None:
    """Print the log of a run's server or load generator while its pod exists, else what was kept of it.

    Exit status: 0 the log, 1 the pod is gone: what was kept is printed, 3 no such run, 4 the cluster did not answer.
    """
    with failures():
        text, live = asyncio.run(log_view.of_run(run, str(part), read.Access(namespace, context, kubeconfig), tail))
    print(text)
    raise typer.Exit(Exit.OK if live else Exit.NO_RESULT)


def _show(study: Study) -> None:
    tables.fitting(console, tables.results(study, None if plain() else console.width), plain=plain())


def _per_pass(study: Study, form: Form) -> dict[Path, str]:
    found = {}
    for run in study.runs:
        for measured in run.status.passes:
            path = Path(run.name) / f"attempt={measured.attempt}-{measured.load}-run={measured.repeat - 1}"
            if form is Form.VLLM:
                found[path.with_suffix(".json")] = json.dumps(to_result(run, measured), indent=4) + "\n"
            else:
                found[path.with_suffix(".yaml")] = yaml.safe_dump(to_report(study, run, measured), sort_keys=False)
    return found


COMMANDS: Mapping[str, Callable[..., None]] = {
    "watch": watch,
    "results": results,
    "compare": compare,
    "stages": stages,
    "export": export,
    "import": import_,
    "logs": logs,
}
