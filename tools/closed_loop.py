"""Which speedup to ask for next, so that the one that is measured is the one that was requested.

Prices predict the time of a model, but not quite: sublayers do not add up exactly, and the runtime may fuse differently
where a model is small. So a pruned model is measured, the request is corrected, and it is pruned again. Pure: numbers
in, numbers out. Speedups are ratios, so that errors multiply and everything is linear in logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from pruning.errors import InputError

LARGEST_SHORTFALL = 0.03
"""A measured speedup this share below the requested one is close enough."""
MOST_ROUNDS = 3
SLOPES = (0.5, 2.0)
"""Between two rounds the measured speedup follows the one asked for at about this rate; beyond it is noise."""


@dataclass(frozen=True)
class Round:
    """One model: the speedup ``asked`` of the prices, that they ``predicted`` for it, and the ``measured`` one.

    Raises:
        InputError: unless all are above 0, and the measured one lies in its 95 % interval.
    """

    asked: float
    predicted: float
    measured: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (self.asked > 0 and self.predicted > 0 and 0 < self.low <= self.measured <= self.high):
            raise InputError(f"a round needs speedups above 0, the measured one inside its interval; got {self}.")

    def reaches(self, requested: float) -> bool:
        """Whether it is as fast as requested, or close enough."""
        return self.measured >= (1 - LARGEST_SHORTFALL) * requested


def next_request(requested: float, rounds: Sequence[Round], reachable: float) -> float | None:
    """The speedup to ask for next; None if there is nothing more to try.

    After one round the request is scaled by what was missing; after two or more, a secant through the last two.

    Args:
        requested: by the user.
        rounds: tried so far.
        reachable: the largest speedup that can be asked for.
    """
    if not rounds:
        return min(requested, reachable)
    last = rounds[-1]
    if last.reaches(requested) or len(rounds) >= MOST_ROUNDS or last.asked >= reachable:
        return None
    missing = log(requested) - log(last.measured)
    return min(last.asked * exp(missing / _slope(rounds)), reachable)


def best_round(requested: float, rounds: Sequence[Round]) -> int:
    """Index of the slowest model that reaches the request, which lost least; if none does, of the fastest."""
    indices = range(len(rounds))
    reaching = [index for index in indices if rounds[index].reaches(requested)]
    if reaching:
        return min(reaching, key=lambda index: rounds[index].measured)
    return max(indices, key=lambda index: rounds[index].measured)


def require_reachable(requested: float, rounds: Sequence[Round], reachable: float, floor: str) -> None:
    """Do nothing unless even the smallest model that can be asked for is too slow.

    Raises:
        InputError: naming the largest speedup that was measured, and the ``floor`` that pruning does not remove.
    """
    best = rounds[best_round(requested, rounds)]
    if not best.reaches(requested) and any(x.asked >= reachable for x in rounds):
        raise InputError(f"{out_of_reach_text(requested, rounds, floor)}. Ask for less.")


def out_of_reach_text(requested: float, rounds: Sequence[Round], floor: str) -> str:
    """That the request cannot be met, and what can."""
    best = max(x.measured for x in rounds)
    return f"a speedup of {requested:g} is out of reach: the largest that was measured is {best:.2f} ({floor})"


def _slope(rounds: Sequence[Round]) -> float:
    """How much the logarithm of the measured speedup rises with that of the one asked for."""
    if len(rounds) < 2 or rounds[-1].asked == rounds[-2].asked:
        return 1.0
    before, last = rounds[-2:]
    slope = log(last.measured / before.measured) / log(last.asked / before.asked)
    return min(max(slope, SLOPES[0]), SLOPES[1])
