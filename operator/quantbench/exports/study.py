"""A study as a value: the benchmark and its runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from quantbench.api.conditions import ConditionType, Reason
from quantbench.effective import CellKey, counts
from quantbench.observe import Benchmark, Run, Unreadable
from quantbench.plan import SpecInvalid, engine_version

SITTINGS = "merged-"
"""How the uid of a study begins that was put together from several."""


class ExportError(Exception):
    """A file that cannot be read as a study, or studies that cannot be put together; the message says why."""


@dataclass(frozen=True)
class Study:
    """A benchmark and its runs, oldest first; ``unreadable`` runs were written by another version."""

    benchmark: Benchmark
    runs: tuple[Run, ...]
    unreadable: tuple[Unreadable, ...] = ()

    def condition(self, kind: ConditionType) -> tuple[str, str, str]:
        """Status, reason and message of a condition; empty strings where it is not set."""
        for condition in self.benchmark.status.conditions:
            if condition.type == kind:
                return condition.status, condition.reason, condition.message
        return "", "", ""

    @property
    def ended(self) -> bool:
        """No run is left."""
        return self.condition(ConditionType.COMPLETE)[0] == "True"

    @property
    def cut_off(self) -> bool:
        """It was declared to have ended although runs are left."""
        return self.ended and self.condition(ConditionType.COMPLETE)[1] == Reason.CUT_OFF

    @property
    def of_sittings(self) -> bool:
        """It was put together from several studies."""
        return self.benchmark.uid.startswith(SITTINGS)

    @property
    def of_another_tool(self) -> bool:
        """Its results do not say what was served on what, nor which prompts were sent: there is nothing to apply."""
        dataset = self.benchmark.spec.workload.dataset
        return dataset.share_gpt is None and dataset.random is None

    @property
    def refused(self) -> bool:
        """The specification was not accepted."""
        return self.condition(ConditionType.ACCEPTED)[0] == "False"

    @property
    def planned(self) -> Counter[CellKey]:
        """Runs that were planned of each cell, by its status."""
        return Counter({(cell.variant, cell.target): cell.planned for cell in self.benchmark.status.cells})

    @property
    def measured(self) -> bool:
        """There is at least one figure."""
        return any(cell.loads for cell in self.benchmark.status.cells)

    def run(self, name: str) -> Run | None:
        """The run with this name."""
        return next((run for run in self.runs if run.name == name), None)

    def engine_versions(self) -> list[str]:
        """Versions of vLLM as the servers attested them, else as planned; sorted, each once."""
        said = {
            (run.status.attestation.engine_version if run.status.attestation else None) or run.spec.engine.version
            for run in self.runs
            if counts(run)
        }
        planned = {run.spec.engine.version for run in self.runs}
        return sorted(said or planned or {self._asked_version()})

    def _asked_version(self) -> str:
        try:
            return str(engine_version(self.benchmark.spec.engine))
        except SpecInvalid:
            return "unknown"


def in_order(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Oldest first; names decide between runs of one second."""
    return tuple(sorted(runs, key=lambda run: (run.created_at, run.name)))
