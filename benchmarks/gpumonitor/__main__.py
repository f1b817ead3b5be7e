"""Entry point of ``python3 /quantbench/gpumonitor -- COMMAND …``."""

import importlib
import os
import sys

package = __package__
if not package:
    # As in the load runner: the parent of this folder, not the folder itself, belongs on the path.
    parent, package = os.path.split(os.path.dirname(os.path.abspath(__file__)))
    sys.path[0] = parent

if __name__ == "__main__":
    sys.exit(importlib.import_module(f"{package}.launch").main(sys.argv[1:]))
