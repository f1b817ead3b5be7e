"""The operator's HTTP side: /healthz, /readyz and /metrics."""

import asyncio
from contextlib import suppress
from itertools import chain

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from quantbench.controller import Controller
from quantbench.metrics import operator_families, study_families


def application(controller: Controller, registry: CollectorRegistry) -> web.Application:
    """Liveness follows the age of the last resync, so that a dead watch or a stuck queue turns it red."""

    async def healthz(_: web.Request) -> web.Response:
        wrong = controller.healthy()
        return web.Response(text=wrong or "ok", status=503 if wrong else 200)

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="leading" if controller.leading else "standby")

    async def metrics(request: web.Request) -> web.StreamResponse:
        # Family by family: hundreds of studies make tens of megabytes, and other work goes on in between.
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE_LATEST})
        # Who asked may lose patience.
        with suppress(ConnectionResetError):
            await response.prepare(request)
            await response.write(generate_latest(registry))
            for family in chain(operator_families(controller.gauges()), study_families(controller.exported())):
                await response.write(family.text().encode())
                await asyncio.sleep(0)
            await response.write_eof()
        return response

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


async def serve(app: web.Application, port: int) -> web.AppRunner:
    """Serve on all addresses; returns the runner to clean up."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
