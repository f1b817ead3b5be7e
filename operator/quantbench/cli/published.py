"""A published study beside measured ones: reading its conclusions, and the whole comparison."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from quantbench.audit.document import Unreadable
from quantbench.cli import audit, read
from quantbench.cli.common import Exit, fail, load
from quantbench.exports import ExportError
from quantbench.exports.document import located
from quantbench.published import Comparison, Conclusions, compare


def compared(
    file: Path, against: str, conclusions: Path | None, baseline: str | None, *, as_it_stands: bool = False
) -> Comparison:
    """The comparison of a published file with the studies of a source; ends the command where there is none.

    Raises:
        Unreadable: the published file cannot be read, or holds no table of figures.
    """
    text = audit.read_file(file)
    study = load(against, read.Access(), as_it_stands=as_it_stands)
    beside = file.with_suffix(".yaml")
    chosen = conclusions or (beside if beside.is_file() else None)
    try:
        return compare(text, file.name, study, read_conclusions(chosen) if chosen else None, baseline)
    except ExportError as error:
        fail(Exit.NO_RESULT, error)


def read_conclusions(path: Path) -> Conclusions:
    """The conclusions of a published study; ends the command where they cannot be read."""
    try:
        return Conclusions.model_validate(yaml.safe_load(audit.read_file(path)))
    except ValidationError as error:
        fail(Exit.WRONG_INPUT, f"{path}: {'; '.join(f'{where[1:]}: {said}' for where, said in located(error, ''))}")
    except Unreadable as error:
        fail(Exit.WRONG_INPUT, f"{path}: {error}")
    except yaml.YAMLError as error:
        fail(Exit.WRONG_INPUT, f"{path}: not YAML: {' '.join(str(error).split())}")
