"""What a log that cannot be had means: the node does not answer, or nothing does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from quantbench import kube as module
from quantbench.kube import ApiError, Kube

PATH = "/api/v1/namespaces/bench/pods/server/log"


@asynccontextmanager
async def api_server(status: int = 200, text: str = "", seconds: float = 0.0) -> AsyncIterator[Kube]:
    """A client of an API server that answers every log request alike, after so many seconds."""

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(seconds)
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get(PATH, answer)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    kube = Kube(ApiClient(configuration))
    try:
        yield kube
    finally:
        await kube.close()
        await runner.cleanup()


async def read(kube: Kube) -> str | None:
    return await kube.log("bench", "server", "vllm", limit_bytes=1000)


async def test_a_log() -> None:
    async with api_server(text="loading") as kube:
        assert await read(kube) == "loading"


@pytest.mark.parametrize("status", [400, 404, 500, 502, 503, 504])
async def test_a_log_that_a_kubelet_does_not_give(status: int) -> None:
    async with api_server(status) as kube:
        assert await read(kube) is None


async def test_a_node_that_says_nothing_stops_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server waits for a kubelet for longer than anybody should wait for a log."""
    monkeypatch.setattr(module, "LOG_SILENCE_SECONDS", 0.1)
    async with api_server(seconds=1) as kube:
        async with asyncio.timeout(0.8):
            assert await read(kube) is None


async def test_an_api_server_that_is_away_says_nothing_about_a_log() -> None:
    """Or a verdict would be given without what the log says."""
    async with api_server() as kube:
        pass
    kube = Kube(ApiClient(kube.api.configuration))
    with pytest.raises(ApiError) as caught:
        await read(kube)
    await kube.close()
    assert caught.value.status == 0


async def test_an_api_server_that_takes_no_connection_says_nothing_about_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.5)
    with socket.socket() as listener, contextlib.ExitStack() as queued:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # More than the queue of connections that nobody accepts holds.
            client = queued.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{listener.getsockname()[1]}"
        kube = Kube(ApiClient(configuration))
        with pytest.raises(ApiError) as caught:
            await read(kube)
        await kube.close()
    assert caught.value.status == 0


async def test_a_log_that_may_not_be_read() -> None:
    async with api_server(403) as kube:
        with pytest.raises(ApiError):
            await read(kube)
