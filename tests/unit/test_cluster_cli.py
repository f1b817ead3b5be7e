"""The command line: what it refuses, and that the provider chosen is the one the machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster import binaries, cli, embedded, footprint, host, kind, network, processes, record
from cluster.images import OPERATOR
from cluster.layout import REPOSITORY, ClusterError, Layout
from cluster.progress import Progress
from cluster.record import Record


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest keeps its own handlers
    return tmp_path / "state"


def test_help_needs_nothing_but_python(tmp_path: Path):
    command = [sys.executable, "-I", str(REPOSITORY / "cluster"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    for verb in ("up", "down", "status", "images", "load-image", "clean-cache"):
        assert f"\n    {verb} " in done.stdout or f"\n    {verb}\n" in done.stdout


def test_neither_root_nor_docker_is_one_message_and_status_2(state, monkeypatch, capsys):
    monkeypatch.setattr(kind, "docker_answers", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["up", "--state", str(state)]) == 2
    message = capsys.readouterr().err
    assert "Docker" in message
    assert "root" in message
    assert "Traceback" not in message
    assert not state.exists()


@pytest.mark.parametrize(("answers", "chosen"), [(True, "kind"), (False, "embedded")])
def test_kind_is_used_where_docker_answers(answers, chosen, state, monkeypatch):
    monkeypatch.setattr(kind, "docker_answers", lambda: answers)
    called = []
    monkeypatch.setattr(kind, "up", lambda *_, **__: called.append("kind"))
    monkeypatch.setattr(embedded, "up", lambda *_, **__: called.append("embedded"))
    assert cli.main(["up", "--quiet", "--state", str(state)]) == 0
    assert called == [chosen]


def test_a_cluster_that_is_there_decides_before_the_machine_does(state, monkeypatch):
    Record("embedded", "198.18.0.2").save(Layout(state))
    monkeypatch.setattr(kind, "docker_answers", lambda: True)
    called = []
    monkeypatch.setattr(embedded, "up", lambda *_, **__: called.append("embedded"))
    assert cli.main(["up", "--quiet", "--state", str(state)]) == 0
    assert called == ["embedded"]


def test_down_never_removes_a_folder_that_is_no_clusters(state, capsys):
    state.mkdir()
    (state / "thesis.tex").write_text("years of work")
    assert cli.main(["down", "--quiet", "--state", str(state)]) == 2
    assert (state / "thesis.tex").exists()
    assert cli.main(["up", "--quiet", "--control-plane-only", "--state", str(state)]) != 0
    assert os.listdir(state) == ["thesis.tex"]


def test_down_of_nothing_is_no_error(state, monkeypatch):
    monkeypatch.setattr(host, "can_embed", lambda: False)
    assert cli.main(["down", "--quiet", "--state", str(state)]) == 0


def test_a_removal_that_was_cut_off_is_taken_up_again(state, monkeypatch):
    monkeypatch.setattr(host, "can_embed", lambda: False)
    layout = Layout(state)
    Record("control-plane", "127.0.0.1").save(layout)
    for name in ("etcd", "logs", "pki"):
        (state / name).mkdir()
    order = []
    monkeypatch.setattr(embedded.cache, "remove", lambda path: order.append(path.name) or shutil.rmtree(path))
    embedded.remove_state(layout)
    assert sorted(order) == ["etcd", "logs", "pki"], "the record goes last, by itself"
    assert not state.exists()


def test_another_kind_of_cluster_in_the_folder_is_not_touched(state, monkeypatch, capsys):
    Record("kind", "127.0.0.1").save(Layout(state))
    with pytest.raises(ClusterError, match="another kind"):
        embedded._own_record(Layout(state), "embedded")
    assert record.load(Layout(state)).provider == "kind"


def test_status_of_nothing_says_so_and_fails(state, capsys):
    assert cli.main(["status", "--state", str(state)]) == 1
    assert "there is none" in capsys.readouterr().out


def test_images_need_a_cluster_with_a_node(state, capsys):
    Record("control-plane", "127.0.0.1").save(Layout(state))
    assert cli.main(["load-image", "x.tar", "--state", str(state)]) == 2
    assert "cluster up" in capsys.readouterr().err


def test_missing_packages_are_named_where_there_is_no_apt(monkeypatch):
    monkeypatch.setattr(host, "can_embed", lambda: True)
    monkeypatch.setattr(host, "missing_packages", lambda *, build_images: ["containerd", "nftables"])
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ClusterError, match="containerd nftables") as caught:
        host.prepare(Progress(quiet=True), build_images=False)
    assert caught.value.status == 2


def test_building_images_asks_for_more_packages(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(host.node, "cni_folder", lambda: None)
    running, building = (set(host.missing_packages(build_images=build)) for build in (False, True))
    assert {"containerd", "runc", "containernetworking-plugins"} <= running
    assert {"buildah", "mmdebstrap"} <= building - running


def test_a_network_namespace_in_use_is_not_taken_over(state, monkeypatch):
    other = processes.Process(1, 1, "/elsewhere/.cluster", "kubelet", "", "kubelet")
    monkeypatch.setattr(processes, "marked", lambda *_: iter([other]))
    monkeypatch.setattr(network, "_is_inside", lambda _: True)
    monkeypatch.setattr(network, "output", lambda *_: pytest.fail("nothing may be changed"))
    with pytest.raises(ClusterError, match=r"/elsewhere/\.cluster"):
        network.ensure(state, services=True)


def test_only_links_and_results_of_ours_are_taken_back(tmp_path, state, monkeypatch):
    links, results = tmp_path / "containers", tmp_path / "results"
    links.mkdir()
    results.mkdir()
    (links / "ours.log").symlink_to(state / "pod-logs" / "a" / "0.log")
    (links / "theirs.log").symlink_to("/var/log/pods/b/0.log")
    (results / "quantbench-1-eth0").touch()
    (results / "cbr0-1-eth0").touch()
    monkeypatch.setattr(footprint, "_LOG_LINKS", links)
    monkeypatch.setattr(footprint, "_RESULTS", results)
    footprint.restore(state, {}, ())
    assert [path.name for path in links.iterdir()] == ["theirs.log"]
    assert [path.name for path in results.iterdir()] == ["cbr0-1-eth0"]


def test_shim_sockets_are_found_where_the_shims_noted_them(state):
    note = state / "containerd/state/io.containerd.runtime.v2.task/k8s.io/abc/address"
    note.parent.mkdir(parents=True)
    note.write_text("unix:///run/containerd/s/0123")
    assert list(footprint._shim_sockets(state)) == [Path("/run/containerd/s/0123")]


def test_a_cluster_keeps_its_binary_when_the_cache_gets_another(state, tmp_path):
    layout = Layout(state)
    for digit in "12":
        cached = tmp_path / "bin" / f"kube-{digit * 16}"
        cached.parent.mkdir(exist_ok=True)
        cached.write_text(digit)
        binaries.link(layout, cached)
        cached.unlink()
        assert (layout.bin / "kubectl").read_text() == digit
    assert [path.name for path in layout.bin.glob("kube-*[0-9]")] == [f"kube-{'2' * 16}"]


# --- kind


def test_kinds_command_lines(tmp_path: Path):
    called = kind.Kind("kind")
    create = " ".join(called.create(tmp_path / "kind.yaml", tmp_path / "kubeconfig"))
    assert create.startswith("kind create cluster --name quantbench --config ")
    assert f"--kubeconfig {tmp_path}/kubeconfig" in create
    assert called.load_image("localhost/a:1") == [
        "kind",
        "load",
        "docker-image",
        "localhost/a:1",
        "--name",
        "quantbench",
    ]
    build = kind.docker_build(OPERATOR)
    assert build[:2] == ["docker", "build"]
    assert build[-3:] == ["--tag", OPERATOR.reference, str(REPOSITORY)]
    assert not any("BASE_IMAGE" in word for word in build), "Docker takes the Dockerfile's own base"


#: Answers as an engine that has the node's image, up to the moment when a container is to run.
DOCKER = """#!/bin/sh
echo "docker $*" >> "$0.calls"
case "$1" in
  -v) echo "Docker version 27.0.0, build 0" ;;
  info) echo '{"SecurityOptions":[],"CgroupDriver":"systemd","CgroupVersion":"2","MemoryLimit":true,'
        echo '"PidsLimit":true,"CPUShares":true}' ;;
  ps | inspect | network) ;;
  *) echo "cannot" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def fake_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return Path(f"{program}.calls")


def test_docker_answers_only_when_an_engine_does(fake_docker, monkeypatch):
    assert kind.docker_answers()
    (fake_docker.parent / "docker").write_text("#!/bin/sh\nexit 1\n")
    assert not kind.docker_answers()
    monkeypatch.setenv("PATH", str(fake_docker.parent / "nothing"))
    assert not kind.docker_answers()


def _real_kind() -> str | None:
    return shutil.which("kind") or shutil.which("kind", path=os.environ.get("GOBIN", str(Path.home() / "go/bin")))


@pytest.mark.skipif(_real_kind() is None, reason="no kind program (go install sigs.k8s.io/kind@v0.33.0)")
@pytest.mark.parametrize("fault", [None, "labels:", "role: control-plane"])
def test_kind_itself_takes_the_configuration_as_far_as_docker(fault, fake_docker, tmp_path, monkeypatch):
    written = kind.configuration(Layout(tmp_path))
    if fault:
        written.write_text(written.read_text().replace(fault, "planted: fault"))
    command = kind.Kind(str(_real_kind())).create(written, tmp_path / "kubeconfig")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    asked = "docker run --name quantbench-control-plane" in fake_docker.read_text() if fake_docker.exists() else False
    assert asked == (fault is None), done.stderr


def test_kinds_patches_are_kubelet_configuration():
    patches = yaml.safe_load(kind.CONFIGURATION.read_text())["nodes"][0]["kubeadmConfigPatches"]
    assert [yaml.safe_load(patch)["kind"] for patch in patches] == ["KubeletConfiguration"]


def test_kinds_node_shares_the_demos_data(tmp_path):
    """The demo's volume is a folder of the node: without this mount it would be an empty one."""
    node = yaml.safe_load(kind.configuration(Layout(tmp_path)).read_text())["nodes"][0]
    data = str(Layout(tmp_path).data)
    assert node["extraMounts"] == [{"hostPath": data, "containerPath": data}]
    assert Layout(tmp_path).data.is_dir()
