"""What the API server checks by CEL and by list keys, for those who have no API server at hand.

A test holds that every rule of the CRD has its counterpart here, under the same message.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from quantbench.api.base import JsonObject
from quantbench.api.benchmark import CONTROL, MAX_PASSES, MAX_ROWS, QuantBenchmarkSpec, Variant
from quantbench.api.names import Method
from quantbench.api.pod import PodTemplate

WITHOUT_CHECKPOINT = frozenset({Method.BF16, Method.FP8_ONLINE, Method.BITSANDBYTES, Method.CUSTOM})
Violation = tuple[str, str]
"""Path of the field, as kubectl prints it, and what is wrong."""


def violations(spec: QuantBenchmarkSpec) -> list[Violation]:
    """Every rule that a specification of the right shape breaks."""
    template = spec.engine.pod_template
    return [
        *_duplicates("spec.variants", [variant.name for variant in spec.variants]),
        *_duplicates("spec.targets", [target.name for target in spec.targets]),
        *_duplicates("spec.loads", [load.name for load in spec.loads]),
        *(
            found
            for place, variant in enumerate(spec.variants)
            for found in _variant(f"spec.variants[{place}]", variant)
        ),
        *_whole(spec),
        *_pods("spec.engine.podTemplate", template),
    ]


def _whole(spec: QuantBenchmarkSpec) -> Iterator[Violation]:
    if not any(variant.name == spec.baseline for variant in spec.variants):
        yield "spec.baseline", "baseline must be the name of one of the variants"
    rows = (len(spec.variants) + int(spec.sampling.control)) * len(spec.targets) * len(spec.loads)
    if rows > MAX_ROWS:
        yield "spec", f"variants (with the control) × targets × loads must not exceed {MAX_ROWS}: split the study"
    if sum(load.repeats or spec.sampling.repeats for load in spec.loads) > MAX_PASSES:
        yield "spec", f"the repeats of all loads must not exceed {MAX_PASSES} together"
    if (spec.workload.dataset.share_gpt is None) == (spec.workload.dataset.random is None):
        yield "spec.workload.dataset", "give one of shareGPT and random"


def _variant(path: str, variant: Variant) -> Iterator[Violation]:
    if variant.model is None and variant.method not in WITHOUT_CHECKPOINT:
        yield f"{path}.model", "this method reads a quantized checkpoint: say which one"
    if variant.granularity is not None and variant.method is not Method.FP8_ONLINE:
        yield f"{path}.granularity", "granularity belongs to method FP8Online"
    if variant.name == CONTROL:
        yield f"{path}.name", f"the name {CONTROL} is taken by the repeated baseline"


def _pods(path: str, template: PodTemplate) -> Iterator[Violation]:
    keys: tuple[tuple[str, Sequence[Any], Callable[[Any], str]], ...] = (
        ("env", template.env, lambda item: item.name),
        ("volumes", template.volumes, lambda item: item.name),
        ("volumeMounts", template.volume_mounts, lambda item: item.mount_path),
        ("imagePullSecrets", template.image_pull_secrets, lambda item: item.name),
    )
    for field, items, key in keys:
        yield from _duplicates(f"{path}.{field}", [key(item) for item in items])
    for place, variable in enumerate(template.env):
        given = variable.to_json()
        if "value" in given and "valueFrom" in given:
            yield f"{path}.env[{place}]", "give one of value and valueFrom"
        source: JsonObject | None = given.get("valueFrom")
        if source is not None and len(source) != 1:
            yield f"{path}.env[{place}].valueFrom", "give one of secretKeyRef and configMapKeyRef"
    for place, volume in enumerate(template.volumes):
        if len(volume.to_json().keys() - {"name"}) != 1:
            kinds = "persistentVolumeClaim, configMap, secret, emptyDir"
            yield f"{path}.volumes[{place}]", f"give exactly one of {kinds}"


def _duplicates(path: str, names: Sequence[str]) -> Iterator[Violation]:
    for place, name in enumerate(names):
        if name in names[:place]:
            yield f"{path}[{place}]", f"Duplicate value: {name!r}"
