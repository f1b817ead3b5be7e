"""The installed chart on a real node: real scheduler, kubelet and containerd, real vLLM, real ShareGPT prompts."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster import gpu, record
from cluster.demo import NAMESPACE, STATE, Demo
from cluster.layout import OPERATOR_IMAGE, Layout
from tests.planted_gpus import plant, uuid

STUDY = Path(__file__).parent / "study.yaml"
DEADLINE = 2400
# Whichever test comes first sets the cluster up, and on a new machine builds its images: minutes.
pytestmark = pytest.mark.timeout(2700)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A cluster with chart, models, and two GPUs that are planted; one that was there before stays."""
    ours = not (STATE / "kubeconfig").exists()
    planted = tmp_path_factory.mktemp("gpus")
    plant(planted, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(gpu.ROOT_VARIABLE, str(planted))
        demo = Demo(STUDY)
    try:
        demo.cluster()
        own = record.load(Layout(STATE))
        assert own is not None
        assert own.gpu_root == str(planted) or own.provider == "kind" or not ours
        for step in (demo.prompts, demo.chart, demo.models):
            step()
        yield demo
    finally:
        if ours:
            demo.down()


@pytest.fixture(scope="session")
def finished(demo: Demo) -> dict[str, Any]:
    """The study after its end; the operator is killed three times while it runs."""
    demo.start()
    for stage in ("Starting", "Loading", "Starting"):
        wait_for(lambda stage=stage: stage in [_stage(run) for run in runs(demo)])
        kill_operator(demo)
    wait_for(lambda: _condition(study(demo), "Complete")["status"] == "True")
    return study(demo)


def study(demo: Demo) -> dict[str, Any]:
    return json.loads(demo.kubectl("get", "quantbenchmark", "e2e", "-o", "json"))


def runs(demo: Demo) -> list[dict[str, Any]]:
    return json.loads(demo.kubectl("get", "quantbenchmarkruns", "-l", "quantbench.dev/benchmark=e2e", "-o", "json"))[
        "items"
    ]


def _condition(raw: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = raw.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {"status": "", "reason": ""})


def _stage(run: dict[str, Any]) -> str:
    return _condition(run, "Complete")["reason"]


def wait_for(holds: Any) -> None:
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end, "not reached in time"
        time.sleep(0.5)


def kill_operator(demo: Demo) -> None:
    """SIGKILL to the operator's process: nothing is tidied up, and the kubelet starts it again."""
    before = _operator(demo)
    container = before["containerID"].removeprefix("containerd://")
    demo.on_node("ctr", "--namespace", "k8s.io", "task", "kill", "--signal", "SIGKILL", container)
    wait_for(lambda: _operator(demo)["restartCount"] > before["restartCount"] and _operator(demo)["ready"])


def _operator(demo: Demo) -> dict[str, Any]:
    pods = json.loads(demo.kubectl("get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "json"))["items"]
    return pods[0]["status"]["containerStatuses"][0]


def verdicts(demo: Demo) -> dict[str, Any]:
    return {run["spec"]["variant"]["name"]: run["status"]["verdict"] for run in runs(demo)}


GPU_POD = """
apiVersion: v1
kind: Pod
metadata: {name: gpu, namespace: gpus}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: gpu
    image: "%s"
    command: [python3, -c]
    args:
    - |
      import glob, json, os
      for node in glob.glob("/dev/nvidia*"): open(node, "r+b", buffering=0).close()
      print(json.dumps([sorted(glob.glob("/dev/nvidia*")), os.environ["NVIDIA_VISIBLE_DEVICES"]]))
    resources: {limits: {nvidia.com/gpu: 1}}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
"""


def test_a_pod_without_privilege_gets_the_gpu_it_asked_for(demo: Demo) -> None:
    [node] = json.loads(demo.kubectl("get", "nodes", "-o", "json"))["items"]
    own = record.load(Layout(STATE))
    if own is None or own.gpu_root in ("", "/"):
        pytest.skip("the cluster is kind's, or was there before: no GPUs are planted in it")
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == node["metadata"]["labels"]["nvidia.com/gpu.count"] == "2"
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gpus", "labels": restricted}}
    demo.kubectl("apply", "-f", "-", stdin=json.dumps(space))
    demo.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace=gpus", "--timeout=30s")
    demo.kubectl("apply", "--namespace=gpus", "-f", "-", stdin=GPU_POD % OPERATOR_IMAGE)
    demo.kubectl("wait", "--namespace=gpus", "--for=jsonpath={.status.phase}=Succeeded", "pod/gpu", "--timeout=60s")
    devices, visible = json.loads(demo.kubectl("logs", "--namespace=gpus", "gpu"))
    [own] = {"/dev/nvidia0", "/dev/nvidia1"} & set(devices)
    assert set(devices) == {own, "/dev/nvidiactl", "/dev/nvidia-uvm"}
    assert visible == {"/dev/nvidia1": uuid(0), "/dev/nvidia0": uuid(1)}[own], "the file is this GPU's"


def test_every_run_ends_in_its_verdict(demo: Demo, finished: dict[str, Any]) -> None:
    found = {variant: f"{outcome['name']}/{outcome['reason']}" for variant, outcome in verdicts(demo).items()}
    # A pass that a busy machine disturbs is left out, and said; what the study is about does not change.
    measured = {variant: found.pop(variant).partition("/")[0] for variant in ("bf16", "control", "awq", "awq-again")}
    assert set(measured.values()) <= {"Measured", "Unstable"}
    assert found == {
        "awq-machete": "ConfigurationMismatch/Kernel",
        "int8-weights": "NotQuantized/NoQuantizedLayer",
        "gptq-int8": "Unsupported/KernelMissing",
    }
    assert "Marlin does not support weight_bits" in verdicts(demo)["gptq-int8"]["logLine"]
    mismatched = [run for run in runs(demo) if run["spec"]["variant"]["name"] in ("awq-machete", "int8-weights")]
    assert all(not run["status"].get("passes") for run in mismatched), "seen before any load was run"


def test_one_configuration_under_two_names_is_one(finished: dict[str, Any]) -> None:
    cells = {cell["variant"]: cell for cell in finished["status"]["cells"]}
    assert (cells["awq-again"]["verdict"], cells["awq-again"]["sameAs"]) == ("Duplicate", "awq")
    assert cells["awq-again"]["finished"] == 1, "once is enough"
    assert "CPUWNA16LinearKernel" in cells["awq"]["effective"]
    assert cells["awq"]["fingerprint"] != cells["bf16"]["fingerprint"] == cells["control"]["fingerprint"]
    assert "Duplicate" in {finding["kind"] for finding in finished["status"]["findings"]}


def test_the_baseline_cannot_be_told_from_itself(finished: dict[str, Any]) -> None:
    """A/A: nothing is said to be faster than itself. One interval in twenty misses 1, and one control in twenty is an
    alarm, so that neither is asked here; nor whether the machine was quiet enough for starts to agree.
    """
    [row] = next(cell for cell in finished["status"]["cells"] if cell["variant"] == "control")["loads"]
    assert row["starts"] == row["ratioStarts"] == 2
    assert row["ratioLow"] < row["ratio"] < row["ratioHigh"]
    said = [finding["kind"] for finding in finished["status"]["findings"] if "control" in finding["variants"]]
    assert said.count("Control") == 1
    assert set(said) <= {"Control", "StartsDisagree"}


def test_client_and_server_counted_the_same(demo: Demo, finished: dict[str, Any]) -> None:
    measured = [run for run in runs(demo) if run["spec"]["variant"]["name"] == "bf16"]
    assert [run["spec"]["block"] for run in sorted(measured, key=lambda run: run["spec"]["block"])] == [1, 2]
    for run in measured:
        passes = run["status"]["passes"]
        assert [one["repeat"] for one in passes] == [1, 2]
        for one in passes:
            assert one.get("invalidReason") not in ("CountersDisagree", "RequestsDisagree", "PrefixCacheHit"), one
            assert one["completed"] == one["asked"] == 16
            assert one["failed"] == 0
            assert one["server"]["generationTokens"] == one["totalOutputTokens"] > 0
            assert one["server"]["requestsSucceeded"] == 16
            assert one["server"]["promptTokens"] == one["totalInputTokens"] > 0
            # On a busy machine first tokens reach the client late, which shortens the TPOT of an answer of n tokens by
            # an n-1-th of that; no prompt's answer has fewer than four.
            late = max(0.0, one["ttftMilliseconds"]["mean"] - one["server"]["meanTTFTMilliseconds"]) / 3
            apart = abs(one["server"]["meanTPOTMilliseconds"] - one["tpotMilliseconds"]["mean"])
            assert apart <= 0.02 * one["server"]["meanTPOTMilliseconds"] + late
            assert one["server"]["meanQueueMilliseconds"] >= 0
            assert 0 < one["client"]["cpuShare"] < 0.5
            assert one["client"]["maxEventLoopLagMilliseconds"] >= 0
            assert "gpu" not in one
            assert one["totalTokensPerSecond"] > one["outputTokensPerSecond"] > 0


def test_killing_the_operator_cost_only_time(demo: Demo, finished: dict[str, Any]) -> None:
    assert all(run["status"]["attempt"] == 1 for run in runs(demo))
    assert all(run["status"].get("lost", 0) == 0 for run in runs(demo))
    assert _operator(demo)["restartCount"] >= 3


def test_nothing_is_left_running(demo: Demo, finished: dict[str, Any]) -> None:
    left = json.loads(demo.kubectl("get", "pods,jobs", "-l", "quantbench.dev/benchmark=e2e", "-o", "json"))["items"]
    assert left == []


def test_results_are_in_prometheus_format(demo: Demo, finished: dict[str, Any]) -> None:
    labels = {"benchmark": "e2e", "load": "c4", "namespace": NAMESPACE, "target": "cpu", "variant": "bf16"}

    def exported() -> bool:
        pod = demo.kubectl(
            "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "jsonpath={.items[0].metadata.name}"
        )
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics"
        families = text_string_to_metric_families(demo.kubectl("get", f"--raw={path}"))
        samples = [sample for family in families for sample in family.samples]
        return any(s.name == "quantbench_result_total_tokens_per_second" and s.labels == labels for s in samples)

    wait_for(exported)
