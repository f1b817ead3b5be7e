"""Two studies side by side: by which figure, and what is warned of."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from core_support.objects import benchmark, merged, study
from core_support.simulated import measured, study_of
from core_support.studies import altered, finished, spec_of
from quantbench.api.names import Metric
from quantbench.api.run import Pass
from quantbench.api.status import DETAILS
from quantbench.exports import Study
from quantbench.exports.comparison import Word, compare
from quantbench.observe import Run


@pytest.mark.parametrize(("tpot", "word", "ends"), [(16.0, Word.SLOWER, (1.9, 2.1)), (4.0, Word.FASTER, (0.45, 0.55))])
def test_under_a_fixed_rate_the_time_per_token_gives_the_word(
    tpot: float, word: Word, ends: tuple[float, float]
) -> None:
    """Throughput is the rate on both sides, whatever became of the answers."""

    def timed(mean: float, throughput: float) -> Study:
        def change(run: Run, one: Pass) -> Pass:
            wobble = 1 + 0.002 * ((run.spec.block * 3) % 5 - 2)
            times = one.tpot_milliseconds.model_copy(update={"mean": mean * wobble})
            return one.model_copy(update={"tpot_milliseconds": times, "total_tokens_per_second": throughput})

        return altered(finished(spec_of(loads=[{"name": "r4", "requestRate": 4}])), change)

    found = compare(timed(8.0, 1000.0), timed(tpot, 999.0))
    assert {(row.word, row.metric) for row in found.rows} == {(word, Metric.TPOT)}
    (said, *_) = found.to_json()["rows"]
    assert (said["decidedBy"], said["ratioLow"], said["ttftRatioLow"]) == ("TPOT", None, None)
    assert ends[0] < said["tpotRatioLow"] < said["tpotRatio"] < said["tpotRatioHigh"] < ends[1]


def test_a_study_too_large_for_its_details_is_compared_by_its_runs() -> None:
    def brief(whole: Study) -> Study:
        cells = tuple(
            cell.model_copy(
                update={"loads": tuple(row.model_copy(update=dict.fromkeys(DETAILS)) for row in cell.loads)}
            )
            for cell in whole.benchmark.status.cells
        )
        status = whole.benchmark.status.model_copy(update={"cells": cells})
        return dataclasses.replace(whole, benchmark=dataclasses.replace(whole.benchmark, status=status))

    one, other = brief(finished()), brief(finished(factor=0.5))
    assert {row.word for row in compare(one, other).rows} == {Word.SLOWER}
    # Without runs there are three starts, and nothing to tell their noise by.
    assert {row.word for row in compare(dataclasses.replace(one, runs=()), other).rows} == {Word.NO_INTERVAL}


def test_other_hardware_and_settings_are_warned_of() -> None:
    def asked(**changes: Any) -> Study:
        spec = study(**merged({"engine": {"args": ["--max-model-len=8192", "--seed", "1"]}}, changes))
        return Study(benchmark(spec), ())

    h100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    other = asked(
        engine={"args": ["--seed", "2", "--max-model-len=8192", "--api-key=x"], "maxNumSeqs": 64},
        variants=[{"name": "bf16", "method": "BF16", "model": "/models/bf16", "args": ["--enforce-eager"]}],
        targets=[{"name": "h100", "nodeSelector": h100, "gpus": 2, "gpuResourceName": "nvidia.com/mig-3g.40gb"}],
    )
    *said, _ = compare(asked(), other).warnings
    assert sorted(said) == [
        "engine.args differs: --seed 1 and --seed 2 --api-key=REDACTED",
        "engine.maxNumSeqs differs: 256 and 64",
        "target h100.gpuResourceName differs: nvidia.com/gpu and nvidia.com/mig-3g.40gb",
        "target h100.gpus differs: 1 and 2",
        "target h100.nodeSelector differs: none and nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3",
        "variant bf16.args differs: none and --enforce-eager",
        "variant bf16.model differs: none and /models/bf16",
    ]


def test_other_gpus_are_warned_of() -> None:
    def on(gpu: str) -> Study:
        return study_of(spec_of(), lambda variant, _, __: measured_as(gpu, variant))

    def measured_as(gpu: str, variant: str) -> dict[str, Any]:
        status = measured(spec_of(), speed=1.0, seed=variant)
        status["attestation"]["gpus"] = [{"name": gpu}]
        return status

    assert compare(on("NVIDIA H100"), on("NVIDIA A100")).warnings[:-1] == (
        "the GPU on h100 differs: NVIDIA H100 and NVIDIA A100",
    )
    assert len(compare(on("NVIDIA H100"), on("NVIDIA H100")).warnings) == 1
