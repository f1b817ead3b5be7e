"""What an audit returns; its JSON form is part of the command line's interface."""

from enum import StrEnum

from pydantic import Field

from quantbench.api.base import Model
from quantbench.api.names import Named


class Kind(Named):
    """What a finding is about."""

    WRONG_PERCENTAGE = "WrongPercentage", "A printed change is not what the table's own numbers give."
    EQUAL_ROWS = "EqualRows", "Two rows are as close as two passes of one server: very likely the same kernel."
    INDISTINGUISHABLE_ROWS = (
        "IndistinguishableRows",
        "Two rows that differ by a kernel's name lie within the noise of single runs.",
    )
    SINGLE_RUNS = "SingleRuns", "No repeats, no spread, no interval: differences below the noise floor are unproven."
    CONTRADICTED_CLAIM = "ContradictedClaim", "A conclusion that the tables contradict."
    UNCONTROLLED_LOAD = "UncontrolledLoad", "The load's command lets the work differ between variants."
    QUEUEING_TTFT = "QueueingTTFT", "All requests are sent at once: the mean TTFT is the length of a queue."
    UNSTATED_FACT = "UnstatedFact", "Something that changes the figures is not stated."
    UNEXPLAINED_GAP = "UnexplainedGap", "A row without figures and without a reason."


class Severity(StrEnum):
    """How much a finding weighs."""

    ERROR = "error"
    """The document contradicts its own numbers."""
    WARNING = "warning"
    """A comparison does not carry what it is used for."""
    NOTICE = "notice"
    """A fact is missing."""


class Outcome(StrEnum):
    """What arithmetic says about a claim in prose."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    NOT_CHECKED = "notChecked"


class Place(Model):
    """Where something stands in the file."""

    line: int = Field(description="Line, counted from 1.")
    table: str | None = Field(default=None, description="The heading above the table; null in prose.")
    row: str | None = Field(default=None, description="The variant of the row.")
    column: str | None = Field(default=None, description="The column's header.")
    text: str = Field(default="", description="What is printed there.")


class Finding(Model):
    """One thing that a reader should know before believing a figure."""

    kind: Kind = Field(description="What it is about.")
    severity: Severity = Field(description="error, warning or notice.")
    sentence: str = Field(description="The finding in one sentence.")
    places: tuple[Place, ...] = Field(default=(), description="Where it stands.")
    arithmetic: tuple[str, ...] = Field(default=(), description="The calculation, one line each.")
    hint: str | None = Field(default=None, description="The likely reason, or what would settle it.")


class Claim(Model):
    """A sentence of the text about figures, and what the tables say about it."""

    line: int = Field(description="Line, counted from 1.")
    text: str = Field(description="The sentence.")
    outcome: Outcome = Field(description="confirmed, contradicted or notChecked.")
    reason: str = Field(description="The arithmetic, or why it was not checked.")


class Report(Model):
    """The whole answer."""

    source: str = Field(description="The file.")
    tables: int = Field(description="Tables with figures of speed.")
    findings: tuple[Finding, ...] = Field(description="Most severe first, then by line.")
    claims: tuple[Claim, ...] = Field(description="Every claim that was recognised, by line.")
    unread: tuple[Place, ...] = Field(default=(), description="Cells of metric columns that are not numbers.")

    @property
    def headline(self) -> str:
        """The answer in one line."""
        found, tables = len(self.findings), self.tables
        what = "no finding" if found == 0 else "1 finding" if found == 1 else f"{found} findings"
        return f"{what} in {'1 table' if tables == 1 else f'{tables} tables'}"
