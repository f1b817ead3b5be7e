"""GPUs of the embedded cluster, and folders of the machine as volumes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster import api, binaries, gpu, hostvolume, node
from cluster.layout import GPU_PLUGIN, HERE, ClusterError, Layout
from cluster.record import Record
from tests.planted_gpus import plant

LABELS = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "2"}


def test_the_device_plugin_passes_its_own_tests():
    """The tests in Go: devices, labels, allocation, and a kubelet's registration service that comes and goes."""
    done = subprocess.run(
        [binaries.find_go(), "test", "-trimpath", "./deviceplugin"],
        cwd=HERE / "kube",
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_gpus_are_where_a_driver_has_made_its_device_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(gpu.ROOT_VARIABLE, str(tmp_path))
    assert gpu.root() == ""
    plant(tmp_path, 1)
    assert gpu.root() == str(tmp_path)


def test_a_node_without_gpus_is_as_it_was(tmp_path: Path):
    own = Record("embedded", "198.18.0.2")
    assert gpu.labels(Layout(tmp_path), own) == {}
    assert GPU_PLUGIN not in {daemon.name for daemon in node.daemons(Layout(tmp_path), own, Path("kube-0"), {})}


def test_a_node_with_gpus_runs_the_plugin_and_says_which_gpus(tmp_path: Path):
    own = Record("embedded", "198.18.0.2", gpu_root="/planted")
    daemons = {daemon.name: daemon for daemon in node.daemons(Layout(tmp_path), own, Path("kube-0"), LABELS)}
    assert "--root=/planted" in daemons[GPU_PLUGIN].command
    [labels] = [flag for flag in daemons["kubelet"].command if flag.startswith("--node-labels=")]
    assert "nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3" in labels
    assert "NONE" not in labels
    assert "quantbench.dev/device=cpu" in labels, "studies on the CPU run there, too"


def test_a_driver_that_does_not_answer_stops_the_start_and_says_what_helps(tmp_path: Path):
    layout = Layout(tmp_path)
    layout.bin.mkdir()
    plugin = layout.bin / GPU_PLUGIN
    plugin.write_text("#!/bin/sh\necho 'nvidia-smi: no devices' >&2; exit 1\n")
    plugin.chmod(0o755)
    with pytest.raises(ClusterError, match=r"(?s)no devices.*QUANTBENCH_GPU_ROOT"):
        gpu.labels(layout, Record("embedded", "198.18.0.2", gpu_root="/"))


@pytest.mark.parametrize(
    ("capacity", "allocatable", "complaint"),
    [
        ({}, {}, "does not offer nvidia.com/gpu yet"),
        ({"nvidia.com/gpu": "2"}, {"nvidia.com/gpu": "1"}, "1 of 2 GPUs are unhealthy"),
        ({"nvidia.com/gpu": "2"}, {"nvidia.com/gpu": "2"}, None),
    ],
)
def test_the_nodes_own_count_tells_the_plugins_health(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capacity: dict[str, str],
    allocatable: dict[str, str],
    complaint: str | None,
):
    status = {"capacity": capacity, "allocatable": allocatable}
    monkeypatch.setattr(api, "get_json", lambda *_: {"status": status})
    found = gpu.complaint(Layout(tmp_path), Record("embedded", "198.18.0.2", gpu_root="/"))
    assert found == complaint if complaint is None else complaint in str(found)


@pytest.mark.parametrize(("root", "listed"), [("", False), ("/", True)])
def test_status_misses_the_plugin_only_where_there_are_gpus(tmp_path: Path, root: str, listed: bool):
    found = node.component_health(Layout(tmp_path), Record("embedded", "198.18.0.2", gpu_root=root))
    assert (found.get(GPU_PLUGIN) == "is not running") is listed


def volume_and_claim(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    volume, claim = hostvolume.objects("models", folder, "bench")
    return volume, claim


def test_a_folder_of_the_machine_is_kept_for_one_claim(tmp_path: Path):
    volume, claim = volume_and_claim(tmp_path)
    assert volume["spec"]["hostPath"] == {"path": str(tmp_path), "type": "Directory"}
    assert volume["spec"]["claimRef"] == {"name": "models", "namespace": "bench"}
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"] == "bench.models"
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == "", "no provisioner's business"


def test_claims_of_one_name_in_all_have_volumes_of_their_own(tmp_path: Path):
    volumes = [hostvolume.objects(name, tmp_path, space)[0] for name, space in (("c", "a-b"), ("b-c", "a"))]
    assert len({volume["metadata"]["name"] for volume in volumes}) == 2


@pytest.mark.parametrize(
    ("mode", "writable", "complaint"),
    [(0o755, False, None), (0o750, False, "not readable"), (0o755, True, "not writable"), (0o777, True, None)],
)
def test_folders_that_pods_could_not_use_are_refused(tmp_path: Path, mode: int, writable: bool, complaint: str | None):
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    if complaint is None:
        hostvolume.check(folder, writable=writable)
    else:
        with pytest.raises(ClusterError, match=complaint) as caught:
            hostvolume.check(folder, writable=writable)
        assert caught.value.status == 2
    assert folder.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(("folder", "complaint"), [("models", "absolute"), ("/no/such/folder", "no folder")])
def test_a_volume_needs_a_folder(folder: str, complaint: str):
    with pytest.raises(ClusterError, match=complaint):
        hostvolume.check(Path(folder), writable=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away needs root")
def test_a_missing_writable_folder_is_made_for_the_pods_user(tmp_path: Path):
    hostvolume.check(tmp_path / "new" / "cache", writable=True)
    assert (tmp_path / "new" / "cache").stat().st_uid == hostvolume.POD_USER
