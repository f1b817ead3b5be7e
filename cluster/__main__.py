"""Entry point of ``python3 cluster``."""

import sys
from pathlib import Path

# `python3 cluster` puts this folder on the path, not the one that holds the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from cluster.cli import main  # noqa: E402  (the path comes first)

if __name__ == "__main__":
    sys.exit(main())
