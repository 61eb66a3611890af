"""How much the answer depends on each sublayer's output: per token, and per direction.

A classifier reads one token and cares little for most others; a fit that treats all tokens alike spends its freedom on
states that nobody reads. The same backward pass says which directions of the output matter, which turns the error of
any sublayer into the same unit, the expected loss. Letters: B batch, S sequence, E hidden, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.batching import Batch, on_device
from pruning.introspect import head_from_model, layers_from_model
from pruning.layerwise import check_finite, sublayer_name
from pruning.least_squares import at_least_float32
from pruning.modes import evaluating
from pruning.scores import OBJECTIVES, Progress

PLAIN_SHARE = 0.2
"""Part of the weight that all tokens get alike, so that none is forgotten."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Of the output of every sublayer; ``2 * layer`` is the attention of a layer, ``2 * layer + 1`` its FFN.

    ``weights[batch][sublayer]`` (B, S): the squared norm of the gradient of the model's own log-likelihood (see
    `pruning.scores`), scaled to a mean of 1 over the real tokens of each text and mixed with 20 % of an equal weight;
    0 for padding. Scaled over all texts instead, the few that the model is unsure of would outweigh the others.
    ``gradients[sublayer]`` (E, E): the sum of ``g g'`` over the tokens of a text, mean over texts, so that
    ``e' G e / 2`` estimates the divergence that an error ``e`` at every token causes.
    """

    weights: list[list[Tensor]]
    gradients: list[Tensor]


def output_sensitivity(
    model: PreTrainedModel, batches: Sequence[Batch], *, seed: int = 0, progress: Progress | None = None
) -> Sensitivity:
    """One backward pass over ``batches``; needs no labels. The model is not modified.

    Raises:
        InputError: if an output is not finite; the first such sublayer is named.

    Source: the Fisher weighting of a layer's error, Kurtic et al. 2023 (ZipLM), arXiv:2302.04089; its factors for
    inputs and outputs, Martens and Grosse 2015, arXiv:1503.05671.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden, sublayers = model.config.hidden_size, 2 * len(layers_from_model(model))
    sums = [torch.zeros(hidden, hidden, dtype=torch.float64, device=model.device) for _ in range(sublayers)]
    weights = []
    for done, batch in enumerate(batches, start=1):
        mask = batch["attention_mask"].to(model.device)
        gradients = _gradients(model, on_device(batch, model.device), generator)
        for index, gradient in enumerate(gradients):
            real = at_least_float32(gradient)[mask.bool()]  # (N, E)
            sums[index] += (real.T @ real).double()
        weights.append([_token_weights(gradient, mask) for gradient in gradients])
        if progress is not None:
            progress(done, len(batches))
    texts = sum(len(batch["input_ids"]) for batch in batches)
    return Sensitivity(weights, [total / texts for total in sums])


def _token_weights(gradient: Tensor, mask: Tensor) -> Tensor:
    """Weights (B, S) from gradients (B, S, E)."""
    square = at_least_float32(gradient).square().sum(-1) * mask
    mean = square.sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    share = torch.where(mean.isfinite() & (mean > 0), square / mean, 1.0)  # else the answer depends on none of them
    return (PLAIN_SHARE + (1 - PLAIN_SHARE) * share) * mask


def _gradients(model: PreTrainedModel, batch: Batch, generator: torch.Generator) -> list[Tensor]:
    """Gradients (B, S, E) at the output of every sublayer."""
    outputs: dict[int, Tensor] = {}
    handles = []
    for index, layer in enumerate(layers_from_model(model)):
        for offset, module in enumerate((layer.attention.output, layer.output)):
            handles.append(module.dropout.register_forward_hook(_keep(outputs, 2 * index + offset)))
    try:
        with torch.enable_grad(), evaluating(model):
            value = OBJECTIVES[head_from_model(model)](model(**batch), batch, generator)
    finally:
        for handle in handles:
            handle.remove()
    for index in sorted(outputs):
        check_finite(sublayer_name(index), outputs[index])
    wanted = [outputs[index] for index in sorted(outputs)]
    return list(torch.autograd.grad(value, wanted, allow_unused=True, materialize_grads=True))


def _keep(outputs: dict[int, Tensor], index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[index] = output

    return hook
