"""Settings of all unit tests."""

import os

from hypothesis import HealthCheck, settings

# Test workers get the size of a terminal that is not theirs, and a console takes its width from there for good.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# The same examples on every machine and in every run: a failure can be repeated, and CI does not fail by luck.
settings.register_profile(
    "quantbench",
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quantbench")
