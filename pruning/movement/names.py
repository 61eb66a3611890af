"""Names of the variants and mask functions. Standard library only, so that the command line can list them at once."""

from __future__ import annotations

from enum import StrEnum


class Variant(StrEnum):
    """What shares a score; `pruning.movement.spec.VARIANTS` says how each is made."""

    HYBRID_FILLED = "hybrid-filled"
    HYBRID = "hybrid"
    STRUCT = "struct"
    BLOCK = "block"
    UNSTRUCTURED = "unstructured"


class MaskFunction(StrEnum):
    """How scores become a mask; see `pruning.movement.mask_functions`."""

    SIGMOID_THRESHOLD = "sigmoid-threshold"
    THRESHOLD = "threshold"
    TOPK = "topk"
    MAGNITUDE = "magnitude"
    L0 = "l0"
