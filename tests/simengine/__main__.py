"""The process: write the log, listen, serve until SIGTERM, or until the parent is gone."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import stat
import sys

from aiohttp import web

from simengine.app import Server
from simengine.config import Config, parse_config
from simengine.logs import death, read_log


async def serve(config: Config, host: str, port: int) -> int:
    """One server's life; its exit status."""
    log = read_log(config.log)
    await asyncio.sleep(config.start_seconds / config.speedup)
    if config.exit_code is not None:
        say(log.start)
        return config.exit_code
    over, died = asyncio.Event(), asyncio.Event()

    def dead() -> None:
        died.set()
        over.set()

    server = Server(config, dead)
    runner = web.AppRunner(server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024).start()
    say(log.start)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    await end_with_parent(over)
    steps = asyncio.create_task(server.scheduler.run())
    await over.wait()
    say(death() if died.is_set() else log.shutdown)
    steps.cancel()
    await runner.cleanup()
    return 0


async def end_with_parent(over: asyncio.Event) -> None:
    """Standard input ends when the process that holds its other end does, however that ended."""

    class Watch(asyncio.Protocol):
        def connection_lost(self, _: Exception | None) -> None:
            over.set()

    if stat.S_ISFIFO(os.fstat(0).st_mode):
        await asyncio.get_running_loop().connect_read_pipe(Watch, sys.stdin)


def say(text: str) -> None:
    """Write to the log."""
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="simengine")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--config", required=True, help="JSON, or @FILE")
    arguments = parser.parse_args()
    return asyncio.run(serve(parse_config(arguments.config), arguments.host, arguments.port))


if __name__ == "__main__":
    sys.exit(main())
