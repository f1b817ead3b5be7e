"""The command line as people run it: real processes against a real API server, and without any cluster."""

import asyncio
import csv
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import lives
from harness.lab import Lab
from harness.operator import Operator
from harness.study import Space, study
from quantbench import kube as kube_module
from quantbench.cli import read

PLUGIN = Path(sys.executable).with_name("kubectl-quantbench")
"""What kubectl runs for `kubectl quantbench`."""


@dataclass(frozen=True)
class Done:
    """A process that has ended."""

    status: int
    out: str
    err: str


class CommandLine:
    """`kubectl quantbench` for one kubeconfig, or none."""

    def __init__(self, kubeconfig: Path | None) -> None:
        hidden = ("KUBECONFIG", "COLUMNS", "FORCE_COLOR")
        self.environment = {key: value for key, value in os.environ.items() if key not in hidden}
        self.environment["HOME"] = "/nonexistent"
        if kubeconfig:
            self.environment["KUBECONFIG"] = str(kubeconfig)

    async def start(self, *arguments: str | Path) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        words = [str(argument) for argument in arguments]
        return await asyncio.create_subprocess_exec(
            str(PLUGIN), *words, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def run(self, *arguments: str | Path, text: str = "") -> Done:
        return await self.end(await self.start(*arguments), text)

    @staticmethod
    async def end(process: asyncio.subprocess.Process, text: str = "") -> Done:
        async with asyncio.timeout(60):
            out, err = await process.communicate(text.encode())
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Done(process.returncode, out.decode(), err.decode())


async def test_a_study_from_plan_to_comparison(
    lab: Lab, space: Space, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One study, looked at while it runs, when it has ended, and after the cluster is out of reach."""
    there, nowhere = CommandLine(lab.api.kubeconfig), CommandLine(None)
    where = ("--namespace", space.name)
    planned = await nowhere.run("plan", "-f", "-", "-o", "json", text=json.dumps(study(space.node)))
    assert (planned.status, planned.err) == (0, "")

    load = asyncio.Event()
    lab.kubelet.script(space.name, "load", lives.measures(hold=load))
    await space.submit()
    watching = await there.start("watch", "study", *where)
    await space.until(lambda: any("Loading" in stage for stage in (space.stage("bf16"), space.stage("int8"))))
    (name,) = [run["metadata"]["name"] for run in space.runs() if not run["status"].get("verdict")]
    log = await there.run("logs", name, *where)
    assert (log.status, bool(log.out.strip())) == (0, True), log.err
    assert len((await there.run("logs", name, "--tail", "1", *where)).out.splitlines()) == 1
    load.set()
    benchmark = await space.until_complete()

    watched = await there.end(watching)
    assert (watched.status, watched.err) == (0, "")
    assert "int8 on node, start 1: Measured" in watched.out
    assert "RATIO TO bf16" in watched.out
    assert "\x1b" not in watched.out

    order = [run["spec"]["variant"]["name"] for run in space.runs()]
    assert [run["variant"] for run in json.loads(planned.out)[0]["order"]] == order

    found = await there.run("results", "study", "-o", "json", *where)
    assert json.loads(found.out)["cells"] == benchmark["status"]["cells"]
    rows = list(csv.DictReader(io.StringIO((await there.run("results", "study", "-o", "csv", *where)).out)))
    assert len(rows) == 4

    file = tmp_path / "study.json"
    assert (await there.run("export", "study", "--to", file, *where)).status == 0
    assert json.loads((await nowhere.run("results", file, "-o", "json")).out)["cells"] == benchmark["status"]["cells"]
    compared = await there.run("compare", file, "study", "-o", "json", *where)
    assert {row["ratio"] for row in json.loads(compared.out)["rows"]} == {1.0}
    assert (await nowhere.run("export", file, "--format", "vllm", "--to", tmp_path / "passes")).status == 0
    assert "one run" in (await nowhere.run("results", tmp_path / "passes")).out

    staged = await there.run("stages", "study", *where)
    assert (staged.status, name in staged.out, "load ended → verdict stored" in staged.out) == (0, True, True)
    gone = await there.run("logs", name, *where)
    assert (gone.status, "was removed when its verdict was stored" in gone.out) == (1, True)

    monkeypatch.setattr(kube_module, "PAGE", 1)
    whole = await asyncio.to_thread(
        read.load_study, "study", read.Access(space.name, kubeconfig=str(lab.api.kubeconfig))
    )
    assert sorted(run.name for run in whole.runs) == sorted(run["metadata"]["name"] for run in space.runs())


async def test_what_is_not_there(lab: Lab, space: Space, tmp_path: Path) -> None:
    """Scripts can tell a missing object from a missing cluster."""
    there = CommandLine(lab.api.kubeconfig)
    for command in ("results", "watch", "stages", "export", "logs"):
        done = await there.run(command, "nothing", "-n", space.name)
        assert (done.status, "'nothing' in namespace" in done.err) == (3, True), (command, done)
    assert (await there.run("results", "nothing", "-n", space.name, "--kubeconfig", tmp_path / "none")).status == 4
    done = await there.run("results", "nothing", "-n", space.name, "--context", "no-such-context")
    assert (done.status, "no-such-context" in done.err) == (4, True)
