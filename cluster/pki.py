"""Certificates and kubeconfigs, by the openssl command: elliptic keys, since making them takes no time."""

from __future__ import annotations

import base64
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster.commands import output
from cluster.layout import SERVICE_ADDRESS, Layout

#: Days for which everything is valid. A cluster is made for an afternoon; nothing renews these.
VALID_DAYS = "365"


@dataclass(frozen=True)
class Identity:
    """Who a certificate speaks for: user and group to the API server, addresses and names to its callers."""

    name: str
    user: str
    group: str = ""
    hosts: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        return (f"/O={self.group}" if self.group else "") + f"/CN={self.user}"

    @property
    def extensions(self) -> list[str]:
        """X.509 extensions, as strict verifiers want them."""
        usage = "serverAuth,clientAuth" if self.hosts else "clientAuth"
        wanted = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"]
        wanted += [f"extendedKeyUsage={usage}", "authorityKeyIdentifier=keyid"]
        if self.hosts:
            wanted.append("subjectAltName=" + ",".join(self.hosts))
        return wanted


def identities(address: str, node: str) -> list[Identity]:
    """Everyone who needs a certificate, in the roles that Kubernetes' own RBAC rules name."""
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
    api_hosts = (f"IP:{address}", "IP:127.0.0.1", f"IP:{SERVICE_ADDRESS}", *(f"DNS:{name}" for name in names))
    return [
        Identity("apiserver", "kube-apiserver", hosts=tuple(dict.fromkeys(api_hosts))),
        Identity("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
        Identity("admin", "admin", "system:masters"),
        Identity("controller-manager", "system:kube-controller-manager"),
        Identity("scheduler", "system:kube-scheduler"),
        Identity("kubelet", f"system:node:{node}", "system:nodes", (f"IP:{address}", f"DNS:{node}")),
        Identity("proxy", "system:kube-proxy"),
    ]


def ensure(layout: Layout, node: str, server: str) -> None:
    """Make keys, certificates and kubeconfigs once.

    They are made in a folder beside the final one, which gets its name when all are there: an interrupted run leaves
    nothing half done. `server` is the API server's URL.
    """
    if not layout.pki.exists():
        draft = layout.pki.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700, parents=True)
        _authority(draft)
        for identity in identities(layout.address, node):
            _issue(draft, identity)
        _key(draft / "service-accounts.key")
        draft.rename(layout.pki)
    for name in ("controller-manager", "scheduler", "kubelet", "proxy"):
        write_kubeconfig(layout.pki / f"{name}.kubeconfig", layout.pki, name, server)
    write_kubeconfig(layout.kubeconfig, layout.pki, "admin", server)


def write_kubeconfig(path: Path, pki: Path, user: str, server: str) -> None:
    """Write a kubeconfig that holds the certificates themselves, readable by its owner only.

    A file with the same content is left alone. JSON, which every reader of YAML reads.
    """

    def inline(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    text = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "quantbench",
                    "cluster": {"server": server, "certificate-authority-data": inline("ca.crt")},
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": inline(f"{user}.crt"),
                        "client-key-data": inline(f"{user}.key"),
                    },
                }
            ],
            "contexts": [{"name": "quantbench", "context": {"cluster": "quantbench", "user": user}}],
            "current-context": "quantbench",
        },
        indent=1,
    )
    write_private(path, text)


def write_private(path: Path, text: str) -> None:
    """Put a file in place in one step, mode 0600, unless it already says the same."""
    if path.exists() and path.read_text() == text:
        return
    draft = path.with_name(path.name + ".draft")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
    draft.replace(path)


def _authority(folder: Path) -> None:
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    output([*_request(folder / "ca"), "-subj", "/CN=quantbench-cluster", *usage])


def _issue(folder: Path, identity: Identity) -> None:
    signed = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"), "-subj", identity.subject]
    extensions = [word for extension in identity.extensions for word in ("-addext", extension)]
    output([*_request(folder / identity.name), *signed, *extensions])


def _request(stem: Path) -> list[str]:
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", f"{stem}.key"]
    return ["openssl", "req", "-x509", "-days", VALID_DAYS, *new_key, "-out", f"{stem}.crt"]


def _key(path: Path) -> None:
    output(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])
