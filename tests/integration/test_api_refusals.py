"""Wrong specifications: refused by the API server with the path of the field, or by the operator in a condition."""

import copy
from typing import Any

import pytest

from harness.api import JsonObject, Refused
from harness.lab import Lab
from harness.operator import Journal, Operator
from harness.study import Space, study

MEGABYTE = "x" * 2**20


def put(spec: JsonObject, path: str, value: Any) -> None:
    """Set a field by its path, e.g. ``engine.podTemplate.env`` or ``variants.1.method``; None takes it away."""
    *parents, last = path.split(".")
    node: Any = spec
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    if value is None:
        del node[last]
    elif isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value


def changed(space: Space, changes: dict[str, Any]) -> JsonObject:
    manifest = copy.deepcopy(study(space.node))
    manifest["metadata"]["namespace"] = space.name
    for path, value in changes.items():
        put(manifest["spec"], path, value)
    return manifest


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown method": ({"variants.1.method": "INT3"}, 'spec.variants[1].method: Unsupported value: "INT3"'),
    "method without checkpoint": (
        {"variants.1.model": None},
        "spec.variants[1].model: Invalid value: this method reads a quantized checkpoint: say which one",
    ),
    "unknown kernel": ({"variants.1.kernel": "Fastest"}, 'spec.variants[1].kernel: Unsupported value: "Fastest"'),
    "granularity of another method": (
        {"variants.1.granularity": "PerBlock"},
        "spec.variants[1].granularity: Invalid value: granularity belongs to method FP8Online",
    ),
    "baseline is no variant": (
        {"baseline": "fp16"},
        "spec.baseline: Invalid value: baseline must be the name of one of the variants",
    ),
    "two variants of one name": ({"variants.1.name": "bf16"}, 'spec.variants[1]: Duplicate value: {"name":"bf16"}'),
    "two targets of one name": (
        {"targets": [{"name": "a"}, {"name": "a"}]},
        'spec.targets[1]: Duplicate value: {"name":"a"}',
    ),
    "two loads of one name": (
        {"loads": [{"name": "a"}, {"name": "a"}]},
        'spec.loads[1]: Duplicate value: {"name":"a"}',
    ),
    "a variant called control": (
        {"variants.1.name": "control"},
        "spec.variants[1].name: Invalid value: the name control is taken by the repeated baseline",
    ),
    "no variants": ({"variants": []}, "spec.variants: Invalid value: 0: spec.variants in body should have at least 1"),
    "no dataset": ({"workload": {"numPrompts": 1}}, "spec.workload.dataset: Required value"),
    "two datasets": (
        {"workload.dataset.shareGPT": {"path": "/data/s.json"}},
        "spec.workload.dataset: Invalid value: give one of shareGPT and random",
    ),
    "dataset path that is relative": (
        {"workload.dataset": {"shareGPT": {"path": "s.json"}}},
        'spec.workload.dataset.shareGPT.path: Invalid value: "s.json"',
    ),
    "zero prompts": ({"workload.numPrompts": 0}, "spec.workload.numPrompts: Invalid value: 0: "),
    "negative prompts": ({"loads.0.numPrompts": -5}, "spec.loads[0].numPrompts: Invalid value: -5: "),
    "huge prompts": ({"workload.numPrompts": 10**12}, "spec.workload.numPrompts: Invalid value: 1000000000000: "),
    "prompts beyond 64 bits": ({"workload.numPrompts": 10**30}, "spec.workload.numPrompts: Invalid value: "),
    "half a prompt": ({"workload.numPrompts": 0.5}, "spec.workload.numPrompts: Invalid value: "),
    "negative GPUs": ({"targets.0.gpus": -1}, "spec.targets[0].gpus: Invalid value: -1: "),
    "negative rate": ({"loads.0.requestRate": -1}, "spec.loads[0].requestRate: Invalid value: "),
    "rate that is no number": ({"loads.0.requestRate": "fast"}, 'spec.loads[0].requestRate: Invalid value: "fast": '),
    "no repeats": ({"sampling.repeats": 0}, "spec.sampling.repeats: Invalid value: 0: "),
    "no repeats of a load": ({"loads.0.repeats": 0}, "spec.loads[0].repeats: Invalid value: 0: "),
    "too many passes": (
        {"loads": [{"name": f"l{number}", "repeats": 20} for number in range(11)], "sampling.repeats": 1},
        "the repeats of all loads must not exceed 200 together",
    ),
    "no parallelism": ({"limits.parallelism": 0}, "spec.limits.parallelism: Invalid value: 0: "),
    "negative time-out": ({"limits.startTimeout": "-5m"}, 'spec.limits.startTimeout: Invalid value: "-5m": '),
    "time-out that is no time": ({"limits.loadTimeout": "soon"}, 'spec.limits.loadTimeout: Invalid value: "soon": '),
    "no budget": ({"limits.gpuHours": 0}, "spec.limits.gpuHours: Invalid value: 0: "),
    "megabyte model": ({"model": MEGABYTE}, "spec.model: Too long: may not be more than 512 bytes"),
    "megabyte argument": (
        {"engine.args.0": MEGABYTE},
        "spec.engine.args[0]: Too long: may not be more than 1024 bytes",
    ),
    "megabyte variable": (
        {"engine.podTemplate.env": [{"name": "A", "value": MEGABYTE}]},
        "spec.engine.podTemplate.env[0].value: Too long: may not be more than 4096 bytes",
    ),
    "megabyte name": (
        {"variants.1.name": "x" * 2**20},
        "spec.variants[1].name: Too long: may not be more than 40 bytes",
    ),
    "too many arguments": (
        {"engine.args": ["--a"] * 65},
        "spec.engine.args: Too many: 65: must have at most 64 items",
    ),
    "too many rows": (
        {
            "variants": [{"name": f"v{number}", "method": "BF16"} for number in range(32)],
            "baseline": "v0",
            "loads": [{"name": f"l{number}"} for number in range(32)],
        },
        "must not exceed 400: split the study",
    ),
    "text where a number belongs": (
        {"engine.maxNumSeqs": "many"},
        'spec.engine.maxNumSeqs: Invalid value: "string": spec.engine.maxNumSeqs in body must be of type integer',
    ),
    "hostNetwork": ({"engine.podTemplate.hostNetwork": True}, 'unknown field "spec.engine.podTemplate.hostNetwork"'),
    "privileged": (
        {"engine.podTemplate.securityContext": {"privileged": True}},
        'unknown field "spec.engine.podTemplate.securityContext"',
    ),
    "hostPath": (
        {"engine.podTemplate.volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
        'unknown field "spec.engine.podTemplate.volumes[0].hostPath"',
    ),
    "service account": (
        {"engine.podTemplate.serviceAccountName": "admin"},
        'unknown field "spec.engine.podTemplate.serviceAccountName"',
    ),
    "root": ({"engine.podTemplate.runAsUser": 0}, "spec.engine.podTemplate.runAsUser: Invalid value: 0: "),
    "misspelt field": ({"workload.numPromts": 5}, 'unknown field "spec.workload.numPromts"'),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_by_the_api_server(module_space: Space, name: str) -> None:
    changes, says = REFUSED[name]
    with pytest.raises(Refused) as refused:
        await module_space.api.create(changed(module_space, changes))
    assert refused.value.status in (400, 422)
    # What the API server says for the value of a CEL rule.
    assert says in refused.value.message.replace('"object": ', "")
    assert len(refused.value.message) < 4096, "a message for people"


async def test_server_side_apply_refuses_the_same(module_space: Space) -> None:
    """Duplicates never get as far as validation there: the merge already stumbles over them."""
    for name in ("unknown method", "hostNetwork", "zero prompts", "two variants of one name"):
        with pytest.raises(Refused) as refused:
            await module_space.api.apply(changed(module_space, REFUSED[name][0]))
        assert "variants" in refused.value.message or "spec." in refused.value.message


async def test_forbidden_fields_are_dropped_where_nobody_looks(lab: Lab, space: Space, operator: Operator) -> None:
    """A client that does not ask for strict validation gets pods without what it tried to smuggle in."""
    manifest = changed(
        space,
        {
            "engine.podTemplate.hostNetwork": True,
            "engine.podTemplate.hostPID": True,
            "engine.podTemplate.securityContext": {"privileged": True, "runAsUser": 0},
            "engine.podTemplate.volumes": [{"name": "host", "emptyDir": {}, "hostPath": {"path": "/"}}],
        },
    )
    path = f"/apis/quantbench.dev/v1alpha1/namespaces/{space.name}/quantbenchmarks"
    await space.api.call("POST", path, manifest, fieldValidation="Ignore")
    await space.until_complete()
    for pod in space.ever("Pod"):
        spec = pod.raw["spec"]
        assert not spec.get("hostNetwork")
        assert not spec.get("hostPID")
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] != 0
        assert not any("hostPath" in volume for volume in spec["volumes"])
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert not container["securityContext"].get("privileged")


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "image without a version": (
        {"engine.image": "registry.example.com/vllm:latest"},
        "spec.engine.version: cannot tell vLLM's version from image",
    ),
    "engine that is too old": ({"engine.image": "vllm/vllm-openai:v0.6.0"}, "spec.engine.version: vLLM 0.6"),
    "argument of the operator's": ({"engine.args.0": "--port=9"}, "spec.engine.args[0]: '--port=9' is not for users"),
    "argument that undoes the method": (
        {"variants.1.args": ["--quantization=fp8"]},
        "spec.variants[1].args[0]: '--quantization=fp8' is not for users",
    ),
    "prefix caching": (
        {"engine.args.0": "--enable-prefix-caching"},
        "spec.engine.args[0]: '--enable-prefix-caching' is not for users",
    ),
    "variable of the operator's": (
        {"engine.podTemplate.env": [{"name": "QUANTBENCH_LOAD", "value": "{}"}]},
        "spec.engine.podTemplate.env[0].name: QUANTBENCH_LOAD is set by the operator",
    ),
    "mount without a volume": (
        {"engine.podTemplate.volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        "spec.engine.podTemplate.volumeMounts[0].name: no volume is called 'data'",
    ),
    "mount over the runner": (
        {
            "engine.podTemplate.volumes": [{"name": "data", "emptyDir": {}}],
            "engine.podTemplate.volumeMounts": [{"name": "data", "mountPath": "/quantbench"}],
        },
        "spec.engine.podTemplate.volumeMounts[0].mountPath: /quantbench is used by the operator",
    ),
}


@pytest.mark.parametrize("name", INVALID)
async def test_refused_by_the_operator(lab: Lab, module_space: Space, name: str) -> None:
    """A condition with the path of the field, nothing started, and no writes once that is said."""
    space = module_space
    changes, says = INVALID[name]
    manifest = changed(space, changes)
    manifest["metadata"]["name"] = label = name.replace(" ", "-").replace("'", "")
    journal = Journal()
    async with lab.operator(space, journal) as operator:
        await space.api.create(manifest)
        await space.until(lambda: space.condition("Accepted", label), about="condition Accepted")
        accepted, progressing = space.condition("Accepted", label), space.condition("Progressing", label)
        assert (accepted["status"], accepted["reason"]) == ("False", "InvalidSpec")
        assert says in accepted["message"]
        assert accepted["observedGeneration"] == 1
        assert (progressing["status"], progressing["reason"]) == ("False", "InvalidSpec")
        await operator.idle()
        told = len(journal.writes)
        await operator.controller.resync()
        await operator.idle()
        assert journal.writes[told:] == []
    assert not space.runs()
    assert not space.children()


async def test_every_wrong_field_is_told_at_once(lab: Lab, space: Space, operator: Operator) -> None:
    changes = INVALID["argument of the operator's"][0] | INVALID["variable of the operator's"][0]
    await space.apply(changed(space, changes))
    await space.until(lambda: space.condition("Accepted"), about="condition Accepted")
    message = space.condition("Accepted")["message"]
    assert "spec.engine.args[0]" in message
    assert "spec.engine.podTemplate.env[0].name" in message
