"""Names of the pruning methods. Standard library only, so that the command line can list them at once."""

from __future__ import annotations

from enum import StrEnum

BLOCK_MOVEMENT = "block-movement"
"""The method of `slimbert prune` that trains; see ``pruning.methods.block_movement``."""

GRADUAL = "gradual"
"""One-shot pruning in rounds, with distillation in between; see ``pruning.methods.gradual``."""


class Method(StrEnum):
    """How units are chosen.

    ``oneshot`` is the optimal brain surgeon (`pruning.second_order`), ``drop`` the same with whole sublayers only.
    The others are controls: ``fisher`` sums scores of single units, ``uniform`` is magnitude with the same fraction in
    every layer.
    """

    ONESHOT = "oneshot"
    DROP = "drop"
    FISHER = "fisher"
    MAGNITUDE = "magnitude"
    UNIFORM = "uniform"
    RANDOM = "random"
