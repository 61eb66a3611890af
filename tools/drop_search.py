"""The fastest model within an accuracy loss: which speedup to try next. Pure: numbers in, numbers out.

Losses are in points: hundredths of the task's metric. They grow with the speedup but for noise, so the search doubles
the speedup until the loss is too large, and then halves the gap in logarithms. It never tries beyond a speedup that
lost too much, whatever noise there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

from pruning.errors import InputError

FINEST_RATIO = 1.08
"""Speedups closer than that are not told apart."""
MOST_TRIALS = 8


@dataclass(frozen=True)
class DropTrial:
    """A model of a ``speedup`` and what it loses against the dense one; ``error_points`` is the loss's standard error.

    Raises:
        InputError: if the speedup is below 1, or the loss is no number.
    """

    speedup: float
    loss_points: float
    error_points: float | None = None

    def __post_init__(self) -> None:
        if self.speedup < 1 or not isfinite(self.loss_points):
            raise InputError(f"a trial needs a speedup of at least 1 and a loss that is a number; got {self}.")


def search_drop(
    allowed_points: float, reachable: float, attempt: Callable[[float, int], DropTrial]
) -> tuple[tuple[DropTrial, ...], int]:
    """Try speedups until the fastest within the loss is found.

    Args:
        allowed_points: the largest loss.
        reachable: the largest speedup that can be asked for.
        attempt: prunes to a speedup, as trial number 1, 2, ..., and scores the model.

    Returns:
        All trials, and the index of the best.

    Raises:
        InputError: if even the slowest model that was tried loses more.
    """
    trials: list[DropTrial] = []
    while (speedup := next_speedup(allowed_points, trials, reachable)) is not None:
        trials.append(attempt(speedup, len(trials) + 1))
    kept = [index for index, x in enumerate(trials) if x.loss_points <= allowed_points]
    if not kept:
        raise InputError(_out_of_reach(allowed_points, trials))
    return tuple(trials), max(kept, key=lambda index: trials[index].speedup)


def next_speedup(allowed_points: float, trials: Sequence[DropTrial], reachable: float) -> float | None:
    """The speedup to try next; None if there is nothing more to try."""
    low = max((x.speedup for x in trials if x.loss_points <= allowed_points), default=1.0)
    high = min((x.speedup for x in trials if x.loss_points > allowed_points), default=None)
    if len(trials) >= MOST_TRIALS or low >= reachable:
        return None
    if high is None:
        return min(2 * low, reachable)
    return sqrt(low * high) if high / low > FINEST_RATIO else None


def _out_of_reach(allowed_points: float, trials: Sequence[DropTrial]) -> str:
    if not trials:
        return "nothing in this model can be pruned, so no accuracy can be traded for speed."
    best = min(trials, key=lambda x: x.speedup)
    error = "" if best.error_points is None else f", standard error {best.error_points:.2f}"
    return (
        f"a loss of at most {allowed_points:g} points is out of reach: even at {best.speedup:.2f}x the model loses "
        f"{best.loss_points:.2f} points on the rows that choose{error}. Allow more, or pass more evaluation rows."
    )
