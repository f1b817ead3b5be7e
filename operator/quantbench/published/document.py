"""What a comparison with a published study holds; its JSON form is part of the command line's interface."""

from pydantic import Field

from quantbench.api.base import Model
from quantbench.api.names import Named
from quantbench.published.claims import Figure


class Agreement(Named):
    """What the measured ratio says about the published one."""

    AGREES = "Agrees", "The published ratio lies within the 95 % interval of the measured one."
    DIFFERS = "Differs", "It lies outside."
    ONE_RUN = "OneRun", "One start, or none beside the baseline's: there is no interval."
    NOT_MEASURED = "NotMeasured", "There is no measured ratio."
    NOT_PUBLISHED = "NotPublished", "The study gives no figure."


class Outcome(Named):
    """What the measurements say about a conclusion, or about it under one load."""

    HOLDS = "Holds", "Every comparison that it makes goes its way, significantly."
    HOLDS_ONLY_AT = "HoldsOnlyAt", "It holds under some loads, and not, or not for certain, under others."
    DOES_NOT_HOLD = "DoesNotHold", "A comparison goes the other way, significantly, and it holds under no load."
    CANNOT_BE_SAID = "CannotBeSaid", "The intervals are too wide, or what it speaks of was not measured."


class Ratio(Model):
    """One figure over the baseline's, published and measured."""

    figure: Figure = Field(description="throughput, ttft or tpot.")
    published: float | None = Field(description="From the published table's own numbers; null: no figure.")
    ratio: float | None = Field(description="Measured: geometric mean of the ratios within blocks.")
    low: float | None = Field(description="Lower end of its 95 % interval.")
    high: float | None = Field(description="Upper end of its 95 % interval.")
    starts: int = Field(description="Blocks that it rests on.")
    agreement: Agreement = Field(description="Whether the two agree.")


class AtLoad(Model):
    """A row under one of our loads."""

    load: str = Field(description="Name of the load.")
    ratios: tuple[Ratio, ...] = Field(description="One per figure of the table.")


class Row(Model):
    """One row of a published table."""

    name: str = Field(description="What the table calls it.")
    line: int = Field(description="Line in the file, from 1.")
    variant: str | None = Field(description="The variant that was measured for it; null: none.")
    agreement: Agreement = Field(description="Of throughput, under the load that is like the published one.")
    message: str | None = Field(default=None, description="Why there is no measured ratio, or what to know of it.")
    reasons: tuple[str, ...] = Field(default=(), description="What may explain a difference; from data alone.")
    loads: tuple[AtLoad, ...] = Field(default=(), description="Per load, in the study's order.")


class Table(Model):
    """One published table and the target that it is held against."""

    title: str = Field(description="The heading above it.")
    target: str = Field(description="Name of the target.")
    rows: tuple[Row, ...] = Field(description="All rows but the baseline.")


class Test(Model):
    """One comparison that a conclusion makes."""

    figure: Figure = Field(description="throughput, ttft or tpot.")
    variant: str = Field(description="What it speaks of.")
    against: str = Field(description="What that is compared with.")
    ratio: float = Field(description="Measured: geometric mean of the ratios within blocks.")
    low: float | None = Field(description="Lower end of its 95 % interval; null with one start.")
    high: float | None = Field(description="Upper end; null likewise.")
    starts: int = Field(description="Blocks that it rests on.")
    through_baseline: bool = Field(
        description="They share too few blocks: it is the quotient of their ratios to the baseline."
    )
    same_configuration: bool = Field(description="Both ran one configuration, so that their difference means nothing.")
    goes: bool | None = Field(description="Whether it goes the conclusion's way, significantly; null: open.")


class Judged(Model):
    """A conclusion under one load on one target."""

    target: str = Field(description="Name of the target.")
    load: str = Field(description="Name of the load.")
    outcome: Outcome = Field(description="What the figures say.")
    tests: tuple[Test, ...] = Field(description="The comparisons that decide it.")
    notes: tuple[str, ...] = Field(default=(), description="What its conditions were, and what was not compared.")


class Verdict(Model):
    """A conclusion, judged."""

    number: int = Field(description="Its number in the study.")
    text: str = Field(description="What it says.")
    outcome: Outcome = Field(description="What the measurements say.")
    sentence: str = Field(description="The same in words, with the loads.")
    loads: tuple[Judged, ...] = Field(default=(), description="Where something could be compared.")


class Comparison(Model):
    """A published study beside what was measured."""

    source: str = Field(description="The published file.")
    study: str = Field(description="Name of the measured study.")
    model: str = Field(description="What was served.")
    published_version: str | None = Field(description="vLLM's version there; null: not stated.")
    measured_versions: tuple[str, ...] = Field(description="vLLM's versions here.")
    like_published: str | None = Field(description="The load that is like the published one; null: none is.")
    tables: tuple[Table, ...] = Field(description="The tables of GPUs that were measured.")
    left_out: tuple[str, ...] = Field(default=(), description="Tables that could not be compared, and why.")
    conclusions: tuple[Verdict, ...] = Field(default=(), description="The conclusions, judged.")
