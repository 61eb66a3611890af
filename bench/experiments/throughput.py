"""How many requests a second, as the batch grows: a closed loop, doubled until it no longer pays.

Letters: B batch, S sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.paired import Blocks
from bench.statistics import RatioInterval, log_ratios, ratio_interval
from bench.timer import WALL
from pruning.errors import InputError

WORTHWHILE_GAIN = 1.05
"""A doubling of the batch that brings less than 5 % more tokens per second brings nothing."""
USELESS_DOUBLINGS = 2
MS_PER_S = 1_000.0

MeasureBatch = Callable[[int], Mapping[str, Blocks]]
"""Milliseconds of every call at one batch size, by model."""


@dataclass(frozen=True)
class ThroughputPoint:
    """One model at one batch size: milliseconds of each call, in blocks; every call answers ``batch`` requests.

    Raises:
        InputError: if there is no call, or a size is below 1.
    """

    batch: int
    seq: int
    blocks_ms: Blocks

    def __post_init__(self) -> None:
        if min(self.batch, self.seq) < 1 or not any(self.blocks_ms):
            raise InputError(
                f"throughput needs batch >= 1, sequence >= 1 and at least one call; got {self.batch}, {self.seq} and "
                f"{sum(map(len, self.blocks_ms))} calls."
            )

    @property
    def requests_per_second(self) -> float:
        """Requests answered over the time that all calls took, slow ones included."""
        calls = [sample for block in self.blocks_ms for sample in block]
        return MS_PER_S * self.batch * len(calls) / math.fsum(calls)

    @property
    def tokens_per_second(self) -> float:
        """Real tokens, which here are all of them: no row is padded."""
        return self.requests_per_second * self.seq


@dataclass(frozen=True)
class ThroughputCurve:
    """One model at growing batch sizes.

    Raises:
        InputError: unless there is a point, and batch sizes grow.
    """

    key: str
    points: tuple[ThroughputPoint, ...]

    def __post_init__(self) -> None:
        batches = [point.batch for point in self.points]
        if not batches or batches != sorted(set(batches)):
            raise InputError(f"a throughput curve needs growing batch sizes; got {batches}.")

    @property
    def best(self) -> ThroughputPoint:
        """The point with the most tokens per second."""
        return max(self.points, key=lambda point: point.tokens_per_second)

    @property
    def saturated(self) -> bool:
        """Whether the sweep went far enough to know the best point."""
        return is_saturated([point.tokens_per_second for point in self.points])


@dataclass(frozen=True)
class ThroughputResult:
    """All models in one runtime at one sequence length, on one clock; the baseline's curve is the first."""

    runtime: str
    seq: int
    curves: tuple[ThroughputCurve, ...]
    clock: str = WALL.name

    def ratio(self, key: str, batch: int, *, seed: int = 0) -> RatioInterval:
        """Speed of a model over the baseline's at one batch size, from calls paired as they were made.

        Raises:
            InputError: if one of them was not measured there.
        """
        before, after = (self._blocks(name, batch) for name in (self.curves[0].key, key))
        return ratio_interval([log_ratios(before, after)], seed=seed)

    def best_ratio(self, key: str) -> float:
        """Most tokens per second of a model over the baseline's most, each at its own best batch size."""
        return self.curve(key).best.tokens_per_second / self.curves[0].best.tokens_per_second

    def curve(self, key: str) -> ThroughputCurve:
        """The curve of one model."""
        return next(curve for curve in self.curves if curve.key == key)

    def _blocks(self, key: str, batch: int) -> Blocks:
        for point in self.curve(key).points:
            if point.batch == batch:
                return point.blocks_ms
        raise InputError(f"{key} was not measured at batch {batch}.")


def is_saturated(rates: Sequence[float]) -> bool:
    """Whether each of the last two doublings brought less than 5 % more.

    Args:
        rates: tokens per second, batch size doubled from one to the next.
    """
    last = rates[-USELESS_DOUBLINGS - 1 :]
    gains = [after / before for before, after in pairwise(last)]
    return len(gains) == USELESS_DOUBLINGS and max(gains) < WORTHWHILE_GAIN


def sweep(
    measure: MeasureBatch, *, seq: int, largest: int, before: Sequence[ThroughputCurve] = ()
) -> Iterator[tuple[ThroughputCurve, ...]]:
    """Double the batch from 1 until every model is saturated, or ``largest`` is reached; yields after every size.

    All models are measured at every size, so that they can be compared there.

    Args:
        measure: times all models at one size.
        seq: S.
        largest: size at which to end.
        before: curves to go on with.

    Raises:
        InputError: if ``largest`` is below 1.
    """
    if largest < 1:
        raise InputError(f"the largest batch of a sweep must be at least 1; got {largest}.")
    points = {curve.key: list(curve.points) for curve in before}
    batch = 2 * before[0].points[-1].batch if before else 1
    while batch <= largest and not _all_saturated(points):
        for key, blocks in measure(batch).items():
            points.setdefault(key, []).append(ThroughputPoint(batch, seq, blocks))
        yield tuple(ThroughputCurve(key, tuple(found)) for key, found in points.items())
        batch *= 2


def _all_saturated(points: Mapping[str, Sequence[ThroughputPoint]]) -> bool:
    return bool(points) and all(is_saturated([x.tokens_per_second for x in found]) for found in points.values())
