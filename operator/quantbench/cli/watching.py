"""The live view of a study. It outlives requests that fail for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from rich.console import Console
from rich.live import Live

from quantbench.cli import read, tables
from quantbench.exports import Study
from quantbench.kube import ApiError

POLL_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
"""How long failing requests are forgiven: a restart of the API server takes less."""
Look = Callable[[], Awaitable[Study]]


def passes_by_itself(error: ApiError) -> bool:
    """Whether the same request may succeed later: no connection, too many requests, an error of the server's."""
    return error.reason != "NoConfiguration" and (error.status in (0, 408, 429) or error.status >= 500)


async def watch(
    look: Look, console: Console, *, poll: float = POLL_SECONDS, patience: float = PATIENCE_SECONDS
) -> Study:
    """Show a study until it ends.

    Args:
        look: reads it.
        console: where; a terminal gets a table that is drawn again, anything else one line per event.
        poll: seconds between two looks.
        patience: how long looks may fail in a row [s].

    Raises:
        ApiError: the API server did not answer for that long, or refused for good.
        quantbench.cli.read.NotFound: there is no such study, or no more.
    """
    shown: set[str] = set()
    failing_since: float | None = None
    with Live(console=console, refresh_per_second=4, transient=True, redirect_stdout=False) as live:
        while True:
            wait = poll
            try:
                study = await look()
            except ApiError as error:
                now = time.monotonic()
                failing_since = failing_since or now
                if not passes_by_itself(error) or now - failing_since >= patience:
                    raise
                note = f"the cluster does not answer ({error.status or error.reason}); trying on"
                if note not in shown:
                    console.print(note, style="yellow", markup=False, highlight=False)
                shown.add(note)
                wait = max(poll, min(error.retry_after or 0.0, patience / 4))
            else:
                if failing_since is not None:
                    console.print("the cluster answers again", markup=False, highlight=False)
                    shown = {line for line in shown if not line.startswith("the cluster does not answer")}
                failing_since = None
                if console.is_terminal:
                    live.update(tables.progress(study, console.width, console.height))
                else:
                    _tell(console, study, shown)
                if study.ended or study.refused:
                    return study
            await asyncio.sleep(wait)


def _tell(console: Console, study: Study, shown: set[str]) -> None:
    for line in tables.progress_lines(study):
        if line not in shown:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            shown.add(line)


async def watch_cluster(name: str, access: read.Access, console: Console) -> Study:
    """Show a study of a cluster until it ends."""
    async with read.connected(access) as (kube, namespace):
        return await watch(lambda: read.study(kube, namespace, name), console)
