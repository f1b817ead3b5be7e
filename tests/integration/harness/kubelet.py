"""The kubelet's part, played by the test: one node, the pods that the real scheduler binds to it, their logs.

Where it differs from a real kubelet:

- No container runs. A script per pod decides what its containers do, within milliseconds; images are never pulled,
  volumes never mounted, probes never sent: a server is ready when its script says so.
- The client certificate of the API server is not asked for; any caller on the loopback address may read logs.
- Only the status fields that the scheduler, the Job controller and the operator look at are written. Container ids,
  image ids and resource usage are made up or missing.
- A pod's end takes no grace period: its containers end at once, as vLLM's and the load generator's do on SIGTERM.
- One node object; its Lease is renewed, its status is written once.
"""

import asyncio
import contextlib
import functools
import itertools
import ssl
import subprocess
import traceback
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from harness.api import STRATEGIC, Api, JsonObject, Refused, eventually, path_of
from harness.world import World

NODE_LABEL = "quantbench.dev/test-node"
GPUS_PER_NODE = 512
LEASE_SECONDS = 40
TERMINATED_ON_SIGTERM = {"server": (0, "Completed"), "load": (143, "Error")}

Script = Callable[["PodLife"], Awaitable[None]]


def now() -> str:
    """Kubernetes' own times have whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class PodLife:
    """One pod on the node, with the moves that a script can make."""

    def __init__(self, kubelet: "Kubelet", raw: JsonObject) -> None:
        head = raw["metadata"]
        self.kubelet, self.raw = kubelet, raw
        self.namespace, self.name, self.uid = head["namespace"], head["name"], head["uid"]
        labels = head.get("labels", {})
        self.component = labels.get("quantbench.dev/component", "")
        self.variant = labels.get("quantbench.dev/variant", "")
        self.attempt = int(labels.get("quantbench.dev/attempt", "0"))
        self.container = raw["spec"]["containers"][0]
        self.env = {item["name"]: item.get("value", "") for item in self.container.get("env", [])}
        self.log = bytearray()
        self.ip: str | None = None
        self.termination_message = ""
        self.healthy, self.over = asyncio.Event(), asyncio.Event()
        self.passes = 0
        """Passes that the load generator has run against this server."""
        self.pass_done = asyncio.Event()
        self._phase, self._ready, self._started_at = "Pending", False, now()
        self._state: JsonObject = {"waiting": {"reason": "ContainerCreating"}}
        self._init_state: JsonObject = {"waiting": {"reason": "PodInitializing"}}
        self._extra: JsonObject = {}
        self._transitions: dict[str, tuple[bool, str]] = {}

    # --- the moves of a script -------------------------------------------------------------------------------

    def write(self, text: str | bytes) -> None:
        """Append to the main container's log."""
        self.log += text.encode() if isinstance(text, str) else text

    async def network(self) -> None:
        """The sandbox is there: the pod has an address, its containers wait."""
        self.ip = self.ip or self.kubelet.new_address(self)
        await self.report()

    async def waiting(self, reason: str, message: str = "", *, initial: bool = False) -> None:
        """The main (or initial) container cannot start."""
        state = {"waiting": {"reason": reason, "message": message}}
        if initial:
            self._init_state = state
        else:
            self._state = state
        await self.report()

    async def run(self) -> None:
        """The init containers are done, the main container runs."""
        self.ip = self.ip or self.kubelet.new_address(self)
        self._init_state = _terminated(0, "Completed", "", self._started_at)
        self._state, self._phase = {"running": {"startedAt": now()}}, "Running"
        self._ready = "startupProbe" not in self.container
        await self.report()

    async def serve(self) -> None:
        """The startup probe has passed."""
        self._ready = True
        self.healthy.set()
        await self.report()

    async def end(self, exit_code: int, reason: str | None = None, message: str = "") -> None:
        """The main container has ended, and with it the pod."""
        reason = reason or ("Completed" if exit_code == 0 else "Error")
        self._finish("Succeeded" if exit_code == 0 else "Failed", _terminated(exit_code, reason, message, self.began))
        await self.report()

    async def fail_init(self, exit_code: int, message: str) -> None:
        """The init container has failed: the main container never starts."""
        self._init_state = _terminated(exit_code, "Error", message, self._started_at)
        self._finish("Failed", {"waiting": {"reason": "PodInitializing"}})
        await self.report()

    async def evict(self, message: str = "The node was low on resource: memory.") -> None:
        """The kubelet itself throws the pod out, as under memory pressure."""
        self._extra = {"reason": "Evicted", "message": message}
        self._finish("Failed", _terminated(137, "Error", "", self.began))
        await self.report()

    async def for_ever(self) -> None:
        """Nothing more happens until the pod is deleted."""
        await asyncio.Event().wait()

    @property
    def run_spec(self) -> JsonObject:
        """The specification of the run that the pod belongs to, which may be gone already."""
        name = self.raw["metadata"]["labels"]["quantbench.dev/run"]
        runs = (seen.raw for seen in self.kubelet.world.ever(self.namespace, "QuantBenchmarkRun"))
        found: JsonObject = next(run["spec"] for run in runs if run["metadata"]["name"] == name)
        return found

    @property
    def started(self) -> bool:
        """Whether the main container has started, so that it has a log."""
        return "waiting" not in self._state

    @property
    def began(self) -> str:
        """When the main container started, or the pod where it never did."""
        running = self._state.get("running")
        return str(running["startedAt"]) if running else self._started_at

    # --- what the kubelet does -------------------------------------------------------------------------------

    async def live(self, script: Script) -> None:
        """Play the script."""
        try:
            await script(self)
        except Refused as error:
            if error.status not in (404, 409):  # The pod is gone.
                raise

    async def remove(self) -> None:
        """The pod has been asked to go: end its containers, then take it off the API server."""
        if self.namespace in self.kubelet.lingering:
            await self.kubelet.lingering[self.namespace].wait()
        with contextlib.suppress(Refused):
            if not self.over.is_set():
                exit_code, reason = TERMINATED_ON_SIGTERM.get(self.component, (137, "Error"))
                await self.end(exit_code, reason, self.termination_message)
        if self.namespace in self.kubelet.unmounting:
            await self.kubelet.unmounting[self.namespace].wait()
        with contextlib.suppress(Refused):
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
            await self.kubelet.api.call("DELETE", path_of("Pod", self.namespace, self.name), options)

    async def report(self) -> None:
        """Write the pod's status."""
        patch = {"metadata": {"uid": self.uid}, "status": self._status()}
        path = path_of("Pod", self.namespace, self.name, "status")
        await self.kubelet.api.call("PATCH", path, patch, content_type=STRATEGIC)

    def _finish(self, phase: str, state: JsonObject) -> None:
        self._phase, self._state, self._ready = phase, state, False
        self.healthy.clear()
        self.over.set()

    def _status(self) -> JsonObject:
        ended = self._phase in ("Succeeded", "Failed")
        sandbox = self.ip is not None and not ended
        initialised = "terminated" in self._init_state or not self.raw["spec"].get("initContainers")
        conditions = {
            "PodReadyToStartContainers": sandbox,
            "Initialized": initialised,
            "ContainersReady": self._ready,
            "Ready": self._ready,
        }
        status: JsonObject = {
            "phase": self._phase,
            "startTime": self._started_at,
            "hostIP": self.kubelet.address,
            "conditions": [
                {"type": kind, "status": "True" if value else "False", "lastTransitionTime": self._since(kind, value)}
                for kind, value in conditions.items()
            ],
            "containerStatuses": [self._container_status(self.container, self._state, self._ready)],
            **self._extra,
        }
        if self.ip:
            status |= {"podIP": self.ip, "podIPs": [{"ip": self.ip}]}
        initial = self.raw["spec"].get("initContainers", [])
        if initial:
            done = "terminated" in self._init_state
            status["initContainerStatuses"] = [self._container_status(initial[0], self._init_state, done)]
        return status

    def _since(self, kind: str, value: bool) -> str:
        before, moment = self._transitions.get(kind, (None, ""))
        if before is not value:
            self._transitions[kind] = (value, moment := now())
        return moment

    def _container_status(self, container: JsonObject, state: JsonObject, ready: bool) -> JsonObject:
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "started": "running" in state,
            "restartCount": 0,
            "state": state,
        }


class Kubelet:
    """One node and everything on it."""

    address = "127.0.0.1"

    def __init__(self, api: Api, world: World, name: str, folder: Path, default: dict[str, Script]) -> None:
        self.api, self.world, self.name = api, world, name
        self.errors: list[str] = []
        self.log_faults: dict[str, Callable[[], int | None]] = {}
        """Per namespace: HTTP status with which a log is refused, or None."""
        self.lingering: dict[str, asyncio.Event] = {}
        """Per namespace: pods that were asked to go stay until it is set, as on a node that does not answer."""
        self.unmounting: dict[str, asyncio.Event] = {}
        """Per namespace: pods whose containers have ended stay until it is set, as while volumes are taken down."""
        self.logs_read = 0
        self._default, self._folder = default, folder
        self._scripts: dict[tuple[str, str, str | None], Script] = {}
        self._lives: dict[str, PodLife] = {}
        self._addresses: dict[str, PodLife] = {}
        self._numbers = itertools.count(257)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[str] = set()
        self._deaf: Callable[[], None] = lambda: None

    def script(self, namespace: str, component: str, script: Script, variant: str | None = None) -> None:
        """What pods of a component do in a namespace, of one variant or of all others."""
        self._scripts[namespace, component, variant] = script

    def at(self, address: str) -> PodLife:
        """The pod with an address."""
        return self._addresses[address]

    def life(self, namespace: str, name: str) -> PodLife | None:
        """A pod of the node by its name."""
        return next((life for life in self._lives.values() if (life.namespace, life.name) == (namespace, name)), None)

    def new_address(self, life: PodLife) -> str:
        number = next(self._numbers)
        address = f"198.18.{number // 256 % 256}.{number % 256}"
        self._addresses[address] = life
        return address

    # --- start and end ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register the node and wait until pods may be scheduled to it."""
        runner = web.AppRunner(self._application(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, self.address, 0, ssl_context=_server_certificate(self._folder))
        await site.start()
        self._runner = runner
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        await self.api.create(self._node(port))
        self._tasks["lease"] = asyncio.create_task(self._renew())
        self._deaf = self.world.listen(None, self._on_change)
        await eventually(self._schedulable, seconds=30)

    async def stop(self) -> None:
        self._deaf()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._runner.cleanup()
        await self.api.delete("Node", None, self.name)

    async def _schedulable(self) -> bool:
        node = await self.api.get("Node", None, self.name)
        return node is not None and not node["spec"].get("taints")

    def _node(self, port: int) -> JsonObject:
        amounts = {"cpu": "4096", "memory": "64Ti", "pods": "8192", "nvidia.com/gpu": str(GPUS_PER_NODE)}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name, NODE_LABEL: self.name}},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "addresses": [{"type": "InternalIP", "address": self.address}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True",
                        "reason": "KubeletReady",
                        "lastHeartbeatTime": now(),
                        "lastTransitionTime": now(),
                    }
                ],
            },
        }

    async def _renew(self) -> None:
        while True:
            moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self.name, "namespace": "kube-node-lease"},
                "spec": {"holderIdentity": self.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": moment},
            }
            with contextlib.suppress(Refused, OSError):
                await self.api.apply(lease)
            await asyncio.sleep(LEASE_SECONDS / 4)

    # --- pods ------------------------------------------------------------------------------------------------

    def _on_change(self, kind: str, event: str, raw: JsonObject) -> None:
        if kind != "Pod" or raw["spec"].get("nodeName") != self.name:
            return
        uid = raw["metadata"]["uid"]
        if event == "DELETED":
            self._end_task(uid)
            self._lives.pop(uid, None)
            self._leaving.discard(uid)
            return
        life = self._lives.get(uid)
        if life is None:
            life = self._lives[uid] = PodLife(self, raw)
            script = self._script_for(life)
            if not raw["metadata"].get("deletionTimestamp"):
                self._begin_task(uid, functools.partial(life.live, script))
        life.raw = raw
        if raw["metadata"].get("deletionTimestamp") and uid not in self._leaving:
            self._leaving.add(uid)
            self._end_task(uid)
            self._begin_task(uid, life.remove)

    def _script_for(self, life: PodLife) -> Script:
        for variant in (life.variant, None):
            script = self._scripts.get((life.namespace, life.component, variant))
            if script:
                return script
        return self._default.get(life.component, PodLife.run)

    def _begin_task(self, uid: str, work: Callable[[], Awaitable[None]]) -> None:
        async def guarded() -> None:
            try:
                await work()
            except Exception:  # noqa: BLE001 - shown by the test that it belongs to
                self.errors.append(traceback.format_exc())

        self._tasks[uid] = asyncio.create_task(guarded())

    def _end_task(self, uid: str) -> None:
        task = self._tasks.pop(uid, None)
        if task is not None:
            task.cancel()

    # --- logs ------------------------------------------------------------------------------------------------

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._serve_log)
        return app

    async def _serve_log(self, request: web.Request) -> web.Response:
        self.logs_read += 1
        place = request.match_info
        fault = self.log_faults.get(place["namespace"], lambda: None)()
        if fault:
            return web.Response(status=fault, text="the container runtime does not answer")
        life = self.life(place["namespace"], place["pod"])
        if life is None:
            return web.Response(status=404, text=f'pods "{place["pod"]}" not found')
        if not life.started:
            text = f'container "{place["container"]}" in pod "{life.name}" is waiting to start: ContainerCreating'
            return web.Response(status=400, text=text)
        return web.Response(body=_part(bytes(life.log), request.query), content_type="text/plain")


def _part(log: bytes, query: Mapping[str, str]) -> bytes:
    tail, limit = query.get("tailLines"), query.get("limitBytes")
    if tail is not None:
        log = b"".join(log.splitlines(keepends=True)[-int(tail) :] if int(tail) else [])
    return log[: int(limit)] if limit is not None else log


def _terminated(exit_code: int, reason: str, message: str, started_at: str) -> JsonObject:
    ended: JsonObject = {"exitCode": exit_code, "reason": reason, "startedAt": started_at, "finishedAt": now()}
    if message:
        # The kubelet cuts longer ones.
        ended["message"] = message.encode()[:4096].decode(errors="ignore")
    return {"terminated": ended}


def _server_certificate(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "kubelet.key", folder / "kubelet.crt"
    request = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=kubelet-of-a-test"]
    request += [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(request, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
