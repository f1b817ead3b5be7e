"""What server and load pods have in common: hardening, scratch folders, the user's allow-listed additions."""

import posixpath
from collections.abc import Mapping

from quantbench.api.base import JsonObject
from quantbench.api.names import API_VERSION
from quantbench.api.pod import PodTemplate, Resources
from quantbench.api.run import QuantBenchmarkRunSpec
from quantbench.resources import labels

SCRATCH = {"/tmp": {}, "/dev/shm": {"medium": "Memory"}}
RUNNER_PATH = "/quantbench"
OUR_VOLUMES = "quantbench-"
"""How the names of the operator's own volumes begin."""
_TAKEN = frozenset({"/", *SCRATCH})
_TAKEN_WITH_ALL_BELOW = (RUNNER_PATH, "/proc", "/sys", "/dev")

BASE_ENV: Mapping[str, str] = {
    "HOME": "/tmp",
    # Libraries ask for the user's name, and the number need not be in /etc/passwd.
    "USER": "quantbench",
    "LOGNAME": "quantbench",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/torchinductor",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
}
OVERRIDABLE = frozenset({"TORCHINDUCTOR_CACHE_DIR"})
RESERVED_ENV = (frozenset(BASE_ENV) - OVERRIDABLE) | {
    "QUANTBENCH_LOAD",
    "QUANTBENCH_SERVER",
    "QUANTBENCH_RAW_DIR",
    "QUANTBENCH_TERMINATION_LOG",
    "QUANTBENCH_GPU_MONITOR",
    "QUANTBENCH_GPU_MONITOR_PORT",
}

CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def metadata(
    name: str, namespace: str, run_name: str, run_uid: str, spec: QuantBenchmarkRunSpec, attempt: int, component: str
) -> JsonObject:
    """Names, labels and the owner of a child of a run."""
    return {
        "name": name,
        "namespace": namespace,
        "labels": child_labels(run_name, spec, attempt, component),
        "ownerReferences": [owner("QuantBenchmarkRun", run_name, run_uid)],
    }


def child_labels(run_name: str, spec: QuantBenchmarkRunSpec, attempt: int, component: str) -> dict[str, str]:
    """The user's labels first, so that they cannot replace ours."""
    return {
        **spec.engine.pod_template.labels,
        **labels.MANAGED,
        labels.BENCHMARK: labels.short(spec.benchmark),
        labels.RUN: run_name,
        labels.VARIANT: spec.variant.name,
        labels.TARGET: spec.target.name,
        labels.COMPONENT: component,
        labels.ATTEMPT: str(attempt),
    }


def owner(kind: str, name: str, uid: str) -> JsonObject:
    """An owner reference that does not block the owner's deletion."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def pod_spec(template: PodTemplate, containers: list[JsonObject], **extra: object) -> JsonObject:
    """A hardened pod: restricted by the Pod Security Standards, no service account, no service links."""
    security: JsonObject = {
        "runAsNonRoot": True,
        "runAsUser": template.run_as_user,
        "runAsGroup": template.run_as_user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if template.fs_group is not None:
        security["fsGroup"] = template.fs_group
    spec: JsonObject = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        # A Service called vllm would inject VLLM_PORT=tcp://…, which vLLM takes for its own setting and dies of.
        "enableServiceLinks": False,
        "securityContext": security,
        "containers": containers,
        "volumes": [*_scratch_volumes(), *(volume.to_json() for volume in template.volumes)],
        "tolerations": [toleration.to_json() for toleration in template.tolerations],
        "imagePullSecrets": [secret.to_json() for secret in template.image_pull_secrets],
        **extra,
    }
    if template.runtime_class_name:
        spec["runtimeClassName"] = template.runtime_class_name
    if template.priority_class_name:
        spec["priorityClassName"] = template.priority_class_name
    return {key: value for key, value in spec.items() if value not in ([], {})}


def container(
    name: str, spec: QuantBenchmarkRunSpec, command: list[str], env: Mapping[str, str], resources: JsonObject
) -> JsonObject:
    """A container of the engine's image with the user's environment and mounts; ours are applied last."""
    template = spec.engine.pod_template
    given = {variable.name: variable.to_json() for variable in template.env}
    defaults = {key: {"name": key, "value": value} for key, value in BASE_ENV.items()}
    overridden = {key: value for key, value in given.items() if key in OVERRIDABLE}
    ours = {key: {"name": key, "value": value} for key, value in env.items()}
    return {
        "name": name,
        "image": spec.engine.image,
        "imagePullPolicy": spec.engine.image_pull_policy,
        "command": command,
        "env": list({**given, **defaults, **overridden, **ours}.values()),
        "resources": {key: value for key, value in resources.items() if value},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            *({"name": _scratch_name(path), "mountPath": path} for path in SCRATCH),
            *(mount.to_json() for mount in template.volume_mounts),
        ],
    }


def amounts(resources: Resources, extra: Mapping[str, int] | None = None) -> JsonObject:
    """Requests and limits; ``extra`` counts extended resources, which Kubernetes wants as limits."""
    return {
        "requests": dict(resources.requests),
        "limits": {**resources.limits, **{name: str(count) for name, count in (extra or {}).items()}},
    }


def is_reserved(mount_path: str) -> bool:
    """Whether users must not mount a volume at this absolute path."""
    path = posixpath.normpath(f"/{mount_path.lstrip('/')}")
    return path in _TAKEN or any(path == taken or path.startswith(f"{taken}/") for taken in _TAKEN_WITH_ALL_BELOW)


def _scratch_name(path: str) -> str:
    return OUR_VOLUMES + path.strip("/").replace("/", "-")


def _scratch_volumes() -> list[JsonObject]:
    return [{"name": _scratch_name(path), "emptyDir": dict(source)} for path, source in SCRATCH.items()]
