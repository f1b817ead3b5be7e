"""Studies measured in several sittings: what may be put together, and that each ratio stays in its own block."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_support.objects import at, study
from core_support.objects import merged as with_changes
from core_support.studies import finished
from quantbench.api.names import Difference, Verdict
from quantbench.comparisons import Comparisons
from quantbench.exports import ExportError, Study, from_document, merged, to_document
from quantbench.exports.comparison import compare
from quantbench.exports.rows import rows
from quantbench.report.build import build
from quantbench.report.markdown import to_markdown

VARIANTS = {
    "bf16": {"name": "bf16", "method": "BF16"},
    "fp8": {"name": "fp8", "method": "FP8Online"},
    "awq": {"name": "awq", "method": "AWQ", "model": "Qwen/Qwen3-8B-AWQ"},
    "w4a16": {"name": "w4a16", "method": "W4A16", "model": "RedHatAI/Qwen3-8B-quantized.w4a16"},
}
BASE: dict[str, Any] = {
    "loads": [{"name": "saturated"}, {"name": "c16", "maxConcurrency": 16}],
    "sampling": {"starts": 2, "maxStarts": 2, "repeats": 2, "control": False},
}


def sitting(
    name: str, *names: str, after: float = 0.0, starts: int = 2, factor: float = 1.0, noise: float = 0.004, **more: Any
) -> Study:
    """A study of its own: its objects, its place in time, and how fast its node was."""
    sampling = {"sampling": {"starts": starts, "maxStarts": starts}}
    spec = study(**with_changes(with_changes(BASE, sampling), {"variants": [VARIANTS[n] for n in names], **more}))
    made = finished(spec, factor=factor, noise=noise, gpu_hours=1.5, started_at=at(after), finished_at=at(after + 900))
    runs = tuple(
        dataclasses.replace(run, name=f"{name}-{run.name}", uid=f"{name}-{run.uid}", created_at=at(after + place))
        for place, run in enumerate(made.runs)
    )
    return Study(dataclasses.replace(made.benchmark, name=name, uid=f"uid-{name}"), runs)


def ratios(found: Study) -> dict[tuple[str, str], tuple[float | None, int]]:
    return {
        (cell.variant, row.load): (row.ratio, row.ratio_starts)
        for cell in found.benchmark.status.cells
        for row in cell.loads
        if cell.variant != "bf16"
    }


def by_hand(sittings: list[Study]) -> dict[tuple[str, str], tuple[float, int]]:
    """Geometric mean of the ratios within the blocks of each sitting."""
    logs: dict[tuple[str, str], list[float]] = {}
    for part in sittings:
        speed: dict[tuple[str, int, str], list[float]] = {}
        for run in part.runs:
            for measured in run.status.passes:
                key = (run.spec.variant.name, run.spec.block, measured.load)
                speed.setdefault(key, []).append(measured.total_tokens_per_second)
        for (variant, block, load), values in speed.items():
            if variant != "bf16":
                base = speed["bf16", block, load]
                logs.setdefault((variant, load), []).append(
                    math.log(sum(values) / len(values) / (sum(base) / len(base)))
                )
    return {key: (math.exp(sum(values) / len(values)), len(values)) for key, values in logs.items()}


@st.composite
def several_sittings(draw: st.DrawFn) -> list[Study]:
    found = []
    for place in range(draw(st.integers(2, 4))):
        others = draw(st.lists(st.sampled_from(["fp8", "awq", "w4a16"]), min_size=1, max_size=3, unique=True))
        found.append(
            sitting(
                f"s{place}",
                "bf16",
                *others,
                after=draw(st.integers(0, 3)) * 10_000.0,
                starts=draw(st.integers(1, 3)),
                factor=draw(st.sampled_from([0.5, 0.9, 1.0, 1.7])),
                noise=draw(st.sampled_from([0.002, 0.02])),
            )
        )
    return found


@settings(max_examples=25, deadline=None)
@given(several_sittings())
def test_each_ratio_is_taken_within_its_own_block(sittings: list[Study]) -> None:
    """Nodes of different speed: anything but pairs within a block would show."""
    whole = merged(sittings)
    expected = by_hand(sittings)
    found = ratios(whole)
    assert found.keys() == expected.keys()
    for key, (ratio, blocks) in expected.items():
        assert found[key] == (pytest.approx(ratio, rel=1e-5), blocks)
    assert {run.uid for run in whole.runs} == {run.uid for part in sittings for run in part.runs}
    blocks_of = [{run.spec.block for run in whole.runs if run.uid.startswith(f"{p.benchmark.name}-")} for p in sittings]
    assert all(not one & other for one, other in permutations(blocks_of, 2))
    assert set().union(*blocks_of) == set(range(1, sum(len(blocks) for blocks in blocks_of) + 1))


@settings(max_examples=10, deadline=None)
@given(several_sittings(), st.randoms(use_true_random=False))
def test_the_order_of_the_files_means_nothing(sittings: list[Study], chance: Any) -> None:
    shuffled = list(sittings)
    chance.shuffle(shuffled)
    one, other = merged(sittings), merged(shuffled)
    assert one.runs == other.runs
    assert one.benchmark.uid == other.benchmark.uid
    assert sorted(one.benchmark.status.cells, key=str) == sorted(other.benchmark.status.cells, key=str)


def test_later_sittings_are_numbered_after_earlier_ones() -> None:
    late, early = sitting("late", "bf16", "awq", after=5000, starts=1), sitting("early", "bf16", "fp8")
    whole = merged([late, early])
    places = {(run.uid.split("-")[0], run.spec.block) for run in whole.runs}
    assert places == {("early", 1), ("early", 2), ("late", 3)}
    head = whole.benchmark
    assert (head.name, [variant.name for variant in head.spec.variants]) == ("late", ["bf16", "awq", "fp8"])
    # Applied again, it starts each variant as often as a sitting did, not once per block of all.
    assert (head.spec.sampling.starts, head.spec.sampling.most_starts) == (2, 2)
    assert (head.status.gpu_hours, head.status.started_at) == (3.0, at(0))


def test_blocks_that_collide_would_be_refused() -> None:
    """Two sittings that pose as one study: their blocks have the same numbers, and nothing tells them apart."""
    one, other = sitting("a", "bf16", "fp8"), sitting("b", "bf16", "fp8", after=5000, factor=0.5)
    posing = Study(dataclasses.replace(other.benchmark, uid=one.benchmark.uid), other.runs)
    with pytest.raises(ExportError, match=r"two different runs of .* in block 1"):
        merged([one, posing])
    assert ratios(merged([one, other]))["fp8", "saturated"][1] == 4


def test_an_export_with_two_runs_in_one_place_is_refused() -> None:
    raw = to_document(merged([sitting("a", "bf16", "fp8"), sitting("b", "bf16", "awq", after=5000)]), "1")
    for run in raw["runs"]:
        run["spec"]["block"] = (run["spec"]["block"] - 1) % 2 + 1
    with pytest.raises(ExportError, match=r"runs: .* and .* are both bf16 on h100 in block [12]"):
        from_document(json.loads(json.dumps(raw)))


def test_an_export_that_lists_a_run_twice_is_refused() -> None:
    raw = json.loads(json.dumps(to_document(sitting("a", "bf16", "fp8"), "1")))
    raw["runs"].append(raw["runs"][0])
    with pytest.raises(ExportError, match=r"runs: (.*) and \1 are both .* in block 1"):
        from_document(raw)


def test_runs_of_one_name_are_told_apart() -> None:
    parts = [sitting(name, "bf16", "fp8", after=5000 * place) for place, name in enumerate("ab")]
    parts = [
        Study(one.benchmark, tuple(dataclasses.replace(run, name=run.name[2:]) for run in one.runs)) for one in parts
    ]
    assert {run.name for run in parts[0].runs} == {run.name for run in parts[1].runs}
    assert len({run.name for run in merged(parts).runs}) == 8


def test_a_run_counts_once() -> None:
    one, other = sitting("a", "bf16", "fp8"), sitting("b", "bf16", "awq", after=5000)
    whole = merged([one, other])
    with pytest.raises(ExportError, match=r"run b-.* stands in a, too: give it once"):
        merged([whole, other])


def test_parts_of_one_sitting_complete_each_other_first() -> None:
    one, other = sitting("a", "bf16", "fp8"), sitting("b", "bf16", "awq", after=5000)
    parts = [Study(one.benchmark, tuple(r for r in one.runs if r.spec.block == block)) for block in (1, 2)]
    assert merged([parts[1], other, parts[0]]).runs == merged([one, other]).runs


def test_a_further_sitting_can_be_added_to_what_was_merged() -> None:
    parts = [
        sitting("a", "bf16", "fp8"),
        sitting("b", "bf16", "awq", after=5000),
        sitting("c", "bf16", "fp8", after=9e3),
    ]
    stored = json.loads(json.dumps(to_document(merged(parts[:2]), "1"), allow_nan=False))
    step = merged([from_document(stored), parts[2]])
    assert [cell.loads for cell in step.benchmark.status.cells] == [
        cell.loads for cell in merged(parts).benchmark.status.cells
    ]


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": "Qwen/Qwen3-4B"}, "spec.model is Qwen/Qwen3-4B, not Qwen/Qwen3-8B"),
    "engine": ({"engine": {"args": ["--enforce-eager"]}}, r"spec.engine.args[0] is --enforce-eager, not absent"),
    "image": ({"engine": {"image": "vllm/vllm-openai:v0.25.0"}}, "spec.engine.image is vllm/vllm-openai:v0.25.0"),
    "target": ({"targets": [{"name": "h200"}]}, "spec.targets[0].name is h200, not h100"),
    "workload": ({"workload": {"seed": 3}}, "spec.workload.seed is 3, not 0"),
    "loads": ({"loads": [{"name": "saturated"}, {"name": "c16", "maxConcurrency": 17}]},
              "spec.loads[1].maxConcurrency is 17, not 16"),
    "repeats": ({"sampling": {"repeats": 3, "starts": 2, "maxStarts": 2}}, "spec.sampling.repeats is 3, not 2"),
    "baseline": ({"baseline": "fp8"}, "spec.baseline is fp8, not bf16"),
}  # fmt: skip


@pytest.mark.parametrize("change", DIFFERENT)
def test_other_work_is_refused_with_the_path(change: str) -> None:
    changes, said = DIFFERENT[change]
    with pytest.raises(ExportError) as caught:
        merged([sitting("a", "bf16", "fp8"), sitting("b", "bf16", "fp8", after=5000, **changes)])
    assert "b asked for other work than a: " in str(caught.value)
    assert said in str(caught.value)


def test_what_shapes_no_work_may_differ() -> None:
    more = {"limits": {"gpuHours": 3, "parallelism": 2}, "suspend": True, "ttlSecondsAfterFinished": 60}
    other = sitting("b", "bf16", "awq", after=5000, **with_changes(more, {"sampling": {"control": True}}))
    whole = merged([sitting("a", "bf16", "fp8"), other])
    assert whole.benchmark.spec.limits.gpu_hours is None
    assert whole.benchmark.spec.sampling.control
    cells = {cell.variant: cell for cell in whole.benchmark.status.cells}
    assert {row.ratio_starts for row in cells["control"].loads} == {2}


def test_one_name_for_two_variants_is_refused() -> None:
    changed = [VARIANTS["bf16"], {**VARIANTS["fp8"], "args": ["--seed=1"]}]
    with pytest.raises(ExportError, match=r"fp8 is one variant in a and another in b: spec\.variants\[1\]\.args\[0\]"):
        merged([sitting("a", "bf16", "fp8"), sitting("b", "bf16", "fp8", after=5000, variants=changed)])


def test_differences_are_judged_in_the_family_of_all_sittings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant of a later block belongs to the family, too."""
    judged: list[int] = []

    class Recorded(Comparisons):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            judged.append(self.rule.family)

    monkeypatch.setattr("quantbench.exports.figures.Comparisons", Recorded)
    parts = [sitting("a", "bf16", "fp8", starts=3), sitting("b", "bf16", "awq", "w4a16", after=5000, starts=3)]
    said = {cell.variant: {row.difference for row in cell.loads} for cell in merged(parts).benchmark.status.cells}
    assert judged[-1] == 3 * 2  # variants × loads
    assert said["fp8"] == {Difference.FASTER}
    assert said["awq"] == {Difference.SLOWER}
    assert said["w4a16"] == {Difference.NOT_DISTINGUISHABLE}


def test_starts_that_ran_something_else_are_not_averaged() -> None:
    def marked(part: Study, mark: str) -> Study:
        return Study(part.benchmark, tuple(
            dataclasses.replace(run, status=run.status.model_validate(
                run.status.to_json() | {"attestation": {"fingerprint": mark + run.spec.variant.name}}))
            for run in part.runs
        ))  # fmt: skip

    whole = merged([marked(sitting("a", "bf16", "fp8"), "x"), marked(sitting("b", "bf16", "fp8", after=5e3), "y")])
    assert {cell.verdict for cell in whole.benchmark.status.cells} == {Verdict.CONFIGURATION_MISMATCH}


def test_everything_that_reads_studies_reads_them() -> None:
    parts = [sitting("a", "bf16", "fp8"), sitting("b", "bf16", "awq", after=5000)]
    whole = merged(parts)
    again = from_document(json.loads(json.dumps(to_document(whole, "1"), allow_nan=False)))
    assert again == whole
    assert {row["variant"] for row in rows(again)} == {"bf16", "fp8", "awq"}
    assert "4 blocks in several sittings" in to_markdown(build(again, "1"))
    assert {row.variant for row in compare(again, parts[0]).rows} == {"bf16", "fp8"}
