"""``QuantBenchmark``: the study a user applies. The answer is in `status`."""

import math
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from quantbench.api.base import DURATION, Model, kubernetes, list_map, name_field, rule, text, whole_or_text
from quantbench.api.names import Granularity, Kernel, KVCacheDType, Method
from quantbench.api.pod import LabelKey, LabelValue, PodTemplate

MAX_ROWS = 400
"""variants, the control among them, × targets × loads of one benchmark: keeps the status below 256 KiB."""
DEFAULT_MAX_STARTS = 5
MAX_STARTS = 25
"""Server starts of a variant on a target."""
MAX_REPEATS = 20
"""Passes of one load per server start."""
MAX_PASSES = 200
"""Passes of all loads of one server start: keeps a run's status below 200 KiB."""
CONTROL = "control"
"""Name of the variant that repeats the baseline to show the noise floor."""

Argument = Annotated[str, Field(max_length=1024, min_length=1)]
MODEL = "Model: a hub id such as Qwen/Qwen3-8B, or the path of a folder on a mounted volume."
REQUEST_RATE = r"^(inf|[0-9]{1,7}(\.[0-9]{1,6})?)$"


class Engine(Model):
    """The vLLM that serves every variant."""

    image: str = text("Container image of vLLM, used for servers and load generators.", longest=512)
    version: str | None = text(
        "vLLM's version, e.g. 0.24.0; needed when the image's tag does not say it.",
        longest=64,
        pattern=r"^v?[0-9]+\.[0-9]+(\.[0-9]+)?.*$",
        default=None,
    )
    image_pull_policy: str = text(
        "When to pull the image.", longest=16, pattern="^(Always|IfNotPresent|Never)$", default="IfNotPresent"
    )
    args: tuple[Argument, ...] = Field(
        default=(), description="Arguments of `vllm serve` common to all variants.", max_length=64
    )
    max_num_seqs: int = Field(
        default=256,
        description="vLLM's --max-num-seqs. Always explicit, because vLLM's default depends on the GPU's name.",
        ge=1,
        le=65536,
    )
    max_num_batched_tokens: int = Field(
        default=8192,
        description="vLLM's --max-num-batched-tokens. Always explicit, for the same reason.",
        ge=1,
        le=1048576,
    )
    pod_template: PodTemplate = Field(default_factory=PodTemplate, description="Additions to the pods: an allow-list.")


WITHOUT_CHECKPOINT = (Method.BF16, Method.FP8_ONLINE, Method.BITSANDBYTES, Method.CUSTOM)
"""Methods that start from the unquantized model; all others read a checkpoint of their own."""
NEEDS_CHECKPOINT = f"!(self.method in {[method.value for method in WITHOUT_CHECKPOINT]})"


class Variant(Model):
    """One quantization of the model."""

    name: str = name_field("Name of the variant.")
    method: Method = Field(description="Quantization method.")
    kernel: Kernel = Field(default=Kernel.AUTO, description="Linear kernel to ask for; Auto leaves it to vLLM.")
    kv_cache_dtype: KVCacheDType = Field(
        default=KVCacheDType.AUTO, alias="kvCacheDType", description="vLLM's --kv-cache-dtype."
    )
    granularity: Granularity | None = Field(
        default=None, description="Scale granularity of FP8Online; PerTensor if absent."
    )
    model: str | None = text(
        "Checkpoint of this variant; needed by every method that reads quantized weights.", longest=512, default=None
    )
    tokenizer: str | None = text("Tokenizer, where the checkpoint brings none (GGUF).", longest=512, default=None)
    args: tuple[Argument, ...] = Field(
        default=(), description="Arguments of `vllm serve` for this variant.", max_length=64
    )

    model_config = {
        "json_schema_extra": kubernetes(
            validations=[
                rule(
                    f"has(self.model) || !({NEEDS_CHECKPOINT})",
                    "this method reads a quantized checkpoint: say which one",
                    field=".model",
                ),
                rule(
                    "!has(self.granularity) || self.method == 'FP8Online'",
                    "granularity belongs to method FP8Online",
                    field=".granularity",
                ),
                rule(
                    f"self.name != '{CONTROL}'", f"the name {CONTROL} is taken by the repeated baseline", field=".name"
                ),
            ]
        )
    }


class Target(Model):
    """A kind of node to measure on."""

    name: str = name_field("Name of the target.")
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="Node labels, e.g. nvidia.com/gpu.product.", max_length=16
    )
    gpus: int = Field(
        default=1, description="GPUs of one server, used with tensor parallelism; 0 serves on the CPU.", ge=0, le=64
    )
    gpu_resource_name: str = text(
        "Extended resource that counts the GPUs.",
        longest=253,
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        default="nvidia.com/gpu",
    )
    compute_capability: str | None = text(
        "CUDA compute capability of the GPUs, e.g. 9.0; absent: told from nodeSelector where that names the product.",
        longest=5,
        pattern=r"^[0-9]{1,2}\.[0-9]{1,2}$",
        default=None,
    )


class ShareGPT(Model):
    """Conversations in ShareGPT's JSON format."""

    path: str = text("Path of the JSON file on a mounted volume.", longest=512, pattern="^/")


class RandomLengths(Model):
    """Random tokens of given lengths."""

    input_len: int = Field(default=1024, description="Prompt length [tokens].", ge=1, le=1048576)
    output_len: int = Field(default=128, description="Output length [tokens].", ge=1, le=1048576)
    range_ratio: float = Field(
        default=0.0, description="Lengths vary uniformly by ± this share; 0 keeps them equal.", ge=0, lt=1
    )


class Dataset(Model):
    """Where prompts come from."""

    share_gpt: ShareGPT | None = Field(default=None, alias="shareGPT", description="A ShareGPT file.")
    random: RandomLengths | None = Field(default=None, description="Random tokens.")

    model_config = {
        "json_schema_extra": kubernetes(
            validations=[rule("has(self.shareGPT) != has(self.random)", "give one of shareGPT and random")]
        )
    }


NumPrompts = Annotated[int, Field(ge=1, le=100_000)]
WarmupPrompts = Annotated[int, Field(ge=0, le=100_000)]


class Workload(Model):
    """The requests, the same for every variant."""

    dataset: Dataset = Field(description="Where prompts come from.")
    num_prompts: NumPrompts = Field(default=1000, description="Requests of one pass.")
    warmup_prompts: WarmupPrompts | None = Field(
        default=None,
        description="Requests of the excluded warm-up pass of each load; absent: twice its maxConcurrency, or 256.",
    )
    ignore_eos: bool = Field(
        default=True,
        alias="ignoreEOS",
        description="Generate the asked number of tokens whatever the model says, so that variants do the same work.",
    )
    temperature: float = Field(default=0.0, description="Sampling temperature; 0 is greedy.", ge=0, le=10)
    seed: int = Field(default=0, description="Seed of prompt selection.", ge=0, le=2**31 - 1)
    raw_output_dir: str | None = text(
        "Folder on a mounted volume for the raw per-request results.", longest=512, pattern="^/", default=None
    )


def request_rate(value: int | str) -> int | str:
    """Checks what the type `int | str` cannot say.

    Raises:
        ValueError: neither inf nor a positive number.
    """
    text = str(value)
    if not re.fullmatch(REQUEST_RATE, text) or float(text) == 0:
        raise ValueError('give a positive number of at most seven digits, or "inf"')
    return value


RequestRate = Annotated[
    int | str,
    BeforeValidator(whole_or_text),
    AfterValidator(request_rate),
    Field(json_schema_extra=kubernetes(int_or_string=True) | {"pattern": REQUEST_RATE, "maxLength": 16, "minimum": 0}),
]


class Load(Model):
    """One way of sending the requests; one server start serves all loads in order."""

    name: str = name_field("Name of the load.")
    request_rate: RequestRate = Field(
        default="inf",
        description='Requests per second: a number (write fractions as a string, "2.5"), or inf for all at once.',
    )
    max_concurrency: int | None = Field(default=None, description="Most requests in flight.", ge=1, le=100_000)
    burstiness: float = Field(
        default=1.0, description="Shape of the arrival gaps: 1 is Poisson, larger is more even.", gt=0, le=1000
    )
    num_prompts: NumPrompts | None = Field(
        default=None, description="Requests of one pass; workload.numPrompts if absent."
    )
    warmup_prompts: WarmupPrompts | None = Field(default=None, description="Overrides workload.warmupPrompts.")
    repeats: int | None = Field(
        default=None,
        description="Measured passes of this load per server start; sampling.repeats if absent.",
        ge=1,
        le=MAX_REPEATS,
    )

    @property
    def paced(self) -> bool:
        """Whether requests are sent at a fixed rate, not all at once."""
        return not math.isinf(float(self.request_rate))

    model_config = {
        "json_schema_extra": kubernetes(
            validations=[
                rule(
                    "self.requestRate == 'inf'"
                    " || (double(self.requestRate) > 0.0 && double(self.requestRate) < 10000000.0)",
                    "requestRate must be a positive number of at most seven digits, or inf",
                    field=".requestRate",
                )
            ]
        )
    }


class Sampling(Model):
    """How often to measure. The unit of replication is the server start."""

    starts: int = Field(default=2, description="Server starts of each variant on each target.", ge=1, le=MAX_STARTS)
    repeats: int = Field(default=3, description="Measured passes of each load per server start.", ge=1, le=MAX_REPEATS)
    max_starts: int | None = Field(
        default=None,
        description=(
            "Most server starts of a variant on a target: beyond `starts`, more are added while its ratio to the"
            f" baseline is neither decided nor precise. Absent: {DEFAULT_MAX_STARTS}, or `starts` if that is 1 or above"
            f" {DEFAULT_MAX_STARTS}."
        ),
        ge=1,
        le=MAX_STARTS,
    )
    target_ratio_error: float = Field(
        default=0.02,
        description=(
            "Half width of a ratio's interval, as a share of it, at which no more starts are added. It is the interval"
            " at the level that the study's comparisons are judged at: 95 % for all of them together."
        ),
        gt=0,
        lt=1,
    )
    control: bool = Field(default=True, description="Measure the baseline twice per block, to show the noise floor.")

    @property
    def most_starts(self) -> int:
        """Most server starts of a cell, the default filled in."""
        if self.max_starts is not None:
            return max(self.starts, self.max_starts)
        return self.starts if self.starts == 1 else max(self.starts, DEFAULT_MAX_STARTS)


class Limits(Model):
    """What the study may cost and how long each stage may take. Can change while the study runs."""

    parallelism: int = Field(default=1, description="Servers at a time.", ge=1, le=64)
    gpu_hours: float | None = Field(
        default=None, description="Start no server once this many GPU-hours are spent.", gt=0, le=1_000_000
    )
    schedule_timeout: str = text(
        "Longest time until the server pod has a node.", longest=24, pattern=DURATION, default="15m"
    )
    start_timeout: str = text(
        "Longest time from having a node to being ready, image pull included.",
        longest=24,
        pattern=DURATION,
        default="20m",
    )
    load_timeout: str = text(
        "Longest time without a finished pass while loading.", longest=24, pattern=DURATION, default="30m"
    )
    retries: int = Field(
        default=2, description="New attempts of a run whose pods were evicted, preempted or lost.", ge=0, le=10
    )


IMMUTABLE = ("model", "engine", "variants", "baseline", "targets", "workload", "loads", "sampling")


def _immutable(field: str) -> list[dict[str, str]]:
    hint = f"{field} is immutable: results of different plans cannot be compared; create a new QuantBenchmark"
    return [rule(f"self.{field} == oldSelf.{field}", hint, field=f".{field}")]


class QuantBenchmarkSpec(Model):
    """The study: which variants on which targets, under which loads, how often, at what cost."""

    model: str = text(MODEL, longest=512)
    engine: Engine = Field(description="The vLLM that serves every variant.")
    variants: tuple[Variant, ...] = Field(
        description="Quantizations to compare.", min_length=1, max_length=32, json_schema_extra=list_map("name")
    )
    baseline: str = name_field("Name of the variant that the others are compared with.")
    targets: tuple[Target, ...] = Field(
        description="Kinds of nodes to measure on.", min_length=1, max_length=16, json_schema_extra=list_map("name")
    )
    workload: Workload = Field(description="The requests, the same for every variant.")
    loads: tuple[Load, ...] = Field(
        default=(Load(name="saturated"),),
        description="Ways of sending the requests.",
        min_length=1,
        max_length=32,
        json_schema_extra=list_map("name"),
    )
    sampling: Sampling = Field(default_factory=Sampling, description="How often to measure.")
    limits: Limits = Field(default_factory=Limits, description="What the study may cost; can change while it runs.")
    suspend: bool = Field(
        default=False, description="Stop all servers and start none; finished results stay. Can change while it runs."
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None, description="Delete the finished benchmark after this time [s].", ge=0, le=2**31 - 1
    )

    model_config = {
        "json_schema_extra": kubernetes(
            validations=[
                rule(
                    "self.variants.exists(v, v.name == self.baseline)",
                    "baseline must be the name of one of the variants",
                    field=".baseline",
                ),
                rule(
                    "(self.variants.size() + (self.sampling.control ? 1 : 0))"
                    f" * self.targets.size() * self.loads.size() <= {MAX_ROWS}",
                    f"variants (with the control) × targets × loads must not exceed {MAX_ROWS}: split the study",
                ),
                rule(
                    f"self.loads.map(l, has(l.repeats) ? l.repeats : self.sampling.repeats).sum() <= {MAX_PASSES}",
                    f"the repeats of all loads must not exceed {MAX_PASSES} together",
                ),
                *(immutable for field in IMMUTABLE for immutable in _immutable(field)),
            ]
        )
    }
