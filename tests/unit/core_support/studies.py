"""Finished studies as values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from core_support.objects import at, benchmark, ended, later, pass_json, plan_of, run, several
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.run import Pass
from quantbench.decide.benchmark import decide_benchmark
from quantbench.exports import Study, from_document, to_document
from quantbench.exports.figures import figures
from quantbench.exports.study import in_order
from quantbench.observe import Run
from quantbench.plan import plan_hash

SPEED = {"bf16": 1000.0, "fp8": 1240.0, "awq": 900.0}


def spec_of(*names: str, starts: int = 3, **changes: Any) -> QuantBenchmarkSpec:
    """Variants without a control under two loads."""
    loads = [{"name": "saturated"}, {"name": "c16", "maxConcurrency": 16}]
    sampling = {"starts": starts, "repeats": 2, "maxStarts": starts, "control": False}
    return several(*names or ("bf16", "fp8"), **{"sampling": sampling, "loads": loads, **changes})


def finished(
    spec: QuantBenchmarkSpec | None = None,
    *,
    blocks: Sequence[int] | None = None,
    noise: float = 0.004,
    factor: float = 1.0,
    complete: bool = True,
    **status: Any,
) -> Study:
    """A study whose runs, or those of some blocks, ended with figures of a known truth."""
    spec = spec or spec_of()
    conditions = [
        {"type": "Complete", "status": "True", "reason": "AllRunsEnded", "lastTransitionTime": "2026-11-01T12:00:00Z"}
    ]
    runs = []
    for place, planned in enumerate(plan_of(spec).runs):
        if blocks is not None and planned.block not in blocks:
            continue
        speed = factor * SPEED.get(planned.variant, 1000.0) * (1 + noise * (((planned.block * 7 + place) % 5) - 2))
        passes = [
            pass_json(load=load.name, repeat=repeat, tps=speed * (1 + 0.001 * repeat))
            for load in spec.loads
            for repeat in range(1, spec.sampling.repeats + 1)
        ]
        runs.append(run(spec, place, status=ended(passes=passes, created=600.0 * place), created=600.0 * place))
    head = benchmark(spec, status={"conditions": conditions} if complete else {})
    update = figures(spec, runs, plan_hash(spec), complete=complete) | status
    head = dataclasses.replace(head, status=head.status.model_copy(update=update))
    return Study(head, tuple(sorted(runs, key=lambda one: (one.created_at, one.name))))


def interrupted(one: Run, passes: int) -> Run:
    """The same run after so many of its passes: it has no verdict and holds its server."""
    when = one.status.times.model_copy(update={"stored": None, "released": None, "last_pass": at(9000)})
    status = one.status.model_copy(update={"verdict": None, "passes": one.status.passes[:passes], "times": when})
    return dataclasses.replace(one, status=status)


def cut_off(
    spec: QuantBenchmarkSpec,
    *,
    left: Callable[[Run], bool],
    missing: Callable[[Run], bool] = lambda run: False,
    passes: int = 1,
) -> Study:
    """What an export holds of a study in which some runs have not ended, and others not begun: the operator's words."""
    runs = [interrupted(one, passes) if left(one) else one for one in finished(spec).runs if not missing(one)]
    decision = decide_benchmark(benchmark(spec), plan_of(spec), runs, later(9100))
    study = Study(benchmark(spec, status=decision.status), in_order(runs))
    return from_document(json.loads(json.dumps(to_document(study, "1"), allow_nan=False)))


def altered(study: Study, change: Callable[[Run, Pass], Pass], *, complete: bool = True) -> Study:
    """The study with other passes, judged anew."""
    runs = tuple(
        dataclasses.replace(
            one,
            status=one.status.model_copy(
                update={"passes": tuple(change(one, measured) for measured in one.status.passes)}
            ),
        )
        for one in study.runs
    )
    head = study.benchmark
    update = figures(head.spec, runs, plan_hash(head.spec), complete=complete)
    return Study(dataclasses.replace(head, status=head.status.model_copy(update=update)), runs)
