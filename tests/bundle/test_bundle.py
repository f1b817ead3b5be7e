"""The bundle as its users meet it: packed here, unpacked into a new folder, started where nothing else is.

On demand (`make bundle-test`): it packs for minutes where nothing is cached, and needs Linux, root and the packages.
"""

import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import oci

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
grep snapshotter {bundle}/.cluster/config/containerd.toml
{bundle}/carried/programs/bin/ctr --address {bundle}/.cluster/containerd.sock --namespace k8s.io images list --quiet
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


def small_image(folder: Path) -> Path:
    """An archive of an image, as another tool would have made it."""
    layer = folder / "layer.tar"
    oci.write_layer(layer, {"nothing": Path("/bin/true")})
    oci.write(folder / "image", "localhost/added:1", layer, {}, platform.machine())
    oci.name_for_containerd(folder / "image", "localhost/added:1")
    with tarfile.open(folder / "added.tar", "w") as tar:
        tar.add(folder / "image", ".")
    return folder / "added.tar"


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, added = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("added")
    (added / "wheels").mkdir()
    (added / "wheels" / "a.whl").write_bytes(b"a")
    archive = small_image(added)
    extras = ["--wheels", added / "wheels", "--image", archive]
    run(sys.executable, REPOSITORY / "cluster", "bundle", "--output", folder, *extras)
    return folder


@pytest.fixture
def target() -> Iterator[Path]:
    """A folder with a short path, as kubelet's sockets need one."""
    with tempfile.TemporaryDirectory(prefix="qb-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("poor", [False, True], ids=["whole", "no-nftables-no-overlay"])
def test_a_machine_without_a_network_gets_the_operator(poor: bool, parts: Path, target: Path, tmp_path: Path):
    python = os.environ.get("TARGET_PYTHON", sys.executable)
    bundle, study = target / "b", tmp_path / "study.yaml"
    study.write_text(STUDY)
    run(python, parts / "install.py", "--to", bundle)
    cache = os.environ.get("QUANTBENCH_CACHE", str(Path.home() / ".cache" / "quantbench"))
    script = INSTALLATION.format(bundle=bundle, study=study)
    said = run(
        *NAMESPACES, "sh", OFFLINE, bundle, "sh", "-c", script,
        PYTHON=python, CACHE=cache, POOR="yes" if poor else "",
    )  # fmt: skip
    result = next(line for line in said.splitlines() if line.startswith("RESULT "))
    deployment, study_object = json.loads(result.removeprefix("RESULT "))["items"]
    assert deployment["status"]["readyReplicas"] == 1
    conditions = {c["type"]: c["status"] for c in study_object["status"]["conditions"]}
    assert conditions["Accepted"] == "True"
    assert ("left out" in said) == poor
    assert ('snapshotter = "native"' in said) == poor
    assert "localhost/added:1" in said
    assert (bundle / "files" / "wheels" / "a.whl").read_bytes() == b"a"
    assert not (bundle / ".cluster").exists(), "`down` takes everything away"
