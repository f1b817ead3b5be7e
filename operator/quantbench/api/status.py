"""The status of a ``QuantBenchmark``: the answer that the operator writes."""

from typing import Annotated

from pydantic import Field

from quantbench.api.base import DNS_LABEL, Count, Model, Number, list_map, name_field, text
from quantbench.api.benchmark import MAX_ROWS
from quantbench.api.conditions import CONDITIONS, Condition
from quantbench.api.names import Axis, Difference, FindingKind, Metric, Verdict

MAX_CELL_MESSAGE = 160
MAX_FINDINGS = 48
MAX_CROSSOVERS = 32
MAX_DETAILED_ROWS = 160
"""Rows of a study up to which each of them holds its `DETAILS`; beyond, the runs alone do."""

VariantName = Annotated[str, Field(max_length=40, min_length=1, pattern=DNS_LABEL)]


class LoadResult(Model):
    """One row of the answer: one variant on one target under one load."""

    load: str = name_field("Name of the load.")
    starts: Count = Field(description="Server starts with at least one valid pass: the sample size.")
    passes: Count = Field(description="Valid passes in all.")
    total_tokens_per_second: Number = Field(description="Input and output tokens per second; mean over starts.")
    output_tokens_per_second: Number = Field(description="Output tokens per second; mean over starts.")
    requests_per_second: Number = Field(description="Finished requests per second; mean over starts.")
    mean_ttft_milliseconds: Number | None = Field(
        default=None,
        alias="meanTTFTMilliseconds",
        description="Time to first token, mean over requests, then starts [ms]; absent where results do not tell.",
    )
    mean_tpot_milliseconds: Number | None = Field(
        default=None, alias="meanTPOTMilliseconds", description="Time per output token after the first [ms]."
    )
    median_ttft_milliseconds: Number | None = Field(
        default=None, alias="medianTTFTMilliseconds", description="Median time to first token, mean over passes [ms]."
    )
    median_tpot_milliseconds: Number | None = Field(
        default=None, alias="medianTPOTMilliseconds", description="Median time per output token [ms]."
    )
    p99_ttft_milliseconds: Number | None = Field(
        default=None,
        alias="p99TTFTMilliseconds",
        description="99th percentile of TTFT [ms]; absent where a pass has too few requests for one.",
    )
    p99_tpot_milliseconds: Number | None = Field(
        default=None, alias="p99TPOTMilliseconds", description="99th percentile of TPOT [ms]; absent likewise."
    )
    start_variation: Number | None = Field(
        default=None, description="Coefficient of variation of throughput from start to start; absent with one start."
    )
    repeat_variation: Number | None = Field(
        default=None, description="Coefficient of variation of throughput from repeat to repeat of one start, pooled."
    )
    saturated: bool | None = Field(
        default=None,
        description=(
            "Whether the server was at its limit (requests queued, or more load brought no more throughput), so that"
            " TTFT is no latency to plan with; absent: not known."
        ),
    )
    ratio: Number | None = Field(
        default=None,
        description="Total throughput over the baseline's: geometric mean of the ratios within blocks.",
    )
    ratio_low: Number | None = Field(default=None, description="Lower end of the ratio's 95 % interval.")
    ratio_high: Number | None = Field(default=None, description="Upper end of the ratio's 95 % interval.")
    ttft_ratio: Number | None = Field(default=None, description="Mean TTFT over the baseline's, within blocks.")
    ttft_ratio_low: Number | None = Field(default=None, description="Lower end of its 95 % interval.")
    ttft_ratio_high: Number | None = Field(default=None, description="Upper end of its 95 % interval.")
    tpot_ratio: Number | None = Field(default=None, description="Mean TPOT over the baseline's, within blocks.")
    tpot_ratio_low: Number | None = Field(default=None, description="Lower end of its 95 % interval.")
    tpot_ratio_high: Number | None = Field(default=None, description="Upper end of its 95 % interval.")
    ratio_starts: Count = Field(
        default=0, description="Blocks that the ratios rest on; with 1 it is one run, not a verdict."
    )
    decided_by: Metric | None = Field(
        default=None,
        description=(
            "Figure by which all variants are judged under a fixed request rate; absent under an infinite one, where"
            " throughput decides."
        ),
    )
    difference: Difference | None = Field(
        default=None,
        description=(
            "What the ratio says; absent for the baseline and while there is no ratio. The control has one only where a"
            " study that has ended finds it to differ from the baseline, which it repeats."
        ),
    )


DETAILS = (
    "median_ttft_milliseconds",
    "median_tpot_milliseconds",
    "p99_ttft_milliseconds",
    "p99_tpot_milliseconds",
    "start_variation",
    "repeat_variation",
)
"""Fields of `LoadResult` that the status of a very large study leaves out."""
RATIOS = {
    Metric.THROUGHPUT: ("ratio_low", "ratio_high"),
    Metric.TTFT: ("ttft_ratio", "ttft_ratio_low", "ttft_ratio_high"),
    Metric.TPOT: ("tpot_ratio", "tpot_ratio_low", "tpot_ratio_high"),
}
"""The same, where the figure does not decide."""


class Cell(Model):
    """One variant on one target."""

    variant: str = name_field("Name of the variant, or control.")
    target: str = name_field("Name of the target.")
    verdict: Verdict | None = Field(default=None, description="How its runs ended; absent while none has.")
    message: str | None = text("Why, in a sentence.", longest=MAX_CELL_MESSAGE, default=None)
    same_as: str | None = name_field(
        "Variant that ran the same effective configuration: both are treated as one.", default=None
    )
    effective: str | None = text(
        "What the servers really ran, in short: quantization, kernels, attention backend, KV cache.",
        longest=MAX_CELL_MESSAGE,
        default=None,
    )
    fingerprint: str | None = text("Digest of the effective configuration.", longest=16, default=None)
    finished: Count = Field(default=0, description="Runs that ended.")
    planned: Count = Field(default=0, description="Runs planned.")
    loads: tuple[LoadResult, ...] = Field(
        default=(), description="Figures per load.", max_length=32, json_schema_extra=list_map("load")
    )


class Finding(Model):
    """One sentence that the data say, with its evidence."""

    kind: FindingKind = Field(description="What it is about.")
    message: str = text("The sentence.", longest=320)
    target: str | None = name_field("Target it speaks of.", default=None)
    load: str | None = name_field("Load it speaks of.", default=None)
    variants: tuple[VariantName, ...] = Field(default=(), description="Variants it speaks of.", max_length=33)
    evidence: tuple[Annotated[str, Field(max_length=160)], ...] = Field(
        default=(), description="What it rests on: figures, log lines, runs.", max_length=4
    )


class Crossover(Model):
    """Where, along the loads of a study, one variant overtakes another."""

    target: str = name_field("Name of the target.")
    axis: Axis = Field(description="What the loads differ in.")
    variant: str = name_field("Variant that is the faster one above.")
    other: str = name_field("Variant that is the faster one below.")
    at: Number = Field(
        description=(
            "Where they are equally fast, by the figure that decides at each load, interpolated between the loads"
            " around it. Beyond maxNumSeqs no more requests are in flight."
        )
    )
    low: Number | None = Field(default=None, description="Lower end of its 95 % interval; absent with too few starts.")
    high: Number | None = Field(default=None, description="Upper end of its 95 % interval; absent likewise.")


class QuantBenchmarkStatus(Model):
    """Where the study stands and what it found."""

    observed_generation: Count | None = Field(default=None, description="Generation that this status speaks of.")
    conditions: tuple[Condition, ...] = CONDITIONS
    plan_hash: str | None = text(
        "Hash of the planned work; equal hashes asked for the same work.", longest=64, default=None
    )
    progress: str | None = text("Ended runs / planned runs.", longest=32, default=None)
    summary: str | None = text("The answer so far, in a sentence.", longest=512, default=None)
    active_runs: Count | None = Field(default=None, description="Runs that hold a server.")
    gpu_hours: Number | None = Field(
        default=None, description="GPU-hours spent: GPUs × time that server pods had a node."
    )
    started_at: str | None = text("When the first run was created.", longest=32, default=None)
    finished_at: str | None = text("When the last run ended.", longest=32, default=None)
    cells: tuple[Cell, ...] = Field(
        default=(),
        description="One entry per variant and target.",
        max_length=MAX_ROWS,
        json_schema_extra=list_map("variant", "target"),
    )
    findings: tuple[Finding, ...] = Field(
        default=(),
        description="What the data say, the most important first.",
        max_length=MAX_FINDINGS,
    )
    crossovers: tuple[Crossover, ...] = Field(
        default=(),
        description="Where one variant overtakes another.",
        max_length=MAX_CROSSOVERS,
    )
