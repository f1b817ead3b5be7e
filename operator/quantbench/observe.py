"""Raw Kubernetes objects → the few facts that decisions need. Total functions: odd objects never raise."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Verdict
from quantbench.api.run import QuantBenchmarkRunSpec, QuantBenchmarkRunStatus
from quantbench.api.status import QuantBenchmarkStatus
from quantbench.raw import deletion_asked, label, mapping, mappings, moment, since, text
from quantbench.resources import labels
from quantbench.resources.load import CONTAINER as LOAD_CONTAINER
from quantbench.resources.server import CONTAINER as SERVER_CONTAINER

IMAGE_REASONS = frozenset({
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
    "RegistryUnavailable",
})  # fmt: skip
HOPELESS_IMAGE = re.compile(
    r"not found|manifest unknown|InvalidImageName|ErrImageNeverPull|invalid reference format|unauthorized|denied"
    r"|couldn't parse image|not present with pull policy of Never|no match for platform|no matching manifest",
    re.IGNORECASE,
)
"""Pull errors that waiting does not mend. Others (time-outs, 5xx of the registry) are left to the kubelet's retries."""
LOSS_REASONS = frozenset({
    "Evicted", "Preempting", "NodeLost", "Shutdown", "NodeShutdown", "Terminated", "NodeAffinity",
    "UnexpectedAdmissionError",
})  # fmt: skip
OUT_OF = "OutOf"
"""Begins the reason of a pod that its node did not admit: something else had taken the resource named after it."""
MAIN_CONTAINERS = (SERVER_CONTAINER, LOAD_CONTAINER)
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"})


@dataclass(frozen=True)
class Benchmark:
    """A QuantBenchmark as read."""

    name: str
    namespace: str
    uid: str
    generation: int
    deleting: bool
    spec: QuantBenchmarkSpec
    status: QuantBenchmarkStatus


@dataclass(frozen=True)
class Run:
    """A QuantBenchmarkRun as read."""

    name: str
    namespace: str
    uid: str
    generation: int
    created_at: str
    deleting: bool
    spec: QuantBenchmarkRunSpec
    status: QuantBenchmarkRunStatus

    @property
    def cell(self) -> tuple[str, str]:
        """Variant and target."""
        return (self.spec.variant.name, self.spec.target.name)

    @property
    def ended(self) -> bool:
        """It came to its end; one that was cut off did not."""
        return self.status.verdict is not None and self.status.verdict.name is not Verdict.CUT_OFF


@dataclass(frozen=True)
class Unreadable:
    """A QuantBenchmarkRun that this version cannot read; ``held``: as far as is known it still holds a server."""

    name: str
    why: str
    held: bool


@dataclass(frozen=True)
class Termination:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    started_at: str | None
    finished_at: str | None

    @property
    def lost(self) -> bool:
        """Its node cannot say how it ended: it is gone (says a kubelet), or was found dead at boot (containerd)."""
        return self.reason == "ContainerStatusUnknown" or (self.reason, self.exit_code) == ("Unknown", 255)


@dataclass(frozen=True)
class Waiting:
    """Why a container has not started."""

    reason: str
    message: str

    @property
    def image(self) -> bool:
        """The image cannot be had, at least for now."""
        return self.reason in IMAGE_REASONS

    @property
    def hopeless(self) -> bool:
        """Waiting will not help."""
        return self.image and bool(HOPELESS_IMAGE.search(f"{self.reason} {self.message}"))

    @property
    def configuration(self) -> bool:
        """The container refers to something that does not exist or cannot be created."""
        return self.reason in CONFIG_REASONS

    @property
    def missing(self) -> bool:
        """The container refers to something that does not exist; runtimes that fail may do better next time."""
        return self.reason == "CreateContainerConfigError"


@dataclass(frozen=True)
class Pod:
    """A server or load pod."""

    name: str
    uid: str
    attempt: int
    phase: str
    created_at: str
    node: str | None
    address: str | None
    deleting_at: str | None
    deletion_asked_at: str | None
    reason: str
    message: str
    scheduled_at: str | None
    unschedulable: str | None
    sandbox_ready_at: str | None
    ready_at: str | None
    disrupted: str | None
    started_at: str | None
    terminated: Termination | None
    waiting: Waiting | None
    failed_init: Termination | None

    @property
    def ended(self) -> bool:
        """Its main container will not run again, whatever injected sidecars still do."""
        return self.phase in ("Succeeded", "Failed") or self.terminated is not None

    @property
    def lost(self) -> str | None:
        """Why the pod is lost through no doing of its own, or None."""
        if self.reason in LOSS_REASONS or self.reason.startswith(OUT_OF):
            return f"{self.reason}: {self.message}".strip(": ")
        if self.disrupted is not None and (self.ended or self.deleting_at):
            return self.disrupted or "disrupted"
        ended = self.terminated or self.failed_init
        if ended and ended.lost and not self.reason:  # A pod that outlived its deadline may end like that, too.
            return f"its node has lost the container: {ended.reason}: {ended.message}".strip(": ")
        return "deleted by something else" if self.removed else None

    @property
    def removed(self) -> bool:
        """It was deleted while it worked: a deletion ends the container too, and that end says nothing about it."""
        if not self.deleting_at:
            return False
        finished = self.terminated.finished_at if self.terminated else None
        asked = times.seconds_between(self.deletion_asked_at, finished)
        return not self.ended if asked is None else asked >= 0


@dataclass(frozen=True)
class Job:
    """A load Job."""

    name: str
    uid: str
    attempt: int
    created_at: str
    deleting_at: str | None
    over: str | None
    """Why it makes no further pod, failed or complete."""


@dataclass(frozen=True)
class Children:
    """Everything that belongs to one run, split by attempt."""

    server: Pod | None = None
    job: Job | None = None
    load: Pod | None = None
    stale_pods: tuple[Pod, ...] = ()
    stale_jobs: tuple[Job, ...] = ()

    @property
    def finished(self) -> bool:
        """The load generator has done all that it was asked for."""
        ended = self.load.terminated if self.load else None
        return ended is not None and ended.exit_code == 0

    @property
    def left(self) -> tuple[Pod | Job, ...]:
        """Everything that there is."""
        current = (self.server, self.load, self.job)
        return (*(child for child in current if child), *self.stale_pods, *self.stale_jobs)

    @property
    def gone(self) -> bool:
        """Nothing is left."""
        return not self.left


def read_benchmark(raw: JsonObject) -> Benchmark:
    """A QuantBenchmark from its object.

    Raises:
        pydantic.ValidationError: the specification does not fit the models, e.g. after a downgrade of the CRD.
    """
    metadata = mapping(raw, "metadata")
    return Benchmark(
        name=str(metadata["name"]),
        namespace=str(metadata["namespace"]),
        uid=str(metadata["uid"]),
        generation=int(metadata.get("generation", 1)),
        deleting=bool(metadata.get("deletionTimestamp")),
        spec=QuantBenchmarkSpec.model_validate(raw.get("spec") or {}),
        status=benchmark_status(raw),
    )


def benchmark_status(raw: JsonObject) -> QuantBenchmarkStatus:
    """The status of a QuantBenchmark. It can be rebuilt from its runs, so one that cannot be read counts as empty."""
    try:
        # A newer operator's fields are no reason to stop.
        return QuantBenchmarkStatus.model_validate(raw.get("status") or {}, extra="ignore")
    except ValidationError:
        return QuantBenchmarkStatus()


def read_run(raw: JsonObject) -> Run:
    """A QuantBenchmarkRun from its object.

    Raises:
        pydantic.ValidationError: it does not fit the models. Its status holds results, so it is never guessed.
    """
    metadata = mapping(raw, "metadata")
    return Run(
        name=str(metadata["name"]),
        namespace=str(metadata["namespace"]),
        uid=str(metadata["uid"]),
        generation=int(metadata.get("generation", 1)),
        created_at=str(metadata.get("creationTimestamp", "")),
        deleting=bool(metadata.get("deletionTimestamp")),
        spec=QuantBenchmarkRunSpec.model_validate(raw.get("spec") or {}, extra="ignore"),
        status=QuantBenchmarkRunStatus.model_validate(raw.get("status") or {}, extra="ignore"),
    )


def read_runs(raws: Iterable[JsonObject], uid: str) -> tuple[list[Run], list[Unreadable]]:
    """The runs of the benchmark with this uid; one that cannot be read must not hide the others."""
    runs, unreadable = [], []
    for raw in raws:
        if not owned_by(raw, uid):
            continue
        try:
            runs.append(read_run(raw))
        except ValidationError as error:
            wrong = error.errors()[0]
            field = ".".join(map(str, wrong["loc"]))
            held = not mapping(mapping(raw, "status"), "times").get("released")
            unreadable.append(Unreadable(str(raw["metadata"]["name"]), f"{field}: {wrong['msg']}", held))
    return runs, unreadable


def owned_by(child: Mapping[str, Any], uid: str) -> bool:
    """Whether the object's controller is the one with this uid: names and labels alone can be reused."""
    return any(reference.get("uid") == uid for reference in mappings(mapping(child, "metadata"), "ownerReferences"))


def children(
    pods: Iterable[JsonObject], jobs: Iterable[JsonObject], run_uid: str, attempt: int, *, since: str = ""
) -> Children:
    """Sort the pods and jobs that carry a run's label into the current attempt's and stale ones.

    What is not the run's own was left by a deleted namesake: stale, because it holds a GPU, and the names of the run's
    children. A load pod whose Job is gone is still the run's, for it may hold a result, unless it is older than the
    run (created ``since``).
    """
    jobs = list(jobs)
    own_jobs, all_jobs = [read_job(job) for job in jobs if owned_by(job, run_uid)], [read_job(job) for job in jobs]
    owners, there = {run_uid, *(job.uid for job in own_jobs)}, {job.uid for job in all_jobs}
    server, load, stale = None, None, []
    for raw in pods:
        pod, component = read_pod(raw), label(raw, labels.COMPONENT)
        left_behind = component == labels.LOAD and _without_job(raw, there) and pod.created_at >= since
        own = left_behind or any(owned_by(raw, uid) for uid in owners)
        if not own or pod.attempt != attempt:
            stale.append(pod)
        elif component == labels.SERVER:
            server = pod
        elif load is None or pod.created_at > load.created_at:
            load = pod
    current = [job for job in own_jobs if job.attempt == attempt]
    return Children(
        server=server,
        job=current[0] if current else None,
        load=load,
        stale_pods=tuple(stale),
        stale_jobs=tuple(job for job in all_jobs if job not in current),
    )


def _without_job(raw: Mapping[str, Any], jobs: Collection[str]) -> bool:
    """Whether a pod's Job is none of these, or has let go of it (``kubectl delete job --cascade=orphan``)."""
    references = mappings(mapping(raw, "metadata"), "ownerReferences")
    return all(owner.get("kind") == "Job" and owner.get("uid") not in jobs for owner in references)


def read_pod(raw: JsonObject) -> Pod:
    """The facts of a pod's main container and conditions."""
    metadata, status, spec = mapping(raw, "metadata"), mapping(raw, "status"), mapping(raw, "spec")
    conditions = {str(condition.get("type")): condition for condition in mappings(status, "conditions")}
    state = mapping(_main(mappings(status, "containerStatuses")), "state")
    initial = {str(one.get("name")): mapping(one, "state") for one in mappings(status, "initContainerStatuses")}
    # Those that restart are native sidecars: killed once the main container has ended, they have not failed.
    beside = {str(one.get("name")) for one in mappings(spec, "initContainers") if one.get("restartPolicy") == "Always"}
    scheduled, disrupted = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
    terminated = _termination(state)
    ends = (_termination(state) for name, state in initial.items() if name not in beside)
    failures = (ended for ended in ends if ended and ended.exit_code != 0)
    return Pod(
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        attempt=_attempt(raw),
        phase=str(status.get("phase", "Pending")),
        created_at=str(metadata.get("creationTimestamp", "")),
        node=text(spec, "nodeName"),
        address=text(status, "podIP"),
        deleting_at=moment(metadata, "deletionTimestamp"),
        deletion_asked_at=deletion_asked(metadata),
        reason=str(status.get("reason", "")),
        message=str(status.get("message", "")),
        scheduled_at=since(conditions, "PodScheduled"),
        unschedulable=_because(scheduled) if scheduled.get("status") == "False" else None,
        sandbox_ready_at=since(conditions, "PodReadyToStartContainers"),
        ready_at=since(conditions, "Ready"),
        disrupted=_because(disrupted) if disrupted.get("status") == "True" else None,
        started_at=moment(mapping(state, "running"), "startedAt") or (terminated.started_at if terminated else None),
        terminated=terminated,
        waiting=next((waiting for waiting in map(_waiting, (state, *initial.values())) if waiting), None),
        failed_init=next(failures, None),
    )


def read_job(raw: JsonObject) -> Job:
    """The facts of a load Job."""
    metadata = mapping(raw, "metadata")
    over = None
    for condition in mappings(mapping(raw, "status"), "conditions"):
        if condition.get("type") in ("Failed", "Complete") and condition.get("status") == "True":
            over = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return Job(
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        attempt=_attempt(raw),
        created_at=str(metadata.get("creationTimestamp", "")),
        deleting_at=moment(metadata, "deletionTimestamp"),
        over=over,
    )


def _main(containers: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The status of our container: admission webhooks may have added others, and the kubelet sorts them by name."""
    ours = (container for container in containers if container.get("name") in MAIN_CONTAINERS)
    return next(ours, containers[0] if containers else {})


def _because(condition: Mapping[str, Any]) -> str:
    """Reason and message of a condition; ``Unschedulable`` says nothing that the message does not."""
    parts = (str(condition.get(key, "")) for key in ("reason", "message"))
    return ": ".join(part for part in parts if part not in ("", "Unschedulable"))


def _attempt(raw: JsonObject) -> int:
    number = label(raw, labels.ATTEMPT)
    return int(number) if number.isdecimal() and len(number) < 16 else 0


def _termination(state: Mapping[str, Any]) -> Termination | None:
    ended = mapping(state, "terminated")
    if not ended:
        return None
    code = ended.get("exitCode", 0)
    return Termination(
        exit_code=code if isinstance(code, int) else -1,
        reason=str(ended.get("reason", "")),
        message=str(ended.get("message", "")),
        started_at=moment(ended, "startedAt"),
        finished_at=moment(ended, "finishedAt"),
    )


def _waiting(state: Mapping[str, Any]) -> Waiting | None:
    reason = text(mapping(state, "waiting"), "reason")
    if reason in ("PodInitializing", "ContainerCreating", None):
        return None
    return Waiting(reason, str(mapping(state, "waiting").get("message", "")))
