"""Time work that is queued on an accelerator: what it takes there, and what queueing it takes here.

Knows neither BERT nor a runtime nor CUDA: events come from whoever owns the device, so that a test can fake them.
A pair of events around a call holds everything the device did or waited for in between, launch gaps included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self

from bench.timer import NS_PER_MS, WALL, Call, Clock

GPU_CLOCK = "gpu"
"""Between two events on the compute stream; inputs are already on the device."""
ENQUEUE_CLOCK = "enqueue"
"""Host time to queue the same call."""
END_TO_END = Clock("end-to-end", time.perf_counter_ns)
"""Real time from inputs in pinned host memory to outputs in host memory, copies included."""
DEVICE_CLOCKS = (GPU_CLOCK, ENQUEUE_CLOCK, END_TO_END.name)
LAUNCH_BOUND_SHARE = 0.8


class Event(Protocol):
    """A mark on the compute stream."""

    def record(self) -> None:
        """Put the mark behind the work queued so far."""

    def elapsed_ms_to(self, later: Self) -> float:
        """Device milliseconds to a later mark; valid once the device has passed both."""


class EventSource(Protocol):
    """What the timer needs of a device."""

    def event(self) -> Event:
        """A new mark for the compute stream."""

    def synchronize(self) -> None:
        """Wait until the compute stream is idle."""


def time_on_device(
    calls: Sequence[Call], source: EventSource, *, host: Clock = WALL, before: Callable[[], object] | None = None
) -> Mapping[str, tuple[float, ...]]:
    """Milliseconds of each call on the device and of queueing it; a `BlockTimer` once the source is bound.

    The calls are queued one after the other, so the device is idle between them only if it waits for the host.

    Args:
        calls: each queues work on the source's compute stream.
        source: of events.
        host: clock of the queueing.
        before: queued in front of each call and not timed: a flush of the cache.
    """
    source.synchronize()
    marks = [(source.event(), source.event()) for _ in calls]
    enqueue_ms = []
    for call, (start, stop) in zip(calls, marks, strict=True):
        if before is not None:
            before()
        start.record()
        begun_ns = host.now_ns()
        call()
        enqueue_ms.append((host.now_ns() - begun_ns) / NS_PER_MS)
        stop.record()
    source.synchronize()  # elapsed times are valid only once both marks are passed
    return {
        GPU_CLOCK: tuple(start.elapsed_ms_to(stop) for start, stop in marks),
        ENQUEUE_CLOCK: tuple(enqueue_ms),
    }


def is_launch_bound(gpu_ms: float, enqueue_ms: float) -> bool:
    """Whether queueing takes more than 0.8 of the device's time: then the host is measured, not the device."""
    return enqueue_ms > LAUNCH_BOUND_SHARE * gpu_ms
