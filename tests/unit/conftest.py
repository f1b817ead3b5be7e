"""Settings of all unit tests."""

from hypothesis import HealthCheck, settings

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
