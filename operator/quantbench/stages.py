"""Where a run's time went: what the server's time was spent on, and where the operator kept others waiting. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from quantbench import times
from quantbench.api.run import StageTimes
from quantbench.observe import Run


@dataclass(frozen=True)
class Usage:
    """What the life of a run's server pods was spent on [s]; ``existed`` runs from the last one's creation until it was
    gone, and counts lost ones before it, which led to nothing.
    """

    run: str
    variant: str
    existed: float
    loading: float
    measuring: float

    @property
    def share(self) -> float:
        """Part of its life that went into loading the model or measuring, warm-up included."""
        return (self.loading + self.measuring) / self.existed if self.existed > 0 else 0.0


@dataclass(frozen=True)
class Gap:
    """Time between the end of one stage and the start of the next that only the operator can be blamed for [s].

    Kubernetes' own timestamps resolve whole seconds, so a single gap is right to within one second.
    """

    run: str
    between: str
    seconds: float


def usage(run: Run) -> Usage | None:
    """How a released run used its server, or None without one."""
    when = run.status.times
    existed = times.seconds_between(when.server_created, when.released)
    if existed is None:
        return None
    # A server that failed while it started was loading until its end.
    loading = times.seconds_between(when.server_started, when.ready or when.stored) or 0.0
    measuring = times.seconds_between(when.first_pass or when.ready, when.last_pass) or 0.0
    existed += run.status.server_seconds
    return Usage(run.name, run.spec.variant.name, existed, max(0.0, loading), max(0.0, measuring))


def gaps(runs: Sequence[Run]) -> list[Gap]:
    """Every gap of the last attempt of every run, and those between runs that followed each other."""
    found = []
    for run in sorted(runs, key=lambda run: run.created_at):
        when = run.status.times
        created = run.created_at if run.status.attempt == 1 else None
        for between, start, end in (
            ("run created → server created", created, when.server_created),
            ("server has an address → load created", when.sandbox_ready, when.load_created),
            _to_verdict(when),
        ):
            seconds = times.seconds_between(start, end)
            if seconds is not None:
                found.append(Gap(run.name, between, max(0.0, seconds)))
    return found + _between_runs(runs)


def _to_verdict(when: StageTimes) -> tuple[str, str | None, str | None]:
    """From what decided the run, the end of its load or of its server, to the verdict."""
    load, server = when.load_finished, when.server_finished
    if server and (load is None or times.parse(server) < times.parse(load)):
        return "server ended → verdict stored", server, when.stored
    return "load ended → verdict stored", load, when.stored


def _between_runs(runs: Sequence[Run]) -> list[Gap]:
    released = sorted(times.parse(run.status.times.released) for run in runs if run.status.times.released)
    found = []
    for run in runs:
        before = bisect_right(released, _late(run))
        if before and run.status.times.server_created:
            waited = (times.parse(run.created_at) - released[before - 1]) / timedelta(seconds=1)
            found.append(Gap(run.name, "last run released → this run created", max(0.0, waited)))
    return found


def _late(run: Run) -> datetime:
    """The last moment at which a run with this creation time can have been created: its second's end."""
    return times.parse(run.created_at) + timedelta(seconds=1)
