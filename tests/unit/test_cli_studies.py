"""The commands that look at finished studies: tables, JSON, CSV, files, and what they end with."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner, Result

from core_support.fake_kube import FakeKube
from core_support.objects import UID, at, benchmark_object, ended, pass_json, run_raw
from core_support.pods import pod
from core_support.speed import seconds_of
from core_support.studies import cut_off, finished, spec_of
from quantbench.api.names import Difference
from quantbench.cli import app, read, watching
from quantbench.cli.common import Exit
from quantbench.exports import ExportError, Study, to_document
from quantbench.kube import ApiError


def quantbench(*arguments: str | Path, columns: int | None = None) -> Result:
    environment = {"COLUMNS": str(columns) if columns else None, "NO_COLOR": None, "KUBECONFIG": "/nowhere/config"}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


def written(folder: Path, study: Study, name: str = "study.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(to_document(study, "1.0")))
    return path


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return written(tmp_path, finished())


def test_in_a_pod_the_namespace_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(read, "SERVICE_ACCOUNT_NAMESPACE", tmp_path / "namespace")
    missing = read.Access(kubeconfig=str(tmp_path / "none"))
    assert read._namespace(missing) == "default"
    (tmp_path / "namespace").write_text("quantbench")
    assert read._namespace(missing) == "quantbench"


# --- results -------------------------------------------------------------------------------------------------------


def test_results_are_a_table_with_interval_and_word(export: Path) -> None:
    result = quantbench("results", export)
    assert result.exit_code == Exit.OK
    (line, *_) = [line for line in result.stdout.splitlines() if line.startswith("fp8 ") and "faster" in line]
    assert "1.24× (" in line
    assert "faster" in line
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("columns", [80, 60, 50])
def test_results_fit_the_terminal_without_broken_words(tmp_path: Path, columns: int) -> None:
    names = ("bf16", "fp8-static-per-tensor", "gptq-int8-exllama-v2")
    study = finished(spec_of(*names, loads=[{"name": "saturated"}, {"name": "r2", "requestRate": 2}]))
    result = quantbench("results", written(tmp_path, study), columns=columns)
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert max(map(len, lines)) <= columns
    heads = [line.split() for line in lines if line.startswith("VAR")]
    assert heads
    for head in heads:
        assert [word for word in head if len(word) == 1 and word != "…"] == []
        assert "TO bf16" in " ".join(head)
    row = lines[next(place for place, line in enumerate(lines) if line.startswith("VAR")) + 2]
    figure = study.benchmark.status.cells[1].loads[0].total_tokens_per_second
    assert f" {figure:,.0f} " in row or f" {figure:,.1f} " in row  # figures are never cut


def test_a_wide_terminal_shows_all_columns(export: Path) -> None:
    wide = quantbench("results", export, columns=140).stdout
    assert "OUTPUT TOK/S" in wide
    assert "STARTS" in wide
    assert "OUTPUT TOK/S" in quantbench("results", export).stdout  # a pipe has no width


def test_results_as_json_and_csv_hold_every_figure(export: Path) -> None:
    study = finished()
    document = json.loads(quantbench("results", export, "-o", "json").stdout)
    assert document["cells"] == [cell.to_json() for cell in study.benchmark.status.cells]
    assert (document["name"], document["engineVersions"]) == ("demo", ["0.24.0"])
    rows = list(csv.DictReader(io.StringIO(quantbench("results", export, "-o", "csv").stdout)))
    assert [(row["variant"], row["load"]) for row in rows] == [
        ("bf16", "saturated"), ("bf16", "c16"), ("fp8", "saturated"), ("fp8", "c16"),
    ]  # fmt: skip
    assert float(rows[2]["ratioLow"]) == study.benchmark.status.cells[1].loads[0].ratio_low


def test_a_study_without_figures_ends_in_one(tmp_path: Path) -> None:
    nothing = finished(blocks=[], complete=False)
    result = quantbench("results", written(tmp_path, nothing))
    assert result.exit_code == Exit.NO_RESULT
    assert "nothing measured yet" in result.stdout


def test_what_cannot_be_read_ends_in_two(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for path, said in (
        (broken, "not JSON"),
        (tmp_path / "none.json", "No such file"),
        (tmp_path, "no results of vllm bench"),
    ):
        result = quantbench("results", path)
        if path == tmp_path:
            broken.write_text("{}")
            result = quantbench("results", path)
        assert (result.exit_code, said in result.stderr) == (Exit.WRONG_INPUT, True), result.stderr


def test_a_file_may_be_packed(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "study.json.gz"
    packed.write_bytes(gzip.compress(export.read_bytes()))
    assert read.read_path(packed) == finished()
    folder = tmp_path / "results"
    assert quantbench("export", export, "--format", "vllm", "--to", folder).exit_code == 0
    plain = read.read_path(folder)
    for file in [*folder.rglob("*.json")]:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert read.read_path(folder).benchmark.status.cells == plain.benchmark.status.cells
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(ExportError, match=r"study.json.gz: Compressed file ended"):
        read.read_path(packed)
    monkeypatch.setattr(read, "MOST_BYTES", 1 << 20)
    packed.write_bytes(gzip.compress(b" " * (2 << 20)))
    with pytest.raises(ExportError, match="larger than 1 MiB"):
        read.read_path(packed)


def test_without_a_cluster_the_name_ends_in_four() -> None:
    result = quantbench("results", "no-such-study")
    assert result.exit_code == Exit.NO_ANSWER
    assert "set KUBECONFIG or give --kubeconfig" in result.stderr


def test_ten_thousand_runs_are_read_and_shown_within_three_seconds(tmp_path: Path) -> None:
    study = finished(spec_of(starts=5))
    runs = to_document(study, "1.0")["runs"]
    document = to_document(study, "1.0") | {
        "runs": [
            {**raw, "metadata": {**raw["metadata"], "name": f"r{n}"}}
            for n in range(10_000)
            for raw in [runs[n % len(runs)]]
        ]
    }
    path = tmp_path / "large.json"
    path.write_text(json.dumps(document))
    assert quantbench("results", path).exit_code == 0
    took = seconds_of(lambda: quantbench("results", path), bound=3.0)
    assert took < 3.0, f"{took:.2f} s"


# --- compare, stages, export, import -------------------------------------------------------------------------------


def test_compare_prints_both_and_their_ratio(tmp_path: Path) -> None:
    one, other = written(tmp_path, finished(), "a.json"), written(tmp_path, finished(factor=1.1), "b.json")
    result = quantbench("compare", one, other, columns=80)
    assert result.exit_code == Exit.OK
    (line, *_) = [line for line in result.stdout.splitlines() if line.startswith("bf16")]
    assert "1.100 [1.0" in line
    assert line.rstrip().endswith("faster")
    assert result.stdout.index("! the two were measured at different times") < result.stdout.index("VARIANT")
    document = json.loads(quantbench("compare", one, other, "-o", "json").stdout)
    assert {row["word"] for row in document["rows"]} == {"faster"}


def test_nothing_in_common_ends_in_one(tmp_path: Path) -> None:
    other = finished(spec_of(targets=[{"name": "a100"}]))
    result = quantbench("compare", written(tmp_path, finished(), "a.json"), written(tmp_path, other, "b.json"))
    assert result.exit_code == Exit.NO_RESULT
    assert "only in B: bf16 on a100 at saturated" in result.stdout


def test_stages_say_where_time_went(tmp_path: Path) -> None:
    when = {
        "serverCreated": at(1), "sandboxReady": at(4), "serverStarted": at(5), "loadCreated": at(6), "ready": at(65),
        "firstPass": at(70), "lastPass": at(170), "loadFinished": at(171), "stored": at(173), "released": at(201),
    }  # fmt: skip
    spec = spec_of("bf16", starts=1)
    raw = run_raw(spec, 0, status=ended(times=when))
    study = finished(spec)
    document = to_document(study, "1.0") | {"runs": [raw]}
    path = tmp_path / "study.json"
    path.write_text(json.dumps(document))
    result = quantbench("stages", path)
    assert result.exit_code == Exit.OK
    lines = [line.split() for line in result.stdout.splitlines()]
    # 200 s existed; 60 s loading and 100 s measuring are 80 % of them.
    assert [raw["metadata"]["name"], "200.0", "60.0", "100.0", "80.0%"] in lines
    gaps = {" ".join(line[:-3]): line[-3:] for line in lines if len(line) > 3}
    assert gaps["run created → server created"] == ["1", "1.00", "1.00"]
    assert gaps["server has an address → load created"] == ["1", "2.00", "2.00"]
    assert gaps["load ended → verdict stored"] == ["1", "2.00", "2.00"]
    assert gaps["all"] == ["3", "2.00", "2.00"]


def test_an_export_of_an_export_is_the_same(export: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "copy.json"
    assert quantbench("export", export, "--to", out).exit_code == Exit.OK
    assert read.read_path(out) == read.read_path(export) == finished()
    assert json.loads(quantbench("export", export).stdout) == json.loads(out.read_text())


def test_exports_per_pass_can_be_read_again(export: Path, tmp_path: Path) -> None:
    assert quantbench("export", export, "--format", "vllm", "--to", tmp_path / "vllm").exit_code == Exit.OK
    assert len(list((tmp_path / "vllm").rglob("*.json"))) == 24  # 6 starts, 2 loads, 2 repeats
    result = quantbench("results", tmp_path / "vllm")
    assert result.exit_code == Exit.OK
    assert "fp8" in result.stdout
    assert quantbench("export", export, "--format", "llm-d", "--to", tmp_path / "llm-d").exit_code == Exit.OK
    reports = [yaml.safe_load(path.read_text()) for path in (tmp_path / "llm-d").rglob("*.yaml")]
    assert {report["version"] for report in reports} == {"0.2"}
    result = quantbench("export", export, "--format", "vllm")
    assert (result.exit_code, "--to FOLDER" in result.stderr) == (Exit.WRONG_INPUT, True)


def test_import_joins_blocks(tmp_path: Path) -> None:
    parts = [written(tmp_path, finished(blocks=[block]), f"{block}.json") for block in (1, 2, 3)]
    out = tmp_path / "whole.json"
    assert quantbench("import", *parts, "--to", out).exit_code == Exit.OK
    assert read.read_path(out).benchmark.status.cells == finished().benchmark.status.cells
    joined = quantbench("results", ",".join(map(str, parts)), "-o", "json")
    assert json.loads(joined.stdout)["cells"] == json.loads(quantbench("results", out, "-o", "json").stdout)["cells"]


def test_import_refuses_what_conflicts(tmp_path: Path) -> None:
    one, other = written(tmp_path, finished(), "a.json"), written(tmp_path, finished(factor=1.2), "b.json")
    result = quantbench("import", one, other)
    assert (result.exit_code, "two different runs" in result.stderr, result.stdout) == (Exit.WRONG_INPUT, True, "")
    assert quantbench("import", tmp_path / "none").exit_code == Exit.WRONG_INPUT


def test_a_result_of_another_tool_becomes_a_study(tmp_path: Path) -> None:
    quantbench("export", written(tmp_path, finished()), "--format", "vllm", "--to", tmp_path / "vllm")
    out = tmp_path / "study.json"
    assert quantbench("import", tmp_path / "vllm", "--baseline", "fp8", "--to", out).exit_code == Exit.OK
    study = read.read_path(out)
    assert study.benchmark.spec.baseline == "fp8"
    words = {row.difference for cell in study.benchmark.status.cells for row in cell.loads if row.difference}
    assert words == {Difference.SLOWER}


# --- exports of studies that were cut off --------------------------------------------------------------------------


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """An export of a study of which the last server start had not ended."""
    study = cut_off(spec_of(starts=2), left=lambda run: run.spec.block == 2 and run.spec.variant.name == "fp8")
    return written(tmp_path, study, "left.json")


SAID = "judged as it stood at 2026-11-01 14:30 UTC: 1 of 4 runs had not ended"


def test_results_as_they_stand(tmp_path: Path) -> None:
    control = {"starts": 2, "maxStarts": 2, "repeats": 2, "control": True}
    study = cut_off(
        spec_of(sampling=control), left=lambda run: run.spec.block == 2 and run.spec.variant.name == "control"
    )
    path = written(tmp_path, study)
    undecided, judged = quantbench("results", path), quantbench("results", path, "--as-it-stands")
    assert "undecided so far" in undecided.stdout
    assert undecided.stdout.count("not decided yet") == 2
    assert (judged.exit_code, judged.stdout.count("faster")) == (Exit.OK, 2)
    assert "decided" not in judged.stdout
    assert SAID.replace("1 of 4", "1 of 6") in judged.stdout
    assert "judged as it stood" not in undecided.stdout
    documents = [
        json.loads(quantbench("results", path, "-o", "json", *more).stdout) for more in ([], ["--as-it-stands"])
    ]
    assert [one["complete"] for one in documents] == [False, True]


def test_a_report_as_it_stands(left: Path) -> None:
    assert f"- State: {SAID}" in quantbench("report", left, "--as-it-stands", "-o", "-").stdout
    assert "- State: under way, 3/4 runs" in quantbench("report", left, "-o", "-").stdout


def test_an_import_as_it_stands_has_ended_for_good(left: Path, tmp_path: Path) -> None:
    out = tmp_path / "ended.json"
    assert quantbench("import", left, "--as-it-stands", "--to", out).exit_code == Exit.OK
    assert read.read_path(out).cut_off
    assert SAID in quantbench("results", out).stdout
    assert not json.loads(quantbench("import", left).stdout)["benchmark"]["status"].get("finishedAt")


def test_what_has_ended_reads_the_same_as_it_stands(export: Path) -> None:
    assert quantbench("results", export, "--as-it-stands").stdout == quantbench("results", export).stdout


@pytest.mark.parametrize("command", ["results", "report"])
def test_only_files_are_read_as_they_stand(command: str, cluster: FakeKube) -> None:
    result = quantbench(command, "demo", "--as-it-stands")
    assert result.exit_code == Exit.WRONG_INPUT
    assert "--as-it-stands: runs of demo may follow in the cluster: lower its spec.limits.gpuHours" in result.stderr


# --- a cluster -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeKube:
    """An API server in memory that holds a study without figures, with one failed run."""
    kube = FakeKube()
    spec = spec_of("bf16", starts=1)
    raw = run_raw(spec, 0, status=ended(
        "OutOfMemory", passes=[pass_json(valid=False, invalidReason="RequestsFailed", message="3 of 1000 failed")],
    ))  # fmt: skip
    raw["status"]["verdict"] |= {"logLine": "CUDA out of memory", "hint": "use a smaller model"}
    raw["status"]["server"] = {"name": "s", "uid": "u", "node": "gpu-7"}
    conditions = [
        {"type": "Complete", "status": "True", "reason": "Finished", "message": "", "lastTransitionTime": at()}
    ]
    kube.objects["QuantBenchmark", "demo"] = benchmark_object(spec, status={"conditions": conditions})
    kube.objects["QuantBenchmarkRun", raw["metadata"]["name"]] = raw

    @asynccontextmanager
    async def connected(access: read.Access) -> AsyncIterator[tuple[Any, str]]:
        yield kube, access.namespace or "bench"

    monkeypatch.setattr(read, "connected", connected)
    return kube


def run_name(kube: FakeKube) -> str:
    return next(name for kind, name in kube.objects if kind == "QuantBenchmarkRun")


def test_names_come_from_the_cluster(cluster: FakeKube) -> None:
    study = read.load_study("demo")
    assert (study.benchmark.uid, [one.name for one in study.runs]) == (UID, [run_name(cluster)])
    result = quantbench("results", "other", "-n", "bench")
    assert (result.exit_code, "no QuantBenchmark 'other' in namespace 'bench'" in result.stderr) == (
        Exit.NOT_FOUND,
        True,
    )


def test_objects_of_another_version_are_named(cluster: FakeKube) -> None:
    cluster.objects["QuantBenchmarkRun", run_name(cluster)]["spec"]["block"] = 0
    assert [run.name for run in read.load_study("demo").unreadable] == [run_name(cluster)]
    assert f"run {run_name(cluster)} cannot be read: spec.block" in quantbench("watch", "demo").stdout.replace(
        "block: ", "spec.block: "
    )
    cluster.objects["QuantBenchmark", "demo"]["spec"]["targets"][0]["gpus"] = -1
    result = quantbench("results", "demo")
    assert (result.exit_code, "QuantBenchmark demo: spec.targets[0].gpus: " in result.stderr) == (
        Exit.WRONG_INPUT,
        True,
    )


def test_completion_knows_the_names(cluster: FakeKube) -> None:
    assert asyncio.run(read.names(read.Access(), 1.0)) == ["demo"]
    environment = {"_QUANTBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "quantbench results d", "COMP_CWORD": "2"}
    result = CliRunner().invoke(app, [], prog_name="quantbench", env=environment)
    assert "demo" in result.stdout


def test_logs_of_a_pod_that_exists(cluster: FakeKube) -> None:
    name = run_name(cluster)
    for component, text in (("server", "INFO loading"), ("load", "INFO sending")):
        raw = pod(component)
        raw["metadata"]["labels"]["quantbench.dev/run"] = name
        cluster.objects["Pod", raw["metadata"]["name"]] = raw
        cluster.logs[raw["metadata"]["name"]] = f"{text}\n"
    assert quantbench("logs", name).stdout == "INFO loading\n"
    assert quantbench("logs", name, "--of", "load").stdout == "INFO sending\n"


def test_logs_of_a_pod_that_is_gone(cluster: FakeKube) -> None:
    result = quantbench("logs", run_name(cluster))
    assert result.exit_code == Exit.NO_RESULT
    for part in ("on node gpu-7 was removed when its verdict was stored", "verdict: OutOfMemory", "use a smaller model",
                 "first telling line: CUDA out of memory", "pass 1/saturated/1: RequestsFailed: 3 of 1000 failed"):  # fmt: skip
        assert part in result.stdout
    assert quantbench("logs", "nothing").exit_code == Exit.NOT_FOUND


def test_watch_ends_in_one_where_nothing_was_measured(cluster: FakeKube) -> None:
    result = quantbench("watch", "demo")
    assert result.exit_code == Exit.NO_RESULT
    assert "bf16 on h100, start 1: OutOfMemory" in result.stdout
    assert quantbench("watch", "other").exit_code == Exit.NOT_FOUND


# --- watch: weather ------------------------------------------------------------------------------------------------


def quietly() -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=False)


def text(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    "error", [ApiError(429, "TooManyRequests", "", 0.01), ApiError(503, "x", ""), ApiError(0, "refused", "")]
)
async def test_watch_outlives_failed_requests(error: ApiError) -> None:
    answers: list[Study | ApiError] = [finished(complete=False), error, error, error, finished()]

    async def look() -> Study:
        answer = answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    console = quietly()
    study = await watching.watch(look, console, poll=0.001, patience=5.0)
    assert study.ended
    assert text(console).count("the cluster does not answer") == 1
    assert "the cluster answers again" in text(console)


async def test_watch_gives_up_in_the_end() -> None:
    looks = 0

    async def look() -> Study:
        nonlocal looks
        looks += 1
        raise ApiError(503, "ServiceUnavailable", "gone")

    with pytest.raises(ApiError, match="gone"):
        await watching.watch(look, quietly(), poll=0.01, patience=0.1)
    assert looks > 3


@pytest.mark.parametrize("error", [ApiError(403, "Forbidden", "no"), ApiError(401, "Unauthorized", "no"),
                                   ApiError(0, "NoConfiguration", "no")])  # fmt: skip
async def test_watch_does_not_wait_for_what_does_not_pass(error: ApiError) -> None:
    async def look() -> Study:
        raise error

    with pytest.raises(ApiError):
        await asyncio.wait_for(watching.watch(look, quietly(), poll=60, patience=60), 5)


async def test_each_event_is_told_once() -> None:
    answers = [finished(complete=False, blocks=[1])] * 3 + [finished()]

    async def look() -> Study:
        return answers.pop(0)

    console = quietly()
    await watching.watch(look, console, poll=0.001)
    lines = text(console).splitlines()
    assert len(lines) == len(set(lines)) == 6
    assert lines[-1].endswith("start 3: Measured: as it went")


async def test_a_terminal_shows_no_more_than_fits() -> None:
    answers = [finished(complete=False), finished()]

    async def look() -> Study:
        return answers.pop(0)

    console = Console(file=io.StringIO(), width=80, height=6, force_terminal=True, color_system=None)
    await watching.watch(look, console, poll=0.001)
    assert "and 3 ended" in text(console)
