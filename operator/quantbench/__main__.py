"""``python -m quantbench``."""

from quantbench.cli import app

app(prog_name="quantbench")
