"""A plain client of the Kubernetes API for the tests themselves, independent of the operator's own."""

import asyncio
import base64
import io
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml

JsonObject = dict[str, Any]

COLLECTIONS: Mapping[str, str] = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "Deployment": "/apis/apps/v1/{namespace}deployments",
    "Event": "/api/v1/{namespace}events",
    "Job": "/apis/batch/v1/{namespace}jobs",
    "Lease": "/apis/coordination.k8s.io/v1/{namespace}leases",
    "Namespace": "/api/v1/namespaces",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/{namespace}networkpolicies",
    "Node": "/api/v1/nodes",
    "PersistentVolumeClaim": "/api/v1/{namespace}persistentvolumeclaims",
    "Pod": "/api/v1/{namespace}pods",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "QuantBenchmark": "/apis/quantbench.dev/v1alpha1/{namespace}quantbenchmarks",
    "QuantBenchmarkRun": "/apis/quantbench.dev/v1alpha1/{namespace}quantbenchmarkruns",
    "ResourceQuota": "/api/v1/{namespace}resourcequotas",
    "Role": "/apis/rbac.authorization.k8s.io/v1/{namespace}roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/{namespace}rolebindings",
    "ServiceAccount": "/api/v1/{namespace}serviceaccounts",
    "ValidatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
}
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


class Refused(Exception):
    """An answer other than success.

    Attributes:
        status: HTTP status.
        reason: Kubernetes' reason.
        message: its explanation, as kubectl prints it.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message = status, reason, message


def path_of(kind: str, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    """The URL path of a collection, or of one object."""
    collection = COLLECTIONS[kind].format(namespace=f"namespaces/{namespace}/" if namespace else "")
    return "/".join(part for part in (collection, name, subresource) if part)


class Api:
    """Requests as the administrator of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        connector = aiohttp.TCPConnector(ssl=_trust(cluster, user), limit=0)
        self._session = aiohttp.ClientSession(cluster["server"], connector=connector, headers=self._headers)

    async def close(self) -> None:
        await self._session.close()
        # TLS connections, those of watches that were cut off among them, take a few more turns of the loop to end.
        await asyncio.sleep(0.25)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        **query: object,
    ) -> JsonObject:
        """One request; raises Refused for any status from 400 on."""
        given = {key: str(value) for key, value in query.items() if value is not None}
        # As a file, because aiohttp warns of large bodies in one piece.
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        headers = {"Content-Type": content_type, "Accept": accept}
        async with self._session.request(method, path, data=data, params=given, headers=headers) as response:
            content = await response.read()
        if response.status >= 400:
            raise _refused(response.status, content)
        document: JsonObject = json.loads(content)
        return document

    async def get(self, kind: str, namespace: str | None, name: str) -> JsonObject | None:
        """An object, or None."""
        try:
            return await self.call("GET", path_of(kind, namespace, name))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: str, namespace: str | None = None, selector: str | None = None) -> list[JsonObject]:
        """The objects of a kind."""
        items: list[JsonObject] = (await self.call("GET", path_of(kind, namespace), labelSelector=selector))["items"]
        return items

    async def table(self, kind: str, namespace: str) -> JsonObject:
        """The objects of a kind as the API server prints them for kubectl."""
        return await self.call("GET", path_of(kind, namespace), accept=TABLE)

    async def create(self, manifest: JsonObject, **query: str) -> JsonObject:
        """Create as ``kubectl create`` does: unknown and duplicate fields are errors."""
        path = path_of(manifest["kind"], manifest["metadata"].get("namespace"))
        return await self.call("POST", path, manifest, fieldValidation="Strict", fieldManager="kubectl", **query)

    async def apply(self, manifest: JsonObject) -> JsonObject:
        """Apply as ``kubectl apply --server-side`` does."""
        head = manifest["metadata"]
        path = path_of(manifest["kind"], head.get("namespace"), head["name"])
        return await self.call(
            "PATCH", path, manifest, content_type=APPLY, fieldValidation="Strict", fieldManager="kubectl", force="true"
        )

    async def merge(
        self, kind: str, namespace: str | None, name: str, patch: JsonObject, subresource: str | None = None
    ) -> JsonObject:
        """Change an object by merge patch."""
        return await self.call("PATCH", path_of(kind, namespace, name, subresource), patch, content_type=MERGE)

    async def delete(self, kind: str, namespace: str | None, name: str, **options: object) -> None:
        """Delete an object; one that is gone already is fine."""
        try:
            await self.call("DELETE", path_of(kind, namespace, name), {"propagationPolicy": "Background", **options})
        except Refused as error:
            if error.status != 404:
                raise

    async def watch(self, path: str, resource_version: str) -> AsyncIterator[JsonObject]:
        """Changes since a version, until the connection ends."""
        query = {"watch": "true", "resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        async with self._session.get(path, params=query, timeout=timeout, read_bufsize=2**24) as response:
            if response.status != 200:
                raise _refused(response.status, await response.read())
            async for line in response.content:
                yield json.loads(line)


def _refused(status: int, content: bytes) -> Refused:
    try:
        answer = json.loads(content)
        return Refused(status, str(answer.get("reason")), str(answer.get("message")))
    except ValueError:
        return Refused(status, "", content.decode(errors="replace"))


def _trust(cluster: JsonObject, user: JsonObject) -> ssl.SSLContext:
    if cluster.get("insecure-skip-tls-verify"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        authority = _content(cluster, "certificate-authority")
        context = ssl.create_default_context(cadata=authority.decode())
    if "token" not in user:
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(_content(user, "client-certificate") + b"\n" + _content(user, "client-key"))
            pair.flush()
            context.load_cert_chain(pair.name)
    return context


def _content(section: JsonObject, key: str) -> bytes:
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"])
    return Path(section[key]).read_bytes()


def condition(raw: JsonObject, kind: str) -> JsonObject:
    """A condition of an object; empty when it has none of the kind."""
    conditions = raw.get("status", {}).get("conditions") or []
    return next((found for found in conditions if found["type"] == kind), {})


async def eventually(call: Any, *, seconds: float = 60.0, pause: float = 0.05) -> Any:
    """Repeat ``call()`` until it gives something true."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (value := await call()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"still {value!r} after {seconds:g} s")
        await asyncio.sleep(pause)
    return value
