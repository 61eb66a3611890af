"""A linear layer whose weights are masked by blocks: ``y = x (M * W)^T + b * alive``.

Weight and bias keep their names and objects, so that optimisers, checkpoints and everybody who reads a BERT find them
where they were; `MaskedLinear.masked_parameters` are the ones that compute.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from pruning.errors import InputError
from pruning.movement.blocks import BlockShape, block_sums, grid_shape, multiply_blocks
from pruning.movement.mask_functions import MaskRule
from pruning.movement.masked_product import MaskedProduct


@final
class BlockMask(nn.Module):
    """Scores of one matrix, (R, C), and the decision taken on them at the last `decide`.

    The decision is held fixed between two optimiser steps: micro-batches, recomputed activations and the two FFN
    matrices that share scores all see the same mask. It follows from scores and cut and is not stored.
    """

    keep: Tensor
    noise: Tensor | None

    def __init__(self, matrix: tuple[int, int], block: BlockShape, rule: MaskRule) -> None:
        super().__init__()
        self.block, self.rule = block, rule
        grid = grid_shape(matrix, block)
        self.scores = nn.Parameter(torch.full(grid, rule.initial_score), requires_grad=rule.learned)
        self.register_buffer("keep", torch.ones(grid, dtype=torch.bool), persistent=False)
        self.register_buffer("noise", None, persistent=False)

    def decide(self, keep: Tensor, noise: Tensor | None = None) -> None:
        """Fix which blocks live, bool (R, C), and for random gates the noise in (0, 1), until the next call."""
        self.keep, self.noise = keep, noise

    def forward(self) -> Tensor:
        """One factor per block, (R, C). Without noise in evaluation mode."""
        return self.rule.mask(self.scores, self.keep, self.noise if self.training else None)

    @property
    def weights_per_block(self) -> int:
        """Weights of one matrix that a block stands for."""
        return self.block[0] * self.block[1]


@final
class MaskedLinear(nn.Linear):
    """A linear layer under a `BlockMask`; it takes over the parameters of ``linear``.

    Args:
        linear: weight (out, in).
        mask: of this matrix.
        borrowed: the mask is that of another layer, which owns it, and applies transposed.
        two_four: also keep only the two largest of every four neighbouring weights of a row.

    Raises:
        InputError: if 2:4 is asked of rows whose length is no multiple of 4.
    """

    pattern: Tensor | None

    def __init__(self, linear: nn.Linear, mask: BlockMask, *, borrowed: bool = False, two_four: bool = False) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        if two_four and linear.in_features % 4:
            raise InputError(f"2:4 needs rows whose length is a multiple of 4; got {linear.in_features}.")
        self.weight, self.bias = linear.weight, linear.bias
        self.train(linear.training)
        self.borrowed, self.two_four = borrowed, two_four
        if borrowed:
            self.__dict__["mask"] = mask  # not registered: the scores must appear once among the parameters
        else:
            self.mask = mask
        self.register_buffer("pattern", None, persistent=False)

    @torch.no_grad()
    def refresh_pattern(self) -> None:
        """Choose the 2:4 pattern anew from the weights as they are now."""
        if self.two_four:
            self.pattern = two_four_pattern(self.weight)

    def masked_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight (out, in) and bias (out,) as they compute: zero where masked; the bias in rows without a block too."""
        weight, factors = self._weight_and_factors()
        return multiply_blocks(weight, factors), self._living_bias(factors)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        weight, factors = self._weight_and_factors()
        binary = self.mask.rule.binary
        return MaskedProduct.apply(x, weight, self._living_bias(factors), factors, binary)  # type: ignore[no-any-return, no-untyped-call]  # autograd is untyped

    @torch.no_grad()
    def magnitudes(self) -> Tensor:
        """Mean absolute weight of each block, in the layout of the mask, (R, C)."""
        own = self.weight.t() if self.borrowed else self.weight
        rows, columns = self.mask.scores.shape
        return block_sums(own.abs(), (rows, columns)) * (rows * columns / own.numel())

    def _weight_and_factors(self) -> tuple[Tensor, Tensor]:
        """The weight (out, in) under the 2:4 pattern alone, and a factor for each of its blocks."""
        factors = self.mask().to(self.weight.dtype)
        weight = self.weight if self.pattern is None else self.weight * self.pattern
        return weight, factors.t() if self.borrowed else factors

    def _living_bias(self, factors: Tensor) -> Tensor | None:
        if self.bias is None:
            return None
        alive = (factors.detach() != 0).any(dim=1)  # (R,)
        return self.bias * alive.repeat_interleave(self.out_features // len(alive))


def two_four_pattern(weight: Tensor) -> Tensor:
    """Bool like ``weight`` (out, in): True for the two largest magnitudes of every four in a row.

    Source: the 2:4 sparsity of NVIDIA's Ampere, Mishra et al. 2021, arXiv:2104.08378.
    """
    groups = weight.abs().view(len(weight), -1, 4)  # (out, in / 4, 4)
    top = groups.topk(2, dim=-1).indices
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, top, value=True).flatten(1)
