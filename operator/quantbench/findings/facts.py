"""What findings are made from, and how one is put together within the bounds of the API."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from quantbench.answer import of_target
from quantbench.api.benchmark import Load, QuantBenchmarkSpec
from quantbench.api.names import FindingKind, Verdict
from quantbench.api.run import Pass
from quantbench.api.status import Cell, Crossover, Finding, LoadResult
from quantbench.effective import MEASURED
from quantbench.observe import Run

LONGEST_MESSAGE, LONGEST_EVIDENCE, MOST_EVIDENCE, MOST_VARIANTS = 320, 160, 4, 33

WITH_FIGURES = MEASURED | {Verdict.DUPLICATE}
"""Verdicts of runs whose passes say something of their variant."""


class Rank(IntEnum):
    """How important a finding is; the smallest first."""

    ANSWER = 0
    """What was asked for: better or worse under the first load."""
    ALARM = 1
    """What forbids to believe a part of the figures."""
    CHANGE = 2
    """Where the answer changes."""
    CAUTION = 3
    """What to know before a figure is used."""
    BASIS = 4
    """How much the figures can tell."""
    MISSING = 5
    """What there is no figure of, or not of what the name says."""
    FURTHER = 6
    """Comparisons under the other loads."""


@dataclass(frozen=True)
class Said:
    """A finding with its rank; those of one rank stand in the order of their loads, then as they were found."""

    rank: Rank
    finding: Finding
    load: int = 0


@dataclass(frozen=True)
class Study:
    """The data. ``runs`` are those that ended, by cell, in the order of their blocks."""

    spec: QuantBenchmarkSpec
    cells: Sequence[Cell]
    crossovers: Sequence[Crossover]
    runs: Mapping[tuple[str, str], Sequence[Run]]

    def runs_of(self, cell: Cell) -> Sequence[Run]:
        """The runs of a cell that ended."""
        return self.runs.get((cell.variant, cell.target), ())

    def passes(self, cell: Cell) -> list[Pass]:
        """Every pass of the last attempts of a cell's runs that count, the invalid ones among them."""
        return [
            measured
            for run in self.runs_of(cell)
            if run.status.verdict and run.status.verdict.name in WITH_FIGURES
            for measured in run.status.passes
            if measured.attempt == run.status.attempt
        ]

    def valid(self, cell: Cell, load: str) -> Sequence[Pass]:
        """Those of one load that count."""
        return self._valid.get((cell.variant, cell.target, load), ())

    @cached_property
    def _valid(self) -> dict[tuple[str, str, str], list[Pass]]:
        found: dict[tuple[str, str, str], list[Pass]] = {}
        for cell in self.cells:
            for measured in self.passes(cell):
                if measured.valid:
                    found.setdefault((cell.variant, cell.target, measured.load), []).append(measured)
        return found

    def rows(self, target: str, load: Load) -> Iterator[tuple[Cell, LoadResult]]:
        """The rows of a target under a load, the baseline's and the control's among them."""
        for cell in of_target(self.cells, target):
            for row in cell.loads:
                if row.load == load.name:
                    yield cell, row


def make_finding(
    kind: FindingKind,
    message: str,
    *,
    target: str | None = None,
    load: str | None = None,
    variants: Iterable[str] = (),
    evidence: Iterable[str | None] = (),
) -> Finding:
    """A finding; texts and lists that are too long for the API are cut."""
    listed = dict.fromkeys(cut(text, LONGEST_EVIDENCE) for text in evidence if text)
    return Finding(
        kind=kind,
        message=cut(message, LONGEST_MESSAGE),
        target=target,
        load=load,
        variants=tuple(variants)[:MOST_VARIANTS],
        evidence=tuple(listed)[:MOST_EVIDENCE],
    )


def caution(
    kind: FindingKind, message: str, *, target: str, load: Load, number: int, variants: Mapping[str, str]
) -> Said:
    """What to know about a load, number ``number`` of the study from 0; ``variants``: those it is about, with words."""
    evidence = [f"{variant}: {words}" for variant, words in variants.items()]
    finding = make_finding(kind, message, target=target, load=load.name, variants=variants, evidence=evidence)
    return Said(Rank.CAUTION, finding, number)


def cut(text: str, longest: int) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def names_of(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def were(count: int) -> str:
    """``was`` or ``were``."""
    return "was" if count == 1 else "were"


def percent(share: float) -> str:
    """``60 %``."""
    return f"{100 * share:.0f} %"
