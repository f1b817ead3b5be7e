"""What `nvidia-smi` prints, as readings, and their summary over the time of a pass."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

# Query fields by the name that they have in a reading. Drivers before R535 know throttle reasons instead of event
# reasons; drivers before R510 do not tell compute capabilities. `nvidia-smi --help-query-gpu` lists a driver's fields.
_COMMON: Final = {
    "timestamp": "timestamp",
    "name": "name",
    "uuid": "uuid",
    "driver": "driver_version",
    "sm_clock": "clocks.sm",
    "power": "power.draw",
    "temperature": "temperature.gpu",
}
_OLDER: Final = {**_COMMON, "reasons": "clocks_throttle_reasons.active"}
FIELD_SETS: Final = (
    {**_COMMON, "reasons": "clocks_event_reasons.active", "compute_capability": "compute_cap"},
    {**_OLDER, "compute_capability": "compute_cap"},
    _OLDER,
)

# nvmlClocksEventReasons of nvml.h. An idle GPU, and clocks that somebody chose, are no throttling.
NO_THROTTLING: Final = 0x1 | 0x2
REASONS: Final = {
    0x4: "SwPowerCap",
    0x8: "HwSlowdown",
    0x10: "SyncBoost",
    0x20: "SwThermalSlowdown",
    0x40: "HwThermalSlowdown",
    0x80: "HwPowerBrakeSlowdown",
    0x100: "DisplayClockSetting",
}

MAX_READINGS: Final = 65_536
"""An hour of eight GPUs, some 20 MB."""
MAX_GPUS: Final = 64


class Reading(NamedTuple):
    """One GPU at one moment: Unix time [s], MHz, W, °C, NVML's bit mask; None where the GPU does not say."""

    at: float
    sm_clock: float | None
    power: float | None
    temperature: float | None
    reasons: int | None


class GPU(NamedTuple):
    """What does not change about a GPU."""

    name: str
    uuid: str | None
    driver: str | None
    compute_capability: str | None


def parse_line(line: str, fields: Sequence[str], now: float) -> tuple[GPU, Reading] | None:
    """One line of ``--format=csv,noheader,nounits`` with these `fields`; None for a line of anything else.

    `now` [Unix s] stands in for a time stamp that cannot be read.
    """
    values = line.split(",")  # nothing is quoted, and no value holds a comma
    if len(values) != len(fields):
        return None
    row = {field: _known(value) for field, value in zip(fields, values, strict=True)}
    name = row.get("name")
    if name is None:
        return None
    reading = Reading(
        _unix(row.get("timestamp"), now),
        _number(row.get("sm_clock")),
        _number(row.get("power")),
        _number(row.get("temperature")),
        _mask(row.get("reasons")),
    )
    return GPU(name, row.get("uuid"), row.get("driver"), row.get("compute_capability")), reading


def _known(value: str) -> str | None:
    """None for "[N/A]", "N/A", "[Not Supported]", "[Unknown Error]" and the like."""
    value = value.strip()
    return None if not value or value.startswith("[") or value == "N/A" else value


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _mask(value: str | None) -> int | None:
    try:
        return int(value or "", 16)
    except ValueError:
        return None


def _unix(value: str | None, now: float) -> float:
    """Time of a stamp such as ``2026/11/25 11:12:13.456``, which is in local time."""
    moment, _, fraction = (value or "").partition(".")
    try:
        return time.mktime(time.strptime(moment, "%Y/%m/%d %H:%M:%S")) + float(f"0.{fraction or 0}")
    except (ValueError, OverflowError):
        return now


class Ring:
    """The last readings of all GPUs; may be used from several threads."""

    def __init__(self, size: int = MAX_READINGS) -> None:
        self._readings: deque[Reading] = deque(maxlen=size)
        self._gpus: dict[GPU, None] = {}
        self._lock = threading.Lock()

    def add(self, gpu: GPU, reading: Reading) -> None:
        """Keep a reading, the oldest one making room."""
        with self._lock:
            if len(self._gpus) < MAX_GPUS:
                self._gpus.setdefault(gpu)
            self._readings.append(reading)

    def gpus(self) -> list[dict[str, str | None]]:
        """The GPUs seen so far, in the order of `nvidia-smi`."""
        with self._lock:
            return [
                {"name": g.name, "uuid": g.uuid, "driver": g.driver, "computeCapability": g.compute_capability}
                for g in self._gpus
            ]

    def summary(self, since: float, until: float) -> dict[str, Any] | None:
        """Summary of the readings of a time [Unix s]; None if there are none."""
        with self._lock:
            chosen = [reading for reading in self._readings if since <= reading.at <= until]
        return summarise(chosen) if chosen else None


def summarise(readings: Sequence[Reading]) -> dict[str, Any]:
    """MHz, W, °C; shares of the readings that name their reasons; null for what no GPU said."""
    clocks = _said(reading.sm_clock for reading in readings)
    powers = _said(reading.power for reading in readings)
    masks = [reading.reasons & ~NO_THROTTLING for reading in readings if reading.reasons is not None]
    throttled = [mask for mask in masks if mask]
    return {
        "samples": len(readings),
        "meanSMClockMegahertz": _mean(clocks),
        "minSMClockMegahertz": min(clocks, default=None),
        "meanPowerWatts": _mean(powers),
        "maxPowerWatts": max(powers, default=None),
        "maxTemperatureCelsius": max(_said(reading.temperature for reading in readings), default=None),
        "throttledShare": len(throttled) / len(masks) if masks else None,
        "throttleReasons": [name for bit, name in REASONS.items() if any(mask & bit for mask in throttled)],
    }


def _said(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
