"""The server: one bare pod that runs `vllm serve`."""

from quantbench.api.base import MAX_SECONDS, JsonObject
from quantbench.api.run import QuantBenchmarkRunSpec
from quantbench.resources import labels
from quantbench.resources.pods import RUNNER_PATH, amounts, container, metadata, pod_spec
from quantbench.resources.programs import RunnerImage, bring
from quantbench.results import warmup_prompts

PORT = 8000
GPU_MONITOR_PORT = 8001
CONTAINER = "vllm"
SHORTEST_DEADLINE = 6 * 3600
"""A pod's deadline cannot be put off: so much [s] it leaves for limits that are raised while a server runs."""


def server_name(run_name: str, attempt: int) -> str:
    """Name of the server pod of an attempt."""
    return f"{run_name}-s{attempt}"


def server_pod(
    run_name: str, run_uid: str, namespace: str, spec: QuantBenchmarkRunSpec, attempt: int, runner: RunnerImage
) -> JsonObject:
    """The server pod of one attempt.

    It is a bare pod that is never restarted: a crash is a finding, not something to hide. On GPUs vLLM is started by
    our GPU monitor, which forks and becomes it; the engine's image then shows clocks, power and throttling.
    """
    template, target = spec.engine.pod_template, spec.target
    gpus = {target.gpu_resource_name: target.gpus} if target.gpus else None
    env = {variable.name: variable.value or "" for variable in spec.engine.env}
    command = ["vllm", "serve", spec.engine.model, *spec.engine.args]
    if target.gpus:
        command = ["python3", f"{RUNNER_PATH}/gpumonitor", "--", *command]
    vllm = container(CONTAINER, spec, command, env, amounts(template.resources, gpus))
    vllm["ports"] = [{"name": "http", "containerPort": PORT}]
    if target.gpus:
        vllm["ports"].append({"name": "gpu", "containerPort": GPU_MONITOR_PORT})
    # A startup probe tells readiness within a second and then leaves the loaded server alone. It never kills:
    # the operator's own deadline does, with a reason.
    vllm["startupProbe"] = {
        "httpGet": {"path": "/health", "port": PORT},
        "periodSeconds": 1,
        "timeoutSeconds": 5,
        "failureThreshold": 1_000_000,
    }
    pod = pod_spec(
        template,
        [vllm],
        nodeSelector=dict(target.node_selector),
        terminationGracePeriodSeconds=1,
        # Should the operator never come back, the GPU is freed all the same.
        activeDeadlineSeconds=longest_life(spec),
    )
    if target.gpus:
        bring("gpumonitor", pod, runner)
    if template.affinity:
        pod["affinity"] = template.affinity
    head = metadata(server_name(run_name, attempt), namespace, run_name, run_uid, spec, attempt, labels.SERVER)
    if template.annotations:
        head["annotations"] = dict(template.annotations)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": head, "spec": pod}


def longest_life(spec: QuantBenchmarkRunSpec) -> int:
    """After how long a server ends without the operator [s]: when every stage has taken as long as it may, or later."""
    limits, plan = spec.limits, spec.load
    warmups = sum(1 for load in plan.loads if warmup_prompts(load, plan.workload))
    passes = plan.passes + warmups
    life = limits.schedule_timeout_seconds + limits.start_timeout_seconds + (passes + 1) * limits.load_timeout_seconds
    return min(max(life, SHORTEST_DEADLINE), MAX_SECONDS)
