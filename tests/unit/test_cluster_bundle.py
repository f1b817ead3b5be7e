"""The bundle: packed the same each time, cut, checked, joined; what is missing or damaged is named."""

from __future__ import annotations

import io
import lzma
import random
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cluster import (
    archives,
    bundle,
    carried,
    cli,
    embedded,
    footprint,
    gpu,
    host,
    images,
    install,
    kind,
    network,
    node,
    oci,
)
from cluster.archives import Archive, Entry
from cluster.layout import ClusterError, Layout
from cluster.progress import Progress
from cluster.record import Record, load

QUIET = Progress(quiet=True)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest keeps its own handlers
    monkeypatch.setattr(archives, "_BLOCK", 40_000)


def noise(seed: int, count: int) -> bytes:
    """Bytes that do not compress, so that a small archive has several parts."""
    return random.Random(seed).randbytes(count)


def contents() -> list[Archive]:
    program = Entry("carried/bin/tool", noise(1, 150_000), executable=True)
    link = Entry("carried/images/a/blobs/sha256/0", link="../../../../layers/0")
    return [
        Archive("first", (Entry("cluster/a.py", b"print()"), program, link)),
        Archive("layer-0", (Entry("carried/layers/0", noise(2, 90_000)),)),
        Archive("files-x", (Entry("files/x/big.whl", noise(3, 120_000)),), compress=False),
    ]


def packed(folder: Path, made: list[Archive]) -> Path:
    bundle._write(folder, made, 50_000, QUIET)
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return packed(tmp_path / "parts", contents())


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and install.RECORDS not in path.parts
    }


def unpack(parts: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """As on the target: the file beside the parts, by a Python that knows nothing of us."""
    command = [sys.executable, "-I", str(parts / "install.py"), "--to", str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# --- packing and unpacking


def test_what_is_unpacked_is_what_was_packed(parts: Path, tmp_path: Path):
    done = unpack(parts, tmp_path / "target")
    assert done.returncode == 0, done.stderr
    found = files(tmp_path / "target")
    assert found["carried/bin/tool"] == noise(1, 150_000)
    assert found["carried/images/a/blobs/sha256/0"] == found["carried/layers/0"] == noise(2, 90_000)
    assert found["files/x/big.whl"] == noise(3, 120_000)
    assert (tmp_path / "target/carried/bin/tool").stat().st_mode & 0o111
    assert not (tmp_path / "target/cluster/a.py").stat().st_mode & 0o111


def test_parts_are_no_larger_than_asked_and_the_usual_tools_read_them(parts: Path, tmp_path: Path):
    sizes = [path.stat().st_size for path in parts.glob("*.part-*")]
    assert len(sizes) > 6
    assert max(sizes) == 50_000
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=parts, check=True)
    joined = b"".join(path.read_bytes() for path in sorted(parts.glob("first.tar.xz.part-*")))
    (tmp_path / "first.tar").write_bytes(lzma.decompress(joined))
    with tarfile.open(tmp_path / "first.tar") as tar:
        assert tar.getnames()[0] == "cluster/a.py"


def test_the_same_contents_make_the_same_parts(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(archives, "_THREADS", 1)
    again = packed(tmp_path / "again", contents())
    assert files(again) == files(parts)


def test_a_change_changes_its_own_archive_only_and_older_parts_go(parts: Path):
    before = files(parts)
    first, _, extra = contents()
    packed(parts, [first, Archive("layer-0", (Entry("carried/layers/0", noise(9, 30_000)),)), extra])
    after = files(parts)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"SHA256SUMS", "layer-0.tar.xz.part-00", "layer-0.tar.xz.part-01"}
    assert "layer-0.tar.xz.part-01" not in after


def test_a_missing_part_is_named_and_the_rest_is_unpacked(parts: Path, tmp_path: Path):
    (parts / "layer-0.tar.xz.part-01").rename(tmp_path / "late")
    done = unpack(parts, tmp_path / "target")
    assert done.returncode == 1
    assert "layer-0.tar.xz.part-01 is missing" in done.stderr
    assert "part-00 is missing" not in done.stderr
    assert "files/x/big.whl" in files(tmp_path / "target")
    assert "carried/layers/0" not in files(tmp_path / "target")
    for arrived in parts.glob("f*.part-*"):  # what is unpacked need not be kept
        arrived.unlink()
    (tmp_path / "late").rename(parts / "layer-0.tar.xz.part-01")
    done = unpack(parts, tmp_path / "target")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unpack ") == 1
    assert "carried/layers/0" in files(tmp_path / "target")


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: b"\0" + raw[1:], lambda raw: raw + b"\0"])
def test_a_damaged_part_is_named_and_nothing_of_it_unpacked(damage, parts: Path, tmp_path: Path):
    part = parts / "layer-0.tar.xz.part-00"
    part.write_bytes(damage(part.read_bytes()))
    done = unpack(parts, tmp_path / "target")
    assert done.returncode == 1
    assert "layer-0.tar.xz.part-00 is damaged" in done.stderr
    assert "part-01" not in done.stderr
    assert "carried/layers/0" not in files(tmp_path / "target")


def test_a_newer_bundle_replaces_an_older_one(parts: Path, tmp_path: Path):
    target = tmp_path / "target"
    assert unpack(parts, target).returncode == 0
    running = tmp_path / "running"
    running.hardlink_to(target / "carried/bin/tool")
    packed(parts, [Archive("first", (Entry("cluster/b.py", b""), Entry("carried/bin/tool", b"new", executable=True)))])
    assert unpack(parts, target).returncode == 0
    assert files(target) == {"cluster/b.py": b"", "carried/bin/tool": b"new"}
    assert running.read_bytes() == noise(1, 150_000), "a program that runs is not written over"


def test_after_an_unpacking_that_was_interrupted_the_older_bundle_is_unpacked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A full disk in the middle of an update, and back: no file may be of the other bundle, none missing."""
    old = packed(tmp_path / "old", [Archive("first", (Entry("a", b"old"), Entry("b", b"old"), Entry("gone", b"x")))])
    new = packed(tmp_path / "new", [Archive("first", (Entry("a", b"new"), Entry("b", b"new")))])
    target = tmp_path / "target"
    assert install.main(["--from", str(old), "--to", str(target)]) == 0
    extract = tarfile.TarFile.extract

    def until_full(tar: tarfile.TarFile, member: tarfile.TarInfo, *rest: object) -> None:
        if member.name == "b":
            raise OSError(28, "No space left on device")
        extract(tar, member, *rest)

    with monkeypatch.context() as full:
        full.setattr(tarfile.TarFile, "extract", until_full)
        assert install.main(["--from", str(new), "--to", str(target)]) == 2
    assert files(target) == {"a": b"new", "gone": b"x"}
    assert install.main(["--from", str(old), "--to", str(target)]) == 0
    assert files(target) == {"a": b"old", "b": b"old", "gone": b"x"}
    with monkeypatch.context() as full:
        full.setattr(tarfile.TarFile, "extract", until_full)
        assert install.main(["--from", str(new), "--to", str(target)]) == 2
    assert install.main(["--from", str(new), "--to", str(target)]) == 0
    assert files(target) == {"a": b"new", "b": b"new"}, "what only the older one has is removed in the end"
    assert sorted(path.name for path in (target / install.RECORDS).iterdir()) == ["first.tar.xz.json"]


def test_a_folder_of_something_else_is_left_alone(parts: Path, tmp_path: Path):
    target = tmp_path / "home"
    target.mkdir()
    (target / "thesis.tex").touch()
    done = unpack(parts, target)
    assert done.returncode == 2
    assert "choose another --to" in done.stderr
    assert list(target.iterdir()) == [target / "thesis.tex"]
    with pytest.raises(ClusterError, match=r"thesis\.tex"):
        bundle._refuse_foreign_folder(target)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "SHA256SUMS is missing"),
        ("", "lists no parts"),
        (f"{'0' * 64}  ../../etc/passwd\n", "line 1"),
        (f"{'0' * 63}  a.tar.part-00\n", "line 1"),
        (f"{'0' * 64}  a.tar.part-00\n{'0' * 64}  a.tar.part-02\n", "line 2.*out of order"),
    ],
)
def test_a_list_that_is_none_is_refused(text, complaint, tmp_path: Path):
    if text is not None:
        (tmp_path / install.SUMS).write_text(text)
    with pytest.raises(install.BundleError, match=complaint):
        install.read_sums(tmp_path)


@pytest.mark.parametrize("old_python", [False, True], ids=["with-data-filter", "without"])
@pytest.mark.parametrize(
    "entries",
    [
        (Entry("../outside", b"x"),),
        (Entry("{root}/outside", b"x"),),
        (Entry("link", link="../outside"), Entry("link/file", b"x")),
        (Entry("link", link="{root}"), Entry("link/outside", b"x")),
    ],
    ids=["parent", "absolute", "relative-link", "absolute-link"],
)
def test_an_archive_cannot_leave_the_target(entries, old_python, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if old_python:  # before 3.11.4
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    root = {"root": tmp_path}
    evil = tuple(Entry(e.name.format(**root), e.content, link=e.link.format(**root)) for e in entries)
    parts = packed(tmp_path / "parts", [Archive("evil", evil)])
    assert install.main(["--from", str(parts), "--to", str(tmp_path / "target")]) == 2
    assert outside.read_bytes() == b"mine", "neither written over nor removed"


def test_a_file_that_moves_to_another_archive_stays(tmp_path: Path):
    shared, one, two = Entry("shared", b"s"), Entry("one", b"1"), Entry("two", b"2")
    parts, target = tmp_path / "parts", tmp_path / "target"
    for made in (
        [Archive("first", (one,)), Archive("second", (two, shared))],
        [Archive("first", (one, shared)), Archive("second", (two,))],
    ):
        assert unpack(packed(parts, made), target).returncode == 0
        assert files(target) == {"one": b"1", "two": b"2", "shared": b"s"}


def test_what_is_unpacked_is_new_to_those_who_go_by_size_and_time(parts: Path, tmp_path: Path):
    before = time.time()
    assert unpack(parts, tmp_path / "target").returncode == 0
    assert (tmp_path / "target/cluster/a.py").stat().st_mtime > before - 1


def test_an_older_python_is_told(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    assert install.main(["--from", str(parts), "--to", str(tmp_path / "target")]) == 2
    assert "Python 3.11" in capsys.readouterr().err


def test_a_target_that_cannot_be_written_is_told(parts: Path, tmp_path: Path, capsys):
    (tmp_path / "file").touch()
    assert install.main(["--from", str(parts), "--to", str(tmp_path / "file" / "below")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


# --- what is packed


def layout(folder: Path, name: str, *layers: bytes) -> Path:
    """An image with one layer of its own, and others beside."""
    tar = folder / f"{name}.tar"
    tar.write_bytes(layers[0])
    oci.write(folder / name, f"localhost/{name}:1", tar, {}, "x86_64")
    return folder / name


def test_a_layer_that_images_share_is_packed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bundle, "_SMALL_LAYER", 1000)
    shared = noise(4, 5000)
    layouts = {name: layout(tmp_path, name, shared) for name in ("one", "two")}
    members, layers = bundle._images(layouts)
    (archive,) = layers
    assert [entry.content.read_bytes() for entry in archive.entries if isinstance(entry.content, Path)] == [shared]
    target = tmp_path / "target"
    parts = packed(tmp_path / "parts", [Archive("quantbench", tuple(members)), *layers])
    assert unpack(parts, target).returncode == 0
    monkeypatch.setattr(carried, "FOLDER", target / "carried")
    for name, folder in layouts.items():
        assert files(target / "carried/images" / name) == files(folder)
        assert oci.manifest_digest(target / "carried/images" / name) == oci.manifest_digest(folder)


def test_what_the_user_adds_lies_in_a_folder_of_its_name(tmp_path: Path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a.whl").write_bytes(b"a")
    (tmp_path / "prompts.json").write_bytes(b"{}")
    (tmp_path / "engine.tar").write_bytes(b"tar")
    extras = [
        bundle.Extra.parse(f"{name}={tmp_path / path}")
        for name, path in (("wheels", "wheels"), ("data", "prompts.json"))
    ]
    made = bundle._added(extras, [tmp_path / "engine.tar"])
    names = [entry.name for archive in made for entry in archive.entries]
    assert names == ["files/wheels/a.whl", "files/data/prompts.json", "carried/archives/engine.tar"]
    assert not any(archive.compress for archive in made)


def test_folders_behind_links_are_packed(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "weights").write_bytes(b"w")
    models = tmp_path / "models"
    models.mkdir()
    (models / "qwen").symlink_to("../disk")
    (entry,) = archives.files_below(models, "files/models")
    assert entry.name == "files/models/qwen/weights"
    (tmp_path / "disk" / "back").symlink_to(models)
    with pytest.raises(ClusterError, match="back is a link to a folder that holds it"):
        list(archives.files_below(models, "files/models"))
    (tmp_path / "disk" / "back").unlink()
    (tmp_path / "disk" / "lost").symlink_to("nowhere")
    with pytest.raises(ClusterError, match="lost is a link to nowhere"):
        list(archives.files_below(models, "files/models"))


def test_a_hugging_face_cache_is_packed_once(tmp_path: Path):
    cache = tmp_path / "hub"
    for folder in ("blobs", "snapshots/1"):
        (cache / folder).mkdir(parents=True)
    (cache / "blobs" / "abc").write_bytes(b"weights")
    (cache / "snapshots" / "1" / "model").symlink_to("../../blobs/abc")
    (cache / "snapshots" / "1" / "absolute").symlink_to(cache / "blobs" / "abc")
    (tmp_path / "outside").write_bytes(b"elsewhere")
    (cache / "snapshots" / "1" / "other").symlink_to("../../../outside")
    archive = Archive("added", tuple(archives.files_below(cache, "files/hub")), compress=False)
    assert [(entry.name, entry.link) for entry in archive.entries] == [
        ("files/hub/blobs/abc", ""),
        ("files/hub/snapshots/1/absolute", ""),
        ("files/hub/snapshots/1/model", "../../blobs/abc"),
        ("files/hub/snapshots/1/other", ""),
    ]
    unpacked = tmp_path / "unpacked"
    with io.BytesIO() as stream:
        archives.write(archive, stream)
        stream.seek(0)
        with tarfile.open(fileobj=stream) as tar:
            tar.extractall(unpacked, filter="data")
    for name, content in (("absolute", b"weights"), ("model", b"weights"), ("other", b"elsewhere")):
        assert (unpacked / "files/hub/snapshots/1" / name).read_bytes() == content


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(ClusterError, match=f"{tmp_path} holds no files"):
        bundle._added([bundle.Extra("wheels", tmp_path)], [])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--part-size", "60"], "--part-size 60"),
        (["--part-size", "0MB"], "--part-size 0MB"),
        (["--add", "/models"], "NAME=PATH"),
        (["--add", "../x=/tmp"], "NAME=PATH"),
        (["--wheels", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_wrong_arguments_end_before_anything_is_built(arguments, complaint, monkeypatch, capsys):
    monkeypatch.setattr(host, "prepare", lambda *_, **__: pytest.fail("too late"))
    assert cli.main(["bundle", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.whl").touch()
    extras = [bundle.Extra("wheels", tmp_path / folder) for folder in ("a", "b")]
    with pytest.raises(ClusterError, match=r"files/wheels/same\.whl"):
        bundle._added(extras, [])


# --- on the target


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "target" / "carried"
    (folder / "bin").mkdir(parents=True)
    (folder / carried.DESCRIPTION).write_text('{"images": ["pause", "operator"], "glibc": "2.34", "machine": "x86_64"}')
    monkeypatch.setattr(carried, "FOLDER", folder)
    return folder


def test_nothing_is_built_or_installed_where_a_bundle_is(unpacked: Path, monkeypatch: pytest.MonkeyPatch):
    (unpacked / "bin" / f"kube-{'0' * 16}").touch()
    (unpacked / "images" / "operator" / "blobs" / "sha256").mkdir(parents=True)
    monkeypatch.setattr(images.cache, "obtain", lambda *_: pytest.fail("nothing is made here"))
    assert images.binaries.kube(QUIET).name == f"kube-{'0' * 16}"
    assert images.built(images.OPERATOR, QUIET) == unpacked / "images" / "operator"
    with pytest.raises(ClusterError, match="holds no image vllm-cpu; it holds pause, operator"):
        images.built(images.ENGINE, QUIET)
    monkeypatch.setattr(host, "can_embed", lambda: True)
    monkeypatch.setattr(host, "missing_packages", lambda *, build_images: ["runc"])
    with pytest.raises(ClusterError, match=r"Neither this machine nor the bundle has.*runc"):
        host.prepare(QUIET, build_images=False)


def test_what_is_not_unpacked_yet_is_said(unpacked: Path):
    blobs = unpacked / "images" / "operator" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / "0").symlink_to("../../../../layers/0")
    with pytest.raises(ClusterError, match=r"1 layers of the image operator.*install\.py"):
        carried.image("operator")
    with pytest.raises(ClusterError, match=r"holds no kube.*install\.py"):
        carried.binary("kube")


def test_a_machine_with_an_older_c_library_is_told(unpacked: Path, monkeypatch: pytest.MonkeyPatch):
    for version, complaint in (("glibc 2.9", True), ("glibc 2.34", False), ("glibc 2.100", False), (None, True)):
        monkeypatch.setattr("os.confstr", lambda _, version=version: version)
        assert bool(carried.unfit()) == complaint, version
    monkeypatch.setattr("os.confstr", lambda _: "glibc 2.34")
    with monkeypatch.context() as another:
        another.setattr("platform.machine", lambda: "aarch64")
        assert "for x86_64; this machine is aarch64" in str(carried.unfit())
    monkeypatch.setattr(carried, "_SECCOMP", "libnowhere.so.2")
    assert "libnowhere.so.2" in str(carried.unfit())


def test_the_bundles_programs_are_found_before_the_machines(unpacked: Path, monkeypatch: pytest.MonkeyPatch):
    program = unpacked / carried.PROGRAMS / "sh"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    monkeypatch.setenv("PATH", "/usr/bin")
    carried.use_programs()
    assert shutil.which("sh") == node._program("sh") == str(program)


def test_a_bundle_never_becomes_kind(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(kind, "docker_answers", lambda: True)
    called = []
    monkeypatch.setattr(embedded, "up", lambda *_, **__: called.append("embedded"))
    monkeypatch.setenv("PATH", "/usr/bin")
    state = ["--quiet", "--state", str(tmp_path / "state")]
    assert cli.main(["up", *state]) == 0
    assert called == ["embedded"]
    assert cli.main(["up", "--provider", "kind", *state]) == 2
    assert cli.main(["bundle", *state]) == 2


def test_an_added_image_is_imported_once(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (unpacked / carried.ARCHIVES).mkdir()
    (unpacked / carried.ARCHIVES / "engine.tar").touch()
    imported = []
    monkeypatch.setattr(images, "provide", lambda *_: None)
    monkeypatch.setattr(images, "import_file", lambda _, archive, __: imported.append(archive.name))
    there = Layout(tmp_path / "state")
    there.state.mkdir()
    for _ in range(2):
        images.provide_carried(there, QUIET)
    assert imported == ["engine.tar"]


# --- machines that lack something


def test_without_nftables_the_api_server_stands_at_the_services_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(footprint, "survey", lambda: ({}, ()))
    monkeypatch.setattr(footprint, "disabled_controllers", lambda: ("hugetlb",))
    monkeypatch.setattr(network, "output", _refuse)
    monkeypatch.setenv(gpu.ROOT_VARIABLE, str(tmp_path))
    there = Layout(tmp_path / "state")
    own = embedded._own_record(there, "embedded")
    assert (own.services, own.ports.apiserver, own.controllers) == (False, 443, ("hugetlb",))
    assert load(there) == own
    assert [daemon.name for daemon in node.daemons(there, own, Path("kube-0"), {})] == ["kubelet"]
    monkeypatch.setattr(embedded.controlplane, "component_health", lambda *_: {})
    monkeypatch.setattr(embedded.network, "complaint", lambda: None)
    said = {line.name: line for line in embedded.health(there)}
    assert "left out" in said["kube-proxy"].note
    assert said["kube-proxy"].complaint is None
    assert said["kubelet"].complaint == "is not running"


def _refuse(command: list[str]) -> str:
    raise ClusterError(f"{command[0]}: Operation not supported")


def test_an_older_record_is_read(tmp_path: Path):
    there = Layout(tmp_path)
    Record("embedded", "198.18.0.2").save(there)
    raw = there.record.read_text()
    for later in ('"services": true,', '"gpu_root": "",', '"controllers": [],'):
        assert later in raw
        raw = raw.replace(later, "")
    there.record.write_text(raw)
    assert load(there) == Record("embedded", "198.18.0.2")


def test_layers_are_copied_where_they_cannot_be_overlaid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(node, "output", _refuse)
    assert node.snapshotter(Layout(tmp_path)) == "native"
    monkeypatch.setattr(node, "output", lambda _: "")
    assert node.snapshotter(Layout(tmp_path)) == "overlayfs"
    assert list(tmp_path.iterdir()) == []


def test_controllers_that_kubelet_wants_are_passed_on_in_version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    unified = tmp_path / "cgroup"
    unified.mkdir()
    (unified / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma\n")
    listing = unified / "cgroup.subtree_control"
    listing.write_text("cpu memory pids\n")
    monkeypatch.setattr(footprint, "_cgroup_mounts", lambda: [unified])
    assert footprint.disabled_controllers() == ("cpuset", "hugetlb")
    footprint.create_cgroup(("cpuset",))
    assert listing.read_text() == "+cpuset"
    assert (unified / "quantbench").is_dir()
    footprint.disable_controllers(("cpuset",))
    assert listing.read_text() == "-cpuset"


def test_a_controller_that_the_machine_does_not_pass_on_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cgroup.subtree_control").mkdir()  # any write fails, as to a group that holds processes
    monkeypatch.setattr(footprint, "_cgroup_mounts", lambda: [tmp_path])
    with pytest.raises(ClusterError, match=r"controller cpuset.*cgroup\.subtree_control"):
        footprint.create_cgroup(("cpuset",))


def test_a_path_too_long_for_kubelets_sockets_is_refused_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(node, "snapshotter", lambda _: "overlayfs")
    with TemporaryDirectory() as name:  # pytest's own is long, the longer the more workers there are
        _refuses_long_paths(Path(name))


def _refuses_long_paths(folder: Path) -> None:
    socket = folder / "state" / "kubelet" / "pod-resources" / "4294967295"
    for spare in (1, 0):
        state = folder / ("state" + "x" * (107 - len(str(socket)) + 1 - spare))
        if spare:
            node.write_configuration(Layout(state))
        else:
            with pytest.raises(ClusterError, match="shorter --state"):
                node.write_configuration(Layout(state))
            assert not state.exists()
