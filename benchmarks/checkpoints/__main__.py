"""``python3 benchmarks/checkpoints``: makes checkpoints; see ``--help``."""

import sys
from pathlib import Path

# Started as a folder, Python puts this folder on the path, where our module names could hide others'.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.checkpoints.cli import main  # noqa: E402 - the path must be set first

if __name__ == "__main__":
    sys.exit(main())
