"""The operator is killed at each of its writes: nothing may change but the time.

A two-variant study runs once for each write and each side of it. At the crash all memory is dropped, a new operator
takes over, and the end state must be that of a study which nobody disturbed. How often the operator tells an
intermediate state depends on timing, so a write is addressed by its step and its place among the writes of that step.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from harness.api import JsonObject
from harness.invariants import Invariants
from harness.lab import Lab
from harness.operator import AnswerLost, Journal, KilledAfter, KilledBefore, Struck, was_killed
from harness.study import Space, end_state

AT_ONCE = 8
"""Studies at the same time: enough to keep two cores busy while each of them waits for the API server."""
EXTRA_WRITES = 12
"""Writes that one crash may cost: steps taken again, states told again."""

STEPS = {
    "apply QuantBenchmarkRun": 2,
    "apply Pod server": 2,
    "apply Job load": 2,
    "patch QuantBenchmarkRun verdict": 2,
    "apply Event": 2,
    "delete Pod server": 2,
    "delete Pod load": 2,
    "delete Job load": 2,
    "patch QuantBenchmarkRun Ended": 2,
    "patch QuantBenchmark finishedAt": 1,
}
"""Steps whose number does not depend on timing."""
CELLS = "patch QuantBenchmark cells"
"""Told when a study begins and after each of its runs. A late operator tells the last cells with the end."""
LEAST = {**STEPS, CELLS: 2}
"""How often each step must be hit in a sweep."""


@dataclass(frozen=True)
class Outcome:
    """One disturbed study; ``hit`` names the writes at which it was disturbed."""

    faults: str
    hit: tuple[str, ...]
    state: JsonObject
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Bench:
    """Runs studies with faults in them."""

    lab: Lab
    slots: asyncio.Semaphore

    async def run(self, *faults: Struck, **spec: Any) -> Outcome:
        """One study. Each operator meets the next fault; once they are used up, an operator meets none."""
        async with self.slots:
            name = ", ".join(f"{type(fault).__name__} {fault.step or 'write'} #{fault.number}" for fault in faults)
            space = await self.lab.space()
            invariants = Invariants(space)
            await space.submit(**spec)
            writes: list[str] = []
            for fault in (*faults, None):
                journal = Journal(fault) if fault else Journal()
                ended = await self.live(space, journal, name)
                writes += journal.writes
                if ended:
                    break
            await self.rests(space, name)
            invariants.check()
            invariants.once()
            hit = tuple(fault.hit for fault in faults if fault.hit)
            return Outcome(name, hit, end_state(space), tuple(writes))

    async def live(self, space: Space, journal: Journal, name: str) -> bool:
        """One life of an operator, to the end of the study or its own; True if it was the study's."""
        async with self.lab.operator(space, journal) as operator:
            over = asyncio.create_task(space.until(space.over, seconds=240, about=f"{name}: the study is over"))
            died = asyncio.create_task(operator.ended.wait())
            await asyncio.wait((over, died), return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                died.cancel()
                await over
                await operator.idle()
            if operator.ended.is_set():
                over.cancel()
                await asyncio.gather(over, return_exceptions=True)
                assert was_killed(operator.death), f"{name}: {operator.death!r}"
                return False
            return True

    async def rests(self, space: Space, name: str) -> None:
        """A new operator finds nothing to do."""
        journal = Journal()
        async with self.lab.operator(space, journal) as operator:
            await operator.controller.resync()
            await operator.idle()
        assert not journal.writes, f"{name}: a finished study causes writes: {journal.writes}"


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return Bench(lab, asyncio.Semaphore(AT_ONCE))


async def sweep(bench: Bench, fault: type[Struck], *, every: bool) -> list[Outcome]:
    """An undisturbed study, then one for each of its writes (or for each of the steps that every study takes)."""
    reference = await bench.run()
    counted = Counter(reference.writes)
    assert {step: counted[step] for step in STEPS} == STEPS
    assert counted[CELLS] >= LEAST[CELLS]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(bench.run(fault(number, step)))
            for step, times in counted.items()
            if every or step in LEAST
            for number in range(1, times + 1)
        ]
    outcomes = [task.result() for task in tasks]
    compare(outcomes, reference)
    hits = Counter(hit.rpartition(" #")[0] for outcome in outcomes for hit in outcome.hit)
    missed = {step: times for step, times in LEAST.items() if hits[step] < times}
    assert not missed, f"not hit that often: {missed}"
    return outcomes


def compare(outcomes: Sequence[Outcome], reference: Outcome) -> None:
    """Every end state is the reference's, at a bounded price."""
    for outcome in outcomes:
        assert outcome.state == reference.state, f"{outcome.faults} ends differently"
        extra = len(outcome.writes) - len(reference.writes)
        assert extra <= EXTRA_WRITES * max(1, len(outcome.hit)), f"{outcome.faults} took {extra} writes more"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", [KilledBefore, KilledAfter])
async def test_killed_at_every_write(bench: Bench, fault: type[Struck]) -> None:
    await sweep(bench, fault, every=True)


@pytest.mark.timeout(900)
async def test_answer_of_every_step_lost(bench: Bench) -> None:
    await sweep(bench, AnswerLost, every=False)


@pytest.mark.timeout(900)
async def test_killed_twice(bench: Bench) -> None:
    chosen = random.Random(3)
    kinds = (KilledBefore, KilledAfter)
    pairs = [
        (chosen.choice(kinds)(chosen.randint(1, 30)), chosen.choice(kinds)(chosen.randint(1, 12))) for _ in range(12)
    ]
    reference, *outcomes = await asyncio.gather(bench.run(), *(bench.run(*pair) for pair in pairs))
    compare(outcomes, reference)
    assert sum(len(outcome.hit) for outcome in outcomes) > len(pairs)


@pytest.mark.timeout(900)
async def test_killed_while_starts_are_added(bench: Bench) -> None:
    """One start each and up to three: the looks after blocks 1 and 2 are taken again by whoever comes next."""
    sampling = {"starts": 1, "maxStarts": 3, "repeats": 1, "control": False}
    faults = [
        kind(number, "apply QuantBenchmarkRun") for kind in (KilledBefore, KilledAfter) for number in (3, 4, 5, 6)
    ]
    reference, *outcomes = await asyncio.gather(
        bench.run(sampling=sampling), *(bench.run(fault, sampling=sampling) for fault in faults)
    )
    compare(outcomes, reference)
    assert [len(outcome.hit) for outcome in outcomes] == [1] * len(faults)
    assert reference.state["study"]["progress"] == "6/6"
    (row,) = [cell["loads"][0] for cell in reference.state["study"]["cells"] if cell["variant"] == "int8"]
    assert (row["ratioStarts"], row["difference"]) == (3, "Faster")
