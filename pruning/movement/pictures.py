"""Pictures of masked matrices: which parts are kept, on a grid coarse enough to store and to look at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from pruning.movement.blocks import block_sums
from pruning.movement.layers import MaskedLayer
from pruning.movement.masked_linear import MaskedLinear

MOST_CELLS = 32
"""Down and across a picture."""
ATTENTION_NAMES = ("query", "key", "value", "output")
FFN_NAMES = ("FFN first", "FFN second")


@dataclass(frozen=True)
class Picture:
    """One matrix of (``rows``, ``columns``) weights: the kept share of each cell of a grid, row by row, in [0, 1]."""

    name: str
    rows: int
    columns: int
    kept: tuple[tuple[float, ...], ...]


def layer_pictures(layer: MaskedLayer) -> list[dict[str, Any]]:
    """The matrices of a layer under the masks as they are, as plain data."""
    named = [*zip(ATTENTION_NAMES, layer.attention, strict=False), *zip(FFN_NAMES, layer.ffn, strict=False)]
    return [asdict(picture_of(name, linear)) for name, linear in named]


@torch.no_grad()
def picture_of(name: str, linear: MaskedLinear) -> Picture:
    """The picture of one matrix: a cell per block, or several blocks per cell where there are many."""
    keep = linear.mask.keep.float()
    keep = keep.t() if linear.borrowed else keep  # (R, C)
    grid = (_cells(keep.shape[0]), _cells(keep.shape[1]))
    kept = block_sums(keep, grid) * (grid[0] * grid[1] / keep.numel())
    rows = tuple(tuple(round(x, 3) for x in row) for row in kept.tolist())
    return Picture(name, linear.out_features, linear.in_features, rows)


def _cells(blocks: int) -> int:
    """The most cells that share ``blocks`` evenly."""
    return max(cells for cells in range(1, min(blocks, MOST_CELLS) + 1) if blocks % cells == 0)
