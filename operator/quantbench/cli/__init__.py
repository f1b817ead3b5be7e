"""The command line `quantbench`: the operator process, and views of what it did."""

from quantbench.cli.app import app

__all__ = ["app"]
