"""The operator as the process that the chart runs, with the rights that the chart gives it."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import yaml

from harness.api import Api, JsonObject
from harness.controlplane import REPOSITORY
from harness.world import World

RELEASE = "quantbench"


def rendered(api: Api, namespace: str, *values: str) -> dict[str, list[JsonObject]]:
    """The chart's objects by kind, as ``helm install`` would make them."""
    own = api.kubeconfig.parent / "bin" / "helm"
    helm = str(own) if own.exists() else shutil.which("helm")
    assert helm, f"no helm: neither {own} nor on the PATH"
    command = [helm, "template", RELEASE, str(REPOSITORY / "charts" / "quantbench"), "--namespace", namespace]
    done = subprocess.run(
        [*command, *(f"--set={value}" for value in values)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[JsonObject]] = {}
    for document in yaml.safe_load_all(done.stdout):
        if document:
            found.setdefault(document["kind"], []).append(document)
    return found


class Installed:
    """The chart in a namespace, but for its Deployment: the test starts those processes itself."""

    def __init__(self, api: Api, namespace: str, objects: dict[str, list[JsonObject]], kubeconfig: Path) -> None:
        self.api, self.namespace, self.objects, self.kubeconfig = api, namespace, objects, kubeconfig

    @classmethod
    async def into(cls, api: Api, namespace: str, folder: Path, *values: str) -> "Installed":
        """Apply the chart's objects and write a kubeconfig of its service account."""
        objects = rendered(api, namespace, *values)
        for kind in ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "NetworkPolicy"):
            for manifest in objects.get(kind, []):
                await api.apply(manifest)
        (account,) = objects["ServiceAccount"]
        name = account["metadata"]["name"]
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        }
        token = (await api.call("POST", path, request))["status"]["token"]
        config = yaml.safe_load(api.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config))
        return cls(api, namespace, objects, kubeconfig)

    @property
    def deployment(self) -> JsonObject:
        (deployment,) = self.objects["Deployment"]
        return deployment

    def environment(self, pod_name: str) -> dict[str, str]:
        """The container's environment, its fields resolved as a kubelet does."""
        (container,) = self.deployment["spec"]["template"]["spec"]["containers"]
        fields = {"metadata.name": pod_name, "metadata.namespace": self.namespace}
        return {
            item["name"]: fields[item["valueFrom"]["fieldRef"]["fieldPath"]] if "valueFrom" in item else item["value"]
            for item in container["env"]
        }


class Process:
    """One operator process."""

    def __init__(self, installed: Installed, world: World, pod_name: str, folder: Path, **environment: str) -> None:
        self.installed, self.world, self.log = installed, world, folder / f"{pod_name}.log"
        self.port = _free_port()
        self._environment = {
            **{key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "PYTHONPATH")},
            **installed.environment(pod_name),
            "KUBECONFIG": str(installed.kubeconfig),
            "QUANTBENCH_HTTP_PORT": str(self.port),
            **environment,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Process":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start, or start again."""
        command = Path(sys.executable).parent / "quantbench"
        with open(self.log, "ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(command), "operator", env=self._environment, stdout=log, stderr=log
            )

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def terminate(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), 20)

    async def get(self, path: str) -> tuple[int, str]:
        """GET from the process; status 0 where it does not listen."""
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status, await answer.text()
        return 0, ""

    async def answers(self, path: str, text: str, *, seconds: float = 90.0) -> None:
        """Wait until a path answers with a text."""
        deadline = asyncio.get_running_loop().time() + seconds
        while (answer := await self.get(path)) != (200, text):
            assert self._process is not None
            ended = self._process.returncode is not None or asyncio.get_running_loop().time() > deadline
            assert not ended, f"{path} answers {answer} instead of {text!r}\n{self.said()}"
            await asyncio.sleep(0.05)

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-4000:]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
