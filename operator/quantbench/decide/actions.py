"""What a decision may ask for. `quantbench.execute` carries it out: the status first, then the actions in order."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from quantbench import times
from quantbench.api.base import JsonObject
from quantbench.api.conditions import Condition


@dataclass(frozen=True)
class Apply:
    """Create an object by server-side apply; harmless when it is there already."""

    manifest: JsonObject


@dataclass(frozen=True)
class Delete:
    """Delete an object of this kind, name and uid; harmless when it is gone."""

    kind: str
    name: str
    uid: str
    grace_seconds: int | None = None


@dataclass(frozen=True)
class PatchSpec:
    """Change mutable fields of a QuantBenchmarkRun's specification by merge patch."""

    name: str
    patch: JsonObject


@dataclass(frozen=True)
class Emit:
    """Post a Kubernetes Event about the object that was decided on."""

    reason: str
    message: str
    warning: bool = False


Action = Apply | Delete | PatchSpec | Emit


@dataclass(frozen=True)
class Decision:
    """The object's next status (None: leave it), what to do after it is stored, and when to look again [s]."""

    status: JsonObject | None = None
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None


def set_condition(
    conditions: Iterable[Condition],
    kind: str,
    status: str,
    reason: str,
    message: str,
    *,
    generation: int | None,
    now: datetime,
) -> tuple[Condition, ...]:
    """The conditions with one replaced; its transition time moves only when its status changes."""
    kept = tuple(conditions)
    previous = next((condition for condition in kept if condition.type == kind), None)
    moved = previous is None or previous.status != status
    since = times.render(now) if moved or previous is None else previous.last_transition_time
    new = Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:1024],
        observed_generation=generation,
        last_transition_time=since,
    )
    if previous is None:
        return (*kept, new)
    return tuple(new if condition.type == kind else condition for condition in kept)
