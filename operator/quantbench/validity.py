"""Whether a pass counts: every rule, with the reason that it gives and the verdict that the reason leads to.

A pass that breaks a rule is kept, marked and left out of the figures. What is true of a variant under its load, such
as preempted or waiting requests, breaks none.

Client and server measure the same requests, so their figures are compared first; how busy the client was says whose
fault a difference is. Only where no comparison could tell is the client's state a reason of its own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantbench.api.base import JsonObject
from quantbench.api.benchmark import Workload
from quantbench.api.names import Verdict

TOLERATED_LENGTH_DRIFT = 0.005
"""Share by which output tokens may miss what was asked for: requests that end on a stop string differ by one token."""
TOLERATED_COUNTER_DRIFT = 0.005
"""Share by which client and server token counts may differ."""
TOLERATED_LATENCY_DRIFT = 0.02
"""Share by which client and server may differ in TPOT or decode time. vLLM 0.32 on two CPU cores that it shared with
its client and more: within 0.4 %, at TPOTs of 12 to 80 ms, in passes of 16 to 150 requests."""
LATENCY_GRAIN = 0.05
"""Difference of two TPOTs that is never held against them [ms]: the client's own work for one chunk."""
TOLERATED_TTFT_GAP = (25.0, 0.2)
"""By how much the client's TTFT may exceed the server's: so many milliseconds and this share of the server's. Only
the client sees connecting, HTTP and JSON: 5 of 97 ms in those passes. What exceeds this is held against the client only
if its event loop was late enough to be the cause: at an infinite rate requests also queue at the server before its
clock starts, 155 of 6675 ms there."""
TURNS_TO_FIRST_TOKEN = 4
"""How often a request waits for the client's event loop until its first token: start, connection, headers, token."""
TTFT_GRAIN = (5.0, 0.02)
"""By how much the client's TTFT may fall short of the server's, which starts later and ends earlier."""
SATURATED_CPU_SHARE = 0.9
"""vLLM's client is one event loop: near one core it has no time left, and what it reads late it sends late. The passes
above took 0.04 of a core, and the loop was 1.5 ms late in the mean, 64 ms at most."""
BUSY_CPU_SHARE = 0.5
"""From here on a difference is blamed on the client: chunks that come together wait for each other. One chunk took it
64 µs, so this is some 8,000 output tokens per second."""
LONGEST_STALL = 0.1
"""Longest part of a pass during which the loop may stand still at once: throughput can be off by as much. In the
passes above it was 1.4 % at most."""

VERDICTS: Mapping[str, Verdict] = {
    "ClientFailed": Verdict.FAILED,
    "RequestsFailed": Verdict.FAILED,
    "ImplausibleFigures": Verdict.INCONSISTENT,
    "OutputLengthDrift": Verdict.INCONSISTENT,
    "CountersDisagree": Verdict.INCONSISTENT,
    "RequestsDisagree": Verdict.INCONSISTENT,
    "PrefixCacheHit": Verdict.INCONSISTENT,
    "LatenciesDisagree": Verdict.INCONSISTENT,
    "ClientSaturated": Verdict.CLIENT_BOUND,
    "ClientLagging": Verdict.CLIENT_BOUND,
    "ClientLate": Verdict.CLIENT_BOUND,
}
"""What a run ends in when a load has no valid pass for one of these reasons."""
LONGEST_ERROR = 160
"""Characters of a request's error in a message."""
NOT_SERVED = frozenset({"abort", "error"})
"""Finish reasons of requests that nobody got an answer to."""


@dataclass(frozen=True)
class Fault:
    """Why something that was reported cannot be used."""

    reason: str
    message: str


def invalid_reason(document: JsonObject, asked: int, workload: Workload) -> Fault | None:
    """Why a pass must not count, or None.

    ``vllm bench serve`` exits 0 when every request failed, so its exit status alone proves nothing.
    """
    completed, failed = document.get("completed"), document.get("failed")
    if document.get("exitCode") != 0:
        return Fault("ClientFailed", f"vllm bench serve failed: {document.get('error') or 'no message'}")
    # vLLM before 0.11.1 does not say how many failed: the load runner then takes what is missing for failed.
    if document.get("asked") != asked or completed != asked or failed != 0:
        error = " ".join(str(document.get("error") or "").split())
        why = f"; first error: {error[:LONGEST_ERROR]}" if error else ""
        return Fault("RequestsFailed", f"{completed} of {asked} requests completed, {failed} failed{why}")
    output, duration = document.get("totalOutputTokens"), document.get("durationSeconds")
    throughput, ttft = document.get("totalTokensPerSecond"), (document.get("ttftMilliseconds") or {}).get("mean")
    if not all(isinstance(figure, int | float) and figure > 0 for figure in (output, duration, throughput, ttft)):
        return Fault("ImplausibleFigures", "tokens, duration, throughput or TTFT is not a positive number")
    client = Client.of(document)
    return (
        _length_fault(document, workload)
        or _counter_fault(document)
        or _client_fault(document, client)
        or _decode_fault(document, client, workload)
        or _ttft_fault(document, client)
    )


def _length_fault(document: JsonObject, workload: Workload) -> Fault | None:
    expected, output = document.get("expectedOutputTokens"), document["totalOutputTokens"]
    if not workload.ignore_eos or not expected:
        return None
    if abs(output - expected) > TOLERATED_LENGTH_DRIFT * expected:
        return Fault(
            "OutputLengthDrift",
            f"{output} output tokens instead of {expected}: requests were cut, e.g. by --max-model-len",
        )
    return None


def _counter_fault(document: JsonObject) -> Fault | None:
    server = document.get("server") or {}
    # What the client counts of a prompt is the server's prompt only where the client took it from there.
    input_tokens = document.get("totalInputTokens") if document.get("inputTokensByUsage") is True else None
    pairs = (("output", document["totalOutputTokens"], "generationTokens"), ("prompt", input_tokens, "promptTokens"))
    for what, tokens, counter in pairs:
        counted = number(server.get(counter))
        if tokens is not None and counted is not None and abs(counted - tokens) > TOLERATED_COUNTER_DRIFT * tokens:
            return Fault("CountersDisagree", f"the client counted {tokens} {what} tokens, the server {counted:g}")
    finished = server.get("requestsSucceeded")
    if isinstance(finished, dict):
        served = sum(count for reason, count in finished.items() if reason not in NOT_SERVED)
        if served != document["completed"]:
            said = ", ".join(f"{count} by {reason}" for reason, count in finished.items() if count) or "none"
            return Fault(
                "RequestsDisagree", f"{document['completed']} requests completed, but the server finished: {said}"
            )
    hits = number(server.get("prefixCacheHits"))
    if hits is not None and hits > 0:
        return Fault(
            "PrefixCacheHit", f"{hits:g} prompt tokens came from the prefix cache: a repeat looks faster than it is"
        )
    return None


@dataclass(frozen=True)
class Client:
    """How busy the load generator was in a pass; None for what is not known."""

    cpu_share: float | None = None
    """CPU time of its whole process over wall time."""
    mean_lag: float | None = None
    """How late its event loop did things, in the mean [ms]."""
    max_lag: float | None = None
    """Longest time that its event loop stood still [ms]."""

    @classmethod
    def of(cls, document: JsonObject) -> "Client":
        """What a pass line says."""
        said = document.get("client")
        client = said if isinstance(said, dict) else {}
        began, ended = number(document.get("startedAt")), number(document.get("finishedAt"))
        cpu, mean, longest = (
            number(client.get(key)) for key in ("cpuSeconds", "meanEventLoopLagSeconds", "maxEventLoopLagSeconds")
        )
        wall = ended - began if began is not None and ended is not None else 0.0
        return cls(
            cpu_share=cpu / wall if cpu is not None and wall > 0 else None,
            mean_lag=None if mean is None else 1000 * mean,
            max_lag=None if longest is None else 1000 * longest,
        )


def _client_fault(document: JsonObject, client: Client) -> Fault | None:
    """A client that set the pace, whether or not the server has figures to compare with."""
    if client.cpu_share is not None and client.cpu_share > SATURATED_CPU_SHARE:
        return Fault("ClientSaturated", f"the load generator used {client.cpu_share:.2f} cores; one is what it can use")
    tpot = _mean(document, "tpot")
    if client.mean_lag is not None and tpot is not None and client.mean_lag > tpot:
        return Fault(
            "ClientLagging",
            f"the load generator was {client.mean_lag:.1f} ms late in the mean, longer than a token takes",
        )
    duration = 1000 * document["durationSeconds"]
    if client.max_lag is not None and client.max_lag > LONGEST_STALL * duration:
        return Fault(
            "ClientLagging",
            f"the load generator stood still for {client.max_lag:.0f} ms of {duration:.0f} ms",
        )
    return None


def _decode_fault(document: JsonObject, client: Client, workload: Workload) -> Fault | None:
    """TPOT of client and server, or E2E latency where their TPOTs are not the same thing.

    The server takes its TPOT from the engine's clock, TTFT and E2E latency from the API server's. Where the API server
    lags behind the engine, the client can only agree with the API server: `api_server_share` tells that.

    vLLM before 0.10.2 has no TPOT per request; later ones count 0 for a request of one token, which the client leaves
    out and only a model that may stop early gives.
    """
    tpot, served_tpot = _mean(document, "tpot"), _served_mean(document, "tpotSeconds")
    if tpot is not None and served_tpot is not None and _outputs_of_several_tokens(workload):
        name, mine, theirs, slack = "TPOT", tpot, served_tpot, LATENCY_GRAIN
        late = _first_token_late(document) if mine < theirs else _api_server_late(document)
        tokens = document["totalOutputTokens"] / document["completed"] - 1
    else:
        decoded, served_decode = _decode_time(document), _served_decode_time(document.get("server"))
        if decoded is None or served_decode is None:
            return None
        mine, theirs = decoded, served_decode
        name, slack, late, tokens = "decode time", TTFT_GRAIN[0], 0.0, 1.0
    difference = abs(mine - theirs)
    if difference <= max(TOLERATED_LATENCY_DRIFT * theirs, slack) + late:
        return None
    message = f"mean {name}: {mine:.4g} ms at the client, {theirs:.4g} ms at the server"
    # A loop that stands still once changes the time between first and last token by no more than that.
    if (client.cpu_share or 0.0) > BUSY_CPU_SHARE or (client.max_lag or 0.0) >= difference * tokens:
        return Fault("ClientLate", f"{message}; the load generator was busy")
    return Fault("LatenciesDisagree", message)


def _api_server_late(document: JsonObject) -> float:
    """About the most that an API server that lags behind its engine can add to the client's mean TPOT [ms].

    It is later with the last token than with the first, mostly the more so the longer an answer is: then the mean of
    the lag over the tokens is no more than the product of their means. vLLM 0.24 on an H100 with 1000 requests at once:
    it took 0.5 to 40 % of the decode time and added 12 to 67 % of this, while client and API server agreed on the
    decode time to 0.3 % in each of 66 passes. A client that does not was late itself.
    """
    mine, theirs = _decode_time(document), _served_decode_time(document.get("server"))
    share, inverse = api_server_share(document.get("server")), number(document.get("meanInverseTokensAfterFirst"))
    if mine is None or theirs is None or share is None or inverse is None:
        return 0.0
    together = abs(mine - theirs) <= max(TOLERATED_LATENCY_DRIFT * theirs, TTFT_GRAIN[0])
    return share * theirs * inverse if together else 0.0


def _decode_time(document: JsonObject) -> float | None:
    """Mean time from first to last token at the client [ms]; what was before that, `_ttft_fault` judges."""
    latency, ttft = _mean(document, "e2el"), _mean(document, "ttft")
    return None if latency is None or ttft is None else latency - ttft


def _served_decode_time(server: Any) -> float | None:
    """The same at vLLM's API server [ms]."""
    figures = server if isinstance(server, dict) else {}
    latency, ttft = (mean_milliseconds(figures.get(name)) for name in ("e2eSeconds", "ttftSeconds"))
    return None if latency is None or ttft is None else latency - ttft


def api_server_share(server: Any) -> float | None:
    """Share of the time from first to last token that the engine did not take, from a pass line's ``server``.

    vLLM's E2E latency and TTFT end when its API server has a token in hand, the inter-token latencies are the engine's
    own (v1/metrics/stats.py): their sum per request is the decode time that it needed. None where one is missing.
    """
    figures = server if isinstance(server, dict) else {}
    served, gap = _served_decode_time(figures), mean_milliseconds(figures.get("itlSeconds"))
    if served is None or served <= 0 or gap is None:
        return None
    gaps_per_request: float = figures["itlSeconds"]["count"] / figures["e2eSeconds"]["count"]
    return max(0.0, 1.0 - gap * gaps_per_request / served)


def _first_token_late(document: JsonObject) -> float:
    """What first tokens that reached the client late took off its mean TPOT [ms]: short answers feel it most.

    The gap of the mean TTFTs also holds the way of the requests, so this is the most that it can be.
    """
    mine, theirs = _mean(document, "ttft"), _served_mean(document, "ttftSeconds")
    share = number(document.get("meanInverseTokensAfterFirst"))
    return max(0.0, mine - theirs) * share if mine is not None and theirs is not None and share is not None else 0.0


def _outputs_of_several_tokens(workload: Workload) -> bool:
    random = workload.dataset.random
    # vLLM takes no ShareGPT answer of fewer than four tokens.
    shortest = random.output_len * (1 - random.range_ratio) if random else 4
    return workload.ignore_eos and shortest >= 2


def _ttft_fault(document: JsonObject, client: Client) -> Fault | None:
    mine, theirs = _mean(document, "ttft"), _served_mean(document, "ttftSeconds")
    if mine is None or theirs is None:
        return None
    message = f"mean TTFT: {mine:.4g} ms at the client, {theirs:.4g} ms at the server"
    if theirs - mine > TTFT_GRAIN[0] + TTFT_GRAIN[1] * theirs:
        return Fault("LatenciesDisagree", message)
    gap, most = mine - theirs, max(client.max_lag or 0.0, TURNS_TO_FIRST_TOKEN * (client.mean_lag or 0.0))
    if gap > TOLERATED_TTFT_GAP[0] + TOLERATED_TTFT_GAP[1] * theirs and most >= gap:
        return Fault("ClientLate", f"{message}; the load generator was late")
    return None


def number(value: Any) -> float | None:
    """A figure of a pass line, None for anything that is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def mean_milliseconds(histogram: Any) -> float | None:
    """Mean of a difference of two histogram readings ``{sum [s], count}`` [ms], None if it holds nothing."""
    if not isinstance(histogram, dict) or not histogram.get("count"):
        return None
    return 1000.0 * float(histogram["sum"]) / float(histogram["count"])


def _mean(document: JsonObject, latency: str) -> float | None:
    figures = document.get(f"{latency}Milliseconds")
    return number(figures.get("mean")) if isinstance(figures, dict) else None


def _served_mean(document: JsonObject, histogram: str) -> float | None:
    return mean_milliseconds((document.get("server") or {}).get(histogram))
