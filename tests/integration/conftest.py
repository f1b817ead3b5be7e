"""Fixtures of the integration tests: one control plane, one event loop and one node for all, a namespace for each."""

import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from kubernetes.aio.client import ApiClient

from quantbench.api.names import GROUP
from quantbench.api.schema import KINDS, custom_resource_definition

sys.path.insert(0, str(Path(__file__).parent))

from harness import lives
from harness.api import Api, condition, eventually
from harness.controlplane import control_plane
from harness.kubelet import Kubelet
from harness.lab import Lab, laboratory
from harness.operator import Operator, connect
from harness.study import Space
from harness.world import World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Watches, the node and the clients live in one event loop, so every test runs in it."""
    for item in items:
        if pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A kubeconfig of the control plane."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with ExitStack() as stack:
        # The first start on a machine builds Kubernetes, which takes minutes: its progress must be seen.
        with capture.global_and_fixture_disabled():
            path = stack.enter_context(control_plane())
        yield path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(kubeconfig: Path) -> AsyncIterator[Api]:
    """The tests' own client, with the custom resources installed."""
    client = Api(kubeconfig)
    try:
        for kind in KINDS:
            await client.apply(custom_resource_definition(kind))
        for kind in KINDS:

            async def served(name: str = f"{kind.plural}.{GROUP}") -> bool:
                crd = await client.get("CustomResourceDefinition", None, name)
                return crd is not None and condition(crd, "Established").get("status") == "True"

            await eventually(served, seconds=30)
        yield client
    finally:
        await client.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(api: Api) -> AsyncIterator[World]:
    """Everything of ours in the cluster."""
    world = World(api)
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kubelet(api: Api, world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kubelet]:
    """The one node."""
    name = f"test-{secrets.token_hex(3)}"
    kubelet = Kubelet(api, world, name, tmp_path_factory.mktemp("kubelet"), dict(lives.DEFAULTS))
    try:
        await kubelet.start()
        yield kubelet
    finally:
        await kubelet.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(kubeconfig: Path) -> AsyncIterator[ApiClient]:
    """The official client, for the operators."""
    client = await connect(kubeconfig)
    yield client
    await client.close()


@pytest_asyncio.fixture(loop_scope="session")
async def lab(api: Api, world: World, kubelet: Kubelet, client: ApiClient) -> AsyncIterator[Lab]:
    """Namespaces and operators for one test."""
    async with laboratory(api, world, kubelet, client) as lab:
        yield lab


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def module_lab(api: Api, world: World, kubelet: Kubelet, client: ApiClient) -> AsyncIterator[Lab]:
    """Namespaces and operators for tests that look at the same study."""
    async with laboratory(api, world, kubelet, client) as lab:
        yield lab


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def module_space(module_lab: Lab) -> Space:
    """A namespace for all tests of a module."""
    return await module_lab.space()


@pytest_asyncio.fixture(loop_scope="session")
async def space(lab: Lab) -> Space:
    """A namespace."""
    return await lab.space()


@pytest_asyncio.fixture(loop_scope="session")
async def operator(lab: Lab, space: Space) -> Operator:
    """An operator at work in the namespace."""
    operator = lab.operator(space)
    operator.start()
    return operator
