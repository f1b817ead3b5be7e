"""`quantbench cut`: a part of a study for one sitting, as YAML to apply."""

import copy
import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from quantbench.api.base import JsonObject
from quantbench.api.benchmark import MAX_STARTS
from quantbench.cli.common import Exit, errors, fail
from quantbench.cli.plan import documents, planned
from quantbench.preview import Assumptions, Preview

LONGEST_NAME = 63
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_OWN = ("name", "namespace", "labels", "annotations")


def cut(
    file: Annotated[Path, typer.Option("--filename", "-f", help="YAML with one QuantBenchmark; - for standard input.")],
    variants: Annotated[
        str | None,
        typer.Option(help="Variants of this sitting, joined by commas; the baseline always stays.", show_default=False),
    ] = None,
    starts: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_STARTS,
            help="Server starts of each, no more; those of the study if absent.",
            show_default=False,
        ),
    ] = None,
    no_control: Annotated[bool, typer.Option("--no-control", help="Leave out the control.")] = False,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the sitting; absent: the study's with the variants'.", show_default=False),
    ] = None,
) -> None:
    """Print a part of a study to apply when GPU time is short: some of its variants, so many starts.

    Whatever else shapes the work stays as it is, so that the exports of all sittings can be read as one study:
    `quantbench report a.json,b.json`. Each sitting needs a name of its own. Exit status: 0 printed, 2 it has errors.
    """
    found = documents(file)
    if len(found) > 1:
        fail(Exit.WRONG_INPUT, f"{file}: {len(found)} documents: give one study")
    where, document = found[0]
    _check(where, document)
    wanted = None if variants is None else [part.strip() for part in variants.split(",") if part.strip()]
    known = [variant["name"] for variant in document["spec"]["variants"]]
    unknown = [variant for variant in wanted or () if variant not in known]
    if unknown:
        fail(Exit.WRONG_INPUT, f"--variants: no {', '.join(unknown)} in {where}; it has {', '.join(known)}")
    made = part_of(document, wanted, starts, name, control=not no_control)
    _check(f"{where}, cut", made)
    print(yaml.safe_dump(made, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120), end="")


def _check(where: str, document: Any) -> None:
    problems = planned(where, document, None, Assumptions())
    if not isinstance(problems, Preview):
        for problem in problems:
            errors.print(f"quantbench: {problem}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(Exit.WRONG_INPUT)


def part_of(
    document: JsonObject, variants: list[str] | None, starts: int | None, name: str | None, *, control: bool = True
) -> JsonObject:
    """The study of one sitting, from a valid document.

    Args:
        document: the whole study.
        variants: which ones, beside the baseline; None: all.
        starts: server starts of each, none of them adaptive; None: as in the study.
        name: of the sitting; None: made of the study's and the variants' names.
        control: whether the control stays, if the study has one.
    """
    made: JsonObject = {key: copy.deepcopy(document[key]) for key in ("apiVersion", "kind", "metadata", "spec")}
    # What the API server and kubectl add to an object speaks of that one.
    head = made["metadata"] = {key: made["metadata"][key] for key in made["metadata"] if key in _OWN}
    if (head.get("annotations") or {}).pop(LAST_APPLIED, None) is not None and not head["annotations"]:
        del head["annotations"]
    spec = made["spec"]
    if variants is not None:
        spec["variants"] = [v for v in spec["variants"] if v["name"] in (spec["baseline"], *variants)]
    sampling: JsonObject = {} if starts is None else {"starts": starts, "maxStarts": starts}
    if not control:
        sampling["control"] = False
    if sampling:
        spec["sampling"] = {**(spec.get("sampling") or {}), **sampling}
    others = [variant["name"] for variant in spec["variants"] if variant["name"] != spec["baseline"]]
    head["name"] = name or _short("-".join([head["name"], *(others or [spec["baseline"]])]))
    return made


def _short(name: str) -> str:
    if len(name) <= LONGEST_NAME:
        return name
    # Cut names must still differ.
    return f"{name[: LONGEST_NAME - 7].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
