"""What a decision may ask for. `quantbench.execute` carries it out: the status first, then the actions in order."""

from dataclasses import dataclass

from quantbench.api.base import JsonObject


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
