"""Time any callable: named clocks, one sample per call, a latency that keeps its samples and its doubt.

Knows neither BERT nor a runtime. A device whose time can be read only after the work is done (GPU events) brings
its own `BlockTimer`; everything downstream of a block of samples stays the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pruning.errors import InputError

NS_PER_MS = 1e6
NOISY_SPREAD = 0.1
SAMPLES_BEYOND = 10

Call = Callable[[], object]

BlockTimer = Callable[[Sequence[Call]], Mapping[str, tuple[float, ...]]]
"""Runs the calls in order and returns, for each clock by name, the milliseconds of every call."""


@dataclass(frozen=True)
class Clock:
    """A named source of nanoseconds that only grows."""

    name: str
    now_ns: Callable[[], int]


WALL = Clock("wall", time.perf_counter_ns)
"""Real time: what a user waits. Other processes on the machine disturb it."""

THREAD = Clock("thread", time.thread_time_ns)
"""CPU time of the calling thread: steady on a shared machine, and blind to work done in other threads."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of each call on one clock; every statistic is derived from the samples.

    Raises:
        InputError: if there is no sample.
    """

    clock: str
    samples_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_ms:
            raise InputError("a latency needs at least one sample; got none. Time at least one call.")

    @property
    def p50_ms(self) -> float:
        """The median."""
        return self.percentile_ms(50)

    @property
    def p90_ms(self) -> float | None:
        """Nine calls in ten are faster; None below 100 samples."""
        return self.tail_ms(90)

    @property
    def p99_ms(self) -> float | None:
        """99 calls in 100 are faster; None below 1,000 samples."""
        return self.tail_ms(99)

    @property
    def iqr_ms(self) -> float:
        """Distance between the quartiles."""
        return self.percentile_ms(75) - self.percentile_ms(25)

    @property
    def spread(self) -> float:
        """Distance between the quartiles as a share of the median."""
        return self.iqr_ms / self.p50_ms if self.p50_ms else 0.0

    @property
    def noisy(self) -> bool:
        """Whether the spread is above a tenth."""
        return self.spread > NOISY_SPREAD

    def percentile_ms(self, percent: float) -> float:
        """The sample below which ``percent`` of the samples lie, interpolated."""
        return float(np.percentile(self.samples_ms, percent))

    def tail_ms(self, percent: float) -> float | None:
        """A high percentile; None if there are too few samples to know it."""
        return self.percentile_ms(percent) if len(self.samples_ms) >= samples_for_percentile(percent) else None

    def __str__(self) -> str:
        doubt = ", noisy" if self.noisy else ""
        tails = "".join(
            f", p{percent} {value:.3g} ms" for percent in (90, 99) if (value := self.tail_ms(percent)) is not None
        )
        return (
            f"p50 {self.p50_ms:.3g} ms{tails} "
            f"({self.clock} clock, {len(self.samples_ms)} samples, IQR/p50 {self.spread:.0%}{doubt})"
        )


def samples_for_percentile(percent: float) -> int:
    """Samples that a high percentile needs: at least ten must lie beyond it, or one odd call decides it."""
    return round(SAMPLES_BEYOND * 100 / (100 - percent))


def time_calls(calls: Sequence[Call], clocks: Sequence[Clock]) -> dict[str, tuple[float, ...]]:
    """Milliseconds of each call on each clock; a `BlockTimer` once the clocks are bound.

    All clocks read the same call: the first clock encloses the second, and so on, at under a microsecond each.
    """
    rows = [_time_call_ns(call, clocks) for call in calls]
    return {clock.name: tuple(row[index] / NS_PER_MS for row in rows) for index, clock in enumerate(clocks)}


@dataclass(frozen=True)
class WarmupPolicy:
    """When a callable is warm: after ``min_seconds``, and once three windows in a row agree.

    A window is the median of ``window_calls`` calls; three agree if the largest is within ``tolerance`` of the
    smallest. ``max_seconds`` ends the wait on a machine that never settles.

    Raises:
        InputError: if a bound is negative, the cap is below the minimum, or a window is empty.
    """

    min_seconds: float = 1.0
    max_seconds: float = 2.0
    window_calls: int = 5
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds <= self.max_seconds:
            raise InputError(
                f"warm-up needs 0 <= min_seconds <= max_seconds; got {self.min_seconds} and {self.max_seconds}."
            )
        if self.window_calls < 1 or self.tolerance < 0:
            raise InputError(
                f"warm-up needs window_calls >= 1 and tolerance >= 0; got {self.window_calls} and {self.tolerance}."
            )


@dataclass(frozen=True)
class Warmup:
    """What warming up took, and whether the timing had settled by then."""

    seconds: float
    calls: int
    stable: bool


def warm_up(call: Call, policy: WarmupPolicy, clock: Clock = WALL) -> Warmup:
    """Call until the policy is met, untimed as far as results are concerned.

    At least three windows are run, however long they take: stability cannot be judged on fewer.
    """
    start_ns = clock.now_ns()
    windows: list[float] = []
    while True:
        samples = time_calls([call] * policy.window_calls, [clock])[clock.name]
        windows.append(float(np.median(samples)))
        seconds = (clock.now_ns() - start_ns) / 1e9
        stable = _agree(windows[-3:], policy.tolerance)
        if len(windows) >= 3 and (seconds >= policy.max_seconds or (stable and seconds >= policy.min_seconds)):
            return Warmup(seconds, len(windows) * policy.window_calls, stable)


def _time_call_ns(call: Call, clocks: Sequence[Clock]) -> list[int]:
    before = [clock.now_ns() for clock in clocks]
    call()
    after = [clock.now_ns() for clock in reversed(clocks)]
    return [end - start for start, end in zip(before, reversed(after), strict=True)]


def _agree(windows: Sequence[float], tolerance: float) -> bool:
    return len(windows) == 3 and max(windows) <= min(windows) * (1 + tolerance)
