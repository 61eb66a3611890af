"""Fill the holes that blocks left in a compact model, so that training without masks can use them."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from pruning.introspect import layers_from_model

FILL_STD = 0.01
"""Spread of the fill, relative to that of the matrix."""


@torch.no_grad()
def fill_holes(model: PreTrainedModel, seed: int = 0) -> int:
    """Replace every exact zero in the matrices of the encoder, in place, by ``N(mean(W), (0.01 std(W))^2)``.

    Mean and spread are those of the whole matrix, zeros included. Changes the model's answers: train it afterwards.

    Returns:
        The number of weights that were filled.

    Source: Lagunas et al. 2021, arXiv:2109.04838, "hybrid filled".
    """
    generator, filled = torch.Generator().manual_seed(seed), 0
    linears = [x for layer in layers_from_model(model) for x in layer.modules() if isinstance(x, nn.Linear)]
    for weight in (linear.weight for linear in linears):
        holes = weight == 0
        count = int(holes.sum())
        if count:
            noise = torch.randn(count, generator=generator).to(weight)
            weight[holes] = weight.mean() + FILL_STD * weight.std() * noise
            filled += count
    return filled
