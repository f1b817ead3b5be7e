"""How long work takes, in words that mean the same on a slow machine and on a busy one."""

import time
from collections.abc import Callable

YARDSTICK_SECONDS = 0.15
"""Processor time of the yardstick on the machine that bounds are meant for."""
TRIES = 3


def seconds_of(work: Callable[[], object], *, bound: float) -> float:
    """Processor time of ``work`` [s], as if the machine took `YARDSTICK_SECONDS` for the yardstick.

    Neighbours on the same cores slow a process down without taking processor time away from it, so the yardstick is
    timed right before and right after. The best of up to three tries, ended by the first within ``bound`` [s].
    """
    best = float("inf")
    for _ in range(TRIES):
        before = _processor_seconds(_yardstick)
        took = _processor_seconds(work)
        after = _processor_seconds(_yardstick)
        best = min(best, took * YARDSTICK_SECONDS / ((before + after) / 2))
        if best < bound:
            break
    return best


def _processor_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _yardstick() -> int:
    """Small objects, dictionaries and text: what the code under test does as well."""
    table = {str(number): [number, number * 0.5] for number in range(100_000)}
    return len("".join(f"{key}{value}" for key, value in table.items()))
