"""Every rule of a valid pass at its edges, and the verdict that its reason leads to."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from core_support.logs import a_pass, unix
from core_support.objects import run, study
from quantbench import validity
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import Workload
from quantbench.api.names import Verdict
from quantbench.validity import VERDICTS, Client, api_server_share, invalid_reason


def workload(**changes: Any) -> Workload:
    return run(study(workload=changes)).spec.load.workload


def reason(line: JsonObject, of: Workload | None = None) -> str | None:
    found = invalid_reason(line, 1000, of or workload())
    return found.reason if found else None


def line(*, server: JsonObject | None = None, client: JsonObject | None = None, **changes: Any) -> JsonObject:
    """A pass line; `server` and `client` replace single figures of theirs."""
    made = a_pass(**changes)
    return {**made, "server": {**made["server"], **(server or {})}, "client": {**made["client"], **(client or {})}}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, None),
        ({"exitCode": 1, "error": "boom"}, "ClientFailed"),
        ({"exitCode": None}, "ClientFailed"),
        ({"completed": 999}, "RequestsFailed"),
        ({"completed": 0, "failed": 1000}, "RequestsFailed"),
        ({"failed": 1}, "RequestsFailed"),
        ({"failed": None}, "RequestsFailed"),
        ({"asked": 500, "completed": 500}, "RequestsFailed"),
        ({"completed": None}, "RequestsFailed"),
        ({"totalOutputTokens": 0}, "ImplausibleFigures"),
        ({"totalTokensPerSecond": None}, "ImplausibleFigures"),
        ({"durationSeconds": 0.0}, "ImplausibleFigures"),
        ({"ttftMilliseconds": {"mean": None}}, "ImplausibleFigures"),
        ({"ttftMilliseconds": None}, "ImplausibleFigures"),
        ({"totalTokensPerSecond": float("nan")}, "ImplausibleFigures"),
        ({"expectedOutputTokens": 20_000}, "OutputLengthDrift"),
        ({"expectedOutputTokens": 9_940}, "OutputLengthDrift"),
        ({"expectedOutputTokens": 10_040}, None),
        ({"expectedOutputTokens": None}, None),
        ({"server": {}}, None),
        ({"server": None}, None),
        ({"client": {}}, None),
        ({"client": None}, None),
        ({"client": "calm"}, None),
    ],
    ids=str,
)
def test_the_work_was_done(changes: JsonObject, wanted: str | None) -> None:
    assert reason(a_pass(**changes)) == wanted


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "0 of 1000 requests completed, 1000 failed"),
        (" \n", "0 of 1000 requests completed, 1000 failed"),
        ("Bad Request", "0 of 1000 requests completed, 1000 failed; first error: Bad Request"),
        ("x" * 500, f"0 of 1000 requests completed, 1000 failed; first error: {'x' * 160}"),
    ],
)
def test_why_requests_failed(error: str | None, said: str) -> None:
    fault = invalid_reason(a_pass(completed=0, failed=1000, error=error), 1000, workload())
    assert fault is not None
    assert fault.message == said


def test_lengths_are_free_where_the_model_decides() -> None:
    assert reason(a_pass(expectedOutputTokens=20_000), workload(ignoreEOS=False)) is None


@pytest.mark.parametrize(
    ("server", "wanted"),
    [
        ({"generationTokens": 9_000}, "CountersDisagree"),
        ({"generationTokens": 10_051}, "CountersDisagree"),
        ({"generationTokens": 10_050}, None),
        ({"generationTokens": 9_949}, "CountersDisagree"),
        ({"generationTokens": None}, None),
        ({"promptTokens": 20_101}, "CountersDisagree"),
        ({"promptTokens": 20_100}, None),
        ({"promptTokens": 19_899}, "CountersDisagree"),
        ({"promptTokens": None}, None),
        ({"requestsSucceeded": {"length": 1000}}, None),
        ({"requestsSucceeded": {"length": 999}}, "RequestsDisagree"),
        ({"requestsSucceeded": {"length": 990, "stop": 11}}, "RequestsDisagree"),
        # Requests that the client takes for whole although nobody finished them.
        ({"requestsSucceeded": {"length": 999, "abort": 1}}, "RequestsDisagree"),
        ({"requestsSucceeded": {"length": 999, "error": 1}}, "RequestsDisagree"),
        ({"requestsSucceeded": {"length": 1000, "abort": 0}}, None),
        ({"requestsSucceeded": {"length": 1000, "repetition": 0}}, None),
        ({"requestsSucceeded": None}, None),
        ({"prefixCacheHits": 16}, "PrefixCacheHit"),
        ({"prefixCacheHits": None}, None),
        # True of a variant under its load, and no fault of the pass.
        ({"preemptions": 500, "peakRequestsWaiting": 900, "queueSeconds": {"sum": 9e5, "count": 1000}}, None),
    ],
    ids=str,
)
def test_client_and_server_counted_the_same(server: JsonObject, wanted: str | None) -> None:
    assert reason(line(server=server)) == wanted


@pytest.mark.parametrize("said", [False, None, 1])
def test_prompts_that_the_client_counted_itself_are_not_compared(said: Any) -> None:
    # vLLM 0.9.2 counts the raw prompt, the server the prompt in its chat template.
    assert reason(line(totalInputTokens=15_000, inputTokensByUsage=said)) is None
    assert reason(line(totalInputTokens=15_000, inputTokensByUsage=True)) == "CountersDisagree"


# --- the client alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "wanted"),
    [
        ({"cpuSeconds": 9.0}, None),
        ({"cpuSeconds": 9.1}, "ClientSaturated"),
        ({"meanEventLoopLagSeconds": 0.008}, None),
        ({"meanEventLoopLagSeconds": 0.0081}, "ClientLagging"),
        ({"maxEventLoopLagSeconds": 1.0}, None),
        ({"maxEventLoopLagSeconds": 1.01}, "ClientLagging"),
        ({"cpuSeconds": None, "meanEventLoopLagSeconds": None, "maxEventLoopLagSeconds": None}, None),
    ],
    ids=str,
)
def test_a_client_that_set_the_pace(client: JsonObject, wanted: str | None) -> None:
    # Ten seconds of a TPOT of 8 ms.
    assert reason(line(client=client)) == wanted
    # Where the server has no figures to compare with, too.
    assert reason({**line(client=client), "server": {}}) == wanted


def test_what_a_line_says_of_its_client() -> None:
    assert Client.of(a_pass()) == Client(cpu_share=0.1, mean_lag=0.2, max_lag=1.0)
    assert Client.of({"client": {"cpuSeconds": 1.0}, "startedAt": unix(5), "finishedAt": unix(5)}) == Client()
    assert Client.of({}) == Client()


# --- latencies of client and server ----------------------------------------------------------------------------


def served(milliseconds: float) -> JsonObject:
    """A histogram of the thousand requests with this mean."""
    return {"sum": milliseconds, "count": 1000}


@pytest.mark.parametrize(
    ("tpot", "client", "wanted"),
    [
        (7.85, {}, None),
        (8.15, {}, None),
        (7.80, {}, "LatenciesDisagree"),
        (8.20, {}, "LatenciesDisagree"),
        (8.20, {"cpuSeconds": 5.0}, "LatenciesDisagree"),
        (8.20, {"cpuSeconds": 5.1}, "ClientLate"),
        # 0.2 ms for each of nine further tokens.
        (8.20, {"maxEventLoopLagSeconds": 0.0017}, "LatenciesDisagree"),
        (8.20, {"maxEventLoopLagSeconds": 0.0019}, "ClientLate"),
        (7.80, {"maxEventLoopLagSeconds": 0.0019}, "ClientLate"),
        (8.10, {"maxEventLoopLagSeconds": 0.9}, None),
        (8.20, {"cpuSeconds": None, "maxEventLoopLagSeconds": None}, "LatenciesDisagree"),
    ],
)
def test_tpot_of_client_and_server(tpot: float, client: JsonObject, wanted: str | None) -> None:
    assert reason(line(tpotMilliseconds={"mean": tpot}, client=client)) == wanted


def test_first_tokens_that_come_late_shorten_the_clients_tpot() -> None:
    """Ten milliseconds late, with a mean of 0.05 over the requests' 1 / (tokens - 1), are half a millisecond of TPOT."""
    late = {"ttftMilliseconds": {"mean": 60.0}, "meanInverseTokensAfterFirst": 0.05}
    for mine, wanted in ((7.4, None), (7.3, "LatenciesDisagree"), (8.3, "LatenciesDisagree")):
        measured = line(tpotMilliseconds={"mean": mine}, server={"ttftSeconds": served(50.0)}, **late)
        assert reason(measured) == wanted, mine
    unknown = line(
        tpotMilliseconds={"mean": 7.4}, server={"ttftSeconds": served(50.0)}, ttftMilliseconds={"mean": 60.0}
    )
    assert reason(unknown) == "LatenciesDisagree"


# Passes of vLLM 0.24 on an H100: three with 1000 requests at once, then one each with 1, 16 and 64, of two servers.
H100 = Path(__file__).parents[1] / "data" / "passes" / "h100-0.24-bf16-awq.jsonl"


def h100_passes() -> list[JsonObject]:
    return [json.loads(text) for text in H100.read_text().splitlines()]


def test_an_api_server_that_lags_behind_its_engine_is_not_the_clients_fault() -> None:
    for measured in h100_passes():
        assert invalid_reason(measured, measured["asked"], workload()) is None, measured["load"]
        share = api_server_share(measured["server"])
        assert share is not None
        assert (0.24 < share < 0.36) if measured["load"] == "saturated" else share < 0.003, (measured["load"], share)


def test_a_client_that_lags_behind_the_api_server_stays_at_fault() -> None:
    saturated = h100_passes()[0]
    for later, wanted in ((300, None), (380, "ClientLate")):
        e2el = {**saturated["e2elMilliseconds"], "mean": saturated["e2elMilliseconds"]["mean"] + later}
        found = invalid_reason({**saturated, "e2elMilliseconds": e2el}, 1000, workload())
        assert (found and found.reason) == wanted, later
    together = {**saturated["server"], "itlSeconds": {"sum": 17_000.0, "count": 271_393}}
    found = invalid_reason({**saturated, "server": together}, 1000, workload())
    assert found is not None
    assert found.reason == "ClientLate", "the engine was not ahead, so its TPOT should be the client's"


def test_an_api_server_that_is_a_little_late_is_felt_by_short_answers() -> None:
    """A pass of vLLM 0.24 on an H100: 1.9 % of the decode time are 3.9 % of the mean TPOT, where answers are short."""
    (measured,) = (json.loads(text) for text in (H100.parent / "h100-0.24-awq-marlin.jsonl").read_text().splitlines())
    assert invalid_reason(measured, 1000, workload()) is None
    # 260 ms late in the mean, over 0.027 per token: up to 7 ms, and 2 % of the server's 121 ms.
    for mine, wanted in ((130.0, None), (131.0, "LatenciesDisagree")):
        found = invalid_reason({**measured, "tpotMilliseconds": {"mean": mine}}, 1000, workload())
        assert (found and found.reason) == wanted, mine
    unknown = {name: value for name, value in measured.items() if name != "meanInverseTokensAfterFirst"}
    assert invalid_reason(unknown, 1000, workload()) is not None


@pytest.mark.parametrize("missing", ["itlSeconds", "e2eSeconds", "ttftSeconds"])
def test_the_api_servers_share_needs_all_three_clocks(missing: str) -> None:
    served_figures = h100_passes()[0]["server"]
    for nothing in (None, {"sum": 0.0, "count": 0}, "?"):
        assert api_server_share({**served_figures, missing: nothing}) is None
    assert api_server_share(None) is None


def test_the_grain_of_a_short_tpot() -> None:
    calm = {"meanEventLoopLagSeconds": 0.0, "maxEventLoopLagSeconds": 0.0}
    for mine, wanted in ((1.04, None), (1.06, "LatenciesDisagree")):
        short = line(tpotMilliseconds={"mean": mine}, server={"tpotSeconds": served(1.0)}, client=calm)
        assert reason(short) == wanted


# From the first token to the end: 849.5 ms at the client, 845 ms at the server.
@pytest.mark.parametrize(
    ("e2el", "client", "wanted"),
    [
        (900.0, {}, None),
        (912.0, {}, None),
        (913.0, {}, "LatenciesDisagree"),
        (878.0, {}, "LatenciesDisagree"),
        (913.0, {"maxEventLoopLagSeconds": 0.018}, "ClientLate"),
        (913.0, {"maxEventLoopLagSeconds": 0.017}, "LatenciesDisagree"),
        (913.0, {"cpuSeconds": 5.1}, "ClientLate"),
    ],
)
@pytest.mark.parametrize("of", ["0.9.2", "stops", "one token"])
def test_decode_time_where_tpots_are_not_the_same_thing(
    e2el: float, client: JsonObject, wanted: str | None, of: str
) -> None:
    one_token = {"shareGPT": None, "random": {"outputLen": 2, "rangeRatio": 0.5}}
    work = {
        "0.9.2": workload(),
        "stops": workload(ignoreEOS=False),
        "one token": workload(dataset=one_token),
    }[of]
    # The server's TPOT is missing, or counts 0 for a request of one token.
    server = {"tpotSeconds": None if of == "0.9.2" else served(4.0)}
    found = reason(line(e2elMilliseconds={"mean": e2el}, server=server, client=client), work)
    assert found == wanted


def test_random_lengths_of_several_tokens_have_a_tpot() -> None:
    several = workload(dataset={"shareGPT": None, "random": {"outputLen": 4, "rangeRatio": 0.5}})
    assert reason(line(server={"tpotSeconds": served(4.0)}), several) == "LatenciesDisagree"


@pytest.mark.parametrize("missing", ["tpotSeconds", "e2eSeconds", "ttftSeconds"])
def test_latencies_that_nobody_measured_are_not_compared(missing: str) -> None:
    of_old = {"tpotSeconds": None, missing: None}
    for nothing in (None, {"sum": 0.0, "count": 0}):
        assert reason(line(server={**of_old, missing: nothing}, e2elMilliseconds={"mean": 900.0})) is None
    assert reason(line(tpotMilliseconds={"mean": None})) is None


@pytest.mark.parametrize(
    ("ttft", "client", "wanted"),
    [
        # 25 ms and a fifth of the server's 50 ms may be connecting, HTTP and JSON.
        (85.0, {"maxEventLoopLagSeconds": 0.5}, None),
        (86.0, {"maxEventLoopLagSeconds": 0.5}, "ClientLate"),
        (86.0, {"maxEventLoopLagSeconds": 0.036}, "ClientLate"),
        (86.0, {"maxEventLoopLagSeconds": 0.035}, None),
        (86.0, {"meanEventLoopLagSeconds": 0.0075, "maxEventLoopLagSeconds": 0.0075}, None),
        (78.0, {"meanEventLoopLagSeconds": 0.0075, "maxEventLoopLagSeconds": 0.0075}, None),
        # A queue in front of the server's clock, with a client that had time.
        (5000.0, {}, None),
        (44.5, {}, None),
        (43.5, {}, "LatenciesDisagree"),
    ],
)
def test_ttft_of_client_and_server(ttft: float, client: JsonObject, wanted: str | None) -> None:
    # A shorter decode keeps the other rules out of this.
    assert reason(line(ttftMilliseconds={"mean": ttft}, client=client, tpotMilliseconds={"mean": 8.0})) == wanted


def test_a_mean_lag_is_met_at_every_turn() -> None:
    slow = {"tpotMilliseconds": {"mean": 20.0}, "server": {"tpotSeconds": served(20.0)}}
    late = {"meanEventLoopLagSeconds": 0.009, "maxEventLoopLagSeconds": 0.010}
    assert reason(line(ttftMilliseconds={"mean": 86.0}, client=late, **slow)) == "ClientLate"
    assert reason(line(ttftMilliseconds={"mean": 87.0}, client=late, **slow)) is None


# --- reasons and verdicts --------------------------------------------------------------------------------------

FAULTS: dict[str, JsonObject] = {
    "ClientFailed": {"exitCode": 1},
    "RequestsFailed": {"failed": 1},
    "ImplausibleFigures": {"durationSeconds": -1},
    "OutputLengthDrift": {"expectedOutputTokens": 1},
    "CountersDisagree": {"server": {"promptTokens": 1}},
    "RequestsDisagree": {"server": {"requestsSucceeded": {"abort": 1000}}},
    "PrefixCacheHit": {"server": {"prefixCacheHits": 1}},
    "ClientSaturated": {"client": {"cpuSeconds": 11.0}},
    "ClientLagging": {"client": {"maxEventLoopLagSeconds": 5.0}},
    "ClientLate": {"client": {"maxEventLoopLagSeconds": 0.9}, "ttftMilliseconds": {"mean": 500.0}},
    "LatenciesDisagree": {"tpotMilliseconds": {"mean": 10.0}},
}


def test_every_reason_has_a_verdict_and_a_fault() -> None:
    assert set(FAULTS) == set(VERDICTS)
    bound = {reason for reason, verdict in VERDICTS.items() if verdict == Verdict.CLIENT_BOUND}
    assert bound == {"ClientSaturated", "ClientLagging", "ClientLate"}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_each_kind_is_told(name: str) -> None:
    found = invalid_reason(line(**FAULTS[name]), 1000, workload())
    assert found is not None
    assert found.reason == name
    assert 20 < len(found.message) < 200
    assert not found.message.endswith(".")


def test_thresholds_are_sane() -> None:
    assert 0 < validity.BUSY_CPU_SHARE < validity.SATURATED_CPU_SHARE < 1
    assert validity.number(True) is None
    assert validity.number(math.inf) is None
