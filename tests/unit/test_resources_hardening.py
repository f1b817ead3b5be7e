"""Every pod is hardened, whatever the user adds."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_support.objects import FULL, MINIMAL, RUNNER, merged, plan_of, run, study
from core_support.pod_security import CONTROLS, violations
from quantbench.api.base import JsonObject
from quantbench.api.benchmark import QuantBenchmarkSpec
from quantbench.api.pod import PodTemplate
from quantbench.observe import Run
from quantbench.plan import SpecInvalid
from quantbench.resources import labels
from quantbench.resources.load import load_job, runner_spec
from quantbench.resources.pods import BASE_ENV, OVERRIDABLE, RESERVED_ENV
from quantbench.resources.server import longest_life, server_pod


def pods(of: Run, address: str = "10.0.0.1") -> dict[str, JsonObject]:
    """Metadata and specification of both pods of a run."""
    named = (of.name, of.uid, of.namespace, of.spec, 1)
    return {"server": server_pod(*named, RUNNER), "load": load_job(*named, address, RUNNER)["spec"]["template"]}


def test_the_pods_of_the_fullest_study_are_restricted() -> None:
    for place in range(4):
        for kind, pod in pods(run(QuantBenchmarkSpec.model_validate(FULL), place)).items():
            assert violations(pod["spec"]) == [], kind


PLANTED: dict[str, Any] = {
    "hostNamespaces": lambda spec: spec.update(hostNetwork=True),
    "hostPorts": lambda spec: spec["containers"][0].update(ports=[{"containerPort": 1, "hostPort": 1}]),
    "hostProbesAndHostLifecycle": lambda spec: spec["containers"][0].update(
        startupProbe={"httpGet": {"host": "192.0.2.1", "port": 1}}
    ),
    "privileged": lambda spec: spec["containers"][0]["securityContext"].update(privileged=True),
    "procMount": lambda spec: spec["containers"][0]["securityContext"].update(procMount="Unmasked"),
    "appArmorProfile": lambda spec: spec["securityContext"].update(appArmorProfile={"type": "Unconfined"}),
    "seLinuxOptions": lambda spec: spec["securityContext"].update(seLinuxOptions={"user": "system_u"}),
    "windowsHostProcess": lambda spec: spec["securityContext"].update(windowsOptions={"hostProcess": True}),
    "sysctls": lambda spec: spec["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}]),
    "restrictedVolumes": lambda spec: spec["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
    "allowPrivilegeEscalation": lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    "capabilities": lambda spec: spec["containers"][0]["securityContext"].update(
        capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}
    ),
    "runAsNonRoot": lambda spec: spec["securityContext"].pop("runAsNonRoot"),
    "runAsUser": lambda spec: spec["securityContext"].update(runAsUser=0),
    "seccompProfile": lambda spec: spec["securityContext"].update(seccompProfile={"type": "Unconfined"}),
}


def test_each_control_has_its_planted_fault() -> None:
    assert set(PLANTED) == set(CONTROLS)


@pytest.mark.parametrize("control", CONTROLS)
def test_the_checker_finds(control: str) -> None:
    for pod in pods(run()).values():
        spec = copy.deepcopy(pod["spec"])
        PLANTED[control](spec)
        assert violations(spec) == [control]


NAMES = st.sampled_from(
    [*sorted(RESERVED_ENV), *sorted(OVERRIDABLE), "HF_TOKEN", "LD_PRELOAD", "VLLM_PORT", "VLLM_LOGGING_LEVEL", "PATH"]
)
OUR_LABELS = [
    labels.BENCHMARK, labels.RUN, labels.COMPONENT, labels.ATTEMPT, labels.VARIANT, labels.TARGET, *labels.MANAGED,
]  # fmt: skip
PATHS = st.sampled_from(
    [
        "/",
        "/tmp",
        "/tmp/",
        "/tmp/x",
        "/dev/shm",
        "/dev/shm/x",
        "/quantbench",
        "/quantbench/loadrunner",
        "/data",
        "/proc/1",
    ]
)
VOLUME_NAMES = st.sampled_from(["data", "quantbench-tmp", "quantbench-runner", "quantbench-dev-shm", "cache"])
VOLUMES = st.builds(
    lambda name, source: {"name": name, **source},
    VOLUME_NAMES,
    st.sampled_from(
        [
            {"emptyDir": {}},
            {"secret": {"secretName": "s"}},
            {"configMap": {"name": "c"}},
            {"persistentVolumeClaim": {"claimName": "p"}},
        ]
    ),
)
TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(st.sampled_from([*OUR_LABELS, "team"]), st.just("mine"), max_size=4),
        "annotations": st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=5)),
        "env": st.lists(
            st.builds(lambda name: {"name": name, "value": "mine"}, NAMES), max_size=4, unique_by=lambda e: e["name"]
        ),
        "volumes": st.lists(VOLUMES, max_size=3, unique_by=lambda v: str(v["name"])),
        "volumeMounts": st.lists(
            st.builds(lambda name, path: {"name": name, "mountPath": path}, VOLUME_NAMES, PATHS),
            max_size=3,
            unique_by=lambda m: m["mountPath"],
        ),
        "runAsUser": st.integers(1, 2**31 - 1),
        "fsGroup": st.integers(1, 2**31 - 1),
        "resources": st.just({"limits": {"nvidia.com/gpu": 7, "memory": "1Gi"}, "requests": {"cpu": "1"}}),
        "runtimeClassName": st.just("nvidia"),
    },
)


@settings(max_examples=200)
@given(TEMPLATES)
def test_a_pod_template_is_refused_or_takes_nothing_over(template: JsonObject) -> None:
    spec = study(engine={"podTemplate": template}, sampling={"control": False})
    try:
        plan_of(spec)
    except SpecInvalid as error:
        assert all(wrong.path.startswith("spec.engine.podTemplate.") for wrong in error.errors)
        return
    plain, changed = pods(run(study(sampling={"control": False}))), pods(run(spec))
    for kind in ("server", "load"):
        holds(plain[kind], changed[kind], PodTemplate.model_validate(template))


def test_the_operators_environment_holds_even_where_the_plan_was_not_asked() -> None:
    mine = [{"name": name, "value": "mine"} for name in sorted(RESERVED_ENV)]
    for kind, pod in pods(run(study(), engine={"podTemplate": {"env": mine}})).items():
        env = {variable["name"]: variable.get("value") for variable in pod["spec"]["containers"][0]["env"]}
        ours = set(BASE_ENV) - OVERRIDABLE | ({"QUANTBENCH_SERVER", "QUANTBENCH_LOAD"} if kind == "load" else set())
        assert not [name for name in ours if env[name] == "mine"]


def holds(plain: JsonObject, changed: JsonObject, template: PodTemplate) -> None:
    """What the operator sets without a pod template is set with it too."""
    assert violations(changed["spec"]) == []
    assert plain["metadata"]["labels"].items() <= changed["metadata"]["labels"].items()
    for key in ("restartPolicy", "automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds"):
        assert changed["spec"][key] == plain["spec"][key]
    for forbidden in ("serviceAccountName", "hostNetwork", "hostPID", "hostIPC", "nodeName", "hostUsers"):
        assert forbidden not in changed["spec"]
    security = changed["spec"]["securityContext"]
    assert security["runAsUser"] == security["runAsGroup"] == template.run_as_user
    ours, theirs = plain["spec"]["containers"][0], changed["spec"]["containers"][0]
    for key in ("name", "image", "command", "securityContext"):
        assert theirs[key] == ours[key]
    env = {variable["name"]: variable.get("value") for variable in theirs["env"]}
    assert len(env) == len(theirs["env"]), "a name twice"
    for variable in ours["env"]:
        assert variable["name"] in OVERRIDABLE or env[variable["name"]] == variable["value"]
    unique(theirs["volumeMounts"], "mountPath", ours["volumeMounts"])
    unique(changed["spec"]["volumes"], "name", plain["spec"]["volumes"])
    assert theirs["resources"].get("limits", {}).get("nvidia.com/gpu") in (
        ours["resources"].get("limits", {}).get("nvidia.com/gpu"),
        *([7] if ours["name"] == "load" else []),
    )


def unique(items: list[JsonObject], key: str, ours: list[JsonObject]) -> None:
    """No two items of one key, and ours among them unchanged."""
    by_key = {item[key].rstrip("/") or "/": item for item in items}
    assert len(by_key) == len(items)
    assert all(by_key[item[key]] == item for item in ours)


def test_a_cache_folder_may_be_moved() -> None:
    moved = study(engine={"podTemplate": {"env": [{"name": "TORCHINDUCTOR_CACHE_DIR", "value": "/cache"}]}})
    env = {v["name"]: v.get("value") for v in pods(run(moved))["server"]["spec"]["containers"][0]["env"]}
    assert env == {**env, **BASE_ENV, "TORCHINDUCTOR_CACHE_DIR": "/cache"}


@pytest.mark.parametrize(("gpus", "limit"), [(0, None), (1, "1"), (8, "8")])
def test_gpus_come_from_the_target(gpus: int, limit: str | None) -> None:
    spec = study(targets=[{"name": "t", "gpus": gpus, "gpuResourceName": "amd.com/gpu"}])
    both = pods(run(spec))
    assert both["server"]["spec"]["containers"][0]["resources"].get("limits", {}).get("amd.com/gpu") == limit
    assert "limits" not in both["load"]["spec"]["containers"][0]["resources"]


def test_a_server_on_gpus_is_watched_and_one_on_the_cpu_is_not() -> None:
    for gpus in (0, 2):
        both = pods(run(study(targets=[{"name": "t", "gpus": gpus}])))
        server, client = (both[kind]["spec"] for kind in ("server", "load"))
        command = server["containers"][0]["command"]
        env = {variable["name"]: variable.get("value") for variable in client["containers"][0]["env"]}
        assert command[3 if gpus else 0 :][:2] == ["vllm", "serve"]
        assert ("initContainers" in server) == ("QUANTBENCH_GPU_MONITOR" in env) == (gpus > 0)
        if gpus:
            assert command[:3] == ["python3", "/quantbench/gpumonitor", "--"]
            assert server["initContainers"][0]["command"][2] == "/app/benchmarks/gpumonitor"
            assert env["QUANTBENCH_GPU_MONITOR"] == "http://10.0.0.1:8001"
            assert {"name": "gpu", "containerPort": 8001} in server["containers"][0]["ports"]


def test_the_monitor_listens_where_the_runner_asks() -> None:
    from benchmarks.gpumonitor.monitor import PORT
    from quantbench.resources.server import GPU_MONITOR_PORT

    assert PORT == GPU_MONITOR_PORT


@pytest.mark.parametrize(
    ("address", "url"), [("10.1.2.3", "http://10.1.2.3:8000"), ("fd00::7", "http://[fd00::7]:8000")]
)
def test_the_server_is_addressed_directly(address: str, url: str) -> None:
    env = {v["name"]: v.get("value") for v in pods(run(), address)["load"]["spec"]["containers"][0]["env"]}
    assert env["QUANTBENCH_SERVER"] == url
    assert "QUANTBENCH_RAW_DIR" not in env


def test_raw_results_have_a_folder_of_their_own_per_attempt() -> None:
    of = run(study(workload={"rawOutputDir": "/data/raw"}))
    named = (of.name, of.uid, of.namespace, of.spec)
    folders = {
        attempt: {v["name"]: v.get("value") for v in load_job(*named, attempt, "10.0.0.1", RUNNER)["spec"]["template"]["spec"]["containers"][0]["env"]}["QUANTBENCH_RAW_DIR"]
        for attempt in (1, 2)
    }  # fmt: skip
    assert folders == {1: f"/data/raw/{of.name}-1", 2: f"/data/raw/{of.name}-2"}


def test_what_the_runner_is_told_is_what_the_runner_reads() -> None:
    from benchmarks.loadrunner.spec import parse_spec

    for document in (MINIMAL, FULL, merged(FULL, {"workload": {"dataset": {"shareGPT": None, "random": {}}}})):
        of = run(QuantBenchmarkSpec.model_validate(document))
        told = parse_spec(json.dumps(runner_spec(of.spec)))
        assert told.model == of.spec.engine.tokenizer
        assert sum(load.repeats for load in told.loads) == of.spec.load.passes
        assert [load.name for load in told.loads] == [load.name for load in of.spec.load.loads]
        assert all(load.num_prompts > 0 for load in told.loads)


def test_a_server_does_not_outlive_its_limits() -> None:
    limits = {"scheduleTimeout": "100s", "startTimeout": "1000s", "loadTimeout": "10000s"}
    spec = study(limits=limits, loads=[{"name": "a"}, {"name": "b", "warmupPrompts": 0}], sampling={"repeats": 3})
    # 6 passes, one warm-up, and one more load timeout for the imports.
    assert longest_life(run(spec).spec) == 1100 + 8 * 10000
    once = study(limits=limits, loads=[{"name": "a", "repeats": 1}, {"name": "b", "warmupPrompts": 0}])
    assert longest_life(run(once).spec) == 1100 + (1 + 3 + 1 + 1) * 10000
    endless = run(study(limits={"loadTimeout": "9999999h"}))
    assert pods(endless)["server"]["spec"]["activeDeadlineSeconds"] == 2**31 - 1


def test_limits_can_be_raised_while_a_server_runs() -> None:
    """What pods were told when they were made stays: their own deadlines leave room, and the operator's decides."""
    short = run(study(limits={"scheduleTimeout": "1s", "startTimeout": "1s", "loadTimeout": "1s"}))
    assert pods(short)["server"]["spec"]["activeDeadlineSeconds"] == 6 * 3600
    assert runner_spec(short.spec)["serverReadyTimeoutSeconds"] == 6 * 3600


def test_the_runner_takes_the_longest_limits() -> None:
    from benchmarks.loadrunner.spec import parse_spec

    endless = run(study(limits={"startTimeout": "9999999h"}))
    assert parse_spec(json.dumps(runner_spec(endless.spec))).server_ready_timeout == 7 * 24 * 3600


def test_names_fit_into_labels() -> None:
    long = run(study(variants=[{"name": "a" * 40, "method": "BF16"}], baseline="a" * 40))
    for pod in pods(long).values():
        assert all(len(value) <= 63 for value in pod["metadata"]["labels"].values())


def test_a_long_benchmark_name_becomes_a_stable_label() -> None:
    name = "x" * 200
    assert labels.short(name) == labels.short(name) != labels.short(name + "y")
    assert len(labels.short(name)) <= 63
    assert labels.short("short") == "short"
