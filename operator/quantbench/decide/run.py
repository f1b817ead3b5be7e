"""Decisions about one run: server pod → load Job → verdict → release. Every step can be taken again after a crash.

The order is the safety: a verdict is stored before anything is deleted, a pod's uid is stored before its absence
means anything, and children carry their attempt's number, so that whatever belongs to an abandoned attempt is
recognised and removed without a record of what was done to it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.conditions import ConditionType, Stage
from quantbench.api.names import Verdict
from quantbench.api.run import (
    Outcome,
    Pass,
    ServerPod,
    StageTimes,
)
from quantbench.decide import deadlines, removals, verdicts
from quantbench.decide.actions import Action, Apply, Decision, Emit
from quantbench.decide.attest import Attested, attest, in_short, mismatch
from quantbench.decide.causes import loss_hint
from quantbench.observe import Children, Pod, Run
from quantbench.resources.load import load_job
from quantbench.resources.programs import RunnerImage
from quantbench.resources.server import server_pod
from quantbench.results import Event, LoadLog, read_passes
from quantbench.statistics import headline
from quantbench.status import set_condition

POLL_SECONDS = 3.0
"""How often a run is looked at without an event: pass lines and deadlines raise none."""
CONFIGURATION_GRACE = timedelta(seconds=60)
"""How long a container may wait for an object that it refers to."""
CLOCK_SKEW = timedelta(seconds=60)
"""How far a load generator's clock may be ahead; later times are not believed, or they would put deadlines off."""
MAX_KEPT_PASSES = 400
NO_LOG = LoadLog()
HELD_SECONDS = 60.0
"""Until a run that holds nothing is looked at again: what sets it going is a change of the run itself."""
CREATING, WAITING = "creating the server pod", "waiting for a node"


@dataclass(frozen=True)
class Evidence:
    """What was read beside the objects: logs, and the API server's refusal of a child."""

    load_log: LoadLog = NO_LOG
    server_log: str | None = None
    """Of a long one the beginning and the end."""
    rejection: str | None = None
    rejection_is_final: bool = False
    server_head: str | None = None
    """The beginning of the server's log, which attests what it runs; None: not read, or not to be had."""
    unread: bool = False
    """Whether a log that is wanted could not be had."""


@dataclass(frozen=True)
class Wanted:
    """Which logs a decision needs: reading them costs the API server and the node."""

    load: bool = False
    server: bool = False
    attestation: bool = False
    """The beginning of the log of a server that is or was ready: asked for until it could be read once."""


def wanted_logs(run: Run, children: Children, now: datetime) -> Wanted:
    """The logs that `decide_run` will look at."""
    if run.deleting or run.status.verdict:
        return Wanted()
    server, load = children.server, children.load
    if server is None:
        return Wanted(load=children.finished)
    load_started = load is not None and load.started_at is not None
    load_ended = load is not None and load.ended
    needs_server = server.ended or load_ended or deadlines.start_overdue(run.status, server, run.spec.limits, now)
    was_ready = bool(server.ready_at or run.status.times.ready)
    unread = run.status.attestation is None and (was_ready or load_ended)
    return Wanted(load_started, needs_server, unread)


def decide_run(run: Run, children: Children, evidence: Evidence, runner: RunnerImage, now: datetime) -> Decision:
    """The next step of a run."""
    if run.deleting:
        return Decision()
    step = _Step(run, children, evidence, runner, now)
    if run.status.verdict:
        return step.release()
    if run.spec.refusal:
        refusal = run.spec.refusal
        return step.end(Outcome(name=refusal.verdict, reason=refusal.reason, message=refusal.message))
    return step.advance()


class _Step:
    """One decision; ``status`` is rebuilt step by step from what was observed."""

    def __init__(self, run: Run, children: Children, evidence: Evidence, runner: RunnerImage, now: datetime) -> None:
        self.run, self.children, self.evidence, self.runner, self.now = run, children, evidence, runner, now
        self.status = run.status.model_copy(update={"observed_generation": run.generation})
        self.attested: Attested | None = None

    # --- the way of a run ------------------------------------------------------------------------------------

    def advance(self) -> Decision:
        """From no pod to a verdict."""
        server, known = self.children.server, self.status.server
        if self.evidence.rejection:
            return self.rejected(self.evidence.rejection)
        if server is None and known is None:
            return self.held() or self.start()
        if server and known and server.uid != known.uid:
            server = None  # A namesake, which somebody else has made.
        self.record(server)
        loss = self.loss(server)
        if loss:
            return self.lost(loss)
        outcome = self.outcome(server)
        if outcome:
            untold = outcome.reason in verdicts.UNTOLD
            return self.lost(outcome.message, outcome) if untold else self.end(outcome)
        if self.children.finished or server is None:
            return self.decision(Stage.LOADING, "waiting for the log of the load generator")
        return self.held(server) or self.proceed(server)

    def start(self) -> Decision:
        """Create the server pod, once those of an earlier attempt or namesake are gone: until then they hold GPUs."""
        old = Children(stale_pods=self.children.stale_pods, stale_jobs=self.children.stale_jobs).left
        stuck = deadlines.stuck(old, self.now)
        if old and not stuck:
            return self.decision(
                Stage.PENDING, "waiting for the pods of the last attempt to end", removals.stale(self.children)
            )
        if any(child.attempt == self.status.attempt for child in old):
            # A namesake's, which keeps its name: applied over, it would be taken for this run's.
            self.next_attempt()
            return self.decision(Stage.PENDING, f"{stuck} does not end; another name is used", requeue=0.2)
        run, when = self.run, self.status.times
        requested = when.model_copy(update={"requested": when.requested or times.render(self.now)})
        self.status = self.status.model_copy(update={"times": requested})
        pod = server_pod(run.name, run.uid, run.namespace, run.spec, self.status.attempt, self.runner)
        # Asked again, the API server most likely refuses again: what it said stays in sight until it does not.
        said = next(
            (c.message for c in self.status.conditions if when.requested and c.reason == Stage.SCHEDULING), None
        )
        creating = f"{CREATING} beside {stuck}, which does not end" if stuck else CREATING
        return self.decision(Stage.SCHEDULING, said or creating, (Apply(pod),), requeue=1.0)

    def proceed(self, server: Pod) -> Decision:
        """Create the load Job as soon as the server has an address, so that both start at the same time."""
        run, actions = self.run, list(removals.stale(self.children))
        if server.address and self.children.job is None:
            if self.status.load_job:
                return self.lost(f"load Job {self.status.load_job} was deleted by something else")
            job = load_job(run.name, run.uid, run.namespace, run.spec, self.status.attempt, server.address, self.runner)
            actions.append(Apply(job))
            said = next((c.message for c in self.status.conditions if c.reason == Stage.SCHEDULING), WAITING)
            if said not in (WAITING, CREATING):
                # As in `start`: a refusal stays in sight, or two messages would take turns as fast as they are written.
                return self.decision(Stage.SCHEDULING, said, tuple(actions))
        stage, message = self.stage(server)
        return self.decision(stage, message, tuple(actions))

    def stage(self, server: Pod) -> tuple[Stage, str]:
        """Where the run is, in a word and a sentence."""
        if server.scheduled_at is None:
            return Stage.SCHEDULING, server.unschedulable or WAITING
        missing = deadlines.load_pod_missing(self.children, self.now)
        if not self.status.times.ready:
            waiting = server.waiting
            said = f"{waiting.reason}: {waiting.message}" if waiting else missing or "the server is starting"
            return Stage.STARTING, said
        load = self.children.load
        if load is None or load.started_at is None:
            blocked = load and (
                load.unschedulable or (load.waiting and f"{load.waiting.reason}: {load.waiting.message}")
            )
            said = f"load generator: {blocked}" if blocked else missing or "waiting for the load generator"
            return Stage.LOADING, said
        return Stage.LOADING, f"{len(self.current_passes())} of {self.run.spec.load.passes} passes"

    # --- ends ------------------------------------------------------------------------------------------------

    def loss(self, server: Pod | None) -> str | None:
        """Why the attempt is lost through no fault of variant or server."""
        load, log = self.children.load, self.evidence.load_log
        if load and self.children.finished and (log.readable or self.late):
            return None  # All is measured; what happens to the pods now does not matter.
        if server is None:
            name = self.status.server.name if self.status.server else ""
            return f"server pod {name} was {'replaced' if self.children.server else 'deleted'} by something else"
        if server.lost:
            return f"server pod: {server.lost}"
        if load is not None and load.lost:
            return f"load pod: {load.lost}"
        job = self.children.job
        if load is None and job and job.over and not server.ended:
            return f"the load pod was removed before its end was seen: {job.over}"
        return None

    def outcome(self, server: Pod | None) -> Outcome | None:
        """The verdict that the observations allow, if any."""
        load, limits = self.children.load, self.run.spec.limits
        found = mismatch(self.run.spec, self.attested, self.evidence.load_log.server) if self.attested else None
        if found:
            return found  # Whatever was measured is something else.
        served = self.children.server is not None and self.status.times.ready
        if load is not None and load.ended and served and self.attested is None and self.late:
            return None  # Before the server's pod goes away, and its log with it.
        if load is not None and load.ended:
            return verdicts.load_ended(
                load,
                server,
                self.evidence.load_log,
                self.evidence.server_log,
                self.run.spec.load,
                self.current_passes(),
                self.now,
                late=self.late,
            )
        if server is None:
            return None
        if server.ended:
            ready = bool(self.status.times.ready)
            return verdicts.server_ended(server, self.evidence.server_log, ready=ready, late=self.late)
        waited = (self.now, CONFIGURATION_GRACE, limits, self.status.times.blocked)
        blocked = verdicts.unreachable(server, self.run.spec.engine.args) or verdicts.cannot_start(server, *waited)
        if blocked is None and load is not None:
            blocked = verdicts.load_cannot_start(load, *waited)
        if blocked:
            return blocked
        if deadlines.start_overdue(self.run.status, server, limits, self.now):
            return verdicts.start_timeout(server, self.evidence.server_log, limits)
        missing = deadlines.load_pod_overdue(self.status, self.children, limits, self.now)
        if missing or self.late:
            return missing  # What the load generator has finished stands in its log alone.
        return deadlines.load_timeout(self.status, self.events(), len(self.current_passes()), limits, self.now)

    @property
    def late(self) -> bool:
        """Whether a log could not be had, and is asked for again."""
        since = self.status.times.unread
        return since is not None and self.now - times.parse(since) < verdicts.LOG_GRACE

    def lost(self, why: str, untold: Outcome | None = None) -> Decision:
        """Try again under the next attempt's number, or give up: as Evicted, or with the verdict of what was untold."""
        lost = self.status.lost + 1
        self.status = self.status.model_copy(update={"lost": lost})
        if lost > self.run.spec.limits.retries:
            message = f"{why[:980]}; given up after {lost} attempts" if lost > 1 else why[:1024]
            found = untold or Outcome(name=Verdict.EVICTED, reason="PodLost", message=message, hint=loss_hint(why))
            return self.end(found.model_copy(update={"message": message}))
        self.next_attempt()
        return self.decision(Stage.PENDING, f"{why}; attempt {self.status.attempt} follows", requeue=0.5)

    def held(self, server: Pod | None = None) -> Decision | None:
        """Hold no pod while the run is suspended, or has no node and no budget; then the next attempt starts afresh."""
        if self.run.spec.suspend:
            stage, why = Stage.SUSPENDED, "suspended"
        elif self.run.spec.limits.budget_spent and (server is None or server.scheduled_at is None):
            stage, why = Stage.BUDGET_SPENT, "limits.gpuHours is spent: raise it to go on"
        else:
            return None
        if self.status.server or self.children.server or self.children.job:
            self.next_attempt()
            return self.decision(stage, f"{why}; freeing the pods", requeue=0.2)
        # The time until it goes on is none that limits.scheduleTimeout counts.
        self.status = self.status.model_copy(update={"times": StageTimes()})
        stale = removals.stale(self.children)
        return self.decision(stage, why, stale, requeue=POLL_SECONDS if stale else HELD_SECONDS)

    def next_attempt(self) -> None:
        """Leave the current children behind: their attempt number makes them stale."""
        paid = max(0.0, times.seconds_between(self.status.times.scheduled, times.render(self.now)) or 0.0)
        self.status = self.status.model_copy(
            update={
                "attempt": self.status.attempt + 1,
                "server": None,
                "load_job": None,
                "attestation": None,
                "cold_start": None,
                "times": StageTimes(),
                "server_seconds": self.status.server_seconds + paid,
            }
        )

    def rejected(self, why: str) -> Decision:
        """The API server refused a child: for good, or because of a quota that may become free."""
        if self.evidence.rejection_is_final:
            return self.end(verdicts.failed("PodRejected", why))
        limits = self.run.spec.limits
        asked = times.parse(self.status.times.requested or self.run.created_at)
        late = self.now - asked > timedelta(seconds=limits.schedule_timeout_seconds)
        # With a server it is the load Job that was refused, however long the server took to get its node.
        if deadlines.waited_for_load(self.status, limits, self.now) if self.status.server else late:
            return self.end(Outcome(name=Verdict.UNSCHEDULABLE, reason="PodForbidden", message=why[:1024]))
        return self.decision(Stage.SCHEDULING, why, requeue=5.0)

    def end(self, outcome: Outcome) -> Decision:
        """Store the verdict. Nothing is deleted in the same step: that follows once the verdict is stored."""
        passes = [measured for measured in self.current_passes() if measured.valid]
        if passes and not in_short(self.status.attestation):
            update = {"message": f"{outcome.message}; what the server ran is not attested by its log"[:1024]}
            outcome = outcome.model_copy(update=update)
        moment = times.render(self.now)
        self.status = self.status.model_copy(
            update={
                "verdict": outcome,
                "headline": headline(passes, self.run.spec.load.loads),
                "times": self.status.times.model_copy(update={"stored": moment}),
            }
        )
        warning = outcome.name not in (Verdict.MEASURED, Verdict.DUPLICATE)
        event = Emit(str(outcome.name), f"{outcome.reason}: {outcome.message}"[:1000], warning)
        decision = self.decision(Stage.RELEASING, outcome.message, (event,), requeue=0.0)
        return self.released(decision) if self.children.gone and not self.run.status.server else decision

    def release(self) -> Decision:
        """Delete what is left of a run whose verdict is stored, and say when it is gone, or never will be."""
        if self.status.times.released:
            return Decision(actions=removals.remains(self.children))
        stuck = deadlines.stuck(self.children.left, self.now)
        if self.children.gone or stuck:
            return self.released(self.decision(Stage.ENDED, self.message()), stuck)
        return self.decision(Stage.RELEASING, self.message(), removals.remains(self.children), requeue=1.0)

    def released(self, decision: Decision, stuck: str | None = None) -> Decision:
        """The same decision with the run marked as holding nothing any more, or nothing that can be waited for."""
        update = {"released": times.render(self.now)}
        self.status = self.status.model_copy(update={"times": self.status.times.model_copy(update=update)})
        left = f"{stuck} was deleted and does not end: its GPU may still be taken; " if stuck else ""
        self.condition("True", Stage.ENDED, left + self.message())
        return replace(decision, status=self.status.to_json(), requeue_after=None)

    def message(self) -> str:
        return self.status.verdict.message if self.status.verdict else ""

    # --- observations ----------------------------------------------------------------------------------------

    def record(self, server: Pod | None) -> None:
        """Take over what the pods and the load generator's log say; a server that is gone says nothing more."""
        load, log, old = self.children.load, self.evidence.load_log, self.status.times
        fresh = read_passes(log, self.run.spec.load, self.status.attempt)
        known = {measured.key for measured in self.status.passes}
        passes = (*self.status.passes, *(measured for measured in fresh if measured.key not in known))
        events = self.events()
        ready = next((event.ended for event in events if event.name == "ready"), None)
        first = min((event.began for event in events if event.name in ("warmup", "pass")), default=None)
        last = max((event.ended for event in events if event.name == "pass"), default=None)
        seen: JsonObject = {
            "server_created": server and server.created_at,
            "scheduled": server and server.scheduled_at,
            "sandbox_ready": server and server.sandbox_ready_at,
            "server_started": server and server.started_at,
            "server_finished": server and server.terminated and server.terminated.finished_at,
            "load_created": self.children.job.created_at if self.children.job else None,
            "ready": times.render(ready) if ready else server and server.ready_at,
            "first_pass": times.render(first) if first else None,
            "last_pass": times.render(last) if last else None,
            "load_finished": load.terminated.finished_at if load and load.terminated else None,
        }
        update = {
            key: value for key, value in seen.items() if value and not (key == "ready" and old.ready and not ready)
        }
        blocked = any(pod and pod.waiting and pod.waiting.missing for pod in (server, load))
        update["blocked"] = (old.blocked or times.render(self.now)) if blocked else None
        update["unread"] = (old.unread or times.render(self.now)) if self.evidence.unread else None
        self.status = self.status.model_copy(
            update={
                "server": ServerPod(name=server.name, uid=server.uid, node=server.node)
                if server
                else self.status.server,
                "load_job": self.children.job.name if self.children.job else self.status.load_job,
                "times": old.model_copy(update=update),
                "passes": passes[-MAX_KEPT_PASSES:],
            }
        )
        self.attest()

    def attest(self) -> None:
        """Take over what the server's log and metrics say that it runs; a failure to start is not for this."""
        status, evidence = self.status, self.evidence
        head = evidence.server_head if status.times.ready else None
        log = evidence.load_log
        self.attested = attest(self.run.spec, status.attestation, status.cold_start, head, log.server, log.gpus)
        if self.attested:
            update = {"attestation": self.attested.attestation, "cold_start": self.attested.cold_start}
            self.status = status.model_copy(update=update)

    def events(self) -> list[Event]:
        """What the load generator says to have done until now."""
        return [event for event in self.evidence.load_log.events if event.ended <= self.now + CLOCK_SKEW]

    def current_passes(self) -> list[Pass]:
        """Passes of the current attempt: an attempt is one server start, and starts must not be mixed."""
        return [measured for measured in self.status.passes if measured.attempt == self.status.attempt]

    def decision(
        self, stage: Stage, message: str, actions: tuple[Action, ...] = (), *, requeue: float = POLL_SECONDS
    ) -> Decision:
        """The status so far, with its condition, and what to do."""
        ended = "True" if self.status.verdict else "False"
        self.condition(ended, stage, message)
        return Decision(self.status.to_json(), actions, requeue)

    def condition(self, ended: str, stage: Stage, message: str) -> None:
        conditions = set_condition(
            self.status.conditions,
            ConditionType.COMPLETE,
            ended,
            stage,
            message,
            generation=self.run.generation,
            now=self.now,
        )
        self.status = self.status.model_copy(update={"conditions": conditions})
