"""Leader election by a coordination Lease, so that two operators never work at the same time.

The official client's own election cannot be used: in 37.0 its asyncio half fails to create the Lease, because it
passes a boolean where the client's validation wants a string.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from quantbench.api.base import JsonObject
from quantbench.kube import ApiError, Kube
from quantbench.settings import Settings

LEASE_SECONDS = 15
RENEW_SECONDS = 3.0
GIVE_UP_SECONDS = 10.0
"""A leader that could not renew for so long stops before another one may start."""

log = logging.getLogger(__name__)


class Lease:
    """One candidate's view of the Lease.

    How long another's Lease is still good is measured on our own clock from when we saw it change, so that
    clocks that differ between nodes do no harm.
    """

    def __init__(self, kube: Kube, namespace: str, name: str, identity: str) -> None:
        self._kube, self._namespace, self._name, self._identity = kube, namespace, name, identity
        self._seen: tuple[str, float] = ("", 0.0)

    async def acquire_or_renew(self) -> bool:
        """Whether the Lease is ours now.

        Raises:
            ApiError: the API server did not answer or refused.
        """
        lease = await self._kube.get("Lease", self._namespace, self._name)
        try:
            if lease is None:
                await self._kube.create(self._document({}))
                return True
            if not self._free(lease):
                return False
            await self._kube.replace(self._document(lease))
        except ApiError as error:
            if error.status == 409:  # Another candidate was faster.
                return False
            raise
        return True

    async def release(self) -> None:
        """Give the Lease up if it is ours, so that the next leader need not wait for its end."""
        lease = await self._kube.get("Lease", self._namespace, self._name)
        if lease and lease["spec"].get("holderIdentity") == self._identity:
            guard = {"resourceVersion": lease["metadata"]["resourceVersion"]}
            empty = {"metadata": guard, "spec": {"holderIdentity": None}}
            await self._kube.patch("Lease", self._namespace, self._name, empty)

    def _free(self, lease: JsonObject) -> bool:
        spec, version = lease.get("spec", {}), lease["metadata"]["resourceVersion"]
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        if self._seen[0] != version:
            self._seen = (version, time.monotonic())
        return time.monotonic() - self._seen[1] > (spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    def _document(self, old: JsonObject) -> JsonObject:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = old.get("spec", {})
        ours = spec.get("holderIdentity") == self._identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": old.get("metadata") or {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "acquireTime": spec.get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": (spec.get("leaseTransitions") or 0) + (0 if ours else 1),
            },
        }


async def lead_while_elected(settings: Settings, kube: Kube, lead: Callable[[], Awaitable[None]]) -> None:
    """Run ``lead`` while this process holds the Lease; returns when the Lease was lost or ``lead`` has ended.

    A restart of the same pod takes its own Lease over at once.
    """
    if settings.lease_namespace is None:
        await lead()
        return
    lease = Lease(kube, settings.lease_namespace, settings.lease_name, settings.identity)
    while not await _held(lease):
        await asyncio.sleep(RENEW_SECONDS)
    tasks = {asyncio.ensure_future(lead()), asyncio.ensure_future(_renew(lease))}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def give_up(settings: Settings, kube: Kube) -> None:
    """Release the Lease at the end of an orderly stop; called when no work is done any more."""
    if settings.lease_namespace is None:
        return
    try:
        await Lease(kube, settings.lease_namespace, settings.lease_name, settings.identity).release()
    except ApiError as error:
        log.warning("lease not released: %s", error)


async def _renew(lease: Lease) -> None:
    """Renew until that fails for too long, or someone else holds the Lease: then this process was away for long."""
    renewed = time.monotonic()
    while time.monotonic() - renewed < GIVE_UP_SECONDS:
        await asyncio.sleep(RENEW_SECONDS)
        left = GIVE_UP_SECONDS - (time.monotonic() - renewed)
        try:
            async with asyncio.timeout(max(left, 0.1)):
                held = await _held(lease)
        except TimeoutError:
            break
        if held is False:
            log.error("the lease is held by another process")
            return
        if held:
            renewed = time.monotonic()
    log.error("the lease could not be renewed for %.0f s", GIVE_UP_SECONDS)


async def _held(lease: Lease) -> bool | None:
    """Whether the Lease is ours; None where the API server did not say."""
    try:
        return await lease.acquire_or_renew()
    except ApiError as error:
        log.warning("lease: %s", error)
        return None
