"""GPU readings as plain data: which blocks they spoil, and the energy of a window. Pure functions of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from pruning.errors import InputError

CLOCK_TOLERANCE = 0.02
REQUESTS_PER_ENERGY = 1_000


@dataclass(frozen=True)
class Window:
    """A stretch of time on the wall clock of the measurement, in seconds.

    Raises:
        InputError: if it ends before it starts.
    """

    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if self.end_s < self.start_s:
            raise InputError(f"a window must not end before it starts; got {self.start_s} to {self.end_s} s.")


@dataclass(frozen=True)
class GpuSample:
    """One reading. ``throttle`` names the reasons that hold clocks down; None: the GPU does not report it.

    ``energy_j`` is a counter that only grows. ``other_processes`` counts the processes on the GPU beside our own.
    """

    at_s: float
    sm_clock_mhz: int
    memory_clock_mhz: int
    throttle: tuple[str, ...]
    power_w: float | None
    energy_j: float | None
    temperature_c: int | None
    memory_used_bytes: int
    other_processes: int


class BlockProblem(StrEnum):
    """Why the samples of a block do not count."""

    THROTTLED = "throttled"
    CLOCK_OFF = "clock off"
    NOT_SAMPLED = "not sampled"


@dataclass(frozen=True)
class BlockCheck:
    """What the readings say about one block; without a problem it counts."""

    clock_mhz: float | None
    problems: tuple[BlockProblem, ...]

    @property
    def valid(self) -> bool:
        """Whether the block counts."""
        return not self.problems


@dataclass(frozen=True)
class GpuTelemetry:
    """All readings of one GPU during a measurement, in the order of time.

    Raises:
        InputError: if the readings are not in order.
    """

    gpu: str
    samples: tuple[GpuSample, ...]

    def __post_init__(self) -> None:
        times = [sample.at_s for sample in self.samples]
        if times != sorted(times):
            raise InputError("GPU readings must be in the order of time. Measure again.")

    def check_blocks(self, blocks: Sequence[Window]) -> tuple[BlockCheck, ...]:
        """Say for each block whether it counts.

        A block is invalid if a reading in it shows throttling, or if its SM clock is more than 2 % from the median
        of all blocks. A block too short for a reading of its own goes by the readings before and after it.
        """
        readings = [self._during(block) for block in blocks]
        clocks = [_median_clock(samples) for samples in readings]
        known = [clock for clock in clocks if clock is not None]
        usual = float(np.median(known)) if known else None
        return tuple(_check(samples, clock, usual) for samples, clock in zip(readings, clocks, strict=True))

    def energy_j(self, window: Window) -> float | None:
        """Joules in a window, from the energy counter, else from power over time; None if neither covers it.

        The counter moves in steps of up to a tenth of a second: windows should last a second or more.
        """
        counter = self._series("energy_j")
        if _covers(counter, window):
            start, end = np.interp([window.start_s, window.end_s], *counter)
            return float(end - start)
        power = self._series("power_w")
        if not _covers(power, window):
            return None
        inside = [at for at in power[0] if window.start_s < at < window.end_s]
        times = [window.start_s, *inside, window.end_s]
        return float(np.trapezoid(np.interp(times, *power), times))

    @property
    def other_processes(self) -> int:
        """The most processes of others seen on the GPU at once."""
        return max((sample.other_processes for sample in self.samples), default=0)

    def _during(self, block: Window) -> tuple[GpuSample, ...]:
        inside = tuple(sample for sample in self.samples if block.start_s <= sample.at_s <= block.end_s)
        if inside:
            return inside
        before = [sample for sample in self.samples if sample.at_s < block.start_s][-1:]
        after = [sample for sample in self.samples if sample.at_s > block.end_s][:1]
        return (*before, *after) if before and after else ()

    def _series(self, name: str) -> tuple[list[float], list[float]]:
        rows = [(sample.at_s, getattr(sample, name)) for sample in self.samples]
        known = [(at, value) for at, value in rows if value is not None]
        return [at for at, _ in known], [value for _, value in known]


def energy_per_1000_j(energy_j: float, requests: int) -> float:
    """Joules for a thousand requests.

    Raises:
        InputError: if there was no request.
    """
    if requests < 1:
        raise InputError(f"energy per request needs at least one request; got {requests}.")
    return energy_j * REQUESTS_PER_ENERGY / requests


def _median_clock(samples: Sequence[GpuSample]) -> float | None:
    return float(np.median([sample.sm_clock_mhz for sample in samples])) if samples else None


def _check(samples: Sequence[GpuSample], clock: float | None, usual: float | None) -> BlockCheck:
    if clock is None or usual is None:
        return BlockCheck(None, (BlockProblem.NOT_SAMPLED,))
    found = {
        BlockProblem.THROTTLED: any(sample.throttle for sample in samples),
        BlockProblem.CLOCK_OFF: abs(clock - usual) > CLOCK_TOLERANCE * usual,
    }
    return BlockCheck(clock, tuple(problem for problem, present in found.items() if present))


def _covers(series: tuple[list[float], list[float]], window: Window) -> bool:
    times = series[0]
    return bool(times) and times[0] <= window.start_s and window.end_s <= times[-1]
