"""The pods that the operator really makes, for what the chart says about them."""

from __future__ import annotations

from typing import Any

import yaml

from chart_support.chart import metadata
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.plan import make_plan, run_spec
from quantbench.resources.load import load_job
from quantbench.resources.programs import RunnerImage
from quantbench.resources.server import server_pod


def example() -> dict[str, Any]:
    """The QuantBenchmark that Artifact Hub shows."""
    (found,) = yaml.safe_load(metadata()["annotations"]["artifacthub.io/crdsExamples"])
    return found


def server_and_load() -> tuple[dict[str, Any], dict[str, Any]]:
    """Server pod and load pod (metadata and spec) of the example's first run, in the namespace `team-a`."""
    spec = QuantBenchmarkSpec.model_validate(example()["spec"])
    plan = make_plan("example", "0-0", spec)
    run = plan.runs[0]
    resolved = run_spec("example", spec, plan, run)
    runner = RunnerImage("operator:1")
    server = server_pod(run.name, "1-1", "team-a", resolved, 1, runner)
    job = load_job(run.name, "1-1", "team-a", resolved, 1, "10.0.0.1", runner)
    return server, job["spec"]["template"]
