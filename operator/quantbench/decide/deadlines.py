"""How long a run waits for what others have to do: for nodes, containers, the Job controller, the load generator."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from quantbench import times
from quantbench.api.names import Verdict
from quantbench.api.run import Outcome, QuantBenchmarkRunStatus, RunLimits
from quantbench.observe import Children, Job, Pod
from quantbench.results import Event

STUCK_AFTER = timedelta(minutes=5)
"""How long after its deletionTimestamp a pod or Job is waited for: as long as Kubernetes' own tolerance of a node that
does not answer. It may stay for ever, because only a kubelet may say that a pod's containers have ended."""
LOAD_POD_GRACE = timedelta(seconds=60)
"""How long the Job controller may take to make a pod before that is worth a word."""
LOAD_POD_LONGEST = timedelta(minutes=5)
"""How long a ready server waits at most for the load Job or its pod, with its GPU."""


def stuck(children: Sequence[Pod | Job], now: datetime) -> str | None:
    """What does not go away, in words, once that holds for all of these; else, or without any, None."""
    late = [child for child in children if child.deleting_at and now - times.parse(child.deleting_at) > STUCK_AFTER]
    if not late or len(late) < len(children):
        return None
    return ", ".join(_place(child) for child in late)


def _place(child: Pod | Job) -> str:
    if isinstance(child, Job):
        return f"Job {child.name}"
    return f"pod {child.name} on node {child.node}" if child.node else f"pod {child.name}"


def start_overdue(status: QuantBenchmarkRunStatus, server: Pod, limits: RunLimits, now: datetime) -> bool:
    """Whether a server that is not ready has had its node for too long."""
    if server.scheduled_at is None or server.ready_at or status.times.ready:
        return False
    return now - times.parse(server.scheduled_at) > timedelta(seconds=limits.start_timeout_seconds)


def load_timeout(
    status: QuantBenchmarkRunStatus, events: Sequence[Event], passes: int, limits: RunLimits, now: datetime
) -> Outcome | None:
    """The load generator has not finished a pass for too long; ``passes`` are finished so far."""
    ready = status.times.ready
    if not ready:
        return None
    moments = [times.parse(ready), *(event.ended for event in events)]
    if status.times.last_pass:
        moments.append(times.parse(status.times.last_pass))
    limit = limits.load_timeout_seconds
    if now - max(moments) <= timedelta(seconds=limit):
        return None
    return Outcome(
        name=Verdict.TIMED_OUT,
        reason="LoadTimeout",
        message=f"no pass finished within {limit} s; {passes} were finished before",
        hint="raise limits.loadTimeout, or ask for fewer prompts",
    )


def load_pod_missing(children: Children, now: datetime) -> str | None:
    """That the Job controller makes no load pod, once it has had the time to; the API server tells only the Job why."""
    job = children.job
    if job is None or children.load is not None or now - times.parse(job.created_at) <= LOAD_POD_GRACE:
        return None
    return f"the Job controller made no pod: quota or admission policy, see kubectl describe job {job.name}"


def load_pod_overdue(
    status: QuantBenchmarkRunStatus, children: Children, limits: RunLimits, now: datetime
) -> Outcome | None:
    """The verdict once a ready server has waited for a load pod that is missing as long as it may."""
    missing, job = load_pod_missing(children, now), children.job
    if missing is None or job is None or not waited_for_load(status, limits, now, since=job.created_at):
        return None
    return Outcome(name=Verdict.UNSCHEDULABLE, reason="LoadPodMissing", message=missing[:1024])


def waited_for_load(
    status: QuantBenchmarkRunStatus, limits: RunLimits, now: datetime, *, since: str | None = None
) -> bool:
    """Whether a ready server has waited for limits.scheduleTimeout, or as long as it may at most.

    Until it is ready no load pod is needed; nor does the time before ``since`` count.
    """
    ready = status.times.ready
    if not ready:
        return False
    limit = min(timedelta(seconds=limits.schedule_timeout_seconds), LOAD_POD_LONGEST)
    return now - max(times.parse(ready), times.parse(since or ready)) > limit
