"""From what pods, logs and passes show to a verdict."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from core_support.logs import a_pass, event, seal, text, whole
from core_support.objects import at, later, run, study
from core_support.pods import condition, pod, running, terminated, waiting
from quantbench.api.base import JsonObject
from quantbench.api.names import Verdict
from quantbench.api.run import Outcome
from quantbench.decide.verdicts import (
    cannot_start,
    load_cannot_start,
    load_ended,
    server_ended,
    start_timeout,
    unreachable,
)
from quantbench.observe import Pod, read_pod
from quantbench.resources import labels
from quantbench.results import parse_log, read_passes

LOGS = Path(__file__).parents[1] / "data" / "engine" / "logs"
SPEC = run(study(sampling={"repeats": 2})).spec
SERVING = read_pod(pod(state=running(), ready=40))
CRASHED = read_pod(pod(state=terminated(1, until=150)))
MINUTE = timedelta(minutes=1)


def said(outcome: Outcome | None) -> tuple[str, str] | None:
    return (str(outcome.name), outcome.reason) if outcome else None


# --- the server ended ------------------------------------------------------------------------------------------


def test_a_log_tells_why() -> None:
    log = (LOGS / "cpu-0.32-gptq-int8.log").read_text()
    found = server_ended(CRASHED, log, ready=False)
    assert found is not None
    assert (found.name, bool(found.log_line)) == (Verdict.UNSUPPORTED, True)
    assert found.log_line is not None
    assert found.log_line[:50] in found.message
    assert found.message.startswith("the server ended while starting with exit code 1: ")
    later_on = server_ended(CRASHED, log, ready=True)
    assert later_on is not None
    assert later_on.message.startswith("the server ended under load")


def test_memory_of_the_container() -> None:
    killed = read_pod(pod(state=terminated(137, "OOMKilled")))
    found = server_ended(killed, "anything", ready=True)
    assert said(found) == ("OutOfMemory", "ContainerMemory")
    assert found is not None
    assert "under load" in found.message


def test_a_deadline_of_the_pod() -> None:
    over = read_pod(pod(state=terminated(), changes={"status": {"reason": "DeadlineExceeded"}}))
    assert said(server_ended(over, "", ready=True)) == ("TimedOut", "ServerDeadline")


def test_an_init_container_of_the_server() -> None:
    init = {"status": {"phase": "Failed", "initContainerStatuses": [{"state": terminated(1, message="no mesh")}]}}
    assert said(server_ended(read_pod(pod(changes=init)), "", ready=False)) == (
        "Failed",
        "InitContainerFailed",
    )


def test_a_log_that_is_late_is_waited_for() -> None:
    assert server_ended(CRASHED, None, ready=True, late=True) is None
    assert said(server_ended(CRASHED, None, ready=True)) == ("Failed", "LogUnavailable")
    assert said(server_ended(CRASHED, "", ready=True, late=True)) == ("Failed", "Unknown")
    # What its exit status says needs no log.
    killed = read_pod(pod(state=terminated(137, until=150)))
    assert said(server_ended(killed, None, ready=True)) == ("Failed", "Killed")


# --- the load generator ended ----------------------------------------------------------------------------------


def load(state: JsonObject | None = None, **changes: JsonObject) -> Pod:
    return read_pod(pod(labels.LOAD, state, changes=dict(changes)))


def outcome(
    documents: list[JsonObject],
    *,
    server: Pod = SERVING,
    server_log: str | None = "",
    now: float = 155,
    code: int = 0,
    log: str | None = "as sealed",
    message: str | None = None,
    late: bool = False,
) -> Outcome | None:
    """The verdict when the load pod ended at 150 s with a log."""
    written = text(documents) if log == "as sealed" else log
    state = terminated(
        code, "Completed" if code == 0 else "Error", until=150, message=seal(documents) if message is None else message
    )
    parsed = parse_log(written)
    passes = read_passes(parsed, SPEC.load, 1)
    return load_ended(load(state), server, parsed, server_log, SPEC.load, passes, later(now), late=late)


GOOD = [a_pass(), a_pass(repeat=2)]


def test_measured() -> None:
    found = outcome(whole(*GOOD))
    assert said(found) == ("Measured", "AllPassesValid")
    assert found is not None
    assert found.message == "2 passes, all valid"


NO_TEMPLATE = "ValueError: As of transformers v4.44, default chat template is no longer allowed"


def test_the_server_tells_why_requests_failed() -> None:
    """Of its log what came after its start: other errors were none of the requests'."""
    logged = "(APIServer pid=1) ERROR 11-28 10:01:00 [serving.py:254] {}\n"
    log = logged.format("OddError: a plugin") + "INFO:     Application startup complete.\n" + logged.format(NO_TEMPLATE)
    refused: JsonObject = {"completed": 0, "failed": 1000, "error": "Bad Request"}
    for other, name in (({}, "Unstable"), (refused, "Failed")):
        found = outcome(whole(a_pass(**other), a_pass(repeat=2, **refused)), server_log=log)
        assert said(found) == (name, "RequestsFailed")
        assert found is not None
        assert found.message.endswith("1000 failed; first error: Bad Request")
        assert found.log_line == NO_TEMPLATE
    other = outcome(whole(a_pass(), a_pass(repeat=2, expectedOutputTokens=1)), server_log=log)
    assert other is not None
    assert other.log_line is None, "not the server's matter"


def test_measured_although_the_server_died_afterwards() -> None:
    assert said(outcome(whole(*GOOD), server=CRASHED)) == ("Measured", "AllPassesValid")


@pytest.mark.parametrize(
    ("second", "wanted"),
    [
        ({"completed": 0, "failed": 1000}, ("Unstable", "RequestsFailed")),
        ({"expectedOutputTokens": 1}, ("Unstable", "OutputLengthDrift")),
    ],
)
def test_one_invalid_pass_beside_a_valid_one(second: JsonObject, wanted: tuple[str, str]) -> None:
    found = outcome(whole(a_pass(), a_pass(repeat=2, **second)))
    assert said(found) == wanted
    assert found is not None
    assert "1 of 2 passes are invalid, first saturated/2" in found.message


@pytest.mark.parametrize(
    ("both", "wanted"),
    [
        ({"completed": 0, "failed": 1000}, ("Failed", "RequestsFailed")),
        ({"exitCode": 1}, ("Failed", "ClientFailed")),
        ({"expectedOutputTokens": 1}, ("Inconsistent", "OutputLengthDrift")),
        ({"server": {"generationTokens": 1}}, ("Inconsistent", "CountersDisagree")),
        ({"server": {"prefixCacheHits": 5}}, ("Inconsistent", "PrefixCacheHit")),
        ({"ttftMilliseconds": {}}, ("Inconsistent", "ImplausibleFigures")),
        ({"server": {"requestsSucceeded": {"length": 999}}}, ("Inconsistent", "RequestsDisagree")),
        ({"tpotMilliseconds": {"mean": 9.0}}, ("Inconsistent", "LatenciesDisagree")),
        ({"client": {"cpuSeconds": 9.9}}, ("ClientBound", "ClientSaturated")),
        ({"client": {"maxEventLoopLagSeconds": 2.0}}, ("ClientBound", "ClientLagging")),
        ({"client": {"cpuSeconds": 6.0}, "tpotMilliseconds": {"mean": 9.0}}, ("ClientBound", "ClientLate")),
    ],
)
def test_no_valid_pass_is_never_measured(both: JsonObject, wanted: tuple[str, str]) -> None:
    assert said(outcome(whole(a_pass(**both), a_pass(repeat=2, **both)))) == wanted


def test_what_left_a_load_without_figures_decides() -> None:
    spec = run(study(loads=[{"name": "saturated"}, {"name": "c8"}], sampling={"repeats": 2})).spec
    drifted, failing = {"expectedOutputTokens": 1}, {"client": {"cpuSeconds": 9.9}}

    def verdict(*lines: JsonObject) -> tuple[str, str] | None:
        written = whole(*lines)
        log = parse_log(text(written))
        ended = load(terminated(0, "Completed", until=150, message=seal(written)))
        passes = read_passes(log, spec.load, 1)
        assert len(passes) == 4
        return said(load_ended(ended, SERVING, log, "", spec.load, passes, later(155)))

    c8 = [a_pass("c8", **failing), a_pass("c8", repeat=2, **failing)]
    assert verdict(a_pass(**drifted), a_pass(repeat=2), *c8) == ("ClientBound", "ClientSaturated")
    assert verdict(a_pass(**drifted), a_pass(repeat=2), c8[0], a_pass("c8", repeat=2)) == (
        "Unstable",
        "OutputLengthDrift",
    )


def test_prompts_that_repeat_are_noted() -> None:
    dataset = event("dataset", 25, repeatedPrompts={"saturated": 12, "other": 5})
    found = outcome([dataset, *whole(*GOOD)])
    assert said(found) == ("Measured", "AllPassesValid")
    assert found is not None
    assert found.message == "2 passes, all valid; prompts that the dataset had to repeat: 12 of saturated"


def test_a_pass_that_is_not_there() -> None:
    found = outcome(whole(a_pass()))
    assert said(found) == ("Failed", "ResultIncomplete")
    assert found is not None
    assert "saturated/2" in found.message


def test_a_log_that_does_not_match() -> None:
    assert said(outcome(whole(*GOOD), log=text(whole(a_pass())))) == ("Failed", "ResultCorrupt")
    found = outcome(whole(*GOOD), log="")
    assert said(found) == ("Failed", "ResultCorrupt")
    assert found is not None
    assert found.hint


def test_a_load_log_that_is_late_is_waited_for() -> None:
    assert outcome(whole(*GOOD), log=None, late=True) is None
    assert said(outcome(whole(*GOOD), log=None)) == ("Failed", "LogUnavailable")


@pytest.mark.parametrize("reason", ["DatasetMissing", "DatasetInvalid", "EngineBenchmarkFailed", "LoadSpecInvalid"])
def test_the_load_generators_own_fault(reason: str) -> None:
    broken = whole(complete=False, error={"reason": reason, "message": "it is so"})
    found = outcome(broken, code=1)
    assert said(found) == ("Failed", reason)
    assert found is not None
    assert found.message == "it is so"
    assert bool(found.hint) == reason.startswith("Dataset")


DIED = whole(a_pass(), complete=False, error={"reason": "ServerDied", "message": "connection refused"})


def test_the_servers_fault_is_told_by_the_server() -> None:
    log = (LOGS / "cpu-0.32-engine-killed-serving.log").read_text()
    found = outcome(DIED, server=CRASHED, server_log=log, code=1)
    assert found is not None
    assert found.reason == "EngineDied"
    assert "under load" in found.message


def test_a_dead_server_may_take_a_moment_to_show() -> None:
    assert outcome(DIED, code=1, now=155) is None
    # Neither the server's pod nor its log says more: it hangs, or its node went away.
    for log in (None, "", "ValueError: a bad request\n"):
        found = outcome(DIED, server_log=log, code=1, now=161)
        assert found is not None
        assert (said(found), found.log_line) == (("Failed", "ServerDied"), log.strip() if log else None)
        assert found.message == "connection refused; the server's container has not ended"
        assert "hangs" in (found.hint or "")


def test_a_server_that_fails_without_an_end() -> None:
    """Its log knows why, even if the process hangs on its way out."""
    log = (LOGS / "cpu-0.32-engine-killed-serving.log").read_text()
    found = outcome(DIED, server_log=log, code=1, now=161)
    assert said(found) == ("Failed", "EngineDied")
    assert found is not None
    assert found.log_line
    assert found.message.startswith("the server answered no more, and has not ended: ")


def test_a_server_that_was_never_ready() -> None:
    late = whole(complete=False, error={"reason": "ServerNotReady", "message": "not healthy after 1200 s"})
    assert said(outcome(late, code=1, now=161)) == ("TimedOut", "StartTimeout")


def test_a_killed_load_pod_that_does_not_say_when() -> None:
    parsed = parse_log(text(DIED))
    silent = load(status={"phase": "Failed"})
    assert said(load_ended(silent, SERVING, parsed, "", SPEC.load, (), later(10))) == ("Failed", "ServerDied")
    assert said(load_ended(silent, SERVING, parse_log(""), "", SPEC.load, (), later(10))) == ("Failed", "ResultMissing")


def test_memory_of_the_load_generator() -> None:
    killed = load(terminated(137, "OOMKilled"))
    found = load_ended(killed, SERVING, parse_log(text(whole(a_pass()))), "", SPEC.load, (), later(61))
    assert said(found) == ("Failed", "LoadOutOfMemory")
    assert found is not None
    assert found.hint
    assert "loadResources" in found.hint


def test_the_runner_could_not_be_brought() -> None:
    init = {
        "phase": "Failed",
        "initContainerStatuses": [{"name": "install-runner", "state": terminated(1, message="cp: full")}],
    }
    found = load_ended(load(status=init), SERVING, parse_log(""), "", SPEC.load, (), later(61))
    assert said(found) == ("Failed", "RunnerNotInstalled")
    assert found is not None
    assert found.message == "cp: full"


# --- pods that never run ---------------------------------------------------------------------------------------


def blocked(of: Pod, now: float, since: str | None = None) -> tuple[str, str] | None:
    return said(cannot_start(of, later(now), MINUTE, SPEC.limits, since))


def test_no_node() -> None:
    why = condition("PodScheduled", 1, "False", reason="Unschedulable", message="0/3 nodes are available")
    homeless = read_pod(pod(scheduled=None, changes={"status": {"conditions": [why]}}))
    assert blocked(homeless, 899) is None
    assert blocked(homeless, 901) == ("Unschedulable", "NoNode")
    found = cannot_start(homeless, later(901), MINUTE, SPEC.limits)
    assert found is not None
    assert "0/3 nodes are available" in found.message


def test_a_hopeless_image_is_not_waited_for() -> None:
    assert blocked(read_pod(pod(state=waiting("ErrImagePull", "manifest unknown"))), 6) == (
        "ImageUnavailable",
        "ErrImagePull",
    )


def test_other_image_faults_get_the_time_to_mend() -> None:
    slow = read_pod(pod(state=waiting("ImagePullBackOff", "503 Service Unavailable")))
    assert blocked(slow, 1204) is None
    assert blocked(slow, 1206) == ("ImageUnavailable", "ImagePullBackOff")


def test_references_to_what_does_not_exist() -> None:
    missing = read_pod(pod(state=waiting("CreateContainerConfigError", 'secret "hub" not found')))
    assert blocked(missing, 660) is None
    assert blocked(missing, 660, at(600)) is None
    assert blocked(missing, 661, at(600)) == ("Failed", "CreateContainerConfigError")
    assert blocked(missing, 1206) == ("Failed", "CreateContainerConfigError")


def test_a_load_pod_without_a_node() -> None:
    found = load_cannot_start(load(), later(901), MINUTE, SPEC.limits)
    assert found is None
    homeless = read_pod(pod(labels.LOAD, scheduled=None))
    found = load_cannot_start(homeless, later(901), MINUTE, SPEC.limits)
    assert said(found) == ("Unschedulable", "NoNodeForLoad")
    assert found is not None
    assert "nodeSelector" not in (found.hint or "")


def test_a_running_pod_is_not_blocked() -> None:
    assert blocked(SERVING, 10_000) is None


def test_a_server_that_listens_on_ipv4_where_pods_have_ipv6_addresses() -> None:
    six = read_pod(pod(state=running(), changes={"status": {"podIP": "fd00:10:244::7"}}))
    found = unreachable(six, ["--host=0.0.0.0"])
    assert said(found) == ("Failed", "IPv6Address")
    assert found is not None
    assert "--host=::" in (found.hint or "")
    assert unreachable(six, ["--host=0.0.0.0", "--host=::"]) is None
    assert unreachable(SERVING, ["--host=0.0.0.0"]) is None
    assert unreachable(read_pod(pod(scheduled=None)), ["--host=0.0.0.0"]) is None
    # An image that listens on both all the same has been reached by its probe.
    reached = read_pod(pod(state=running(), ready=40, changes={"status": {"podIP": "fd00:10:244::7"}}))
    assert unreachable(reached, ["--host=0.0.0.0"]) is None


def test_not_ready_in_time() -> None:
    found = start_timeout(SERVING, "loading\nstill loading\n\n", SPEC.limits)
    assert (found.name, found.reason, found.log_line) == (Verdict.TIMED_OUT, "StartTimeout", "still loading")
    assert start_timeout(SERVING, None, SPEC.limits).log_line is None
    pulling = read_pod(pod(state=waiting("ImagePullBackOff", "503")))
    assert said(start_timeout(pulling, None, SPEC.limits)) == ("ImageUnavailable", "ImagePullBackOff")


LONG = "x" * 100_000


def test_long_texts_fit_into_the_status() -> None:
    outcomes = [
        server_ended(CRASHED, LONG + "Error: " + LONG, ready=False),
        outcome(whole(complete=False, error={"reason": LONG, "message": LONG}), code=1),
        start_timeout(SERVING, LONG, SPEC.limits),
        cannot_start(read_pod(pod(state=waiting("ErrImagePull", "not found " + LONG))), later(9), MINUTE, SPEC.limits),
        cannot_start(read_pod(pod(state=waiting("StartError", LONG))), later(1300), MINUTE, SPEC.limits),
    ]
    for found in outcomes:
        assert found is not None
        assert Outcome.model_validate(found.to_json()) == found
