"""Labels by which children are found again."""

import hashlib

from quantbench.api.names import GROUP

BENCHMARK = f"{GROUP}/benchmark"
RUN = f"{GROUP}/run"
COMPONENT = f"{GROUP}/component"
ATTEMPT = f"{GROUP}/attempt"
VARIANT = f"{GROUP}/variant"
TARGET = f"{GROUP}/target"
SERVER = "server"
LOAD = "load"
MANAGED = {"app.kubernetes.io/name": "quantbench", "app.kubernetes.io/managed-by": "quantbench"}


def short(name: str) -> str:
    """A name as a label value: at most 63 characters, and the same name always gives the same value."""
    if len(name) <= 63:
        return name
    return f"{name[:54].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
