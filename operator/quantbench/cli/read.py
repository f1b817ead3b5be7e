"""Reading a study and its runs from the cluster."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kubernetes.aio.config import ConfigException

from quantbench.api.conditions import ConditionType
from quantbench.kube import ApiError, Kube
from quantbench.observe import Benchmark, Run, Unreadable, read_benchmark, read_runs
from quantbench.resources import labels


class NotFound(Exception):
    """There is no such object."""


@dataclass(frozen=True)
class Study:
    """A benchmark and its runs, oldest first; ``unreadable`` runs were written by another version."""

    benchmark: Benchmark
    runs: tuple[Run, ...]
    unreadable: tuple[Unreadable, ...] = ()

    def condition(self, kind: ConditionType) -> tuple[str, str, str]:
        """Status, reason and message of a condition; empty strings where it is not set."""
        for condition in self.benchmark.status.conditions:
            if condition.type == kind:
                return condition.status, condition.reason, condition.message
        return "", "", ""

    @property
    def ended(self) -> bool:
        """No run is left."""
        return self.condition(ConditionType.COMPLETE)[0] == "True"

    @property
    def refused(self) -> bool:
        """The specification was not accepted."""
        return self.condition(ConditionType.ACCEPTED)[0] == "False"

    @property
    def measured(self) -> bool:
        """There is at least one figure."""
        return any(cell.loads for cell in self.benchmark.status.cells)


@asynccontextmanager
async def connected() -> AsyncIterator[Kube]:
    """The cluster that $KUBECONFIG or ~/.kube/config names."""
    try:
        kube = await Kube.connect()
    except ConfigException as error:
        raise ApiError(0, "NoConfiguration", f"{error}: set KUBECONFIG") from error
    try:
        yield kube
    finally:
        await kube.close()


async def study(kube: Kube, namespace: str, name: str) -> Study:
    """Read a benchmark and its runs.

    Raises:
        NotFound: there is no such benchmark.
        ApiError: the API server did not answer.
    """
    raw = await kube.get("QuantBenchmark", namespace, name)
    if raw is None:
        raise NotFound(f"no QuantBenchmark {name!r} in namespace {namespace!r}")
    found = await kube.list("QuantBenchmarkRun", namespace, f"{labels.BENCHMARK}={labels.short(name)}")
    runs, unreadable = read_runs(found, raw["metadata"]["uid"])
    in_order = sorted(runs, key=lambda run: (run.created_at, run.name))
    return Study(read_benchmark(raw), tuple(in_order), tuple(unreadable))
