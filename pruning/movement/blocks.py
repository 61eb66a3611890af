"""Tiles of a matrix that share one score. Letters: R, C blocks per column and row of the grid, r, c block size."""

from __future__ import annotations

from torch import Tensor

from pruning.errors import InputError

BlockShape = tuple[int, int]
"""Rows and columns of one block."""


def grid_shape(matrix: tuple[int, int], block: BlockShape) -> tuple[int, int]:
    """Blocks down and across a ``matrix`` of (out, in) weights.

    Raises:
        InputError: unless the blocks tile the matrix.
    """
    if min(block) < 1 or matrix[0] % block[0] or matrix[1] % block[1]:
        raise InputError(
            f"blocks of {block[0]}x{block[1]} do not divide a matrix of {matrix[0]}x{matrix[1]}. "
            "Choose a block shape whose sides divide hidden size and FFN width."
        )
    return matrix[0] // block[0], matrix[1] // block[1]


def multiply_blocks(weight: Tensor, mask: Tensor) -> Tensor:
    """``weight`` (R r, C c) times one factor per block, ``mask`` (R, C); the block size follows from the shapes.

    The gradient with respect to the mask is the sum of weight times gradient over each block, which is the score
    gradient of movement pruning.
    """
    tiles = _tiles(weight, mask.shape)
    return (tiles * mask[:, None, :, None]).view(weight.shape)


def block_sums(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Sum of ``values`` (R r, C c) over each block, (R, C)."""
    return _tiles(values, grid).sum(dim=(1, 3))


def _tiles(matrix: Tensor, grid: tuple[int, ...]) -> Tensor:
    """``matrix`` (R r, C c) seen as (R, r, C, c)."""
    return matrix.reshape(grid[0], -1, grid[1], matrix.shape[1] // grid[1])
