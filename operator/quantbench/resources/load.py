"""The load generator: one Job per run that drives all loads against the server pod."""

import json

from quantbench.api.base import JsonObject
from quantbench.api.run import QuantBenchmarkRunSpec
from quantbench.resources import labels
from quantbench.resources.pods import RUNNER_PATH, amounts, child_labels, container, metadata, pod_spec
from quantbench.resources.programs import RunnerImage, bring
from quantbench.resources.server import GPU_MONITOR_PORT, PORT, longest_life
from quantbench.results import prompts, warmup_prompts

CONTAINER = "load"
LONGEST_WAIT = 7 * 24 * 3600
"""Longest time that the load runner takes to wait for the server [s]."""


def load_name(run_name: str, attempt: int) -> str:
    """Name of the load Job of an attempt."""
    return f"{run_name}-l{attempt}"


def load_job(
    run_name: str,
    run_uid: str,
    namespace: str,
    spec: QuantBenchmarkRunSpec,
    attempt: int,
    address: str,
    runner: RunnerImage,
) -> JsonObject:
    """The load Job of one attempt.

    ``address`` is the server pod's IP, so that no Service stands in the measured path.
    """
    template = spec.engine.pod_template
    host = f"[{address}]" if ":" in address else address
    env = {"QUANTBENCH_SERVER": f"http://{host}:{PORT}", "QUANTBENCH_LOAD": json.dumps(runner_spec(spec))}
    if spec.target.gpus:
        env["QUANTBENCH_GPU_MONITOR"] = f"http://{host}:{GPU_MONITOR_PORT}"
    if spec.load.workload.raw_output_dir:
        env["QUANTBENCH_RAW_DIR"] = f"{spec.load.workload.raw_output_dir}/{run_name}-{attempt}"
    load = container(CONTAINER, spec, ["python3", f"{RUNNER_PATH}/loadrunner"], env, amounts(template.load_resources))
    pod = pod_spec(
        template,
        [load],
        affinity=_beside_the_server(run_name, attempt),
        terminationGracePeriodSeconds=2,
    )
    bring("loadrunner", pod, runner)
    head: JsonObject = {"labels": child_labels(run_name, spec, attempt, labels.LOAD)}
    # The API server refuses annotations of a container that the pod does not have.
    ours = {one["name"] for one in (*pod["initContainers"], *pod["containers"])}
    annotations = {
        key: value
        for key, value in template.annotations.items()
        if not key.startswith("container.") or key.rpartition("/")[2] in ours
    }
    if annotations:
        head["annotations"] = annotations
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(load_name(run_name, attempt), namespace, run_name, run_uid, spec, attempt, labels.LOAD),
        "spec": {
            # A second try would measure on a server that the first has warmed up and filled.
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "template": {"metadata": head, "spec": pod},
        },
    }


def _beside_the_server(run_name: str, attempt: int) -> JsonObject:
    """On the server's node if there is room: the image is there, and no network is measured."""
    chosen = {labels.RUN: run_name, labels.ATTEMPT: str(attempt), labels.COMPONENT: labels.SERVER}
    term = {"labelSelector": {"matchLabels": chosen}, "topologyKey": "kubernetes.io/hostname"}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def runner_spec(spec: QuantBenchmarkRunSpec) -> JsonObject:
    """What the load runner is told, as JSON in its environment."""
    workload = spec.load.workload
    return {
        "schema": 1,
        "engineVersion": spec.engine.version,
        "model": _served_name(spec),
        "tokenizer": spec.engine.tokenizer,
        "dataset": workload.dataset.to_json(),
        "ignoreEOS": workload.ignore_eos,
        "temperature": workload.temperature,
        "seed": workload.seed,
        "percentiles": [50, 90, 99],
        # limits.startTimeout may change while it waits: holding a server to it is for the operator.
        "serverReadyTimeoutSeconds": min(longest_life(spec), LONGEST_WAIT),
        "loads": [
            {
                "name": load.name,
                "requestRate": str(load.request_rate),
                "maxConcurrency": load.max_concurrency,
                "burstiness": load.burstiness,
                "numPrompts": prompts(load, workload),
                "warmupPrompts": warmup_prompts(load, workload),
                "repeats": load.repeats or spec.load.repeats,
            }
            for load in spec.load.loads
        ],
    }


def _served_name(spec: QuantBenchmarkRunSpec) -> str:
    flag = "--served-model-name="
    return next(argument[len(flag) :] for argument in spec.engine.args if argument.startswith(flag))
