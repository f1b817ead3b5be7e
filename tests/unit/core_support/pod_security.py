"""The Pod Security Standards, level restricted, as a table of their controls.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ and its reference implementation
k8s.io/pod-security-admission/policy (v0.34), one entry here per check there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Pod = dict[str, Any]
VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SECCOMP = ("RuntimeDefault", "Localhost")
SELINUX = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def containers(pod: Pod) -> Iterator[dict[str, Any]]:
    """All containers of a pod's specification."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(kind, [])


def contexts(pod: Pod) -> Iterator[dict[str, Any]]:
    """The pod's security context and those of its containers."""
    yield pod.get("securityContext") or {}
    for container in containers(pod):
        yield container.get("securityContext") or {}


def of_containers(pod: Pod, key: str) -> list[Any]:
    """One field of each container's security context."""
    return [(container.get("securityContext") or {}).get(key) for container in containers(pod)]


def effective(pod: Pod, key: str) -> list[Any]:
    """The same, with the pod's own value where a container says nothing."""
    whole = (pod.get("securityContext") or {}).get(key)
    return [whole if own is None else own for own in of_containers(pod, key)]


def _handlers(pod: Pod) -> Iterator[dict[str, Any]]:
    for container in containers(pod):
        for probe in PROBES:
            yield container.get(probe) or {}
        yield from (container.get("lifecycle") or {}).values()


CONTROLS: dict[str, Callable[[Pod], bool]] = {
    "hostNamespaces": lambda pod: not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")),
    "hostPorts": lambda pod: not any(port.get("hostPort") for c in containers(pod) for port in c.get("ports", [])),
    "hostProbesAndHostLifecycle": lambda pod: (
        not any(
            (handler.get(kind) or {}).get("host") for handler in _handlers(pod) for kind in ("httpGet", "tcpSocket")
        )
    ),
    "privileged": lambda pod: not any(of_containers(pod, "privileged")),
    "procMount": lambda pod: all(value in (None, "Default") for value in of_containers(pod, "procMount")),
    "appArmorProfile": lambda pod: all(
        (context.get("appArmorProfile") or {}).get("type") in (None, "RuntimeDefault", "Localhost")
        for context in contexts(pod)
    ),
    "seLinuxOptions": lambda pod: all(
        options.get("type", "") in SELINUX and not options.get("user") and not options.get("role")
        for options in (context.get("seLinuxOptions") or {} for context in contexts(pod))
    ),
    "windowsHostProcess": lambda pod: (
        not any((context.get("windowsOptions") or {}).get("hostProcess") for context in contexts(pod))
    ),
    "sysctls": lambda pod: all(
        sysctl["name"] in SYSCTLS for sysctl in (pod.get("securityContext") or {}).get("sysctls", [])
    ),
    "restrictedVolumes": lambda pod: all(set(volume) - {"name"} <= VOLUMES for volume in pod.get("volumes", [])),
    "allowPrivilegeEscalation": lambda pod: all(v is False for v in of_containers(pod, "allowPrivilegeEscalation")),
    "capabilities": lambda pod: all(
        "ALL" in (value or {}).get("drop", []) and set((value or {}).get("add", [])) <= {"NET_BIND_SERVICE"}
        for value in of_containers(pod, "capabilities")
    ),
    "runAsNonRoot": lambda pod: all(value is True for value in effective(pod, "runAsNonRoot")),
    "runAsUser": lambda pod: all(context.get("runAsUser") != 0 for context in contexts(pod)),
    "seccompProfile": lambda pod: (
        all((value or {}).get("type") in SECCOMP for value in effective(pod, "seccompProfile"))
        and (pod.get("securityContext") or {}).get("seccompProfile", {"type": "RuntimeDefault"})["type"] in SECCOMP
    ),
}


def violations(pod: Pod) -> list[str]:
    """Names of the controls that a pod's specification breaks."""
    return [name for name, holds in CONTROLS.items() if not holds(pod)]
