"""From what pods, logs and passes show to a verdict."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from quantbench import times
from quantbench.api.names import Verdict
from quantbench.api.run import Outcome, Pass, RunLimits, RunLoadPlan
from quantbench.decide.causes import image_hint, reference_hint, unschedulable_hint
from quantbench.engine.diagnosis import Diagnosis, diagnose, find_cause
from quantbench.engine.flags import IPV6_HOST
from quantbench.engine.signatures import SERVER_STARTED
from quantbench.observe import Pod, Termination
from quantbench.results import LoadLog, check_complete, missing_passes
from quantbench.validity import VERDICTS, Fault

SERVER_FAULTS = frozenset({"ServerDied", "ServerNotReady"})
"""What the load generator says when the fault is the server's: the server's own log tells more."""
SERVER_END_GRACE = timedelta(seconds=10)
"""How long to wait for a dead server's pod to show how it ended."""
LOG_GRACE = timedelta(seconds=60)
"""How long to ask again for a log that cannot be had: a busy kubelet answers late, and the log decides."""

UNTOLD = frozenset({"ServerDied", "LogUnavailable"})
"""Reasons of verdicts that may be a node's doing as well as the variant's: Kubernetes takes minutes to say that a node
went away. They are given once the attempts are used up."""

NEVER_STARTED = frozenset({"StartError", "ContainerCannotRun"})
"""Reasons of a container that ended before its command began."""

LOAD_HINTS = {
    "DatasetMissing": "mount the volume that holds workload.dataset and check its path",
    "DatasetInvalid": "check that the file is ShareGPT JSON: a list of records with conversations",
    "ResultCorrupt": "the log of the load pod was changed or rotated; run again",
    "ResultTooLarge": "ask for fewer loads or repeats",
}


def failed(reason: str, message: str, **more: str | None) -> Outcome:
    """The verdict for what has no verdict of its own."""
    return Outcome(name=Verdict.FAILED, reason=reason[:64], message=message[:1024], **more)


def ended_within(pod: Pod, grace: timedelta, now: datetime) -> bool:
    """Whether the pod's main container is known to have ended just now."""
    finished = pod.terminated.finished_at if pod.terminated else None
    return finished is not None and abs(now - times.parse(finished)) < grace


def server_ended(server: Pod, log: str | None, *, ready: bool, late: bool = False) -> Outcome | None:
    """Why the server stopped; None to ask again for its log (None: it could not be had) while that is ``late``."""
    ended = server.terminated
    if ended and ended.reason in NEVER_STARTED:
        return _never_started(ended)
    if log is None and late:
        return None
    where = "under load" if ready else "while starting"
    if server.failed_init:
        return _init_failed(server.failed_init)
    if server.reason == "DeadlineExceeded":
        return Outcome(
            name=Verdict.TIMED_OUT,
            reason="ServerDeadline",
            message="the server pod outlived every limit that held when it was made",
            hint="raise limits.startTimeout or limits.loadTimeout, then delete the run: its next server has a later"
            " deadline",
        )
    if ended is None and server.reason:  # The kubelet did not admit it: there is no container and no log.
        hint = reference_hint(f"{server.reason} {server.message}")
        return failed(server.reason, f"{server.reason}: {server.message}", hint=hint)
    if ended and ended.reason == "OOMKilled":
        return Outcome(
            name=Verdict.OUT_OF_MEMORY,
            reason="ContainerMemory",
            message=f"the server's container exceeded its memory limit {where}",
            hint="raise engine.podTemplate.resources.limits.memory",
        )
    found = diagnose(log or "", ended.exit_code if ended else None, served=ready)
    what = f"the server ended {where}" + (f" with exit code {ended.exit_code}" if ended else "")
    if log is None and found.reason == "Unknown":
        return failed("LogUnavailable", f"{what}, and its log cannot be read")
    return _told(found, what)


def _told(found: Diagnosis, what: str) -> Outcome:
    """The verdict that a server's log gives."""
    return Outcome(
        name=found.verdict,
        reason=found.reason[:64],
        message=what + (f": {found.line}"[:900] if found.line else ""),
        log_line=found.line[:512] if found.line else None,
        hint=found.hint[:512] if found.hint else None,
    )


def _never_started(ended: Termination) -> Outcome:
    """The runtime could not start the container: its message is all there is."""
    found = diagnose(ended.message, None)
    return Outcome(
        name=found.verdict,
        reason=(found.reason if found.known else ended.reason)[:64],
        message=f"the container could not be started: {ended.message or ended.reason}"[:1024],
        log_line=found.line[:512] or None,
        hint=found.hint[:512] or reference_hint(ended.message),
    )


def _init_failed(ended: Termination) -> Outcome:
    if ended.reason == "OOMKilled":
        return Outcome(
            name=Verdict.OUT_OF_MEMORY,
            reason="InitContainerMemory",
            message="an init container exceeded its memory limit",
            hint="see which one it is (kubectl describe pod): the operator's own only copies some files",
        )
    said = ended.message or f"an init container ended with exit code {ended.exit_code} ({ended.reason})"
    return failed("InitContainerFailed", said, hint=reference_hint(ended.message))


def load_ended(
    load: Pod,
    server: Pod | None,
    log: LoadLog,
    server_log: str | None,
    plan: RunLoadPlan,
    passes: Sequence[Pass],
    now: datetime,
    *,
    late: bool = False,
) -> Outcome | None:
    """The verdict once the load generator has ended; None to wait for a log that is ``late``, or for the server's end
    to show.
    """
    if load.failed_init:
        return failed("RunnerNotInstalled", load.failed_init.message or "the init container of the load pod failed")
    ended = load.terminated
    if ended and ended.reason == "OOMKilled":
        hint = "raise engine.podTemplate.loadResources.limits.memory"
        return failed("LoadOutOfMemory", "the load generator exceeded its memory limit", hint=hint)
    if not log.readable and late:
        return None
    fault = check_complete(log, ended.message if ended else None)
    if fault is None:
        return _measured(plan, passes, log, server_log)
    if server and server.ended:
        return server_ended(server, server_log, ready=bool(passes) or log.ready, late=late)
    if fault.reason in SERVER_FAULTS and ended_within(load, SERVER_END_GRACE, now):
        return None
    return _silent(fault, server_log) if fault.reason == "ServerDied" else _load_fault(fault)


def _silent(fault: Fault, log: str | None) -> Outcome:
    """The verdict over a server that answers no more and does not end: only its log can tell."""
    found = diagnose(log or "", None, served=True)
    if found.known:
        return _told(found, "the server answered no more, and has not ended")
    message = f"{fault.message}; the server's container has not ended"
    hint = "it hangs, or its node went away: see its last log line, and the node's state"
    return failed(fault.reason, message, hint=hint, log_line=found.line[:512] or None)


def _load_fault(fault: Fault) -> Outcome:
    if fault.reason == "ServerNotReady":
        return Outcome(
            name=Verdict.TIMED_OUT, reason="StartTimeout", message=fault.message or "the server was not ready"
        )
    return failed(fault.reason, fault.message, hint=LOAD_HINTS.get(fault.reason))


def _measured(plan: RunLoadPlan, passes: Sequence[Pass], log: LoadLog, server_log: str | None) -> Outcome:
    missing = missing_passes(passes, plan)
    if missing:
        return failed("ResultIncomplete", f"passes without a readable result: {', '.join(missing)[:900]}")
    invalid = [measured for measured in passes if not measured.valid]
    if not invalid:
        message = f"{len(passes)} passes, all valid{_repeated(plan, log)}"
        return Outcome(name=Verdict.MEASURED, reason="AllPassesValid", message=message[:1024])
    with_valid = {measured.load for measured in passes if measured.valid}
    # What left a load without any figures weighs more than what cost another one a repeat.
    first = min(invalid, key=lambda measured: measured.load in with_valid)
    reason = first.invalid_reason or "Invalid"
    verdict = Verdict.UNSTABLE if first.load in with_valid else VERDICTS.get(reason, Verdict.FAILED)
    message = f"{len(invalid)} of {len(passes)} passes are invalid, first {first.load}/{first.repeat}: {first.message}"
    # What the server logged before it was ready is not about requests.
    logged = (server_log or "").rpartition(SERVER_STARTED)[2] if reason == "RequestsFailed" else ""
    cause = find_cause(logged)
    line, hint = (cause.line, cause.hint[:512] or None) if cause else (None, None)
    return Outcome(name=verdict, reason=reason, message=message, log_line=line, hint=hint)


def _repeated(plan: RunLoadPlan, log: LoadLog) -> str:
    """Prompts sent more than once in a pass: without prefix caching no fault, but less variety than it seems."""
    told = [
        f"{log.repeated_prompts[load.name]} of {load.name}" for load in plan.loads if load.name in log.repeated_prompts
    ]
    return f"; prompts that the dataset had to repeat: {', '.join(told)}" if told else ""


def cannot_start(
    pod: Pod, now: datetime, grace: timedelta, limits: RunLimits, blocked_since: str | None = None
) -> Outcome | None:
    """A pod that will never run: no node, no image, or a reference to something that does not exist.

    A missing object gets its grace from when the container was first seen to wait for it (``blocked_since``):
    Kubernetes does not say when that began, and a pull may have come before.
    """
    waited = now - times.parse(pod.scheduled_at or pod.created_at)
    if pod.scheduled_at is None and waited > timedelta(seconds=limits.schedule_timeout_seconds):
        why = pod.unschedulable or "no reason given"
        message = f"no node for pod {pod.name} within {limits.schedule_timeout_seconds} s: {why}"
        return Outcome(
            name=Verdict.UNSCHEDULABLE,
            reason="NoNode",
            message=message[:1024],
            hint=unschedulable_hint(why),
        )
    waiting = pod.waiting
    if waiting is None:
        return None
    if waiting.hopeless or (waiting.image and waited > timedelta(seconds=limits.start_timeout_seconds)):
        return Outcome(
            name=Verdict.IMAGE_UNAVAILABLE,
            reason=waiting.reason[:64],
            message=(waiting.message or f"{waiting.reason} of pod {pod.name}")[:1024],
            hint=image_hint(waiting.reason, waiting.message),
        )
    late = waited > timedelta(seconds=limits.start_timeout_seconds)
    missing = waiting.missing and blocked_since is not None and now - times.parse(blocked_since) > grace
    if missing or (waiting.configuration and late):
        hint = reference_hint(waiting.message)
        return failed(waiting.reason, f"{waiting.reason}: {waiting.message}", hint=hint)
    return None


def unreachable(server: Pod, args: Sequence[str]) -> Outcome | None:
    """A server that listens on IPv4 in a pod whose address is an IPv6 one: neither probe nor load ever reach it,
    unless its image does otherwise.
    """
    if server.ready_at or ":" not in (server.address or "") or IPV6_HOST in args:
        return None
    message = f"pod {server.name} has the IPv6 address {server.address}, and its server listens on IPv4"
    return failed("IPv6Address", message, hint=f"add {IPV6_HOST} to engine.args")


def load_cannot_start(
    load: Pod, now: datetime, grace: timedelta, limits: RunLimits, blocked_since: str | None = None
) -> Outcome | None:
    """The same for a load pod, which needs neither a GPU nor the target's nodes."""
    found = cannot_start(load, now, grace, limits, blocked_since)
    if found is None or found.name is not Verdict.UNSCHEDULABLE:
        return found
    hint = "lower engine.podTemplate.loadResources.requests, or check its tolerations and volume claims"
    return found.model_copy(update={"reason": "NoNodeForLoad", "hint": hint})


def start_timeout(server: Pod, log: str | None, limits: RunLimits) -> Outcome:
    """The server was not ready in time."""
    if server.waiting and server.waiting.image:
        return Outcome(
            name=Verdict.IMAGE_UNAVAILABLE,
            reason=server.waiting.reason[:64],
            message=server.waiting.message[:1024],
            hint=image_hint(server.waiting.reason, server.waiting.message),
        )
    if server.started_at is None:
        return Outcome(
            name=Verdict.TIMED_OUT,
            reason="ContainerNotCreated",
            message=f"the server's container was not there within {limits.start_timeout_seconds} s of having a node",
            hint=f"see the events of pod {server.name} (kubectl describe pod): a volume that cannot be mounted, most"
            " often, or an image that is still being pulled (then raise limits.startTimeout)",
        )
    lines = [line.strip() for line in (log or "").splitlines() if line.strip()]
    return Outcome(
        name=Verdict.TIMED_OUT,
        reason="StartTimeout",
        message=f"the server was not ready within {limits.start_timeout_seconds} s of having a node",
        log_line=lines[-1][:512] if lines else None,
        hint="raise limits.startTimeout, or look at the last log line",
    )
