"""The file that marks a checkpoint folder as whole and says what it was made from. Standard library only."""

from __future__ import annotations

import json
from pathlib import Path

NAME = "quantbench-checkpoint.json"


def write(folder: Path, parameters: dict[str, object]) -> dict[str, int]:
    """Mark ``folder`` as whole; returns the sizes in bytes of the files in it, without the marker."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != NAME}
    text = json.dumps({"parameters": parameters, "files": sizes}, indent=2, sort_keys=True) + "\n"
    (folder / NAME).write_text(text, encoding="utf-8")
    return sizes


def is_complete(folder: Path, parameters: dict[str, object]) -> bool:
    """Whether ``folder`` is a whole checkpoint made from exactly these parameters.

    A missing or unreadable marker, other parameters, and a file that is missing or has another size all count
    as not complete. File contents are not read.
    """
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        files = dict(found["files"])
        same = found["parameters"] == json.loads(json.dumps(parameters))
        return bool(files) and same and all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, TypeError, KeyError):
        return False
