"""Names of the pruning methods. Standard library only, so that the command line can list them at once."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """How units are chosen. ``uniform`` is magnitude with the same fraction in every layer."""

    FISHER = "fisher"
    MAGNITUDE = "magnitude"
    UNIFORM = "uniform"
    RANDOM = "random"
