"""Cells, rows and runs with chosen figures, as the status and the API server hold them."""

from __future__ import annotations

from typing import Any

from core_support.objects import ended, merged, pass_json, plan_of, run
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.names import Difference, Verdict
from quantbench.api.status import Cell, LoadResult
from quantbench.observe import Run

FASTER, SLOWER, ALIKE = Difference.FASTER, Difference.SLOWER, Difference.NOT_DISTINGUISHABLE
UNDECIDED, ONE_RUN, SAME = Difference.UNDECIDED, Difference.ONE_RUN, Difference.SAME_CONFIGURATION


def row(
    ratio: float | None = None,
    low: float | None = None,
    high: float | None = None,
    difference: Difference | None = None,
    *,
    load: str = "saturated",
    starts: int = 3,
    **more: Any,
) -> LoadResult:
    """A row; without a ratio it is the baseline's."""
    return LoadResult.model_validate(
        {
            "load": load,
            "starts": starts,
            "passes": 3 * starts,
            "total_tokens_per_second": 1000.0 * (ratio or 1.0),
            "output_tokens_per_second": 500.0,
            "requests_per_second": 2.0,
            "mean_ttft_milliseconds": 50.0,
            "mean_tpot_milliseconds": 8.0,
            "ratio": ratio,
            "ratio_low": low,
            "ratio_high": high,
            "difference": difference,
            "ratio_starts": starts if ratio is not None else 0,
            **more,
        }
    )


def cell(variant: str, *rows: LoadResult, target: str = "h100", **more: Any) -> Cell:
    """A measured cell."""
    return Cell.model_validate(
        {"variant": variant, "target": target, "verdict": Verdict.MEASURED, "loads": rows, **more}
    )


def run_of(spec: QuantBenchmarkSpec, variant: str, verdict: str = "Measured", *, block: int = 1, **status: Any) -> Run:
    """A run of a variant on the first target that ended; `passes` are JSON, `outcome` adds to the verdict."""
    target = spec.targets[0].name
    runs = plan_of(spec).runs
    place = next(p for p, one in enumerate(runs) if (one.variant, one.target, one.block) == (variant, target, block))
    outcome = status.pop("outcome", {})
    return run(spec, place, status=merged(ended(verdict, **status), {"verdict": outcome}))


def gpu_pass(share: float, clock: float, *reasons: str, samples: int = 10, **more: Any) -> dict[str, Any]:
    """A pass with readings of the GPU."""
    gpu = {
        "samples": samples,
        "throttledShare": share,
        "meanSMClockMegahertz": clock,
        "throttleReasons": list(reasons),
        "meanPowerWatts": 690.0,
    }
    return pass_json(gpu=gpu, **more)
