"""Our own programs in containers of the engine's image: an init container of the operator's image brings them along."""

from dataclasses import dataclass

from quantbench.api.base import JsonObject
from quantbench.resources.pods import CONTAINER_SECURITY, OUR_VOLUMES, RUNNER_PATH

RUNNER_VOLUME = f"{OUR_VOLUMES}runner"


@dataclass(frozen=True)
class RunnerImage:
    """The operator's own image, which holds the programs of `benchmarks/`."""

    image: str
    pull_policy: str = "IfNotPresent"


def bring(program: str, pod: JsonObject, runner: RunnerImage) -> None:
    """Put a folder of `benchmarks/` below `RUNNER_PATH` of a pod's one container, before that starts."""
    pod["initContainers"] = [
        {
            "name": f"install-{program}",
            "image": runner.image,
            "imagePullPolicy": runner.pull_policy,
            "command": ["cp", "-r", f"/app/benchmarks/{program}", f"{RUNNER_PATH}/"],
            "securityContext": CONTAINER_SECURITY,
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            "volumeMounts": [{"name": RUNNER_VOLUME, "mountPath": RUNNER_PATH}],
        }
    ]
    pod["volumes"].append({"name": RUNNER_VOLUME, "emptyDir": {}})
    pod["containers"][0]["volumeMounts"].append({"name": RUNNER_VOLUME, "mountPath": RUNNER_PATH, "readOnly": True})
