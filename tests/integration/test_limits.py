"""What bounds a study: nodes, parallelism, GPU-hours, time to live, quota and the API server's own rules for pods."""

import pytest

from harness.api import Refused, eventually
from harness.invariants import Invariants
from harness.kubelet import GPUS_PER_NODE, NODE_LABEL
from harness.lab import Lab
from harness.operator import Operator
from harness.study import Space

MEASURED = "Measured/AllPassesValid"
LONG_ENOUGH = "10s"
"""A limit within which a busy scheduler places a pod, or says why not."""
NOWHERE = {"name": "nowhere", "nodeSelector": {NODE_LABEL: "none"}, "gpus": 1}


def here(space: Space) -> dict[str, object]:
    return {"name": "node", "nodeSelector": {NODE_LABEL: space.node}, "gpus": 1}


async def test_no_target_matches_a_node(space: Space, operator: Operator) -> None:
    """One run finds out; the others of its target end without a pod, those of other targets are measured."""
    targets = [NOWHERE, here(space)]
    await space.submit(targets=targets, limits={"scheduleTimeout": LONG_ENOUGH})
    benchmark = await space.until_complete()
    by_cell = {f"{cell['variant']}/{cell['target']}": cell["verdict"] for cell in benchmark["status"]["cells"]}
    assert by_cell == {
        "bf16/nowhere": "Unschedulable",
        "int8/nowhere": "Unschedulable",
        "bf16/node": "Measured",
        "int8/node": "Measured",
    }
    nowhere = [run for run in space.runs() if run["spec"]["target"]["name"] == "nowhere"]
    tried, spared = sorted(nowhere, key=lambda run: "refusal" in run["spec"])
    assert "didn't match Pod's node affinity/selector" in tried["status"]["verdict"]["message"]
    assert spared["spec"]["refusal"]["verdict"] == "Unschedulable"
    assert tried["metadata"]["name"] in spared["status"]["verdict"]["message"]
    pods = [seen for seen in space.ever("Pod") if seen.label("target") == "nowhere"]
    assert len(pods) == 1


async def test_more_gpus_than_a_node_has(space: Space, operator: Operator) -> None:
    target = {**here(space), "gpus": 64}
    assert GPUS_PER_NODE >= 64
    target["gpuResourceName"] = "amd.com/gpu"
    await space.submit(targets=[target], limits={"scheduleTimeout": LONG_ENOUGH})
    await space.until_complete()
    verdict = space.verdicts()
    assert verdict == {"bf16": "Unschedulable/NoNode", "int8": "Unschedulable/NoNode"}
    messages = [run["status"]["verdict"]["message"] for run in space.runs()]
    assert any("Insufficient amd.com/gpu" in message for message in messages)


async def test_parallelism_two(lab: Lab, space: Space) -> None:
    """Two servers at a time, never three, and no slot idles while runs wait."""
    invariants = Invariants(space, servers=2)
    variants = [{"name": f"v{number}", "method": "BF16"} for number in range(5)]
    lab.operator(space).start()
    await space.submit(variants=variants, baseline="v0", limits={"parallelism": 2})
    await space.until_complete()
    invariants.check()
    invariants.once()
    assert invariants.most == 2
    assert set(space.verdicts().values()) == {MEASURED}


async def test_budget(space: Space, operator: Operator) -> None:
    """With the GPU-hours spent, no server is started; a raised limit lets the study go on."""
    await space.submit(limits={"gpuHours": 1e-5})
    await space.until_complete()
    complete = space.condition("Complete")
    assert complete["reason"] == "BudgetSpent"
    assert "1 runs were not started: raise limits.gpuHours" in complete["message"]
    assert len(space.ever("Pod", "server")) == 1
    await space.edit({"limits": {"gpuHours": 10}})
    await space.until(lambda: len(space.verdicts()) == 2, about="both runs ended")
    benchmark = await space.until_complete()
    assert space.condition("Complete")["reason"] == "AllRunsEnded"
    assert set(space.verdicts().values()) == {MEASURED}
    assert 0 < benchmark["status"]["gpuHours"] < 1


async def test_time_to_live(space: Space, operator: Operator) -> None:
    """The finished study is deleted after its time, and all that it owns with it; not before it is finished."""
    await space.submit(ttlSecondsAfterFinished=1)
    await space.until_complete()
    await space.until(lambda: space.benchmark() is None, about="the benchmark is gone")
    await space.until(lambda: not space.runs(), seconds=90, about="the garbage collector took the runs")
    (seen,) = space.ever("QuantBenchmark")
    assert seen.raw["status"]["progress"] == "2/2"


async def test_time_to_live_can_be_set_later(space: Space, operator: Operator) -> None:
    await space.submit()
    await space.until_complete()
    await operator.idle()
    await space.edit({"ttlSecondsAfterFinished": 0})
    await space.until(lambda: space.benchmark() is None, about="the benchmark is gone")


async def test_quota(space: Space, operator: Operator) -> None:
    """A pod that the quota forbids is waited for, with the reason in sight, up to the limit for scheduling."""
    await space.forbid(pods="0")
    await space.submit(limits={"scheduleTimeout": "10m"})
    variant = await space.until(
        lambda: next(
            (r["spec"]["variant"]["name"] for r in space.runs() if "exceeded quota" in str(r.get("status"))), None
        )
    )
    run = space.run(variant)
    assert run is not None
    (complete,) = run["status"]["conditions"]
    assert (complete["status"], complete["reason"]) == ("False", "Scheduling")
    assert "exceeded quota: quota, requested: pods=1, used: pods=0, limited: pods=0" in complete["message"]
    assert not space.ever("Pod")
    await space.edit({"limits": {"scheduleTimeout": "1s"}})
    await space.until_complete()
    verdict = space.verdict(variant)
    assert (verdict["name"], verdict["reason"]) == ("Unschedulable", "PodForbidden")
    assert "exceeded quota" in verdict["message"]


async def test_quota_that_becomes_free(space: Space, operator: Operator) -> None:
    await space.forbid(pods="0")
    await space.submit()
    await space.until(lambda: "exceeded quota" in str(space.runs()), about="the quota shows")
    await space.permit()
    await operator.jump(0)
    await space.until_complete()
    assert set(space.verdicts().values()) == {MEASURED}


async def test_quota_that_forbids_the_load_pod(space: Space, operator: Operator) -> None:
    """The Job controller makes that pod, and tells only its Job why it cannot: a GPU does not wait long for it."""
    await space.forbid(pods="1")
    await space.submit(limits={"scheduleTimeout": "70s"})
    await space.until(lambda: "waiting for the load generator" in str(space.runs()), about="the wait shows")
    await operator.jump(61)
    await space.until(lambda: "the Job controller made no pod" in str(space.runs()), about="the reason shows")
    assert not space.verdicts()
    await operator.jump(15)
    await space.until_complete()
    assert set(space.verdicts().values()) == {"Unschedulable/LoadPodMissing"}
    assert "kubectl describe job" in space.verdict("bf16")["message"]
    assert not space.ever("Pod", "load")


async def test_quota_that_forbids_runs(space: Space, operator: Operator) -> None:
    """Nothing is lost while the study's own objects are refused; an Event says why it waits."""
    await space.forbid(**{"count/quantbenchmarkruns.quantbench.dev": "1"})
    await space.submit(limits={"parallelism": 2})

    async def told() -> bool:
        events = await space.api.list("Event", space.name)
        return any(event["reason"] == "RunRefused" and "exceeded quota" in event["message"] for event in events)

    await eventually(told)
    await space.permit()
    await operator.jump(0)
    await space.until_complete()
    assert set(space.verdicts().values()) == {MEASURED}


async def test_admission_webhook_that_does_not_answer(space: Space, operator: Operator) -> None:
    """A policy engine that is down refuses every pod: the reason shows, and the run ends at its limit."""
    webhook = {
        "name": "policy.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/validate"},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    manifest = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": space.name},
        "webhooks": [webhook],
    }
    await space.api.create(manifest)
    await space.submit()
    await space.until(lambda: "failed calling webhook" in str(space.runs()), about="the reason shows")
    await space.edit({"limits": {"scheduleTimeout": "1s"}})
    await space.until_complete()
    assert "Unschedulable/PodForbidden" in space.verdicts().values()
    await space.api.delete("ValidatingWebhookConfiguration", None, space.name)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}, "must be less than or equal to cpu limit"),
        ({"affinity": {"nonsense": True}}, "nonsense"),
        ({"affinity": {"nodeAffinity": "east"}}, "nodeAffinity"),
        ({"labels": {"tier": "not a label value!"}}, "not a label value!"),
        ({"annotations": {"no spaces allowed": "x"}}, "no spaces allowed"),
    ],
    ids=["limits-below-requests", "affinity-unknown", "affinity-of-a-wrong-type", "label", "annotation"],
)
async def test_pod_that_the_api_server_refuses(
    space: Space, operator: Operator, template: dict[str, object], says: str
) -> None:
    """What the schema of a benchmark cannot tell, the first pod does: a verdict at once, with the server's words."""
    await space.submit(engine={"image": "vllm/vllm-openai:v0.32.0", "podTemplate": template})
    await space.until_complete()
    assert set(space.verdicts().values()) == {"Failed/PodRejected"}
    assert says in space.verdict("bf16")["message"]


async def test_pod_security_restricted_admits_our_pods(space: Space, operator: Operator) -> None:
    """The namespace of each test enforces it; here is the proof that it does."""
    privileged = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged", "namespace": space.name},
        "spec": {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(Refused) as refused:
        await space.api.create(privileged)
    assert 'violates PodSecurity "restricted:latest"' in refused.value.message
    everything = {
        "env": [
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
            {"name": "HF_HUB_OFFLINE", "value": "1"},
        ],
        "volumes": [
            {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
            {"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "settings", "configMap": {"name": "settings", "optional": True}},
            {"name": "token", "secret": {"secretName": "hub", "optional": True}},
        ],
        "volumeMounts": [
            {"name": "models", "mountPath": "/models", "readOnly": True},
            {"name": "cache", "mountPath": "/cache"},
        ],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "registry"}],
        "labels": {"team": "inference"},
        "annotations": {"example.com/note": "measured"},
        "resources": {"requests": {"cpu": 4, "memory": "8Gi"}, "limits": {"memory": "16Gi"}},
        "loadResources": {"requests": {"cpu": "500m"}},
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": NODE_LABEL, "operator": "In", "values": [space.node]}]}
                    ]
                }
            }
        },
        "runAsUser": 1000,
        "fsGroup": 1000,
    }
    await space.submit(
        engine={"image": "vllm/vllm-openai:v0.32.0", "podTemplate": everything}, limits={"scheduleTimeout": "5m"}
    )
    # The claim does not exist, so the scheduler holds the pod back; admission has let it pass.
    await space.until(lambda: space.ever("Pod", "server"), about="the server pod")
    await space.until(lambda: "persistentvolumeclaim" in str(space.runs()), about="the scheduler's words in the status")
    (pod,) = space.ever("Pod", "server")
    assert pod.raw["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod.raw["spec"]["automountServiceAccountToken"] is False
    assert pod.raw["metadata"]["labels"]["team"] == "inference"


async def test_pods_of_both_kinds_were_admitted(space: Space, operator: Operator) -> None:
    await space.submit()
    await space.until_complete()
    for component in ("server", "load"):
        pods = space.ever("Pod", component)
        assert len(pods) == 2
        for pod in pods:
            containers = pod.raw["spec"]["containers"] + pod.raw["spec"].get("initContainers", [])
            assert all(c["securityContext"]["allowPrivilegeEscalation"] is False for c in containers)


async def test_long_names(space: Space, operator: Operator) -> None:
    """The longest names that the API takes, whose parts become names and labels of pods."""
    name = "a" * 61 + "." + "b" * 60 + "-c.d" + "e" * 40
    variants = [{"name": "f" * 38 + f"-{number}", "method": "BF16"} for number in range(2)]
    await space.submit(
        name, variants=variants, baseline=variants[0]["name"], targets=[{**here(space), "name": "g" * 40}]
    )
    await space.until_complete(name)
    assert set(space.verdicts().values()) == {MEASURED}


async def test_two_studies_of_one_namespace_do_not_mix(space: Space, operator: Operator) -> None:
    """Names that share their first 24 characters, which is as much as goes into the names of runs."""
    names = ["one-model-with-a-long-name-a", "one-model-with-a-long-name-b"]
    for name in names:
        await space.submit(name)
    for name in names:
        benchmark = await space.until_complete(name)
        assert benchmark["status"]["progress"] == "2/2"
    assert len(space.runs()) == 4
    assert len(space.ever("Job")) == 4
