"""``QuantBenchmarkRun``: one server start of one variant on one target, fully resolved, and what came of it."""

from typing import Annotated

from pydantic import Field

from quantbench.api.base import MAX_SECONDS, Count, Model, Number, Ordinal, kubernetes, list_map, name_field, rule, text
from quantbench.api.benchmark import MAX_PASSES, MAX_REPEATS, Argument, Load, Target, Workload
from quantbench.api.conditions import CONDITIONS, Condition, ConditionType
from quantbench.api.names import Kernel, KVCacheDType, Method, Verdict
from quantbench.api.pod import EnvVar, PodTemplate


class RunEngine(Model):
    """The resolved server: what `vllm serve` is called with."""

    image: str = text("Container image.", longest=512)
    image_pull_policy: str = text("When to pull the image.", longest=16)
    version: str = text("vLLM's version.", longest=64)
    model: str = text("Checkpoint to serve.", longest=512)
    tokenizer: str = text("Tokenizer of the load generator.", longest=512)
    args: tuple[Argument, ...] = Field(description="Arguments after `vllm serve MODEL`.", max_length=192)
    env: tuple[EnvVar, ...] = Field(
        default=(), description="Environment that the method needs.", max_length=32, json_schema_extra=list_map("name")
    )
    pod_template: PodTemplate = Field(default_factory=PodTemplate, description="The user's additions.")


class RunVariant(Model):
    """Which quantization this run measures."""

    name: str = name_field("Name of the variant, or control.")
    method: Method = Field(description="Quantization method.")
    kernel: Kernel = Field(description="Kernel asked for.")
    kv_cache_dtype: KVCacheDType = Field(alias="kvCacheDType", description="KV-cache data type asked for.")
    notes: tuple[Annotated[str, Field(max_length=300)], ...] = Field(
        default=(), description="What is known of it on this vLLM and this target before it runs.", max_length=8
    )


class Refusal(Model):
    """Why the run ends without taking a GPU."""

    verdict: Verdict = Field(description="The verdict.")
    reason: str = text("CamelCase reason.", longest=64)
    message: str = text("Why, and what to do.", longest=1024)


class RunLimits(Model):
    """Deadlines in seconds, kept in step with the benchmark's limits."""

    schedule_timeout_seconds: int = Field(description="Until the server pod has a node [s].", ge=1, le=MAX_SECONDS)
    start_timeout_seconds: int = Field(description="From node to ready [s].", ge=1, le=MAX_SECONDS)
    load_timeout_seconds: int = Field(description="Without a finished pass [s].", ge=1, le=MAX_SECONDS)
    retries: int = Field(description="New attempts after the loss of a pod.", ge=0, le=10)
    budget_spent: bool = Field(
        default=False, description="The benchmark's gpuHours are spent: a run whose server has no node waits."
    )


class RunLoadPlan(Model):
    """What the load generator does on this server."""

    workload: Workload = Field(description="The requests.")
    loads: tuple[Load, ...] = Field(
        description="Loads in order.", min_length=1, max_length=32, json_schema_extra=list_map("name")
    )
    repeats: int = Field(description="Measured passes of each load that does not say.", ge=1, le=MAX_REPEATS)

    @property
    def passes(self) -> int:
        """Measured passes of all loads."""
        return sum(load.repeats or self.repeats for load in self.loads)


MUTABLE = ("limits", "suspend")
_FIXED = ("benchmark", "variant", "target", "block", "position", "engine", "load")


class QuantBenchmarkRunSpec(Model):
    """Written by the operator. Everything but limits and suspend is immutable."""

    benchmark: str = text("Name of the QuantBenchmark.", longest=253)
    variant: RunVariant = Field(description="Which quantization.")
    target: Target = Field(description="Where.")
    block: Ordinal = Field(description="Which block, from 1: runs of one block are compared with each other.")
    position: Ordinal = Field(description="Place in the block's randomised order, from 1.")
    engine: RunEngine = Field(description="The resolved server.")
    load: RunLoadPlan = Field(description="What the load generator does.")
    limits: RunLimits = Field(description="Deadlines.")
    refusal: Refusal | None = Field(default=None, description="Present when the run must not take a GPU.")
    suspend: bool = Field(default=False, description="Free the GPU and wait.")

    model_config = {
        "json_schema_extra": kubernetes(
            validations=[
                rule(
                    " && ".join(f"self.{field} == oldSelf.{field}" for field in _FIXED),
                    "a run is immutable but for limits and suspend",
                ),
                rule(
                    "has(self.refusal) == has(oldSelf.refusal)"
                    " && (!has(self.refusal) || self.refusal == oldSelf.refusal)",
                    "a run is immutable but for limits and suspend",
                    field=".refusal",
                ),
            ]
        )
    }


class Latency(Model):
    """A latency over the requests of one pass [ms]."""

    mean: Number | None = Field(default=None, description="Mean [ms].")
    median: Number | None = Field(default=None, description="Median [ms].")
    p90: Number | None = Field(default=None, description="90th percentile [ms].")
    p99: Number | None = Field(default=None, description="99th percentile [ms].")


class ServerCounters(Model):
    """What the server itself counted during one pass."""

    prompt_tokens: Count | None = Field(default=None, description="Prompt tokens.")
    generation_tokens: Count | None = Field(default=None, description="Generated tokens.")
    preemptions: Count | None = Field(default=None, description="Preempted requests.")
    prefix_cache_hits: Count | None = Field(default=None, description="Prompt tokens served from the prefix cache.")
    requests_succeeded: Count | None = Field(default=None, description="Requests that the server finished.")
    mean_ttft_milliseconds: Number | None = Field(
        default=None, alias="meanTTFTMilliseconds", description="Server-side time to first token [ms]."
    )
    mean_tpot_milliseconds: Number | None = Field(
        default=None, alias="meanTPOTMilliseconds", description="Server-side time per output token [ms]."
    )
    mean_queue_milliseconds: Number | None = Field(
        default=None, description="Time that requests waited for their first step [ms]."
    )
    api_server_share: Number | None = Field(
        default=None,
        alias="apiServerShare",
        description=(
            "Share of the time from first to last token that the engine did not take: how far vLLM's API server lagged"
            " behind it."
        ),
    )
    peak_requests_waiting: Count | None = Field(default=None, description="Most requests seen waiting at one moment.")


class ClientHealth(Model):
    """How busy the load generator itself was during one pass."""

    cpu_share: Number | None = Field(default=None, description="CPU time over wall time; 1 is one busy core.")
    max_event_loop_lag_milliseconds: Number | None = Field(
        default=None, description="Longest time that its event loop did not get to run [ms]."
    )


class GPUSamples(Model):
    """What the GPUs of the server were sampled to do during one pass."""

    samples: Count = Field(description="Readings of all GPUs.")
    mean_sm_clock_megahertz: Number | None = Field(
        default=None, alias="meanSMClockMegahertz", description="Mean SM clock [MHz]."
    )
    min_sm_clock_megahertz: Number | None = Field(
        default=None, alias="minSMClockMegahertz", description="Lowest SM clock [MHz]."
    )
    mean_power_watts: Number | None = Field(default=None, description="Mean power of one GPU [W].")
    max_power_watts: Number | None = Field(default=None, description="Highest power of one GPU [W].")
    max_temperature_celsius: Number | None = Field(default=None, description="Highest temperature [°C].")
    throttled_share: Number | None = Field(
        default=None, description="Share of the readings in which a limit other than idling held the clocks down."
    )
    throttle_reasons: tuple[Annotated[str, Field(max_length=40)], ...] = Field(
        default=(), description="Which limits those were, as NVML names them.", max_length=8
    )


class Pass(Model):
    """One measured pass of one load."""

    key: str = text("attempt/load/repeat.", longest=64)
    attempt: Ordinal = Field(description="Attempt of the run; only the last one counts.")
    load: str = name_field("Name of the load.")
    repeat: Ordinal = Field(description="Which repeat, from 1.")
    valid: bool = Field(description="Whether its figures count.")
    invalid_reason: str | None = text("Why they do not.", longest=64, default=None)
    message: str | None = text("Detail of an invalid pass.", longest=256, default=None)
    started_at: str = text("When it began.", longest=32)
    duration_seconds: Number = Field(description="From the first send to the last completion [s].")
    asked: Count = Field(description="Requests asked for.")
    completed: Count = Field(description="Requests completed.")
    failed: Count = Field(description="Requests failed.")
    total_input_tokens: Count = Field(description="Prompt tokens.")
    total_output_tokens: Count = Field(description="Generated tokens.")
    total_tokens_per_second: Number = Field(description="Input and output tokens per second.")
    output_tokens_per_second: Number = Field(description="Output tokens per second.")
    requests_per_second: Number = Field(description="Finished requests per second.")
    ttft_milliseconds: Latency = Field(
        default_factory=Latency, alias="ttftMilliseconds", description="Time to first token [ms]."
    )
    tpot_milliseconds: Latency = Field(
        default_factory=Latency, alias="tpotMilliseconds", description="Time per output token after the first [ms]."
    )
    itl_milliseconds: Latency = Field(
        default_factory=Latency, alias="itlMilliseconds", description="Gap between streamed chunks [ms]."
    )
    e2el_milliseconds: Latency = Field(
        default_factory=Latency, alias="e2elMilliseconds", description="End-to-end latency [ms]."
    )
    server: ServerCounters = Field(default_factory=ServerCounters, description="The server's own count.")
    client: ClientHealth = Field(default_factory=ClientHealth, description="How busy the load generator was.")
    gpu: GPUSamples | None = Field(default=None, description="Clocks, power and throttling; absent without readings.")


class LayerKernel(Model):
    """The kernel that a kind of linear layer was given."""

    layer: str = text("Quantized layer or scheme, as vLLM's log calls it.", longest=96)
    kernel: str = text("Kernel class.", longest=96)


class GPU(Model):
    """One GPU of the server."""

    name: str = text("Product name.", longest=96)
    uuid: str | None = text("UUID.", longest=64, default=None)
    driver: str | None = text("Driver version.", longest=32, default=None)
    compute_capability: str | None = text("CUDA compute capability.", longest=8, default=None)


class Attestation(Model):
    """What the server really ran, read from its log and its metrics; absent fields were not said there."""

    engine_version: str | None = text("vLLM's version.", longest=64, default=None)
    quantization: str | None = text("vLLM's name for the quantization.", longest=64, default=None)
    dtype: str | None = text("Data type of activations.", longest=32, default=None)
    linear_kernels: tuple[LayerKernel, ...] = Field(
        default=(), description="Kernels of the linear layers.", max_length=16, json_schema_extra=list_map("layer")
    )
    quantized_layers: Count | None = Field(default=None, description="Linear layers that are quantized.")
    unquantized_layers: Count | None = Field(
        default=None, description="Linear layers that are not, the output layer left out."
    )
    attention_backend: str | None = text("Attention backend.", longest=64, default=None)
    kv_cache_dtype: str | None = Field(
        default=None, alias="kvCacheDType", description="Data type of the KV cache.", max_length=32
    )
    kv_cache_tokens: Count | None = Field(default=None, description="Tokens that the KV cache holds.")
    weights_gibibytes: Number | None = Field(default=None, description="Memory of the loaded model [GiB].")
    eager: bool | None = Field(default=None, description="Whether CUDA graphs and torch.compile are off.")
    prefix_caching: bool | None = Field(default=None, description="Whether prefix caching is on.")
    weight_only_fallback: bool | None = Field(
        default=None, description="Whether vLLM warned that it runs weight-only for want of hardware support."
    )
    gpus: tuple[GPU, ...] = Field(default=(), description="The server's GPUs.", max_length=64)
    fingerprint: str | None = text("Digest of the effective configuration.", longest=16, default=None)


class ColdStart(Model):
    """What the server's start was spent on, by its own log [s]."""

    weights_seconds: Number | None = Field(default=None, description="Loading weights [s].")
    model_seconds: Number | None = Field(default=None, description="Loading the model, weights included [s].")
    compile_seconds: Number | None = Field(default=None, description="torch.compile [s].")
    graph_capture_seconds: Number | None = Field(default=None, description="Capturing CUDA graphs [s].")
    engine_seconds: Number | None = Field(
        default=None, description="Profiling, KV cache and warm-up, compilation included [s]."
    )
    compile_cache_hit: bool | None = Field(default=None, description="Whether compiled code came from a cache.")


class Outcome(Model):
    """The verdict and its evidence."""

    name: Verdict = Field(description="The verdict.")
    reason: str = text("CamelCase reason.", longest=64)
    message: str = text("Why, in a sentence.", longest=1024)
    log_line: str | None = text("First telling line of the log.", longest=512, default=None)
    hint: str | None = text("What to change.", longest=512, default=None)


class StageTimes(Model):
    """When each stage of the current attempt began, in UTC."""

    requested: str | None = text("The operator first asked for the server pod.", longest=32, default=None)
    server_created: str | None = text("The server pod was created.", longest=32, default=None)
    scheduled: str | None = text("It got a node.", longest=32, default=None)
    sandbox_ready: str | None = text("Its network was there.", longest=32, default=None)
    server_started: str | None = text("Its container started.", longest=32, default=None)
    blocked: str | None = text(
        "A container was first seen to wait for an object that is missing.", longest=32, default=None
    )
    unread: str | None = text("A log that is needed was first found not to be had.", longest=32, default=None)
    server_finished: str | None = text("Its container ended.", longest=32, default=None)
    load_created: str | None = text("The load Job was created.", longest=32, default=None)
    ready: str | None = text("The server answered.", longest=32, default=None)
    first_pass: str | None = text("The first pass, warm-up included, began.", longest=32, default=None)
    last_pass: str | None = text("The last pass ended.", longest=32, default=None)
    load_finished: str | None = text("The load container ended.", longest=32, default=None)
    stored: str | None = text("The verdict was stored.", longest=32, default=None)
    released: str | None = text("The pods were gone, or given up.", longest=32, default=None)


class ServerPod(Model):
    """The server pod of the current attempt."""

    name: str = text("Name of the pod.", longest=253)
    uid: str = text("Its uid.", longest=64)
    node: str | None = text("Its node.", longest=253, default=None)


class Headline(Model):
    """The first load's figures, for `kubectl get`."""

    load: str = name_field("Name of the load.")
    total_tokens_per_second: Number = Field(description="Mean of the valid passes.")
    mean_ttft_milliseconds: Number | None = Field(default=None, alias="meanTTFTMilliseconds", description="[ms]")
    mean_tpot_milliseconds: Number | None = Field(default=None, alias="meanTPOTMilliseconds", description="[ms]")


class QuantBenchmarkRunStatus(Model):
    """Where the run stands, every measured pass, and how it ended."""

    observed_generation: Count | None = Field(default=None, description="Generation that this status speaks of.")
    conditions: tuple[Condition, ...] = CONDITIONS
    attempt: Ordinal = Field(default=1, description="Current attempt; its number is part of the children's names.")
    lost: Count = Field(default=0, description="Attempts that ended because a pod was evicted, preempted or lost.")
    server: ServerPod | None = Field(default=None, description="The server pod of the current attempt.")
    load_job: str | None = text("The load Job of the current attempt.", longest=253, default=None)
    times: StageTimes = Field(default_factory=StageTimes, description="When each stage began.")
    server_seconds: Number = Field(
        default=0.0, description="Time that server pods of ended attempts had a node [s]: what was paid for."
    )
    verdict: Outcome | None = Field(default=None, description="How the run ended.")
    headline: Headline | None = Field(default=None, description="The first load's figures.")
    attestation: Attestation | None = Field(default=None, description="What the server really ran.")
    cold_start: ColdStart | None = Field(default=None, description="What its start was spent on.")
    passes: tuple[Pass, ...] = Field(
        default=(),
        description="Every finished pass.",
        max_length=MAX_PASSES * 2,
        json_schema_extra=list_map("key"),
    )

    @property
    def complete(self) -> Condition | None:
        """The condition that tells the stage; None before the first look."""
        return next((one for one in self.conditions if one.type == ConditionType.COMPLETE), None)
