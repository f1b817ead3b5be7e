"""Entry point of ``python3 /quantbench/loadrunner``."""

import importlib
import os
import sys

package = __package__
if not package:
    # Python put this folder itself on the path, where module names as plain as `server` or `dataset` would shadow
    # third-party ones during vLLM's imports. Its parent goes there instead.
    parent, package = os.path.split(os.path.dirname(os.path.abspath(__file__)))
    sys.path[0] = parent

if __name__ == "__main__":
    sys.exit(importlib.import_module(f"{package}.runner").main())
