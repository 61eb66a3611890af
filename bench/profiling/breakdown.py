"""Times of operators, and their sums by layer, part and operator. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.profiling.places import NOWHERE, Part, Place
from pruning.errors import InputError

OUTSIDE = "between operators"
"""What a call takes beyond its operators: dispatch, memory, and the profiler itself."""

Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True)
class Work:
    """One piece of work of a call: its name, the kind of operator, and where it belongs."""

    name: str
    operator: str
    place: Place


@dataclass(frozen=True)
class ProfiledCall:
    """One call: its whole time, and the time of each piece of work, both on the profiler's clock."""

    total_ms: float
    work_ms: Mapping[Work, float]


@dataclass(frozen=True)
class OperatorTime:
    """Mean milliseconds of one piece of work per call."""

    work: Work
    ms: float


@dataclass(frozen=True)
class OperatorTimes:
    """Where a call's time went: the mean of the faster half of the profiled calls, so that parts sum to the total.

    Args:
        times: one per piece of work, in the order of execution; the last is what lies `OUTSIDE` of all operators.
        calls: how many calls the mean is of.
        profiled_calls: how many were profiled.
    """

    times: tuple[OperatorTime, ...]
    calls: int
    profiled_calls: int

    @property
    def total_ms(self) -> float:
        """The whole call."""
        return math.fsum(time.ms for time in self.times)

    def by_place(self) -> dict[Place, float]:
        """Milliseconds in each part of each layer."""
        return self._sums(lambda work: work.place)

    def by_part(self) -> dict[Part, float]:
        """Milliseconds in each part, all layers together."""
        return self._sums(lambda work: work.place.part)

    def by_operator(self) -> dict[str, float]:
        """Milliseconds in each kind of operator, the largest first."""
        return dict(sorted(self._sums(lambda work: work.operator).items(), key=lambda item: -item[1]))

    def _sums(self, group: Callable[[Work], Group]) -> dict[Group, float]:
        sums: dict[Group, float] = {}
        for time in self.times:
            sums[group(time.work)] = sums.get(group(time.work), 0.0) + time.ms
        return sums


@dataclass(frozen=True)
class ModelProfile:
    """The profile of one model, by its key."""

    key: str
    operators: OperatorTimes


@dataclass(frozen=True)
class ProfileResult:
    """All models in one cell; the baseline comes first."""

    runtime: str
    batch: int
    seq: int
    models: tuple[ModelProfile, ...]


def operator_times(calls: Sequence[ProfiledCall]) -> OperatorTimes:
    """Mean of the faster half of the calls: a call that something else disturbed says little about the model.

    Raises:
        InputError: if there is no call, or no work in it.
    """
    if not calls or not any(call.work_ms for call in calls):
        raise InputError("the profiler reported no operator; profile at least one call.")
    kept = sorted(calls, key=lambda call: call.total_ms)[: math.ceil(len(calls) / 2)]
    works = dict.fromkeys(work for call in kept for work in call.work_ms)
    times = [OperatorTime(work, math.fsum(call.work_ms.get(work, 0.0) for call in kept) / len(kept)) for work in works]
    outside = math.fsum(call.total_ms for call in kept) / len(kept) - math.fsum(time.ms for time in times)
    times.append(OperatorTime(Work(OUTSIDE, OUTSIDE, NOWHERE), outside))
    return OperatorTimes(tuple(times), len(kept), len(calls))
