"""Requested against effective: which evidence ends a run, which does not, and when."""

from __future__ import annotations

from typing import Any

import pytest

from core_support.logs import a_pass, event, seal, server_log, text, whole
from core_support.objects import RUNNER, at, later, run, study
from core_support.pods import job, pod, running, terminated
from quantbench.api.base import JsonObject
from quantbench.api.names import Verdict
from quantbench.api.run import Attestation, Outcome, QuantBenchmarkRunSpec, QuantBenchmarkRunStatus
from quantbench.decide.actions import Decision, Delete
from quantbench.decide.attest import attest, mismatch
from quantbench.decide.run import Evidence, decide_run, wanted_logs
from quantbench.observe import Children, children
from quantbench.resources import labels
from quantbench.results import ServerFacts, parse_log

BF16, FP8 = server_log("h100-0.24-bf16-s2.log"), server_log("h100-0.24-fp8-static-s1.log")
CPU = {name: server_log(f"cpu-0.32-{name}.log") for name in ("bf16", "int8", "awq", "gptq-int4", "w4a16", "kv-fp8")}
MACHETE = (
    "(EngineCore pid=1) INFO 11-23 20:52:00 [auto_awq.py:451] Using MacheteLinearKernel for AutoAWQMarlinLinearMethod\n"
)
AWQ = BF16.replace("quantization=None", "quantization=awq") + MACHETE


def off(log: str) -> str:
    """A log of a server with prefix caching off, as the operator's flags have it."""
    return log.replace("enable_prefix_caching=True", "enable_prefix_caching=False")


def spec_of(method: str = "BF16", *, version: str = "0.24.0", gpus: int = 1, **variant: Any) -> QuantBenchmarkRunSpec:
    checkpoint = {} if method in ("BF16", "FP8Online", "Custom") else {"model": "/models/quantized"}
    variants = [{"name": "bf16", "method": "BF16"}, {"name": "v", "method": method, **checkpoint, **variant}]
    of = study(
        engine={"image": "vllm/vllm-openai:v0.24.0", "version": version},
        variants=variants,
        targets=[{"name": "t", "gpus": gpus}],
        sampling={"control": False, "repeats": 1},
    )
    return next(s for s in (run(of, place).spec for place in (0, 1)) if s.variant.name == "v")


def judged(spec: QuantBenchmarkRunSpec, log: str, facts: ServerFacts | None = None) -> Outcome | None:
    attested = attest(spec, None, None, log, facts)
    assert attested is not None
    return mismatch(spec, attested, facts)


LAYERS = "(W pid=1) INFO 11-24 07:12:54 [b.py:92] {}\n"
STRUCTURE = [
    "vLLM model structure:",
    "Q()(",
    "  (0-1): 2 x L()(",
    "    (o): RowParallelLinear({}bias=False)",
    "  )",
    ")",
]


def printed(quant: str) -> str:
    return "".join(LAYERS.format(line.format(quant)) for line in STRUCTURE)


AS_ASKED: dict[str, tuple[QuantBenchmarkRunSpec, str]] = {
    "bf16": (spec_of(), BF16),
    "fp8 static": (spec_of("FP8Static"), FP8),
    "awq": (spec_of("AWQ"), AWQ),
    "awq on machete": (spec_of("AWQ", kernel="Machete"), AWQ),
    "cpu bf16": (spec_of(version="0.32.0", gpus=0), CPU["bf16"]),
    "cpu int8": (spec_of("INT8W8A8", version="0.32.0", gpus=0), off(CPU["int8"])),
    "cpu w4a16": (spec_of("W4A16", version="0.32.0", gpus=0), off(CPU["w4a16"])),
    "cpu awq": (spec_of("AWQ", version="0.32.0", gpus=0), off(CPU["awq"])),
    "cpu gptq": (spec_of("GPTQInt4", version="0.32.0", gpus=0), off(CPU["gptq-int4"])),
    "cpu kv": (spec_of(version="0.32.0", gpus=0, kvCacheDType="fp8_e5m2"), off(CPU["kv-fp8"])),
    "fp8 is e4m3": (spec_of(kvCacheDType="fp8"), BF16.replace("kv_cache_dtype=auto", "kv_cache_dtype=fp8_e4m3")),
    "fp8 online": (
        spec_of("FP8Online", granularity="PerChannel"),
        BF16.replace("quantization=None", "quantization=fp8_per_channel"),
    ),
    "a short version": (spec_of(version="0.24"), BF16.replace("(v0.24.0)", "(v0.24.3)")),
    "a local version": (spec_of(version="0.24.0"), BF16.replace("(v0.24.0)", "(v0.24.0rc1+cu129)")),
    "a version without numbers": (spec_of(), BF16.replace("(v0.24.0)", "(vdev)")),
    "an unknown name in a newer version": (
        spec_of("AWQ", version="0.40.0"),
        AWQ.replace("(v0.24.0)", "(v0.40.0)").replace("quantization=awq", "quantization=awq3"),
    ),
    "custom args": (spec_of("Custom"), FP8.replace("kv_cache_dtype=auto", "kv_cache_dtype=fp8")),
    "custom args name the kernel": (spec_of("Custom", args=["--linear-backend", "machete"]), AWQ),
    "custom args name no kernel": (spec_of("Custom", args=["--linear-backend=auto"]), AWQ),
    "custom args quantize": (
        spec_of("Custom", args=["--quantization=fp8_per_channel"]),
        BF16.replace("quantization=None", "quantization=fp8_per_channel") + printed("quant=Fp8OnlineLinearMethod, "),
    ),
    "custom args do not quantize": (spec_of("Custom"), BF16 + printed("")),
    "no evidence of a kernel": (spec_of("AWQ", kernel="Machete"), AWQ.replace(MACHETE, "")),
    "an empty log": (spec_of("AWQ", kernel="Machete"), ""),
    "a log of something else": (spec_of("AWQ"), "exec: vllm\n" * 9),
}


@pytest.mark.parametrize("name", AS_ASKED)
def test_as_asked(name: str) -> None:
    assert judged(*AS_ASKED[name]) is None


OTHERWISE: dict[str, tuple[QuantBenchmarkRunSpec, str, str, str]] = {
    "version": (spec_of(version="0.24.1"), BF16, "ConfigurationMismatch/EngineVersion", "requested vLLM 0.24.1, effective vLLM 0.24.0"),
    "kernel": (
        spec_of("AWQ", kernel="Marlin"),
        AWQ,
        "ConfigurationMismatch/Kernel",
        "requested kernel Marlin (MarlinLinearKernel), effective MacheteLinearKernel",
    ),
    "one kernel of two": (
        spec_of("AWQ", kernel="Marlin"),
        AWQ + MACHETE.replace("Machete", "Marlin"),
        "ConfigurationMismatch/Kernel",
        "effective MacheteLinearKernel",
    ),
    "the warning of --linear-backend": (
        # A real log; on a GPU it would be the same text with another kernel.
        spec_of("AWQ", kernel="Machete", version="0.32.0"),
        off(server_log("cpu-0.32-linear-backend-machete.log")),
        "ConfigurationMismatch/Kernel",
        "effective CPUWNA16LinearKernel",
    ),
    "kernel of custom args": (
        spec_of("Custom", args=["--linear-backend=machete"], version="0.32.0", gpus=0),
        off(server_log("cpu-0.32-linear-backend-machete.log")),
        "ConfigurationMismatch/Kernel",
        "requested --linear-backend=machete, effective CPUWNA16LinearKernel",
    ),
    "no scheme for custom args": (
        spec_of("Custom", args=["--quantization=int8_per_channel_weight_only"]),
        BF16.replace("quantization=None", "quantization=int8_per_channel_weight_only") + printed(""),
        "NotQuantized/NoQuantizedLayer",
        "requested --quantization=int8_per_channel_weight_only, effective none of 2 linear layers quantized",
    ),
    "KV cache": (spec_of(kvCacheDType="fp8_e4m3"), BF16, "ConfigurationMismatch/KVCacheDType", "a KV cache of bfloat16"),
    "KV cache of another format": (
        spec_of(version="0.32.0", gpus=0, kvCacheDType="fp8_e4m3"),
        off(CPU["kv-fp8"]),
        "ConfigurationMismatch/KVCacheDType",
        "requested kvCacheDType fp8_e4m3, effective a KV cache of fp8_e5m2",
    ),
    "KV cache that nobody asked for": (
        spec_of("FP8Static"),
        FP8.replace("kv_cache_dtype=auto", "kv_cache_dtype=fp8"),
        "ConfigurationMismatch/KVCacheDType",
        "requested kvCacheDType auto, effective a KV cache of fp8",
    ),
    "prefix caching": (
        spec_of("INT8W8A8", version="0.32.0", gpus=0),
        CPU["int8"],
        "ConfigurationMismatch/PrefixCaching",
        "prefix caching on",
    ),
    "another quantization": (
        spec_of("AWQ", version="0.32.0", gpus=0),
        off(CPU["int8"]),
        "ConfigurationMismatch/Quantization",
        "effective quantization=compressed-tensors",
    ),
    "a quantized baseline": (spec_of(), FP8, "ConfigurationMismatch/Quantization", "requested method BF16"),
    "a baseline with quantized layers": (
        spec_of(),
        BF16 + printed("quant=Fp8LinearMethod, "),
        "ConfigurationMismatch/QuantizedBaseline",
        "2 quantized linear layers",
    ),
    "quantization=None": (
        spec_of("INT8W8A8", version="0.32.0", gpus=0),
        CPU["bf16"],
        "NotQuantized/NoQuantization",
        "requested method INT8W8A8, effective quantization=None",
    ),
    "no quantized layer": (
        spec_of("GPTQInt4"),
        AWQ.replace("quantization=awq", "quantization=auto_gptq") + printed(""),
        "NotQuantized/NoQuantizedLayer",
        "none of 2 linear layers quantized",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERWISE)
def test_otherwise(name: str) -> None:
    spec, log, verdict, says = OTHERWISE[name]
    found = judged(spec, log)
    assert found is not None
    assert f"{found.name}/{found.reason}" == verdict
    assert says in found.message
    assert found.hint
    assert found.log_line
    words = {
        "quantization": "quantization=",
        "KV": "kv",
        "prefix": "enable_prefix_caching=True",
        "kernel": "Kernel for",
    }
    wanted = next((text for start, text in words.items() if name.startswith(start)), "")
    assert wanted in found.log_line


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (ServerFacts(kv_cache_dtype="auto", prefix_caching=False, version="0.24.0"), None),
        (ServerFacts(kv_cache_dtype="bfloat16"), None),
        (ServerFacts(kv_cache_dtype="fp8_e4m3"), "KVCacheDType"),
        (ServerFacts(prefix_caching=True), "PrefixCaching"),
        (ServerFacts(version="0.99.0"), None),  # The log wins.
        (ServerFacts(), None),
    ],
)
def test_log_against_metrics(facts: ServerFacts, verdict: str | None) -> None:
    found = judged(spec_of(), BF16, facts)
    assert (found.reason if found else None) == verdict
    if verdict:
        assert found is not None
        assert "metrics" in found.message


def test_metrics_fill_what_the_log_does_not_say() -> None:
    facts = ServerFacts("0.24.0", "fp8_e4m3", True, 4096)
    attested = attest(spec_of(), None, None, "", facts)
    assert attested is not None
    found = attested.attestation
    assert (found.engine_version, found.kv_cache_dtype) == ("0.24.0", "fp8_e4m3")
    assert (found.prefix_caching, found.kv_cache_tokens) == (True, 4096)
    over = attest(spec_of(), None, None, BF16, facts)
    assert over is not None
    assert (over.attestation.kv_cache_tokens, over.attestation.prefix_caching) == (408256, False)
    assert mismatch(spec_of(kvCacheDType="fp8_e5m2"), attested, facts) is not None
    assert attest(spec_of(), None, None, None, facts) is None, "the log is still to be read"


def test_what_is_stored_needs_no_log() -> None:
    spec = spec_of("AWQ", kernel="Marlin")
    first = attest(spec, None, None, AWQ, None)
    assert first is not None
    again = attest(spec, first.attestation, first.cold_start, None, None)
    assert again is not None
    assert (again.attestation, again.cold_start) == (first.attestation, first.cold_start)
    found = mismatch(spec, again, None)
    assert found is not None
    assert (found.reason, found.log_line) == ("Kernel", None)


def mark(spec: QuantBenchmarkRunSpec, log: str) -> str | None:
    attested = attest(spec, None, None, log, None)
    return attested.attestation.fingerprint if attested else None


def test_what_was_asked_for_is_not_in_the_fingerprint() -> None:
    auto, machete = spec_of("AWQ"), spec_of("AWQ", kernel="Machete")
    assert auto.engine.args != machete.engine.args
    assert mark(auto, AWQ) == mark(machete, AWQ) is not None
    other = AWQ.replace("Machete", "Marlin")
    assert mark(auto, other) not in (None, mark(auto, AWQ))
    kv = spec_of(kvCacheDType="fp8_e4m3")
    assert mark(spec_of(), BF16) == mark(kv, BF16), "it did not become effective"
    assert mark(kv, BF16.replace("kv_cache_dtype=auto", "kv_cache_dtype=fp8_e4m3")) != mark(spec_of(), BF16)
    assert mark(spec_of(args=["--seed=1"]), BF16) != mark(spec_of(), BF16)
    assert mark(spec_of(gpus=2), BF16) != mark(spec_of(), BF16)
    assert mark(spec_of("AWQ", model="/other"), AWQ) != mark(auto, AWQ)


def test_environment_that_chooses_more_than_a_kernel_is_in_the_fingerprint() -> None:
    """VLLM_CPU_INT4_W4A8 decides what 4-bit weights are multiplied with, and no log says so."""
    awq = off(CPU["awq"])
    by_method = spec_of("AWQ", version="0.32.0", gpus=0, model="/m")
    by_hand = spec_of("Custom", version="0.32.0", gpus=0, model="/m")
    assert "VLLM_CPU_INT4_W4A8" in {each.name for each in by_method.engine.env}
    assert mark(by_method, awq) not in (None, mark(by_hand, awq))


# --- when ------------------------------------------------------------------------------------------------------

STUDY = study(variants=[{"name": "bf16", "method": "BF16"}], sampling={"control": False, "repeats": 1})
SERVING = (pod(state=running(), ready=40), job(), pod(labels.LOAD, running(15)))
GOOD = whole(a_pass())
DONE = (*SERVING[:2], pod(labels.LOAD, terminated(0, "Completed", since=15, until=120, message=seal(GOOD))))


def seen(*raws: JsonObject, attempt: int = 1) -> Children:
    pods = [raw for raw in raws if raw["kind"] == "Pod"]
    return children(pods, [raw for raw in raws if raw["kind"] == "Job"], "run-0", attempt)


def decide(
    *raws: JsonObject, head: str | None, now: float, load_log: str = "", status: JsonObject | None = None
) -> Decision:
    of = run(STUDY, status=status)
    evidence = Evidence(parse_log(load_log), "", server_head=head, unread=head is None)
    return decide_run(of, seen(*raws, attempt=of.status.attempt), evidence, RUNNER, later(now))


def status_of(decision: Decision) -> QuantBenchmarkRunStatus:
    assert decision.status is not None
    return QuantBenchmarkRunStatus.model_validate(decision.status)


def test_a_mismatch_ends_the_run_before_its_first_pass() -> None:
    decision = decide(*SERVING, head=FP8, now=45)
    status = status_of(decision)
    assert status.verdict is not None
    assert status.verdict.name is Verdict.CONFIGURATION_MISMATCH
    assert status.passes == ()
    assert status.attestation is not None
    assert status.attestation.quantization == "compressed-tensors"
    after = decide(*SERVING, head=None, now=46, status=decision.status)
    assert next(action.name for action in after.actions if isinstance(action, Delete)) == "demo-bf16-s1"


def test_a_mismatch_is_worth_more_than_valid_passes() -> None:
    verdict = status_of(decide(*DONE, head=FP8, now=121, load_log=text(GOOD))).verdict
    assert verdict is not None
    assert verdict.name is Verdict.CONFIGURATION_MISMATCH


def test_what_the_server_runs_is_stored_once() -> None:
    first = decide(*SERVING, head=BF16, now=45)
    status = status_of(first)
    assert status.attestation is not None
    assert status.cold_start is not None
    assert status.cold_start.compile_seconds == 31.53
    assert status.attestation.fingerprint
    assert not wanted_logs(run(STUDY, status=first.status), seen(*SERVING), later(48)).attestation
    later_on = status_of(decide(*SERVING, head=None, now=48, status=first.status))
    assert (later_on.attestation, later_on.cold_start) == (status.attestation, status.cold_start)


def test_the_metrics_come_later() -> None:
    first = decide(*SERVING, head=BF16.replace("kv_cache_dtype=auto", ""), now=45)
    assert status_of(first).attestation.fingerprint is None  # type: ignore[union-attr]
    labels_of = {"cache_dtype": "auto", "num_gpu_blocks": "100", "block_size": "16", "enable_prefix_caching": "False"}
    gpus = event("gpus", 44, gpus=[{"name": "NVIDIA H100", "uuid": "GPU-0"}])
    said = text([event("ready", 44), event("server", 44, version="0.24.0", cacheConfig=labels_of), gpus])
    second = status_of(decide(*SERVING, head=None, now=48, status=first.status, load_log=said)).attestation
    assert second is not None
    assert second.kv_cache_dtype == "bfloat16"
    assert second.fingerprint
    assert [gpu.name for gpu in second.gpus] == ["NVIDIA H100"]


@pytest.mark.parametrize("config", [None, [], "x", {"cache_dtype": 7, "block_size": "-1", "num_gpu_blocks": "1e9"}])
def test_odd_metrics(config: object) -> None:
    said = parse_log(text([event("server", 44, version=7, cacheConfig=config)]))
    assert said.server == ServerFacts()
    assert parse_log(text([event("ready", 44)])).server is None


def test_a_log_that_cannot_be_read_fails_nothing() -> None:
    status = status_of(decide(*SERVING, head=None, now=45))
    assert (status.attestation, status.verdict) == (None, None)
    # The pass is done; the log may still come, so it is asked for again for a minute.
    late = decide(*DONE, head=None, now=121, load_log=text(GOOD))
    assert status_of(late).verdict is None
    status = status_of(decide(*DONE, head=None, now=185, load_log=text(GOOD), status=late.status))
    assert status.verdict is not None
    assert status.verdict.name is Verdict.MEASURED
    assert "not attested" in status.verdict.message
    assert status.attestation is None
    silent = status_of(decide(*DONE, head="", now=121, load_log=text(GOOD)))
    assert silent.verdict is not None
    assert "not attested" in silent.verdict.message
    assert silent.attestation == Attestation()
    said = status_of(decide(*DONE, head=BF16, now=121, load_log=text(GOOD))).verdict
    assert said is not None
    assert "attested" not in said.message


def test_another_attempt_is_another_server() -> None:
    first = decide(*SERVING, head=BF16, now=45)
    lost = decide(head=None, now=50, status=first.status)
    status = status_of(lost)
    assert status.attempt == 2
    assert (status.attestation, status.cold_start) == (None, None)


def test_a_server_that_never_was_ready_is_not_attested() -> None:
    status = status_of(decide(pod(state=terminated()), head=FP8, now=70, status={"times": {"requested": at(0)}}))
    assert status.attestation is None


def test_gpus_are_attested_and_make_no_other_configuration() -> None:
    gpus = parse_log(text([event("gpus", 45, gpus=[{"name": "NVIDIA H100", "uuid": "GPU-0"}])])).gpus
    without, told = attest(spec_of(), None, None, BF16, None), attest(spec_of(), None, None, BF16, None, gpus)
    assert without is not None
    assert told is not None
    assert [gpu.uuid for gpu in told.attestation.gpus] == ["GPU-0"]
    assert told.attestation.fingerprint == without.attestation.fingerprint is not None
    # Told later than the log was read, and kept once the load generator's log is gone.
    later_on = attest(spec_of(), without.attestation, None, None, None, gpus)
    assert later_on is not None
    assert later_on.attestation.gpus == gpus
    kept = attest(spec_of(), later_on.attestation, None, None, None)
    assert kept is not None
    assert kept.attestation.gpus == gpus
