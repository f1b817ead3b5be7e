"""The Pod Security Standard "restricted" as a function, after Kubernetes' page on the Pod Security Standards.

Only what a pod specification of ours can say; an unknown kind of volume counts as a violation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip


def violations(spec: Mapping[str, Any]) -> list[str]:
    """What "restricted" has against this pod specification."""
    pod = spec.get("securityContext", {})
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    found += [
        f"volume {volume['name']}"
        for volume in spec.get("volumes", [])
        if not {key for key in volume if key != "name"} <= VOLUMES
    ]
    if pod.get("runAsUser") == 0:
        found.append("runAsUser")
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        found += [f"{container['name']}: {fault}" for fault in _container(container, pod)]
    return found


def _container(container: Mapping[str, Any], pod: Mapping[str, Any]) -> list[str]:
    own = container.get("securityContext", {})
    capabilities = own.get("capabilities", {})
    seccomp = own.get("seccompProfile", pod.get("seccompProfile", {}))
    faults = {
        "privileged": own.get("privileged", False),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
        "capabilities.drop": "ALL" not in capabilities.get("drop", []),
        "capabilities.add": not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
        "runAsNonRoot": own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True,
        "runAsUser": own.get("runAsUser") == 0,
        "seccompProfile": seccomp.get("type") not in ("RuntimeDefault", "Localhost"),
        "hostPort": any(port.get("hostPort") for port in container.get("ports", [])),
        "procMount": own.get("procMount", "Default") != "Default",
    }
    return [name for name, wrong in faults.items() if wrong]
