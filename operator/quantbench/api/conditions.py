"""Conditions and their reasons: the one place where the operator's states are named."""

from typing import Any

from pydantic import Field

from quantbench.api.base import Count, Model, list_map, text
from quantbench.api.names import Named


class ConditionType(Named):
    """Condition types of both kinds; there is no phase."""

    ACCEPTED = "Accepted", "The specification can be carried out."
    PROGRESSING = "Progressing", "Work is going on."
    COMPLETE = "Complete", "No run is left. On a run: its verdict is stored."
    COMPARABLE = "Comparable", "The figures may be compared with the baseline's."


class Reason(Named):
    """Why a condition of a QuantBenchmark is as it is."""

    VALID = "Valid", "The specification was planned."
    INVALID_SPEC = "InvalidSpec", "The message names the wrong fields; nothing is started."
    RUNNING = "Running", "Runs are under way or left to do."
    SUSPENDED = "Suspended", "spec.suspend is true: pods are removed, finished results stay."
    FINISHED = "Finished", "No run is left."
    ALL_RUNS_ENDED = "AllRunsEnded", "Every run has its verdict; the message counts them."
    BUDGET_SPENT = "BudgetSpent", "limits.gpuHours is used up; raise it to go on."
    CUT_OFF = "CutOff", "Only of exports read with --as-it-stands: runs are left, and none of them follows."
    NOT_STARTED = "NotStarted", "No run has been created yet."
    BASELINE_MISSING = "BaselineMissing", "The baseline ended without a valid result, so there are no ratios."
    SINGLE_START = "SingleStart", "Ratios rest on one start each: shown, but no verdict of better or worse."
    NOTHING_TO_COMPARE = "NothingToCompare", "No variant other than the baseline has a result yet."
    BASELINE_MEASURED = "BaselineMeasured", "Ratios rest on several starts each."


class Stage(Named):
    """Reasons of a run's condition Complete: the stage that it is in."""

    PENDING = "Pending", "Nothing is started; pods of an earlier attempt may still be ending."
    SUSPENDED = "Suspended", "The run waits without pods until the study is resumed."
    BUDGET_SPENT = "BudgetSpent", "limits.gpuHours is used up: the run waits without pods until it is raised."
    SCHEDULING = "Scheduling", "The server pod waits for a node."
    STARTING = "Starting", "The server loads the model."
    LOADING = "Loading", "The load generator measures; the message counts the passes."
    RELEASING = "Releasing", "The verdict is stored; the pods are being removed."
    ENDED = "Ended", "The verdict is stored and no pod is left."


class Condition(Model):
    """A Kubernetes condition."""

    type: str = text("Condition type.", longest=64)
    status: str = text("True, False or Unknown.", longest=8, pattern="^(True|False|Unknown)$")
    reason: str = text("CamelCase reason.", longest=64)
    message: str = text("Human-readable detail.", longest=1024, default="")
    observed_generation: Count | None = Field(default=None, description="Generation that the condition speaks of.")
    last_transition_time: str = text("When status last changed.", longest=32)


CONDITIONS: Any = Field(default=(), description="Conditions by type.", max_length=8, json_schema_extra=list_map("type"))
