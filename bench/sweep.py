"""A grid of pruned models: accuracy beside measured speedup, both with intervals. Plain data, pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from pruning.errors import InputError

NORMAL_95 = 1.96
"""Standard errors on either side of a mean that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class Bar:
    """A value, and the ends of the bar that is drawn through it.

    Raises:
        InputError: unless low <= value <= high.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise InputError(f"a value must lie between the ends of its bar; got {self}.")


@dataclass(frozen=True)
class TrialResult:
    """One pruned model: what was asked for, its measured ``speedup``, and its ``metric``, both with 95 % intervals.

    Either is None if the request was refused, for the reason in ``refused``.
    """

    method: str
    requested: float
    seed: int
    speedup: Bar | None = None
    metric: Bar | None = None
    refused: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrialResult:
        """Read what `to_dict` wrote.

        Raises:
            InputError: if something is missing or of the wrong kind.
        """
        try:
            bars = {name: None if data[name] is None else Bar(**data[name]) for name in ("speedup", "metric")}
            return cls(**{**data, **bars})
        except (KeyError, TypeError) as error:
            raise InputError(f"not the result of a trial: {error} is missing or of the wrong kind.") from error


@dataclass(frozen=True)
class SweepPoint:
    """A method at one requested speedup: means over seeds, each bar from the lowest to the highest end of its seeds."""

    method: str
    requested: float
    seeds: int
    speedup: Bar
    metric: Bar


@dataclass(frozen=True)
class Sweep:
    """All trials of a grid, the dense model's metric, and where they were measured, in words."""

    metric_name: str
    n: int
    dense: Bar
    where: str
    trials: tuple[TrialResult, ...]

    @property
    def points(self) -> tuple[SweepPoint, ...]:
        """Per method and requested speedup, in the order of the trials; without those that were refused."""
        keys = dict.fromkeys((x.method, x.requested) for x in self.trials if x.speedup and x.metric)
        return tuple(
            _point([x for x in self.trials if (x.method, x.requested) == key and x.speedup is not None]) for key in keys
        )

    @property
    def refused(self) -> tuple[TrialResult, ...]:
        """Trials whose request could not be met."""
        return tuple(x for x in self.trials if x.refused is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the points included."""
        return {"schema": 1, **asdict(self), "points": [asdict(x) for x in self.points]}


def interval_bar(value: float, error: float | None) -> Bar:
    """A value with its 95 % interval, or alone where its standard error is not known."""
    half = NORMAL_95 * (error or 0.0)
    return Bar(value, value - half, value + half)


def mean_bar(bars: Sequence[Bar]) -> Bar:
    """The mean of at least one value; its bar reaches from the lowest end to the highest."""
    return Bar(fmean(x.value for x in bars), min(x.low for x in bars), max(x.high for x in bars))


def _point(trials: Sequence[TrialResult]) -> SweepPoint:
    speedups, metrics = [x.speedup for x in trials if x.speedup], [x.metric for x in trials if x.metric]
    first = trials[0]
    return SweepPoint(first.method, first.requested, len(trials), mean_bar(speedups), mean_bar(metrics))
