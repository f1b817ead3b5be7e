"""The bundle as its users meet it: packed here, unpacked into a new folder, started where nothing else is.

On demand (`make bundle-test`): it packs for minutes where nothing is cached, and needs Linux, root and the packages.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
OFFLINE = Path(__file__).with_name("offline.sh")
#: Network, mounts and processes of its own; whatever is left of the latter ends with the test.
NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]

#: Runs in those namespaces; every command must succeed, and what is printed last is looked at.
INSTALLATION = """
set -eu
cluster="$PYTHON {bundle}/cluster"
trap '$cluster down' EXIT
export KUBECONFIG={bundle}/.cluster/kubeconfig PATH={bundle}/.cluster/bin:$PATH
if $PYTHON -c "import socket; socket.create_connection(('192.0.2.1', 443), 1)" 2>/dev/null; then exit 9; fi
$cluster up
helm install quantbench {bundle}/charts/quantbench --namespace quantbench --create-namespace --wait --timeout 2m
kubectl apply --namespace quantbench --filename {study}
kubectl wait --namespace quantbench --for condition=Accepted --timeout 60s quantbenchmark/carried
$cluster status
kubectl get pods --all-namespaces --output wide
printf 'RESULT %s\\n' "$(kubectl get --namespace quantbench deployment,quantbenchmark --output json | tr -d '\\n')"
"""

STUDY = """
apiVersion: quantbench.dev/v1alpha1
kind: QuantBenchmark
metadata: {name: carried}
spec:
  suspend: true
  model: example/model
  engine: {image: "localhost/engine:1", version: 0.24.0}
  variants: [{name: bf16, method: BF16}, {name: fp8, method: FP8Online}]
  baseline: bf16
  targets: [{name: h100, nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}, gpus: 1}]
  workload: {dataset: {random: {inputLen: 64, outputLen: 16}}, numPrompts: 10}
  loads: [{name: saturated, requestRate: inf}]
"""


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, f"{command} ended with status {done.returncode}"
    return done.stdout


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    run(sys.executable, REPOSITORY / "cluster", "bundle", "--output", folder)
    return folder


@pytest.fixture
def target() -> Iterator[Path]:
    """A folder with a short path, as kubelet's sockets need one."""
    with tempfile.TemporaryDirectory(prefix="qb-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("nftables", [True, False], ids=["nftables", "no-nftables"])
def test_a_machine_without_a_network_gets_the_operator(nftables: bool, parts: Path, target: Path, tmp_path: Path):
    python = os.environ.get("TARGET_PYTHON", sys.executable)
    bundle, study = target / "b", tmp_path / "study.yaml"
    study.write_text(STUDY)
    run(python, parts / "install.py", "--to", bundle)
    cache = os.environ.get("QUANTBENCH_CACHE", str(Path.home() / ".cache" / "quantbench"))
    script = INSTALLATION.format(bundle=bundle, study=study)
    said = run(
        *NAMESPACES, "sh", OFFLINE, bundle, "sh", "-c", script,
        PYTHON=python, CACHE=cache, NO_NFTABLES="" if nftables else "yes",
    )  # fmt: skip
    result = next(line for line in said.splitlines() if line.startswith("RESULT "))
    deployment, study_object = json.loads(result.removeprefix("RESULT "))["items"]
    assert deployment["status"]["readyReplicas"] == 1
    conditions = {c["type"]: c["status"] for c in study_object["status"]["conditions"]}
    assert conditions["Accepted"] == "True"
    assert ("left out" in said) == (not nftables)
    assert not (bundle / ".cluster").exists(), "`down` takes everything away"
