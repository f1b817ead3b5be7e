"""The one seam to the Kubernetes API: plain JSON objects in and out, over the official client.

Everything that can go wrong on the way becomes an `ApiError`; nothing is retried here, because the work queue does
that with a fresh look at the world.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from quantbench.api.base import JsonObject
from quantbench.api.names import API_VERSION

FIELD_MANAGER = "quantbench"
PAGE = 500
REQUEST_SECONDS = 30.0
LOG_SILENCE_SECONDS = 10.0
"""How long a kubelet may say nothing when it is asked for a log; a node that went away says nothing at all."""
NO_LOG = frozenset({400, 404, 500, 502, 503, 504})
"""Answers for a log that cannot be had: no such container yet, or a kubelet that does not answer."""
WATCH_SECONDS = 240
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
NOT_IN_SCHEMA = "failed to create typed patch object"
WEBHOOK_AWAY = "failed calling webhook"


@dataclass(frozen=True)
class Resource:
    """Where objects of a kind live in the API."""

    group_version: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection or an object."""
        root = f"/api/{self.group_version}" if "/" not in self.group_version else f"/apis/{self.group_version}"
        parts = [root]
        if namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


RESOURCES: Mapping[str, Resource] = {
    "QuantBenchmark": Resource(API_VERSION, "quantbenchmarks"),
    "QuantBenchmarkRun": Resource(API_VERSION, "quantbenchmarkruns"),
    "Pod": Resource("v1", "pods"),
    "Event": Resource("v1", "events"),
    "Job": Resource("batch/v1", "jobs"),
    "Lease": Resource("coordination.k8s.io/v1", "leases"),
}


class ApiError(Exception):
    """The API server refused a request or could not be reached.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        reason: Kubernetes' reason, e.g. Conflict.
        message: the server's explanation.
        retry_after: seconds that the server asked to wait, or None.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.retry_after = status, reason, message, retry_after

    @property
    def rejected(self) -> bool:
        """The object itself was refused, by validation, admission or quota; asking again changes nothing by itself."""
        # The API server calls these its own errors: an object that does not fit the schema, or whose webhook is away.
        refused = self.status == 500 and any(text in self.message for text in (NOT_IN_SCHEMA, WEBHOOK_AWAY))
        return self.status in (400, 403, 422) or refused


CallObserver = Callable[[str, str, int], None]
"""Called with verb, kind and HTTP status after each request."""


class Kube:
    """The API server as a set of coroutines over JSON objects."""

    def __init__(self, api: ApiClient, observer: CallObserver = lambda verb, kind, status: None) -> None:
        self.api, self._observer = api, observer

    @classmethod
    async def connect(
        cls,
        observer: CallObserver = lambda verb, kind, status: None,
        *,
        kubeconfig: str | None = None,
        context: str | None = None,
    ) -> "Kube":
        """Connect as the arguments or the environment say: $KUBECONFIG or ~/.kube/config, else the service account."""
        configuration = Configuration()
        named = {"config_file": kubeconfig, "context": context}
        given = {key: value for key, value in named.items() if value}
        await config.load_config(client_configuration=configuration, **given)
        # No bound (0): each watch keeps a connection, and those of many namespaces would leave none for the work,
        # which the number of workers bounds already.
        configuration.connection_pool_maxsize = 0
        return cls(ApiClient(configuration), observer)

    async def close(self) -> None:
        """Close the connections."""
        await self.api.close()

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> list[JsonObject]:
        """All objects of a kind, in pages; a read that every earlier write is visible to."""
        items: list[JsonObject] = []
        token = ""
        while True:
            query = {"limit": str(PAGE), "labelSelector": selector, "continue": token}
            page = await self._json("list", kind, "GET", RESOURCES[kind].path(namespace), query)
            items += page.get("items", [])
            token = page.get("metadata", {}).get("continue", "")
            if not token:
                return items

    async def get(self, kind: str, namespace: str, name: str) -> JsonObject | None:
        """One object, or None where there is none."""
        try:
            return await self._json("get", kind, "GET", RESOURCES[kind].path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def apply(self, manifest: JsonObject) -> JsonObject:
        """Server-side apply."""
        kind, head = manifest["kind"], manifest["metadata"]
        path = RESOURCES[kind].path(head["namespace"], head["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._json("apply", kind, "PATCH", path, query, manifest, APPLY)

    async def create(self, manifest: JsonObject) -> JsonObject:
        """Create; raises ApiError 409 where the object exists."""
        kind = manifest["kind"]
        path = RESOURCES[kind].path(manifest["metadata"]["namespace"])
        return await self._json("create", kind, "POST", path, {"fieldManager": FIELD_MANAGER}, manifest)

    async def replace(self, manifest: JsonObject) -> JsonObject:
        """Replace; its resourceVersion makes a concurrent change a 409."""
        kind, head = manifest["kind"], manifest["metadata"]
        path = RESOURCES[kind].path(head["namespace"], head["name"])
        return await self._json("update", kind, "PUT", path, {"fieldManager": FIELD_MANAGER}, manifest)

    async def patch(self, kind: str, namespace: str, name: str, patch: JsonObject, subresource: str = "") -> JsonObject:
        """Merge patch; a resourceVersion in its metadata makes a concurrent change a 409."""
        path = RESOURCES[kind].path(namespace, name, subresource or None)
        return await self._json("patch", kind, "PATCH", path, {"fieldManager": FIELD_MANAGER}, patch, MERGE)

    async def delete(self, kind: str, namespace: str, name: str, uid: str, grace_seconds: int | None = None) -> None:
        """Delete exactly this object; one that is gone, or replaced by a namesake, counts as done."""
        options: JsonObject = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._json("delete", kind, "DELETE", RESOURCES[kind].path(namespace, name), {}, options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def log(
        self, namespace: str, pod: str, container: str, *, limit_bytes: int, tail_lines: int | None = None
    ) -> str | None:
        """A bounded part of a container's log, or None where it cannot be had (node gone, container not started).

        Without a connection to the API server itself that is not known: an ApiError like any other.
        """
        query = {"container": container, "limitBytes": str(limit_bytes)}
        if tail_lines is not None:
            query["tailLines"] = str(tail_lines)
        try:
            path = RESOURCES["Pod"].path(namespace, pod, "log")
            body = await self._call("log", "Pod", "GET", path, query, silence=LOG_SILENCE_SECONDS)
        except ApiError as error:
            if error.status in NO_LOG or isinstance(error.__cause__, aiohttp.SocketTimeoutError):
                return None
            raise
        return body.decode(errors="replace")

    async def watch(self, kind: str, namespace: str | None, selector: str = "") -> AsyncIterator[JsonObject]:
        """First what there is, as ADDED, then changes as they happen, until the server ends the watch.

        The repetition at each new watch makes up for what happened between two of them.
        """
        query = {
            "watch": "true",
            "labelSelector": selector,
            "timeoutSeconds": str(WATCH_SECONDS),
            "allowWatchBookmarks": "true",
        }
        method, url, headers, body, post = await self._request(
            "GET", RESOURCES[kind].path(namespace), query, None, None
        )
        timeout = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30, sock_read=WATCH_SECONDS)
        response = None
        try:
            response = await self.api.call_api(method, url, headers, body, post, _request_timeout=timeout)
            self._observer("watch", kind, response.status)
            if response.status != 200:
                raise await _api_error(response)
            async for line in response.response.content:
                if line.strip():
                    yield json.loads(line)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(0, type(error).__name__, str(error)) from error
        finally:
            if response is not None:
                response.response.close()

    async def _json(
        self,
        verb: str,
        kind: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str | None = None,
    ) -> JsonObject:
        document: JsonObject = json.loads(await self._call(verb, kind, method, path, query, body, content_type))
        return document

    async def _call(
        self,
        verb: str,
        kind: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str | None = None,
        silence: float | None = None,
    ) -> bytes:
        status = 0
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_read=silence)
        try:
            prepared = await self._request(method, path, query or {}, body, content_type)
            async with asyncio.timeout(REQUEST_SECONDS):
                response = await self.api.call_api(*prepared, _request_timeout=timeout)
                status = response.status
                if status >= 400:
                    raise await _api_error(response)
                content: bytes = await response.read()
                return content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, type(error).__name__, str(error)) from error
        finally:
            self._observer(verb, kind, status)

    async def _request(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str | None
    ) -> tuple[Any, ...]:
        given = urlencode({key: value for key, value in query.items() if value})
        prepared: tuple[Any, ...] = await self.api.param_serialize(
            method=method,
            resource_path=f"{path}?{given}" if given else path,
            header_params={"Accept": "application/json", "Content-Type": content_type or "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        return prepared


async def _api_error(response: Any) -> ApiError:
    raw = await response.read()
    try:
        answer = json.loads(raw)
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = str(response.reason), raw[:500].decode(errors="replace")
    wait = response.getheader("Retry-After")
    return ApiError(response.status, reason, message, float(wait) if wait and wait.isdigit() else None)
