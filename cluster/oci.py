"""OCI image layouts: written from a layer at hand, named, and asked for their digest.

An image layout is a folder of blobs; packed with tar it is what `docker load` and `ctr images import` read. They are
written here for the images that no Dockerfile can make where no registry is: the base image and the sandbox.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
#: The annotation from which containerd takes an image's whole name.
_CONTAINERD_NAME = "io.containerd.image.name"
_REFERENCE_NAME = "org.opencontainers.image.ref.name"


def architecture(machine: str) -> str:
    """The name that images use for what `uname -m` prints."""
    return _MACHINES.get(machine, machine)


def write(folder: Path, image: str, layer: Path, config: dict[str, Any], machine: str) -> None:
    """Write the layout of an image with one uncompressed layer, a tar file, which is moved into it.

    `config` holds the execution parameters (Cmd, Env, User, ...) of the image specification.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layer_digest, layer_size = _digest(layer), layer.stat().st_size
    shutil.move(layer, blobs / layer_digest)
    configuration = {
        "architecture": architecture(machine),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        "history": [{"created_by": "python3 cluster images"}],  # buildah wants one entry for each layer
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(blobs, "application/vnd.oci.image.config.v1+json", configuration),
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": f"sha256:{layer_digest}",
                "size": layer_size,
            }
        ],
    }
    entry = _blob(blobs, "application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {_REFERENCE_NAME: image}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def name_for_containerd(folder: Path, image: str) -> None:
    """Note an image's name in its layout as containerd wants it."""
    index = json.loads((folder / "index.json").read_text())
    index["manifests"][0].setdefault("annotations", {})[_CONTAINERD_NAME] = image
    (folder / "index.json").write_text(json.dumps(index))


def manifest_digest(folder: Path) -> str:
    """Digest of the image in a layout, by which containerd knows it too."""
    return str(json.loads((folder / "index.json").read_text())["manifests"][0]["digest"])


def write_layer(target: Path, files: dict[str, Path]) -> None:
    """Write a layer with executable files (path in the image → file), dated 1970, so that it is always the same."""
    with tarfile.open(target, "w") as layer:
        for name, source in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            entry.size = source.stat().st_size
            with source.open("rb") as content:
                layer.addfile(entry, content)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _blob(blobs: Path, media_type: str, value: object) -> dict[str, Any]:
    content = json.dumps(value, separators=(",", ":")).encode()
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
