"""The product with a masked matrix, ``y = x (M * W)^T + b``, that keeps no masked copy of ``W`` for its gradients.

Left to autograd, every matrix of the encoder would be in memory twice from forward to backward. Here the backward pass
multiplies weight and mask once more, which is cheap beside its two matrix products. Letters: see `blocks`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pruning.movement.blocks import block_sums, multiply_blocks


class MaskedProduct(torch.autograd.Function):
    """``F.linear`` with one factor per block of the weight.

    With ``G = dL/d(M * W)`` the gradient of the weight is ``M * G``, that of a block's factor the sum over the block of
    ``W * G``. Gradients have the dtype of what they belong to, whatever autocast computes in. Differentiable once.

    Source: Sanh et al. 2020, arXiv:2005.07683, section 4.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, factors: Tensor, binary: bool) -> Tensor:
        """(..., in) to (..., out).

        Args:
            ctx: of autograd.
            x: (..., in).
            weight: (out, in).
            bias: (out,), as it computes.
            factors: (R, C), of the weight's dtype.
            binary: all factors are 0 or 1, and are kept in a byte each.
        """
        ctx.save_for_backward(x, weight, factors.bool() if binary else factors)
        return F.linear(x, multiply_blocks(weight, factors), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight, bias and factors, where they are asked for."""
        x, weight, factors = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, wants_factors, _ = ctx.needs_input_grad
        gradient, factors = gradients[0], factors.to(weight.dtype)
        of_x = gradient @ multiply_blocks(weight, factors).to(gradient.dtype) if wants_x else None
        rows = gradient.reshape(-1, len(weight))  # (tokens, out)
        of_bias = rows.sum(0) if wants_bias else None
        if not (wants_weight or wants_factors):
            return of_x, None, of_bias, None, None
        of_product = (rows.t() @ x.reshape(len(rows), -1).to(rows.dtype)).to(weight.dtype)  # G, (out, in)
        of_factors = block_sums(weight * of_product, factors.shape) if wants_factors else None
        of_weight = multiply_blocks(of_product, factors) if wants_weight else None
        return of_x, of_weight, of_bias, of_factors, None
