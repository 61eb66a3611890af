"""How much each token matters to the answer, at the output of every sublayer.

A classifier reads one token and cares little for most others; a fit that treats all tokens alike spends its freedom on
states that nobody reads. Letters: B batch, S sequence, E hidden, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.batching import Batch
from pruning.introspect import head_from_model, layers_from_model
from pruning.modes import evaluating
from pruning.scores import OBJECTIVES

PLAIN_SHARE = 0.2
"""Part of the weight that all tokens get alike, so that none is forgotten."""


def token_weights(model: PreTrainedModel, batches: Sequence[Batch], *, seed: int = 0) -> list[list[Tensor]]:
    """Weights (B, S) of the tokens, for every batch and, within it, for every sublayer.

    The weight is the squared norm of the gradient of the model's own log-likelihood (see `pruning.scores`) with
    respect to the sublayer's output, scaled to a mean of 1 over the real tokens of all batches, and mixed with 20 % of
    an equal weight. Padding has weight 0.

    Returns:
        ``[batch][2 * layer]`` is the attention of a layer, ``[batch][2 * layer + 1]`` its FFN.

    Source: the Fisher weighting of a layer's error, Kurtic et al. 2023 (ZipLM), arXiv:2302.04089.
    """
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        squares = [_squared_gradients(model, batch, generator) for batch in batches]
    masks = [batch["attention_mask"].float() for batch in batches]
    tokens = sum(float(mask.sum()) for mask in masks)
    means = [sum(float(batch[i].sum()) for batch in squares) / tokens for i in range(len(squares[0]))]
    return [
        [_mixed(square, mean, mask) for square, mean in zip(batch, means, strict=True)]
        for batch, mask in zip(squares, masks, strict=True)
    ]


def _mixed(square: Tensor, mean: float, mask: Tensor) -> Tensor:
    if not 0 < mean < math.inf:  # nothing above depends on this sublayer, or the model has diverged
        return mask
    return (PLAIN_SHARE + (1 - PLAIN_SHARE) * square / mean) * mask


def _squared_gradients(model: PreTrainedModel, batch: Batch, generator: torch.Generator) -> list[Tensor]:
    """Squared gradient norms (B, S) at the output of every sublayer."""
    outputs: dict[int, Tensor] = {}
    handles = []
    for index, layer in enumerate(layers_from_model(model)):
        for offset, module in enumerate((layer.attention.output, layer.output)):
            handles.append(module.dropout.register_forward_hook(_keep(outputs, 2 * index + offset)))
    try:
        with torch.enable_grad():
            value = OBJECTIVES[head_from_model(model)](model(**batch), batch, generator)
    finally:
        for handle in handles:
            handle.remove()
    order = sorted(outputs)
    gradients = torch.autograd.grad(value, [outputs[index] for index in order], allow_unused=True)
    mask = batch["attention_mask"].float()
    return [mask * 0 if x is None else x.square().sum(-1) * mask for x in gradients]


def _keep(outputs: dict[int, Tensor], index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[index] = output

    return hook
