"""A Prometheus server on loopback that scrapes what it is told, and promtool."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from cluster.progress import Progress
from cluster.prometheus import Programs, programs

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "charts" / "quantbench" / "files" / "rules.yaml"
LOOPBACK = "127.0.0.1"


@cache
def installed() -> Programs:
    """Prometheus and promtool; the test fails, saying what to install, where they cannot be had."""
    return programs(Progress(quiet=True))


def promtool(*words: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool with a text as its input."""
    command = [str(installed().promtool), *map(str, words)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on loopback; gives its address."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


class Prometheus:
    """A running server."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self.address, self._session = address, session

    async def ask(self, expression: str, *, over: float | None = None, step: float = 1.0) -> list[dict[str, Any]]:
        """The series that an expression gives: of the moment, or over so many seconds up to now.

        Raises:
            AssertionError: Prometheus refuses the expression.
        """
        now = (await self._get("query", {"query": "time()"}))["result"][0]
        if over is None:
            return list((await self._get("query", {"query": expression}))["result"])
        window = {"start": str(float(now) - over), "end": str(now), "step": str(step)}
        return list((await self._get("query_range", {"query": expression, **window}))["result"])

    async def targets(self) -> list[dict[str, Any]]:
        """What is scraped, and how that goes."""
        return list((await self._get("targets", {}))["activeTargets"])

    async def _get(self, what: str, query: Mapping[str, str]) -> dict[str, Any]:
        async with (
            self._session.post(f"http://{self.address}/api/v1/{what}", data=query)
            if what != "targets"
            else (self._session.get(f"http://{self.address}/api/v1/{what}")) as response
        ):
            answer = json.loads(await response.read())
        assert answer["status"] == "success", f"{answer.get('error')}\n{query.get('query')}"
        return dict(answer["data"])


@asynccontextmanager
async def prometheus(
    folder: Path, target: str, *, interval: str = "1s", rules: bool = True
) -> AsyncIterator[Prometheus]:
    """Scrape a target as the chart's monitors do, with the chart's rules, evaluated as often as is scraped."""
    config: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": [
            {
                "job_name": "quantbench-operator",
                "honor_labels": True,
                "static_configs": [{"targets": [target], "labels": {"pod": "operator-0", "namespace": "operators"}}],
            }
        ],
    }
    if rules:
        quick = re.sub(r"^  interval: .*$", f"  interval: {interval}", RULES.read_text(), flags=re.MULTILINE)
        (folder / "rules.yaml").write_text(quick)
        config["rule_files"] = [str(folder / "rules.yaml")]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        address = f"{LOOPBACK}:{free.getsockname()[1]}"
    with (folder / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            str(installed().prometheus), f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}",
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            await _ready(session, address, process, folder / "log")
            yield Prometheus(address, session)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(session: aiohttp.ClientSession, address: str, process: asyncio.subprocess.Process, log: Path) -> None:
    for _ in range(300):
        assert process.returncode is None, f"Prometheus ended: see {log}"
        try:
            async with session.get(f"http://{address}/-/ready") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    raise AssertionError(f"Prometheus is not ready after 30 s: see {log}")
