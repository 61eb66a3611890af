"""Readings of the CPU and of our own memory, as far as the system tells."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

STATUS = Path("/proc/self/status")
PEAK_FIELD = "VmHWM"
BYTES_PER_KB = 1_024
CPU_PERIOD_S = 0.5
"""Reading the CPU costs about a millisecond of our own time: twice a second is enough to see it wander."""


@dataclass(frozen=True)
class CpuSample:
    """One reading: mean frequency of all cores, and the 1-minute load average. None: the system does not say."""

    at_s: float
    frequency_mhz: float | None
    load_average: float | None


@dataclass(frozen=True)
class CpuTelemetry:
    """All readings of the CPU during a measurement."""

    samples: tuple[CpuSample, ...]

    @property
    def frequency_mhz(self) -> tuple[float, float, float] | None:
        """Lowest, median and highest frequency; None where it cannot be read."""
        seen = [sample.frequency_mhz for sample in self.samples if sample.frequency_mhz is not None]
        return (min(seen), float(np.median(seen)), max(seen)) if seen else None


def read_cpu() -> CpuSample:
    """One reading."""
    frequency = psutil.cpu_freq()
    return CpuSample(
        at_s=time.perf_counter(),
        frequency_mhz=None if frequency is None or not frequency.current else float(frequency.current),
        load_average=load_average(),
    )


def load_average() -> float | None:
    """Processes that wanted to run, mean of the last minute; None where the system keeps no such figure."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):  # Windows has none
        return None


def peak_resident_bytes(status: Path = STATUS) -> int | None:
    """The most memory that this process held at once since it was started; None where the kernel does not say.

    Read from the process's own status: ``getrusage`` reports the parent's peak after a fork, too.
    """
    if not status.is_file():
        return None
    lines = status.read_text(encoding="utf-8").splitlines()
    values = [line.partition(":")[2].split()[0] for line in lines if line.startswith(f"{PEAK_FIELD}:")]
    return int(values[0]) * BYTES_PER_KB if values else None


def resident_bytes() -> int:
    """Memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def file_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
