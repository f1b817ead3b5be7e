"""One run in a cluster where anything may happen at any time, and the operator may die before any write.

Every step of the operator is the real one (reconcile, decide, execute) on an API server in memory.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from core_support.fake_kube import Crash, FakeKube
from core_support.logs import a_pass, event, seal, server_log, text, whole
from core_support.objects import RUNNER, later, run_raw, stored, study
from core_support.pods import condition, running, terminated, waiting
from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.decide.deadlines import STUCK_AFTER
from quantbench.execute import merge_patch
from quantbench.kube import ApiError
from quantbench.observe import read_run
from quantbench.reconcile import Key, Reconciler
from quantbench.resources import labels

REPEATS = 2
SPEC = study(
    sampling={"repeats": REPEATS, "control": False},
    limits={"retries": 2, "scheduleTimeout": "5m", "startTimeout": "10m", "loadTimeout": "10m"},
)
RAW = run_raw(SPEC)
NAME = RAW["metadata"]["name"]
AS_ASKED, OTHERWISE = server_log("h100-0.24-bf16-s2.log"), server_log("h100-0.24-fp8-static-s1.log")
KEY = Key("QuantBenchmarkRun", "bench", NAME)


class AnyCluster(RuleBasedStateMachine):
    """Rules are what kubelet, scheduler, users and time do; after each rule the invariants must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.kube = FakeKube()
        self.loop = asyncio.new_event_loop()
        self.reconciler = Reconciler(self.kube, RUNNER, lambda: later(self.kube.seconds))  # type: ignore[arg-type]
        self.kube.objects[KEY.kind, NAME] = stored(RAW)
        self.whole: set[int] = set()
        self.verdict: JsonObject | None = None
        self.recorded: dict[int, str] = {}
        self.passes: dict[int, dict[str, JsonObject]] = {}
        self.ran: dict[int, JsonObject] = {}
        self.attempt = 1
        self.sound = True

    def teardown(self) -> None:
        try:
            if self.sound:
                self.comes_to_an_end()
        finally:
            self.loop.close()

    # --- what there is -------------------------------------------------------------------------------------------

    @property
    def status(self) -> JsonObject:
        status: JsonObject = self.kube.objects[KEY.kind, NAME].get("status", {})
        return status

    def pods(self, component: str | None = None) -> list[JsonObject]:
        return [
            raw
            for (kind, _), raw in self.kube.objects.items()
            if kind == "Pod" and component in (None, raw["metadata"]["labels"][labels.COMPONENT])
        ]

    def jobs(self) -> list[JsonObject]:
        return [raw for (kind, _), raw in self.kube.objects.items() if kind == "Job"]

    def pick(self, component: str, *, state: str | None = None, node: bool = True) -> JsonObject | None:
        """A pod whose main container is in a state (None: not yet started)."""
        for raw in self.pods(component):
            statuses = raw.get("status", {}).get("containerStatuses")
            now = next(iter(statuses[0]["state"])) if statuses else None
            if now == state and bool(raw["spec"].get("nodeName")) == node:
                return raw
        return None

    def set_state(self, raw: JsonObject, state: JsonObject) -> None:
        container = "vllm" if raw["metadata"]["labels"][labels.COMPONENT] == labels.SERVER else "load"
        status = raw.setdefault("status", {})
        status["containerStatuses"] = [{"name": container, "state": state}]
        if "terminated" in state:
            status["phase"] = "Succeeded" if state["terminated"]["exitCode"] == 0 else "Failed"
        else:
            status["phase"] = "Running" if "running" in state else "Pending"

    def add_condition(self, raw: JsonObject, kind: str, **more: Any) -> None:
        known = raw.setdefault("status", {}).setdefault("conditions", [])
        known[:] = [c for c in known if c["type"] != kind] + [condition(kind, self.kube.seconds, **more)]

    # --- the operator --------------------------------------------------------------------------------------------

    def reconcile(self, crash_before: int | None = None) -> None:
        before = stored(self.status)
        here = {(raw["kind"], raw["metadata"]["name"]): raw for raw in self.kube.objects.values()}
        first = len(self.kube.writes)
        self.kube.crash_before = crash_before
        try:
            self.loop.run_until_complete(self.reconciler.reconcile(KEY))
        except Crash:
            pass
        except ApiError as error:
            assert error is self.kube.refusal, error
        finally:
            self.kube.crash_before = None
        self.sound = False
        self.check_writes(before, here, self.kube.writes[first:])
        self.attempts_only_grow()
        self.a_verdict_is_for_good()
        self.measured_means_measured()
        self.a_server_is_recorded_once_per_attempt()
        self.passes_are_never_lost()
        self.what_ran_otherwise_is_not_measured()
        self.one_server_at_a_time()
        self.the_status_can_be_read_again()
        self.sound = True

    def check_writes(self, before: JsonObject, here: dict[Any, JsonObject], writes: list[tuple[str, str, str]]) -> None:
        attempt, ended = before.get("attempt", 1), "verdict" in before
        for verb, kind, name in writes:
            if kind == "Event":
                continue
            if verb == "delete":
                owner = int(here[kind, name]["metadata"]["labels"][labels.ATTEMPT])
                assert ended or owner != attempt, f"{kind} {name} of attempt {attempt} deleted without a stored verdict"
            if verb == "apply":
                assert not ended, f"{kind} {name} created after the verdict"
                assert kind in ("Pod", "Job")
                assert name == f"{NAME}-{'s' if kind == 'Pod' else 'l'}{attempt}"
                recorded = before.get("server") if kind == "Pod" else before.get("loadJob")
                assert recorded is None, f"{kind} {name} created a second time"
                assert not (kind == "Pod" and attempt in self.recorded), f"a second server for attempt {attempt}"
                others = [pod for (what, other), pod in here.items() if what == "Pod" and other != name]
                assert kind == "Job" or not any(map(self.held, others)), f"{name} created beside a pod that goes"
        if before.get("times", {}).get("released") and not here.keys() - {(KEY.kind, NAME)} - _events(here):
            assert writes == [], "a released run is at rest"

    @rule(crash_before=st.none() | st.integers(0, 3))
    def operator_looks(self, crash_before: int | None) -> None:
        self.reconcile(crash_before)

    @rule(refusal=st.sampled_from([*[(403, "exceeded quota")] * 9, (422, "invalid")]))
    def api_server_refuses(self, refusal: tuple[int, str]) -> None:
        self.kube.refusal = ApiError(refusal[0], "Refused", refusal[1])
        self.reconcile()
        self.kube.refusal = None

    # --- time and users ------------------------------------------------------------------------------------------

    @initialize(steps=st.integers(0, 6))
    def begin(self, steps: int) -> None:
        self.all_goes_well(steps, "wait")

    @rule(seconds=st.sampled_from([0.3, 1, 5, 20, 30, 45, 61, 61, 299, 601, 5000, -3, -400]))
    def time_passes(self, seconds: float) -> None:
        self.kube.seconds += seconds

    @rule(suspend=st.booleans(), retries=st.integers(0, 2))
    def user_changes(self, suspend: bool, retries: int) -> None:
        spec = self.kube.objects[KEY.kind, NAME]["spec"]
        spec["suspend"], spec["limits"]["retries"] = suspend, retries

    @precondition(lambda self: self.pods())
    @rule(which=st.sampled_from([labels.SERVER, labels.LOAD]), grace=st.sampled_from([0, 30]))
    def user_deletes_a_pod(self, which: str, grace: int) -> None:
        for raw in self.pods(which):
            self.kube.ask_for_deletion(raw["metadata"]["name"], grace)

    @precondition(lambda self: self.jobs())
    @rule(orphan=st.booleans(), at_once=st.booleans())
    def user_deletes_the_job(self, orphan: bool, at_once: bool) -> None:
        for raw in self.jobs():
            del self.kube.objects["Job", raw["metadata"]["name"]]
        if orphan:
            for raw in self.pods(labels.LOAD):
                raw["metadata"]["ownerReferences"] = []
        elif at_once:
            self.collect_garbage()

    @precondition(lambda self: self.pods(labels.SERVER))
    @rule()
    def server_is_taken_away(self) -> None:
        """As after a drain, or by garbage collection of a dead node's pods."""
        for raw in self.pods(labels.SERVER):
            del self.kube.objects["Pod", raw["metadata"]["name"]]

    def collect_garbage(self) -> None:
        """What a deleted owner leaves behind is deleted in the background."""
        uids = {raw["metadata"]["uid"] for raw in self.kube.objects.values()}
        for raw in self.pods():
            owners = {reference["uid"] for reference in raw["metadata"]["ownerReferences"]}
            if owners and not uids & owners:
                self.kube.ask_for_deletion(raw["metadata"]["name"], 30)

    # --- scheduler, kubelet, Job controller ------------------------------------------------------------------------

    @precondition(lambda self: self.pods())
    @rule(which=st.sampled_from([labels.SERVER, labels.LOAD]))
    def scheduled(self, which: str) -> None:
        raw = self.pick(which, node=False)
        if raw:
            raw["spec"]["nodeName"] = "node-1"
            raw.setdefault("status", {})["podIP"] = "10.0.0.7"
            self.add_condition(raw, "PodScheduled")

    @precondition(lambda self: self.pods())
    @rule(which=st.sampled_from([labels.SERVER, labels.LOAD]), why=st.sampled_from(
        [("ErrImagePull", "503"), ("ErrImagePull", "not found"), ("CreateContainerConfigError", "no secret"), ("ContainerCreating", "")]
    ))  # fmt: skip
    def container_waits(self, which: str, why: tuple[str, str]) -> None:
        raw = self.pick(which) or self.pick(which, state="waiting")
        if raw:
            self.set_state(raw, waiting(*why))

    @precondition(lambda self: self.pods())
    @rule(which=st.sampled_from([labels.SERVER, labels.LOAD]))
    def container_starts(self, which: str) -> None:
        raw = self.pick(which) or self.pick(which, state="waiting")
        if raw:
            self.set_state(raw, running(self.kube.seconds))

    @precondition(lambda self: self.pick(labels.SERVER, state="running"))
    @rule()
    def server_is_ready(self) -> None:
        raw = self.pick(labels.SERVER, state="running")
        if raw:
            self.add_condition(raw, "Ready")

    @precondition(lambda self: self.pick(labels.SERVER, state="running"))
    @rule(code=st.sampled_from([0, 1, 137]), reason=st.sampled_from(["Error", "OOMKilled"]))
    def server_dies(self, code: int, reason: str) -> None:
        raw = self.pick(labels.SERVER, state="running")
        if raw:
            self.set_state(raw, terminated(code, reason, until=self.kube.seconds))

    @precondition(lambda self: self.pods())
    @rule(
        which=st.sampled_from([labels.SERVER, labels.LOAD]), how=st.sampled_from(["Evicted", "NodeLost", "preempted"])
    )
    def pod_is_lost(self, which: str, how: str) -> None:
        for raw in self.pods(which):
            if how == "preempted":
                self.add_condition(raw, "DisruptionTarget", message="preempted")
                self.kube.ask_for_deletion(raw["metadata"]["name"], 30)
            else:
                raw.setdefault("status", {}).update(phase="Failed", reason=how, message="it was so")

    @rule(steps=st.integers(1, 5), then=st.sampled_from(["wait", "says", "ends"]))
    def all_goes_well(self, steps: int, then: str) -> None:
        """The way of most runs, without which the rare states would hardly be reached."""
        for _ in range(steps):
            self.reconcile()
            self.deletions_finish()
            for which in (labels.SERVER, labels.LOAD):
                self.container_starts(which)
                self.scheduled(which)
            self.job_controller_works()
            self.kube.seconds += 2
        self.server_is_ready()
        if then == "says":
            self.load_says(1, True, 0)
        elif then == "ends":
            self.load_ends(REPEATS, True, "well")

    @precondition(lambda self: any("deletionTimestamp" in raw["metadata"] for raw in self.pods()))
    @rule()
    def deletions_finish(self) -> None:
        for (kind, name), raw in list(self.kube.objects.items()):
            if kind == "Pod" and "deletionTimestamp" in raw["metadata"]:
                del self.kube.objects[kind, name]

    @precondition(lambda self: self.jobs())
    @rule()
    def job_controller_works(self) -> None:
        jobs = {raw["metadata"]["uid"]: raw for raw in self.jobs()}
        owners = {
            reference["uid"] for raw in self.pods(labels.LOAD) for reference in raw["metadata"]["ownerReferences"]
        }
        for uid, raw in jobs.items():
            if uid not in owners and not raw.get("status"):
                name = raw["metadata"]["name"] + "-abcde"
                head = {**raw["metadata"], "name": name, "uid": f"pod-of-{uid}", "creationTimestamp": self.kube.now()}
                head["ownerReferences"] = [
                    {"kind": "Job", "name": raw["metadata"]["name"], "uid": uid, "controller": True}
                ]
                self.kube.objects["Pod", name] = stored({"kind": "Pod", "metadata": head, "spec": {}, "status": {}})

    @precondition(lambda self: self.jobs())
    @rule()
    def job_fails(self) -> None:
        for raw in self.jobs():
            failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": ""}
            raw["status"] = {"conditions": [failed]}

    # --- the load generator ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.pick(labels.LOAD, state="running"))
    @rule(passes=st.integers(0, REPEATS), valid=st.booleans(), skew=st.sampled_from([0, 0, 100_000]))
    def load_says(self, passes: int, valid: bool, skew: float) -> None:
        raw = self.pick(labels.LOAD, state="running")
        if raw:
            self.kube.logs[raw["metadata"]["name"]] = text(self.documents(passes, valid, skew)[:-1])

    def documents(self, passes: int, valid: bool, skew: float = 0) -> list[JsonObject]:
        at, more = self.kube.seconds + skew, {} if valid else {"completed": 0, "failed": 1000}
        said = [a_pass(repeat=repeat, at=at, **more) for repeat in range(1, passes + 1)]
        return [event("ready", at), event("warmup", at, seconds=1), *whole(*said)[4:]]

    @precondition(lambda self: self.pick(labels.LOAD, state="running"))
    @rule(
        passes=st.integers(0, REPEATS),
        valid=st.booleans(),
        how=st.sampled_from(["well", "well", "cut", "unread", "mute", "error"]),
    )
    def load_ends(self, passes: int, valid: bool, how: str) -> None:
        raw = self.pick(labels.LOAD, state="running")
        if raw is None:
            return
        name, documents = raw["metadata"]["name"], self.documents(passes, valid)
        if how == "error":
            died = {"kind": "error", "reason": "ServerDied", "message": "refused"}
            documents = [*documents[:-1], died, {"kind": "end", "complete": False}]
        written = text(documents)
        self.kube.logs[name] = None if how == "unread" else written[: len(written) // 2] if how == "cut" else written
        message = "" if how == "mute" else seal(documents)
        code = 1 if how in ("error", "mute") else 0
        self.set_state(raw, terminated(code, "Error", until=self.kube.seconds, message=message))
        if how == "well" and valid and passes == REPEATS:
            self.whole.add(int(raw["metadata"]["labels"][labels.ATTEMPT]))

    @precondition(lambda self: self.pods(labels.SERVER))
    @rule(log=st.sampled_from([None, AS_ASKED, AS_ASKED, OTHERWISE]))
    def server_says(self, log: str | None) -> None:
        for raw in self.pods(labels.SERVER):
            self.kube.logs[raw["metadata"]["name"]] = log

    @precondition(lambda self: self.pick(labels.LOAD, state="running"))
    @rule(
        log=st.sampled_from(
            [None, "", 'QUANTBENCH {"kind":"pass"', 'QUANTBENCH {"kind":"event","name":"ready","time":1e999}\n']
        )
    )
    def log_is_odd(self, log: str | None) -> None:
        raw = self.pick(labels.LOAD, state="running")
        if raw:
            self.kube.logs[raw["metadata"]["name"]] = log

    # --- what must hold after every step of the operator -------------------------------------------------------------------------------------

    def a_verdict_is_for_good(self) -> None:
        found = self.status.get("verdict")
        assert self.verdict is None or found == self.verdict
        self.verdict = found
        complete = [c["status"] for c in self.status.get("conditions", []) if c["type"] == "Complete"]
        assert complete in ([], ["True" if found else "False"])

    def measured_means_measured(self) -> None:
        if self.verdict and self.verdict["name"] == "Measured":
            assert self.attempt in self.whole
            counted = [p for p in self.status["passes"] if p["attempt"] == self.attempt]
            assert len(counted) == REPEATS
            assert all(measured["valid"] for measured in counted)

    def what_ran_otherwise_is_not_measured(self) -> None:
        ran = self.status.get("attestation", {})
        assert not (self.verdict and self.verdict["name"] == "Measured" and ran.get("quantization", "None") != "None")
        known = self.ran.setdefault(self.attempt, ran)
        assert not known.get("engineVersion") or known == ran, "a server does not change"
        self.ran[self.attempt] = ran

    def attempts_only_grow(self) -> None:
        attempt = self.status.get("attempt", 1)
        assert attempt in (self.attempt, self.attempt + 1)
        assert self.verdict is None or attempt == self.attempt
        self.attempt = attempt
        assert self.status.get("lost", 0) <= 3

    def a_server_is_recorded_once_per_attempt(self) -> None:
        server = self.status.get("server")
        if server:
            assert self.recorded.setdefault(self.attempt, server["uid"]) == server["uid"]

    def passes_are_never_lost(self) -> None:
        stored_passes = {p["key"]: p for p in self.status.get("passes", [])}
        known = self.passes.setdefault(self.attempt, {})
        assert known.items() <= stored_passes.items()
        known.update({key: p for key, p in stored_passes.items() if p["attempt"] == self.attempt})

    def one_server_at_a_time(self) -> None:
        alive = [raw for raw in self.pods(labels.SERVER) if "deletionTimestamp" not in raw["metadata"]]
        assert len(alive) <= 1

    def held(self, raw: JsonObject) -> bool:
        """Whether a pod may still hold a GPU, as far as it is known when to stop believing that."""
        until = raw["metadata"].get("deletionTimestamp")
        return until is None or later(self.kube.seconds) - times.parse(until) <= STUCK_AFTER

    def the_status_can_be_read_again(self) -> None:
        read = read_run(self.kube.objects[KEY.kind, NAME]).status
        if self.status:
            assert merge_patch(self.status, read.to_json()) == {}

    # --- and in the end --------------------------------------------------------------------------------------------

    def comes_to_an_end(self) -> None:
        """With nothing more happening but deletions and time, the run ends and leaves nothing behind."""
        self.kube.objects[KEY.kind, NAME]["spec"]["suspend"] = False
        for _ in range(40):
            self.reconcile()
            self.deletions_finish()
            self.kube.seconds += 120
            if self.status.get("times", {}).get("released") and not self.pods():
                break
        else:
            raise AssertionError(f"the run does not end: {self.status}")
        assert self.verdict is not None
        writes = len(self.kube.writes)
        self.reconcile()
        assert len(self.kube.writes) == writes, "a released run is at rest"
        assert not [key for key in self.kube.objects if key[0] in ("Pod", "Job")]


def _events(here: dict[Any, JsonObject]) -> set[Any]:
    return {key for key in here if key[0] == "Event"}


AnyCluster.TestCase.settings = settings(max_examples=150, stateful_step_count=25)
TestAnyCluster = AnyCluster.TestCase
