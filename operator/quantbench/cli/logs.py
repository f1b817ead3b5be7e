"""The log of a run's server or load generator, or what was kept of it."""

from collections.abc import Iterator

from pydantic import ValidationError

from quantbench.cli import read
from quantbench.exports import ExportError
from quantbench.exports.document import field_errors
from quantbench.observe import Run, read_run
from quantbench.resources import labels
from quantbench.resources.load import CONTAINER as LOAD_CONTAINER
from quantbench.resources.server import CONTAINER as SERVER_CONTAINER

MOST_BYTES = 64 << 20
_CONTAINERS = {labels.SERVER: SERVER_CONTAINER, labels.LOAD: LOAD_CONTAINER}


async def of_run(name: str, component: str, access: read.Access, tail: int | None) -> tuple[str, bool]:
    """The log of the newest pod of a run, or what was kept; and which of the two it is.

    Raises:
        quantbench.cli.read.NotFound: there is no such run.
        quantbench.kube.ApiError: the API server did not answer.
    """
    async with read.connected(access) as (kube, namespace):
        raw = await kube.get("QuantBenchmarkRun", namespace, name)
        if raw is None:
            raise read.NotFound(f"no QuantBenchmarkRun {name!r} in namespace {namespace!r}")
        try:
            run = read_run(raw)
        except ValidationError as error:
            raise ExportError(f"QuantBenchmarkRun {name}: {field_errors(error)}") from error
        selector = f"{labels.RUN}={name},{labels.COMPONENT}={component}"
        pods = await kube.list("Pod", namespace, selector)
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True):
            log = await kube.log(
                namespace, pod["metadata"]["name"], _CONTAINERS[component], limit_bytes=MOST_BYTES, tail_lines=tail
            )
            if log:
                return log.rstrip("\n"), True
        return "\n".join(kept(run, component, bool(pods))), False


def kept(run: Run, component: str, exists: bool) -> Iterator[str]:
    """What a run's status still says, and where the log went."""
    outcome = run.status.verdict
    where = f" on node {run.status.server.node}" if run.status.server and run.status.server.node else ""
    if exists:
        yield f"The {component} pod of {run.name} has no log yet{where}, or its node does not answer."
    elif outcome is None:
        yield f"{run.name} has no {component} pod at the moment; attempt {run.status.attempt}."
    else:
        yield (
            f"The {component} pod of {run.name}{where} was removed when its verdict was stored;"
            " its log went with it. A log collector of the cluster may still hold it."
        )
    if outcome:
        yield f"verdict: {outcome.name} ({outcome.reason}): {outcome.message}"
        if outcome.log_line:
            yield f"first telling line: {outcome.log_line}"
        if outcome.hint:
            yield f"hint: {outcome.hint}"
    for measured in run.status.passes:
        if not measured.valid:
            yield f"pass {measured.key}: {measured.invalid_reason}: {measured.message or ''}".rstrip(": ")
    folder = run.spec.load.workload.raw_output_dir
    if folder:
        yield f"raw per-request results: {folder} on the volume that is mounted there"
