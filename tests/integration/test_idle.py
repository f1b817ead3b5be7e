"""What rests causes no writes, whatever state it rests in; and what the objects look like to a person."""

import asyncio

from harness.kubelet import NODE_LABEL
from harness.lab import Lab
from harness.operator import Journal, Operator
from harness.study import Space
from harness.world import Seen


async def settled(operator: Operator, journal: Journal) -> None:
    """Wait until the operator has said all that it has to say."""
    told: list[str] = [""]
    while told != (said := [write for write in journal.writes if write.startswith("patch")]):
        told = said
        await operator.controller.resync()
        await operator.idle()


async def test_what_rests_causes_no_writes(lab: Lab) -> None:
    """Finished, invalid, suspended, without a node, over its quota: a listing of all of them writes nothing."""
    space, journal = await lab.space(), Journal()
    operator = lab.operator(space, journal)
    operator.start()
    nowhere = [{"name": "nowhere", "nodeSelector": {NODE_LABEL: "none"}, "gpus": 1}]
    await space.submit("finished")
    await space.submit("invalid", engine={"image": "vllm:latest"})
    await space.submit("suspended", suspend=True)
    await space.submit("without-node", targets=nowhere)
    await space.until_complete_beside("finished")
    await space.until(lambda: "didn't match" in str(space.runs()), about="the scheduler's words in the status")
    await settled(operator, journal)
    versions = {seen.name: seen.raw["metadata"]["resourceVersion"] for seen in of_us(space)}
    told = len(journal.writes)
    for _ in range(3):
        await operator.controller.resync()
        await operator.idle()
    assert journal.writes[told:] == []
    assert {seen.name: seen.raw["metadata"]["resourceVersion"] for seen in of_us(space)} == versions
    assert space.condition("Complete", "finished")["status"] == "True"
    assert space.condition("Accepted", "invalid")["status"] == "False"
    assert space.condition("Progressing", "suspended")["reason"] == "Suspended"
    assert space.condition("Complete", "without-node")["status"] == "False"


async def test_waiting_for_a_quota_writes_nothing(lab: Lab, space: Space) -> None:
    """The pod is asked for again and again; what the API server says to it is told once."""
    journal = Journal()
    await space.forbid(pods="0")
    await space.submit()
    async with lab.operator(space, journal) as operator:
        await space.until(lambda: "exceeded quota" in str(space.runs()), about="the quota shows")
        await settled(operator, journal)
        told = journal.writes.copy()
        for _ in range(3):
            await operator.controller.resync()
            await operator.idle()
        again = journal.writes[len(told) :]
    assert set(again) == {"apply Pod server"}


def of_us(space: Space) -> list[Seen]:
    return [seen for kind in ("QuantBenchmark", "QuantBenchmarkRun") for seen in space.ever(kind) if not seen.gone]


async def test_many_finished_studies_start_quickly(lab: Lab, space: Space) -> None:
    """An operator that starts among studies that are over looks at each once and writes nothing."""
    async with lab.operator(space) as first:
        await asyncio.gather(*(space.submit(f"study-{number}") for number in range(4)))
        for number in range(4):
            await space.until_complete_beside(f"study-{number}")
        await first.idle()
    journal = Journal()
    async with lab.operator(space, journal) as second:
        await second.controller.resync()
        await second.idle()
        assert len(second.controller.state) == 12
    assert journal.writes == []


async def test_columns_for_people(lab: Lab, space: Space, operator: Operator) -> None:
    """What `kubectl get qb,qbr` prints comes from the API server's own table."""
    await space.submit()
    await space.until_complete()
    rows = await space.table("QuantBenchmark")
    assert rows == [
        {
            "Name": "study",
            "Model": "/models/bf16",
            "Progress": "2/2",
            "State": "Finished",
            "Complete": "True",
            "Summary": rows[0]["Summary"],
        }
    ]
    assert rows[0]["Summary"].startswith("one run each, no verdict: int8 is ")
    assert rows[0]["Summary"].endswith("× bf16 at saturated")
    runs = await space.table("QuantBenchmarkRun")
    assert {row["Variant"]: (row["Stage"], row["Verdict"], row["Block"]) for row in runs} == {
        "bf16": ("Ended", "Measured", 1),
        "int8": ("Ended", "Measured", 1),
    }
    assert all(row["Tok/s"] > 0 for row in runs)


async def test_events_tell_how_runs_ended(lab: Lab, space: Space, operator: Operator) -> None:
    await space.submit()
    await space.until_complete()
    events = [event for event in await space.api.list("Event", space.name) if event["reason"] == "Measured"]
    assert len(events) == 2
    assert {event["involvedObject"]["kind"] for event in events} == {"QuantBenchmarkRun"}
    assert {event["message"] for event in events} == {"AllPassesValid: 4 passes, all valid"}
