"""One look at the world and one step: read, observe, decide, execute. The only place where all rooms meet."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from quantbench.api.base import JsonObject
from quantbench.decide.actions import Decision, Emit
from quantbench.decide.benchmark import decide_benchmark, decide_invalid
from quantbench.decide.run import Evidence, Wanted, decide_run, wanted_logs
from quantbench.execute import Rejected, execute
from quantbench.kube import Kube
from quantbench.observe import Children, Pod, Run, benchmark_status, children, read_benchmark, read_run, read_runs
from quantbench.plan import FieldError, SpecInvalid, make_plan
from quantbench.resources import labels, load, server
from quantbench.resources.programs import RunnerImage
from quantbench.results import MAX_LOG_BYTES, LoadLog, parse_log

SERVER_LOG_BYTES = 1024 * 1024
SERVER_LOG_TAIL = 2000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """What the work queue holds: an object to look at."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Reconciler:
    """Brings one object a step further; keeps nothing between calls."""

    def __init__(self, kube: Kube, runner: RunnerImage, clock: Clock = utc_now) -> None:
        self.kube, self.runner, self.clock = kube, runner, clock

    async def reconcile(self, key: Key) -> float | None:
        """One step for an object; returns when to look again [s], None for not before the next event.

        Raises:
            quantbench.kube.ApiError: the step could not be finished; nothing is lost, take it again.
            quantbench.execute.Rejected: the API server takes no run of a study now.
        """
        raw = await self.kube.get(key.kind, key.namespace, key.name)
        if raw is None:
            return None
        if key.kind == "QuantBenchmark":
            return await self.benchmark(raw)
        return await self.run(raw)

    async def benchmark(self, raw: JsonObject) -> float | None:
        """One step for a study."""
        head, benchmark = raw["metadata"], None
        selector = f"{labels.BENCHMARK}={labels.short(head['name'])}"
        found = await self.kube.list("QuantBenchmarkRun", head["namespace"], selector)
        runs, unreadable = read_runs(found, head["uid"])
        try:
            benchmark = read_benchmark(raw)
            plan = make_plan(benchmark.name, benchmark.uid, benchmark.spec)
        except (SpecInvalid, ValidationError) as error:
            # What can be read of it still counts for the runs that are under way.
            spec = benchmark.spec if benchmark else None
            suspend = (raw.get("spec") or {}).get("suspend") is True
            status, generation = benchmark_status(raw), int(head.get("generation", 1))
            decision = decide_invalid(status, generation, field_errors(error), self.clock(), runs, spec, suspend)
        else:
            decision = decide_benchmark(benchmark, plan, runs, self.clock(), unreadable)
        try:
            await execute(self.kube, raw, decision)
        except Rejected as error:
            # The study goes on once a quota is free or a webhook is back; until then somebody should know why it waits.
            await execute(self.kube, raw, Decision(actions=(Emit("RunRefused", error.message, warning=True),)))
            raise
        return decision.requeue_after

    async def run(self, raw: JsonObject) -> float | None:
        """One step for a run."""
        run = read_run(raw)
        selector = f"{labels.RUN}={run.name}"
        pods = await self.kube.list("Pod", run.namespace, selector)
        jobs = await self.kube.list("Job", run.namespace, selector)
        own = children(pods, jobs, run.uid, run.status.attempt, since=run.created_at)
        evidence = await self.evidence(run, own, wanted_logs(run, own, self.clock()))
        decision = decide_run(run, own, evidence, self.runner, self.clock())
        try:
            await execute(self.kube, raw, decision)
        except Rejected as error:
            decision = await self.rejected(run, own, error)
        return decision.requeue_after

    async def rejected(self, run: Run, own: Children, error: Rejected) -> Decision:
        """The API server refused a child: that is a finding about the run, not a reason to try for ever."""
        # The status may have been written before the refusal, so look at the run afresh.
        raw = await self.kube.get("QuantBenchmarkRun", run.namespace, run.name)
        if raw is None:
            return Decision()
        evidence = Evidence(rejection=error.message, rejection_is_final=error.final)
        decision = decide_run(read_run(raw), own, evidence, self.runner, self.clock())
        await execute(self.kube, raw, decision)
        return decision

    async def evidence(self, run: Run, own: Children, wanted: Wanted) -> Evidence:
        """Read the logs that the decision needs, each bounded."""
        load_log, server_log, server_head, unread = LoadLog(), None, None, False
        if wanted.load and own.load:
            text = await self.kube.log(run.namespace, own.load.name, load.CONTAINER, limit_bytes=MAX_LOG_BYTES)
            load_log = parse_log(text, truncated=len((text or "").encode()) >= MAX_LOG_BYTES)
            unread = text is None
        if own.server and (wanted.server or wanted.attestation):
            head = await self.kube.log(run.namespace, own.server.name, server.CONTAINER, limit_bytes=SERVER_LOG_BYTES)
            server_head = head if wanted.attestation else None
            server_log = await self.whole(run, own.server, head) if wanted.server else None
            unread = unread or head is None
        return Evidence(load_log=load_log, server_log=server_log, server_head=server_head, unread=unread)

    async def whole(self, run: Run, pod: Pod, head: str | None) -> str | None:
        """A server's log, of a long one its beginning and its end.

        An engine that dies under load tells why first, then vLLM logs a traceback for each of its requests.
        """
        if head is None or len(head.encode()) < SERVER_LOG_BYTES:
            return head
        tail = await self.kube.log(
            run.namespace, pod.name, server.CONTAINER, limit_bytes=SERVER_LOG_BYTES, tail_lines=SERVER_LOG_TAIL
        )
        return f"{head}\n{tail or ''}"


def field_errors(error: SpecInvalid | ValidationError) -> list[FieldError]:
    """The wrong fields of a specification with their paths as kubectl prints them."""
    if isinstance(error, SpecInvalid):
        return error.errors
    found = []
    for item in error.errors():
        path = "spec"
        for part in item["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
        found.append(FieldError(path, item["msg"]))
    return found
