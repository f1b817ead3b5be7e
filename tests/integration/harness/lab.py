"""What a test works with: namespaces, operators, and the node's kubelet."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kubernetes.aio.client import ApiClient

from harness.api import Api, JsonObject, eventually
from harness.controlplane import GIVEN
from harness.kubelet import Kubelet
from harness.operator import Operator, Weather, fair
from harness.study import Space
from harness.world import World

RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}


class Lab:
    """Makes namespaces and operators, and remembers them."""

    def __init__(self, api: Api, world: World, kubelet: Kubelet, client: ApiClient) -> None:
        self.api, self.world, self.kubelet, self.client = api, world, kubelet, client
        self.spaces: list[Space] = []
        self.operators: list[Operator] = []

    async def space(self) -> Space:
        """A new namespace, in which PodSecurity admits restricted pods only."""
        name = f"it-{secrets.token_hex(4)}"
        head: JsonObject = {"name": name, "labels": RESTRICTED}
        await self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": head})
        space = Space(self.api, self.world, name, self.kubelet.name)
        self.spaces.append(space)
        # Without it the API server refuses every pod; the controller manager makes it.
        await eventually(lambda: self.api.get("ServiceAccount", name, "default"))
        return space

    def operator(self, space: Space, weather: Weather = fair) -> Operator:
        """An operator for a namespace, not started yet."""
        operator = Operator(self.client, self.world, space.name, weather)
        self.operators.append(operator)
        return operator

    async def close(self) -> None:
        """Stop the operators and forget the namespaces."""
        for operator in self.operators:
            await operator.stop()
        for space in self.spaces:
            # The project's own control plane ends with the session, so taking namespaces apart would be wasted work.
            if os.environ.get(GIVEN):
                await self.api.delete("Namespace", None, space.name)
            self.world.forget(space.name)


@asynccontextmanager
async def laboratory(api: Api, world: World, kubelet: Kubelet, client: ApiClient) -> AsyncIterator[Lab]:
    """A lab for the length of the block; a script of a pod that failed fails it."""
    lab = Lab(api, world, kubelet, client)
    kubelet.errors.clear()
    try:
        yield lab
    finally:
        await lab.close()
    assert not kubelet.errors, "\n".join(kubelet.errors)
