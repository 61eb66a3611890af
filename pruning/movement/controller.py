"""A target instead of a lambda to guess: the cut that meets it, and feedback on the penalty.

Two things follow the target. The *cut* is solved for at every control step, so the model's size is on its way to the
target whatever the scores do. The *penalty* is steered so that the cut that is needed travels to where the schedule of
the paper ends (0.1 for ``sigmoid-threshold``): then scores are driven apart as in the paper, and the solved cut and
the scheduled one agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pruning.arch import ArchSpec
from pruning.errors import InputError
from pruning.movement.layers import Census

TOLERANCE = 0.03
"""How far the result may be from the target, relative to it."""
BISECTIONS = 20
INTEGRAL_GAIN = 60.0
"""Change of log(lambda) over the whole ramp, for a needed cut that is one logit too high all the time."""
PROPORTIONAL_GAIN = 8.0
"""Change of log(lambda) for a needed cut that is one logit too high now. With much less the loop swings: scores answer
to a new lambda by their velocity, and AdamW's momentum adds a delay."""
LOG_LAMBDA_LIMITS = (math.log(1e-3), math.log(1e5))


@dataclass(frozen=True)
class Target:
    """How small: ``wanted`` is the fraction of the dense model's price that may be left.

    Args:
        wanted: in (0, 1].
        price: of an architecture: weights, parameters, FLOPs or milliseconds; None counts weights that are not zero.
        meaning: in words.

    Raises:
        InputError: if ``wanted`` is outside (0, 1].
    """

    wanted: float
    price: Callable[[ArchSpec], float] | None
    meaning: str

    def __post_init__(self) -> None:
        if not 0 < self.wanted <= 1:
            raise InputError(f"a target must leave more than nothing and at most everything; got {self.wanted:g}.")

    def measured(self, census: Census, dense: ArchSpec) -> float:
        """The fraction that ``census`` leaves."""
        if self.price is None:
            return census.kept_weights / census.all_weights
        return self.price(census.arch) / self.price(dense)

    def is_met(self, fraction: float) -> bool:
        """Whether a fraction is within the tolerance."""
        return abs(fraction / self.wanted - 1) <= TOLERANCE


def cut_for(wanted: float, left: Callable[[float], float]) -> float:
    """The cut x in [0, 1] at which ``left(x)``, which falls with x, comes closest to ``wanted``."""
    low, high = 0.0, 1.0  # left(low) >= wanted is kept, and left(high) < wanted unless the floors are above it
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) >= wanted else (low, middle)
    return min((low, high), key=lambda cut: abs(left(cut) - wanted))


@dataclass
class PenaltyController:
    """Steers lambda so that the needed cut runs from ``initial_cut`` to ``final_cut`` along the ramp, in logits.

    Proportional and integral, in log(lambda): scores answer to orders of magnitude. ``log_lambda`` and ``last`` (the
    part of the ramp at the last update) are its whole state.
    """

    initial_cut: float
    final_cut: float
    log_lambda: float
    last: float = 0.0

    def update(self, needed_cut: float, ramp_fraction: float) -> float:
        """The lambda to use from now on.

        Args:
            needed_cut: the cut that would meet the target with the scores as they are.
            ramp_fraction: done of the ramp, in [0, 1]; beyond its end pass 1 plus what has gone by since.
        """
        start, end = _logit(self.initial_cut), _logit(self.final_cut)
        error = _logit(needed_cut) - (start + (end - start) * min(ramp_fraction, 1.0))
        change = INTEGRAL_GAIN * error * (ramp_fraction - self.last)
        low, high = LOG_LAMBDA_LIMITS
        self.log_lambda, self.last = min(high, max(low, self.log_lambda + change)), ramp_fraction
        return math.exp(min(high, max(low, self.log_lambda + PROPORTIONAL_GAIN * error)))


def _logit(probability: float) -> float:
    inside = min(1 - 1e-6, max(1e-6, probability))
    return math.log(inside / (1 - inside))
