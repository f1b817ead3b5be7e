"""The operator's settings, from its environment."""

from __future__ import annotations

import pytest

from quantbench import __version__
from quantbench.settings import Settings


def test_defaults() -> None:
    found = Settings.from_environment({})
    assert (found.namespaces, found.lease_namespace, found.lease_name) == ((), None, "quantbench-operator")
    assert (found.port, found.workers, found.json_logs) == (8080, 8, True)
    assert found.runner.image == f"quantbench/operator:{__version__}"
    assert found.identity


def test_everything_said() -> None:
    found = Settings.from_environment(
        {
            "QUANTBENCH_NAMESPACES": " a, b,,",
            "QUANTBENCH_OPERATOR_IMAGE": "registry.example/operator:1",
            "QUANTBENCH_OPERATOR_IMAGE_PULL_POLICY": "Never",
            "QUANTBENCH_LEASE_NAMESPACE": "system",
            "QUANTBENCH_LEASE_NAME": "mine",
            "POD_NAME": "operator-0",
            "QUANTBENCH_HTTP_PORT": "0",
            "QUANTBENCH_WORKERS": "3",
            "QUANTBENCH_LOG_FORMAT": "text",
        }
    )
    assert found.namespaces == ("a", "b")
    assert (found.runner.image, found.runner.pull_policy) == ("registry.example/operator:1", "Never")
    assert (found.lease_namespace, found.lease_name, found.identity) == ("system", "mine", "operator-0")
    assert (found.port, found.workers, found.json_logs) == (0, 3, False)


@pytest.mark.parametrize("name", ["QUANTBENCH_HTTP_PORT", "QUANTBENCH_WORKERS"])
@pytest.mark.parametrize("value", ["many", "-1", "1.5", "²"])
def test_numbers_that_are_none(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        Settings.from_environment({name: value})


def test_no_workers_would_be_no_operator() -> None:
    with pytest.raises(ValueError, match="QUANTBENCH_WORKERS"):
        Settings.from_environment({"QUANTBENCH_WORKERS": "0"})
