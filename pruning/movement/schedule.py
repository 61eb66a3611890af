"""How far the pruning has come at each step: cubic between two holds."""

from __future__ import annotations

from dataclasses import dataclass

from pruning.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """A hold of ``hold_steps`` without pruning, a cubic ramp, and ``final_hold_steps`` at full strength.

    ``total_steps`` counts optimiser steps. Published SQuAD run: 110,660 / 5,400 / 54,000; MNLI: 147,264 / 12,000 /
    48,000.

    Raises:
        InputError: if the holds leave no step for the ramp.

    Source: Zhu and Gupta 2017, arXiv:1710.01878; the holds: Sanh et al. 2020, arXiv:2005.07683.
    """

    total_steps: int
    hold_steps: int
    final_hold_steps: int

    def __post_init__(self) -> None:
        if min(self.hold_steps, self.final_hold_steps) < 0 or self.ramp_steps < 1:
            raise InputError(
                f"{self.total_steps} training steps with holds of {self.hold_steps} and {self.final_hold_steps} leave "
                "no step in which to prune. Train for more epochs, or shorten the holds."
            )

    @classmethod
    def from_fractions(cls, total_steps: int, hold: float = 0.05, final_hold: float = 0.4) -> Schedule:
        """Holds as fractions of all steps.

        Raises:
            InputError: if a fraction is outside [0, 1), or no step is left for the ramp.
        """
        for name, value in (("hold", hold), ("final hold", final_hold)):
            if not 0 <= value < 1:
                raise InputError(f"the {name} is a fraction of the training steps, in [0, 1); got {value:g}.")
        return cls(total_steps, int(hold * total_steps), int(final_hold * total_steps))

    @property
    def ramp_steps(self) -> int:
        """Steps between the holds."""
        return self.total_steps - self.hold_steps - self.final_hold_steps

    def ramp_fraction(self, step: int) -> float:
        """Part of the ramp that is done, linear, in [0, 1]."""
        return min(1.0, max(0.0, (step - self.hold_steps) / self.ramp_steps))

    def progress(self, step: int) -> float:
        """Strength of the pruning in [0, 1]: fast at first, slow towards the end of the ramp."""
        return float(1 - (1 - self.ramp_fraction(step)) ** 3)

    def threshold(self, step: int, final: float, initial: float = 0.0) -> float:
        """``final + (initial - final) c^3``, where ``c`` is what remains of the ramp."""
        return initial + (final - initial) * self.progress(step)
