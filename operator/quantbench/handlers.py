"""The process shell: kopf starts, stops and watches. The only module that imports kopf.

kopf's own handlers for changes, timers and daemons would each write to every object; `on.event` writes nothing, so
all that happens here is that events reach the controller.
"""

import asyncio
import dataclasses
import itertools
import logging
import os
from collections.abc import Iterator
from typing import Any

import kopf
from prometheus_client import CollectorRegistry

from quantbench import health
from quantbench.api.names import GROUP, VERSION
from quantbench.api.schema import QUANT_BENCHMARK, QUANT_BENCHMARK_RUN
from quantbench.controller import Controller
from quantbench.kube import Kube
from quantbench.lease import give_up, lead_while_elected
from quantbench.metrics import Health
from quantbench.settings import Settings

log = logging.getLogger(__name__)


async def run_operator(settings: Settings) -> None:
    """Run until the process is told to stop, or leadership is lost."""
    collectors = CollectorRegistry()
    own_health = Health(collectors)
    kube = await Kube.connect(own_health.api_call)
    controller = Controller(kube, settings, own_health)
    stop = asyncio.Event()
    web = await health.serve(health.application(controller, collectors), settings.port) if settings.port else None
    elected = asyncio.create_task(_lead(settings, kube, controller, stop))
    try:
        await kopf.operator(
            registry=_registry(controller),
            settings=_kopf_settings(),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            # kopf would ask for the user's name, and the container's user number has none.
            identity=settings.identity,  # type: ignore[arg-type]  # kopf's name for str is not public
            stop_flag=stop,
        )
    finally:
        elected.cancel()
        await asyncio.gather(elected, return_exceptions=True)
        await give_up(settings, kube)
        if web:
            await web.cleanup()
        await kube.close()


async def _lead(settings: Settings, kube: Kube, controller: Controller, stop: asyncio.Event) -> None:
    """Lead until leadership or a part of the controller is lost; then the process ends and is started afresh."""
    try:
        await lead_while_elected(settings, kube, controller.lead)
        log.info("no longer leading: stopping")
    except Exception:
        log.exception("the controller failed: stopping")
    finally:
        stop.set()


def _registry(controller: Controller) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        found = kopf.login_with_service_account(**kwargs)
        if found is None:
            return kopf.login_with_kubeconfig(**kwargs)
        # kopf asks DNS for the API server; the environment knows its address without DNS.
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        return dataclasses.replace(found, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")

    for kind in (QUANT_BENCHMARK, QUANT_BENCHMARK_RUN):

        @kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id=kind.plural)
        async def seen(type: str | None, body: kopf.Body, _kind: str = kind.kind, **_: Any) -> None:
            controller.seen(_kind, type, dict(body))

    return registry


class _Backoffs:
    """Waits between attempts of kopf's requests [s], without an end."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 2, 5, 10, 20), itertools.repeat(60))


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    # Without limits a connection that died silently would leave the operator blind.
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    # kopf would end the whole process over one namespace that is gone; whether all is well, the resync knows.
    settings.networking.error_backoffs = _Backoffs()
    return settings
