"""Folders of this machine as volumes for pods, which may not mount such a folder by themselves (PodSecurity).

An administrator hands one out as a PersistentVolume; pods ask for it by the claim's name.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from cluster.commands import output
from cluster.layout import ClusterError, Layout
from cluster.pki import write_private

#: User of the pods that QuantBenchmark makes, unless a podTemplate says otherwise.
POD_USER = 65532
#: Kubernetes wants a size, and holds nobody to it.
_SIZE = "1Ti"


def provide(layout: Layout, name: str, folder: Path, namespace: str, *, writable: bool) -> None:
    """Have a volume of this folder, and a claim on it in a namespace that exists.

    Raises:
        ClusterError: there is no such folder, or pods could not use it.
    """
    check(folder, writable=writable)
    file = layout.config / f"volume-{namespace}.{name}.json"
    write_private(file, json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(name, folder, namespace)}))
    kubectl: list[str | Path] = [layout.bin / "kubectl", f"--kubeconfig={layout.kubeconfig}"]
    output([*kubectl, "apply", f"--filename={file}"])


def check(folder: Path, *, writable: bool) -> None:
    """Raise unless the pods' user may use this folder; a writable one that is missing is made for that user.

    What is there keeps its owner and mode: Kubernetes changes neither on a folder of the host (no fsGroup), and
    neither do we.
    """
    if not folder.is_absolute():
        raise ClusterError(f"{folder} is not an absolute path", 2)
    if writable and not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)  # whatever the umask
        try:
            os.chown(folder, POD_USER, POD_USER)
        except PermissionError:
            folder.rmdir()
            raise ClusterError(f"{folder} is to belong to user {POD_USER}: run this as root", 2) from None
    if not folder.is_dir():
        raise ClusterError(f"{folder} is no folder of this machine", 2)
    wanted = 0o7 if writable else 0o5
    if _rights(folder) & wanted != wanted:
        raise ClusterError(
            f"{folder} is not {'writable' if writable else 'readable'} for user {POD_USER}, which pods run as: "
            f"change its owner or mode",
            2,
        )


def objects(name: str, folder: Path, namespace: str) -> list[dict[str, Any]]:
    """The volume, kept for this very claim, and the claim."""
    common = {
        "accessModes": ["ReadWriteMany"],  # what may be written is up to the folder's mode and to each mount
        "storageClassName": "",
    }
    volume = f"{namespace}.{name}"  # no namespace has a dot: a-b's c and a's b-c are two
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **common,
                "capacity": {"storage": _SIZE},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"name": name, "namespace": namespace},
                "hostPath": {"path": str(folder), "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {**common, "volumeName": volume, "resources": {"requests": {"storage": _SIZE}}},
        },
    ]


def _rights(folder: Path) -> int:
    """What the pods' user may do in a folder, as three bits; pods see it as a mount, so its parents do not count."""
    status = folder.stat()
    if status.st_uid == POD_USER:
        return (status.st_mode & stat.S_IRWXU) >> 6
    if status.st_gid == POD_USER:
        return (status.st_mode & stat.S_IRWXG) >> 3
    return status.st_mode & stat.S_IRWXO
