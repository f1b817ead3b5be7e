"""Whole manifests, compared with files that people can read (tests/data/golden/README.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from core_support.objects import RUNNER, run, study
from quantbench.api.base import JsonObject
from quantbench.observe import read_run
from quantbench.resources.load import load_job
from quantbench.resources.server import server_pod

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/input.yaml"))


class Dumper(yaml.SafeDumper):
    """Without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def manifests(case: str) -> dict[str, JsonObject]:
    given = yaml.safe_load((GOLDEN / case / "input.yaml").read_text())
    of = read_run(given["run"])
    named = (of.name, of.uid, of.namespace, of.spec, given["attempt"])
    return {"server": server_pod(*named, RUNNER), "load": load_job(*named, given["address"], RUNNER)}


def test_there_are_cases() -> None:
    assert {"cpu", "gpu-defaults", "gpu-everything", "ipv6"} <= set(CASES)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["server", "load"])
def test_golden(case: str, kind: str) -> None:
    file, made = GOLDEN / case / f"{kind}.yaml", manifests(case)[kind]
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(yaml.dump(made, Dumper=Dumper, sort_keys=False, width=110, allow_unicode=True))
    assert yaml.safe_load(file.read_text()) == made


def test_annotations_are_on_both_pods() -> None:
    """What drains nodes goes by them, and a lost load pod costs the attempt like a lost server."""
    stays = {"karpenter.sh/do-not-disrupt": "true", "example.com/vllm": "yes"}
    profile = {f"container.apparmor.security.beta.kubernetes.io/{one}": "x" for one in ("vllm", "install-gpumonitor")}
    spec = run(study(engine={"podTemplate": {"annotations": {**stays, **profile}}})).spec
    server = server_pod("demo", "uid", "bench", spec, 1, RUNNER)
    load = load_job("demo", "uid", "bench", spec, 1, "10.0.0.7", RUNNER)
    assert server["metadata"]["annotations"] == {**stays, **profile}
    assert load["spec"]["template"]["metadata"]["annotations"] == stays
