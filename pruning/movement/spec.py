"""What is pruned and how: the variants that users know, as frozen data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto

from pruning.errors import InputError
from pruning.movement.blocks import BlockShape
from pruning.movement.names import MaskFunction, Variant


class Unit(Enum):
    """What shares a score in one family of matrices."""

    WEIGHT = auto()
    BLOCK = auto()
    HEAD = auto()
    """The rows of one head in Q, K or V, or its columns of the output projection, each with a score of its own."""
    NEURON = auto()
    """A row of the first FFN matrix and the same column of the second, with one score."""


@dataclass(frozen=True)
class VariantSpec:
    """One row of the table of variants.

    Args:
        attention: what shares a score in Q, K, V and the output projection.
        ffn: what shares a score in the FFN.
        counts_holes: density means weights that are not zero; otherwise the weights of the heads and neurons that
            live, holes included, because holes cost full time.
        filled: afterwards the holes are filled and the compact model is trained without masks.
        attention_penalty: share of the penalty's strength that attention gets.
    """

    attention: Unit
    ffn: Unit
    counts_holes: bool = False
    filled: bool = False
    attention_penalty: float = 1.0


VARIANTS: dict[Variant, VariantSpec] = {
    Variant.UNSTRUCTURED: VariantSpec(Unit.WEIGHT, Unit.WEIGHT, counts_holes=True),
    Variant.BLOCK: VariantSpec(Unit.BLOCK, Unit.BLOCK, counts_holes=True),
    Variant.HYBRID: VariantSpec(Unit.BLOCK, Unit.NEURON),
    Variant.HYBRID_FILLED: VariantSpec(Unit.BLOCK, Unit.NEURON, filled=True),
    Variant.STRUCT: VariantSpec(Unit.HEAD, Unit.NEURON, attention_penalty=0.05),
}
"""Source: Lagunas et al. 2021, arXiv:2109.04838, section 3; ``struct`` and ``unstructured`` are its end points."""


@dataclass(frozen=True)
class FamilySpec:
    """One family of matrices, attention or FFN: its mask function, and the strength of its penalty."""

    mask_function: MaskFunction = MaskFunction.SIGMOID_THRESHOLD
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.penalty) and self.penalty >= 0):
            raise InputError(f"the penalty of a family must be finite and >= 0; got {self.penalty}.")


@dataclass(frozen=True)
class Floors:
    """Units that stay in every layer, whatever their scores."""

    heads: int = 0
    neurons: int = 0

    def __post_init__(self) -> None:
        if min(self.heads, self.neurons) < 0:
            raise InputError(
                f"floors are numbers of heads and neurons per layer, at least 0; got {self.heads}, {self.neurons}."
            )


@dataclass(frozen=True)
class MovementSpec:
    """Everything that decides which weights may go.

    Args:
        variant: what shares a score.
        attention: of Q, K, V and the output projection.
        ffn: of the two FFN matrices.
        block: rows and columns of a block; the output projection takes them transposed.
        floors: see `Floors`.
        two_four: also keep only the two largest of every four neighbouring weights. Models accuracy on sparse tensor
            cores; the compact model stores zeros and gains no speed.
        rewind: heads of each layer that an earlier run kept; they stay whole.

    Raises:
        InputError: if a block side is below 1.
    """

    variant: Variant
    attention: FamilySpec = field(default_factory=FamilySpec)
    ffn: FamilySpec = field(default_factory=FamilySpec)
    block: BlockShape = (32, 32)
    floors: Floors = field(default_factory=Floors)
    two_four: bool = False
    rewind: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if min(self.block) < 1:
            raise InputError(f"a block needs at least one row and one column; got {self.block[0]}x{self.block[1]}.")

    @property
    def row(self) -> VariantSpec:
        """The variant's row of the table."""
        return VARIANTS[self.variant]


def movement_spec(
    variant: Variant,
    mask_function: MaskFunction = MaskFunction.SIGMOID_THRESHOLD,
    *,
    ffn_mask_function: MaskFunction | None = None,
    block: BlockShape = (32, 32),
    floors: Floors | None = None,
    attention_penalty: float | None = None,
) -> MovementSpec:
    """The spec of a variant with the penalties of its row, unless told otherwise."""
    strength = VARIANTS[variant].attention_penalty if attention_penalty is None else attention_penalty
    return MovementSpec(
        variant,
        FamilySpec(mask_function, strength),
        FamilySpec(ffn_mask_function or mask_function),
        block=block,
        floors=floors or Floors(),
    )
