"""Lines as `nvidia-smi` prints them, and their summary."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpumonitor.readings import FIELD_SETS, GPU, NO_THROTTLING, REASONS, Reading, Ring, parse_line, summarise
from quantbench.api.run import GPU as APIGPU
from quantbench.api.run import GPUSamples

DATA = Path(__file__).parents[1] / "data/gpumonitor"
FIELDS = tuple(FIELD_SETS[0])
AT = time.mktime((2026, 11, 25, 11, 12, 13, 0, 0, -1)) + 0.456
H100 = "2026/11/25 11:12:13.456, NVIDIA H100 80GB HBM3, GPU-aa, 550.90.07, 1980, 698.12, 61, 0x0000000000000004, 9.0"


def test_a_line() -> None:
    assert FIELDS == (
        "timestamp", "name", "uuid", "driver", "sm_clock", "power", "temperature", "reasons", "compute_capability"
    )  # fmt: skip
    assert parse_line(H100, FIELDS, 0.0) == (
        GPU("NVIDIA H100 80GB HBM3", "GPU-aa", "550.90.07", "9.0"),
        Reading(pytest.approx(AT), 1980.0, 698.12, 61.0, 4),
    )


def test_what_a_gpu_does_not_say() -> None:
    # The parent of a MIG device in a container: shared figures are withheld.
    mig = "2026/11/25 11:12:13.456, NVIDIA A100-SXM4-80GB, GPU-bb, 535.1, 1410, [N/A], N/A, [Not Supported], 8.0"
    assert parse_line(mig, FIELDS, 0.0) == (
        GPU("NVIDIA A100-SXM4-80GB", "GPU-bb", "535.1", "8.0"),
        Reading(pytest.approx(AT), 1410.0, None, None, None),
    )
    lost = "2026/11/25 11:12:13.456, Tesla T4, [Unknown Error], [N/A], , -1, nan, [Insufficient Permissions], [N/A]"
    assert parse_line(lost, FIELDS, 0.0) == (
        GPU("Tesla T4", None, None, None),
        Reading(pytest.approx(AT), None, None, None, None),
    )


def test_a_time_that_cannot_be_read() -> None:
    found = parse_line(H100.replace("2026/11/25", "[N/A]"), FIELDS, 77.0)
    assert found is not None
    assert found[1].at == 77.0


@pytest.mark.parametrize(
    "line",
    [
        "",
        "No devices were found",
        'Field "clocks_event_reasons.active" is not a valid field to query.',
        H100 + ", 5",
        H100.replace("NVIDIA H100 80GB HBM3", "[N/A]"),
        "Unable to determine the device handle for GPU0000:0A:00.0: Unknown Error",
    ],
)
def test_lines_of_anything_else(line: str) -> None:
    assert parse_line(line, FIELDS, 0.0) is None


@given(st.text(max_size=80))
def test_any_text_is_a_line(text: str) -> None:
    for fields in (FIELDS, FIELDS[:1], FIELDS[:2]):
        parse_line(text, fields, 0.0)


def reading(at: float = 1.0, clock: float | None = 1980.0, reasons: int | None = 0) -> Reading:
    return Reading(at, clock, 600.0, 60.0, reasons)


def test_a_summary_is_what_the_operator_takes() -> None:
    found = summarise([Reading(1, 1980, 700.5, 60, 0x4), Reading(1, 1380, 500.5, 65, 0x44), reading(), reading()])
    assert found == {
        "samples": 4,
        "meanSMClockMegahertz": 1830.0,
        "minSMClockMegahertz": 1380,
        "meanPowerWatts": 600.25,
        "maxPowerWatts": 700.5,
        "maxTemperatureCelsius": 65,
        "throttledShare": 0.5,
        "throttleReasons": ["SwPowerCap", "HwThermalSlowdown"],
    }
    assert GPUSamples.model_validate(found).samples == 4
    everything = summarise([reading(reasons=0x1FF)])
    assert GPUSamples.model_validate(everything).throttle_reasons == tuple(REASONS.values())


@pytest.mark.parametrize(
    ("masks", "share", "reasons"),
    [
        ([0x0, 0x1, 0x2, 0x3], 0.0, []),
        ([0x1 | 0x4, 0x1], 0.5, ["SwPowerCap"]),
        ([None, 0x8], 1.0, ["HwSlowdown"]),
        ([None], None, []),
        ([0x1000], 1.0, []),  # a reason that this module has no name for
    ],
)
def test_idling_and_chosen_clocks_are_no_throttling(
    masks: list[int | None], share: float | None, reasons: list[str]
) -> None:
    found = summarise([reading(reasons=mask) for mask in masks])
    assert (found["throttledShare"], found["throttleReasons"]) == (share, reasons)
    assert not NO_THROTTLING & sum(REASONS)


def test_nothing_said() -> None:
    found = summarise([Reading(1.0, None, None, None, None)])
    assert found["samples"] == 1
    assert {found[key] for key in found if key not in ("samples", "throttleReasons")} == {None}
    GPUSamples.model_validate(found)


def test_a_ring_keeps_the_last_readings_and_every_gpu() -> None:
    ring = Ring(size=3)
    gpus = [GPU("H100", f"GPU-{index}", "550", "9.0") for index in range(2)]
    for at in range(5):
        ring.add(gpus[at % 2], reading(float(at)))
    APIGPU.model_validate(ring.gpus()[0])
    assert [gpu["uuid"] for gpu in ring.gpus()] == ["GPU-0", "GPU-1"]
    whole = ring.summary(0, 10)
    assert whole is not None
    assert whole["samples"] == 3
    assert ring.summary(0, 1.9) is None
    for since, until, samples in ((2, 2, 1), (2, 3, 2), (2.5, 3.5, 1)):
        found = ring.summary(since, until)
        assert found is not None
        assert found["samples"] == samples


def test_a_real_gpu_at_its_power_cap() -> None:
    """82 lines that nvidia-smi printed around 25 s of work on an H100 (tests/data/gpumonitor)."""
    ring, times = Ring(), []
    for line in (DATA / "h100-driver-580.csv").read_text().splitlines():
        read = parse_line(line, FIELDS, 0.0)
        assert read is not None
        ring.add(*read)
        times.append((read[1].at, read[1].power or 0.0))
    assert ring.gpus() == [
        {
            "name": "NVIDIA H100 80GB HBM3",
            "uuid": "GPU-00000000-0000-0000-0000-000000000000",
            "driver": "580.159.04",
            "computeCapability": "9.0",
        }
    ]
    working = [at for at, power in times if power > 600]
    summary = ring.summary(working[2], working[-2])
    assert summary is not None
    assert summary["throttleReasons"] == ["SwPowerCap"]
    assert summary["throttledShare"] > 0.9
    assert 650 < summary["meanPowerWatts"] < summary["maxPowerWatts"] < 710
    assert 1100 < summary["minSMClockMegahertz"] < summary["meanSMClockMegahertz"] < 1500
    idle = ring.summary(0.0, working[0] - 5)
    assert idle is not None
    assert (idle["throttledShare"], idle["throttleReasons"]) == (0.0, [])
