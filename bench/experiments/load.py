"""How long requests wait when they come by themselves: open loop, Poisson arrivals, one queue, one server.

In a closed loop the next request waits politely for the last answer, so a slow moment delays one request and hides
from all others. Here arrivals are drawn beforehand and a response counts from the arrival, queueing included.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from pruning.errors import InputError

TAIL_SAMPLES = 10
"""A percentile is given only if at least ten answers were slower."""
MS_PER_S = 1_000.0

Serve = Callable[[Sequence[int]], object]
"""Answers the requests of the given indices together, and returns when they are answered."""


@dataclass(frozen=True)
class TimeSource:
    """The time, and a way to let it pass."""

    now_s: Callable[[], float] = time.perf_counter
    sleep_s: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class QueueRules:
    """What the server does with requests that wait.

    It answers up to ``max_batch`` of them together; with fewer, it waits for more until the oldest is ``max_delay_ms``
    old. A request is dropped if it finds ``queue_limit`` others waiting, or if its turn comes after ``timeout_s``.

    Raises:
        InputError: if a number is out of range.
    """

    max_batch: int = 1
    max_delay_ms: float = 0.0
    queue_limit: int = 1_000
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if self.max_batch < 1 or self.max_delay_ms < 0 or self.queue_limit < 1 or self.timeout_s <= 0:
            raise InputError(
                "a queue needs a batch >= 1, a delay >= 0 ms, a limit >= 1 and a timeout > 0 s; "
                f"got {self.max_batch}, {self.max_delay_ms:g}, {self.queue_limit} and {self.timeout_s:g}."
            )


class Fate(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    QUEUE_FULL = "queue full"
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Outcome:
    """One request: when it came, seconds after the start, and the milliseconds until its answer; None if dropped."""

    arrival_s: float
    fate: Fate
    response_ms: float | None


@dataclass(frozen=True)
class LoadPoint:
    """One model at one rate of arrivals.

    Args:
        key: of the model.
        offered_per_second: rate that arrivals were drawn with.
        share: of the baseline's saturation, if the rate was given so.
        outcomes: one per request, in the order of arrival.
        busy_s: how long the server worked.
        batches: how many times it did.
    """

    key: str
    offered_per_second: float
    share: float | None
    outcomes: tuple[Outcome, ...]
    busy_s: float
    batches: int

    @property
    def responses_ms(self) -> tuple[float, ...]:
        """Of the requests that were answered."""
        return tuple(x.response_ms for x in self.outcomes if x.response_ms is not None)

    @property
    def dropped_share(self) -> float:
        """Requests that got no answer."""
        return 1 - len(self.responses_ms) / len(self.outcomes) if self.outcomes else 0.0

    @property
    def busy_share(self) -> float:
        """Part of the time in which the server worked; towards 1 the queue grows without end."""
        ends = [x.arrival_s + (x.response_ms or 0.0) / MS_PER_S for x in self.outcomes]
        return self.busy_s / max(ends) if ends and max(ends) > 0 else 0.0

    def percentile_ms(self, percent: float) -> float | None:
        """Response time that ``percent`` of the answers did not exceed; None if too few answers were slower."""
        responses = self.responses_ms
        if len(responses) * (100 - percent) / 100 < TAIL_SAMPLES - 1e-9:
            return None
        return float(np.percentile(responses, percent))


@dataclass(frozen=True)
class LoadResult:
    """All models in one runtime at one sequence length.

    ``saturation_per_second`` is the rate that the baseline reaches in a closed loop with ``rules.max_batch``.
    """

    runtime: str
    seq: int
    rules: QueueRules
    saturation_per_second: float
    points: tuple[LoadPoint, ...]


@dataclass(frozen=True)
class Rate:
    """Arrivals per second, or a share of what the baseline can do at most.

    Raises:
        InputError: if it is not positive.
    """

    value: float
    relative: bool

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise InputError(f"a rate of arrivals must be positive; got {self}.")

    def per_second(self, saturation_per_second: float) -> float:
        """As an absolute rate."""
        return self.value * saturation_per_second if self.relative else self.value

    def __str__(self) -> str:
        return f"{self.value * 100:g}%" if self.relative else f"{self.value:g}/s"


def poisson_arrivals(rate_per_second: float, seconds: float, *, seed: int) -> tuple[float, ...]:
    """Times of arrival in seconds, gaps drawn from an exponential distribution; at least one.

    Raises:
        InputError: if the rate or the time is not positive.
    """
    if rate_per_second <= 0 or seconds <= 0:
        raise InputError(f"arrivals need a positive rate and time; got {rate_per_second:g}/s for {seconds:g} s.")
    generator = np.random.default_rng(seed)
    arrivals: list[float] = []
    at = float(generator.exponential(1 / rate_per_second))
    while at < seconds or not arrivals:
        arrivals.append(at)
        at += float(generator.exponential(1 / rate_per_second))
    return tuple(arrivals)


def serve_open_loop(
    key: str,
    rate: Rate,
    arrivals_s: Sequence[float],
    serve: Serve,
    rules: QueueRules,
    clock: TimeSource,
) -> LoadPoint:
    """Let the requests come at their times, whatever the server does, and note what becomes of each.

    Args:
        key: of the model.
        rate: that ``arrivals_s`` were drawn with, for the record.
        arrivals_s: seconds after the start, in order.
        serve: the model.
        rules: of the queue.
        clock: the real one, or a fake.
    """
    line = _Line(arrivals_s, rules)
    start, now, busy_s, batches = clock.now_s(), 0.0, 0.0, 0
    while not line.finished:
        now = max(
            now, clock.now_s() - start
        )  # a sleep may end early, and then what it waited for is there all the same
        line.admit(now)
        wake = line.wake_s()
        if wake > now:
            clock.sleep_s(wake - now)
            now = wake
            continue
        chosen = line.take(now)
        if chosen:
            serve(chosen)
            end = clock.now_s() - start
            line.answer(chosen, end)
            busy_s, batches = busy_s + end - now, batches + 1
    offered = len(arrivals_s) / arrivals_s[-1]
    return LoadPoint(key, offered, rate.value if rate.relative else None, line.outcomes(), busy_s, batches)


class _Line:
    """The queue. Nothing leaves it while the server works, so admitting late is the same as admitting on time."""

    def __init__(self, arrivals_s: Sequence[float], rules: QueueRules) -> None:
        self._arrivals_s, self._rules = arrivals_s, rules
        self._fates: dict[int, Outcome] = {}
        self._waiting: deque[int] = deque()
        self._next = 0

    @property
    def finished(self) -> bool:
        """Whether every request has met its fate."""
        return len(self._fates) == len(self._arrivals_s)

    def admit(self, now: float) -> None:
        """Take in what has arrived by ``now``, or turn it away."""
        while self._next < len(self._arrivals_s) and self._arrivals_s[self._next] <= now:
            if len(self._waiting) < self._rules.queue_limit:
                self._waiting.append(self._next)
            else:
                self._settle(self._next, Fate.QUEUE_FULL)
            self._next += 1

    def wake_s(self) -> float:
        """When the server has to act: at once, at the next arrival, or when the oldest has waited long enough."""
        if len(self._waiting) >= self._rules.max_batch:
            return 0.0
        next_arrival = self._arrivals_s[self._next] if self._next < len(self._arrivals_s) else math.inf
        if not self._waiting:
            return next_arrival
        return min(next_arrival, self._arrivals_s[self._waiting[0]] + self._rules.max_delay_ms / MS_PER_S)

    def take(self, now: float) -> list[int]:
        """The next requests to answer together; those that waited too long are dropped on the way."""
        chosen: list[int] = []
        while self._waiting and len(chosen) < self._rules.max_batch:
            request = self._waiting.popleft()
            if now - self._arrivals_s[request] > self._rules.timeout_s:
                self._settle(request, Fate.TIMED_OUT)
            else:
                chosen.append(request)
        return chosen

    def answer(self, requests: Sequence[int], end: float) -> None:
        """Note the answers of a batch."""
        for request in requests:
            self._settle(request, Fate.ANSWERED, (end - self._arrivals_s[request]) * MS_PER_S)

    def outcomes(self) -> tuple[Outcome, ...]:
        """One per request, in the order of arrival."""
        return tuple(self._fates[request] for request in range(len(self._arrivals_s)))

    def _settle(self, request: int, fate: Fate, response_ms: float | None = None) -> None:
        self._fates[request] = Outcome(self._arrivals_s[request], fate, response_ms)
