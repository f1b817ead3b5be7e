"""What a user may say about the pods: an allow-list.

Nothing here can weaken the pods' hardening or reach the node: no securityContext beyond user and group
numbers, no hostPath, no host namespaces, no service account. Whatever is not listed is refused by the API
server. The operator's own settings are applied after these, never before.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from quantbench.api.base import QUANTITY, Model, kubernetes, list_map, rule, text, whole_or_text

ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
OBJECT_NAME = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"

LONGEST_QUANTITY = 32


def quantity(value: int | str) -> int | str:
    """Checks what the type `int | str` cannot say.

    Raises:
        ValueError: not an amount as Kubernetes writes it.
    """
    text = str(value)
    if len(text) > LONGEST_QUANTITY or not re.fullmatch(QUANTITY, text):
        raise ValueError('give an amount such as 4, "500m" or "128Gi"')
    return value


Quantity = Annotated[
    int | str,
    BeforeValidator(whole_or_text),
    AfterValidator(quantity),
    Field(
        json_schema_extra=kubernetes(int_or_string=True)
        | {"pattern": QUANTITY, "maxLength": LONGEST_QUANTITY, "minimum": 0}
    ),
]
LabelValue = Annotated[str, Field(max_length=63)]
LabelKey = Annotated[str, Field(max_length=317)]


class KeyRef(Model):
    """A key of a Secret or ConfigMap in the benchmark's namespace.

    The kubelet resolves it; the operator never reads it.
    """

    name: str = text("Name of the object.", longest=253, pattern=OBJECT_NAME)
    key: str = text("Key within the object.", longest=253)
    optional: bool = Field(default=False, description="Whether the pod may start without it.")


class EnvSource(Model):
    """Where an environment variable's value comes from."""

    secret_key_ref: KeyRef | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: KeyRef | None = Field(default=None, description="A key of a ConfigMap.")

    model_config = {
        "json_schema_extra": kubernetes(
            validations=[
                rule(
                    "has(self.secretKeyRef) != has(self.configMapKeyRef)",
                    "give one of secretKeyRef and configMapKeyRef",
                )
            ]
        )
    }


class EnvVar(Model):
    """One environment variable of the server and load containers."""

    name: str = text("Name of the variable.", longest=128, pattern=ENV_NAME)
    value: str | None = text("Literal value.", longest=4096, default=None)
    value_from: EnvSource | None = Field(default=None, description="Reference to a Secret or ConfigMap key.")

    model_config = {
        "json_schema_extra": kubernetes(
            validations=[rule("!(has(self.value) && has(self.valueFrom))", "give one of value and valueFrom")]
        )
    }


class ClaimSource(Model):
    """A PersistentVolumeClaim."""

    claim_name: str = text("Name of the claim in the benchmark's namespace.", longest=253, pattern=OBJECT_NAME)
    read_only: bool = Field(default=False, description="Mount read-only.")


class ConfigMapSource(Model):
    """A ConfigMap as files."""

    name: str = text("Name of the ConfigMap.", longest=253, pattern=OBJECT_NAME)
    optional: bool = Field(default=False, description="Whether the pod may start without it.")


class SecretSource(Model):
    """A Secret as files."""

    secret_name: str = text("Name of the Secret.", longest=253, pattern=OBJECT_NAME)
    optional: bool = Field(default=False, description="Whether the pod may start without it.")


class EmptyDirSource(Model):
    """A scratch folder that lives as long as the pod."""

    medium: str | None = text("Empty for disk, Memory for tmpfs.", longest=16, pattern="^(Memory)?$", default=None)
    size_limit: Quantity | None = Field(default=None, description="Upper bound of its size.")


class Volume(Model):
    """A volume of the server and load pods. hostPath is not offered: hand out host folders as PersistentVolumes."""

    name: str = text("Name of the volume.", longest=63, pattern=OBJECT_NAME)
    persistent_volume_claim: ClaimSource | None = Field(default=None, description="A PersistentVolumeClaim.")
    config_map: ConfigMapSource | None = Field(default=None, description="A ConfigMap.")
    secret: SecretSource | None = Field(
        default=None, description="A Secret; mounted by the kubelet, never read by the operator."
    )
    empty_dir: EmptyDirSource | None = Field(default=None, description="A scratch folder.")

    model_config = {
        "json_schema_extra": kubernetes(
            validations=[
                rule(
                    "[has(self.persistentVolumeClaim), has(self.configMap), has(self.secret), has(self.emptyDir)]"
                    ".filter(given, given).size() == 1",
                    "give exactly one of persistentVolumeClaim, configMap, secret, emptyDir",
                )
            ]
        )
    }


class VolumeMount(Model):
    """Where a volume appears in the server and load containers."""

    name: str = text("Name of the volume.", longest=63, pattern=OBJECT_NAME)
    mount_path: str = text("Absolute path in the containers.", longest=512, pattern="^/[^:]*$")
    sub_path: str | None = text("Folder within the volume.", longest=512, pattern="^[^/:][^:]*$", default=None)
    read_only: bool = Field(default=False, description="Mount read-only.")


class Toleration(Model):
    """A node taint that the pods tolerate."""

    key: str | None = text("Taint key; empty with operator Exists tolerates all.", longest=317, default=None)
    operator: str | None = text("Exists or Equal.", longest=16, pattern="^(Exists|Equal)$", default=None)
    value: str | None = text("Taint value for operator Equal.", longest=63, default=None)
    effect: str | None = text(
        "NoSchedule, PreferNoSchedule or NoExecute.",
        longest=16,
        pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$",
        default=None,
    )
    toleration_seconds: int | None = Field(
        default=None, description="How long NoExecute is tolerated [s].", ge=0, le=2**31
    )


class Resources(Model):
    """CPU, memory and storage of the server container. GPUs come from the target."""

    requests: dict[LabelKey, Quantity] = Field(default_factory=dict, description="Requested amounts.", max_length=16)
    limits: dict[LabelKey, Quantity] = Field(default_factory=dict, description="Upper bounds.", max_length=16)


class LocalObject(Model):
    """A named object in the benchmark's namespace."""

    name: str = text("Name of the object.", longest=253, pattern=OBJECT_NAME)


class PodTemplate(Model):
    """Allow-listed additions to the server and load pods."""

    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, description="Extra labels.", max_length=16)
    annotations: dict[LabelKey, Annotated[str, Field(max_length=1024)]] = Field(
        default_factory=dict, description="Extra annotations.", max_length=16
    )
    env: tuple[EnvVar, ...] = Field(
        default=(), description="Environment of both containers.", max_length=64, json_schema_extra=list_map("name")
    )
    volumes: tuple[Volume, ...] = Field(
        default=(), description="Volumes of both pods.", max_length=16, json_schema_extra=list_map("name")
    )
    volume_mounts: tuple[VolumeMount, ...] = Field(
        default=(), description="Mounts in both containers.", max_length=16, json_schema_extra=list_map("mountPath")
    )
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints to tolerate.", max_length=16)
    affinity: dict[str, Any] | None = Field(
        default=None,
        description="Affinity of the server pod, as in a pod specification.",
        json_schema_extra=kubernetes(preserve_unknown_fields=True),
    )
    resources: Resources = Field(default_factory=Resources, description="Resources of the server container.")
    load_resources: Resources = Field(default_factory=Resources, description="Resources of the load container.")
    image_pull_secrets: tuple[LocalObject, ...] = Field(
        default=(), description="Secrets for private registries.", max_length=8, json_schema_extra=list_map("name")
    )
    runtime_class_name: str | None = text("RuntimeClass, e.g. nvidia.", longest=253, pattern=OBJECT_NAME, default=None)
    priority_class_name: str | None = text("PriorityClass.", longest=253, pattern=OBJECT_NAME, default=None)
    run_as_user: int = Field(default=65532, description="User number of the containers; never 0.", ge=1, le=2**31 - 1)
    fs_group: int | None = Field(default=None, description="Group that owns the volumes.", ge=1, le=2**31 - 1)
