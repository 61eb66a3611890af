"""Refit what is left, layer by layer, so that each sublayer gives what the dense one gave.

Only the output projection of a sublayer is solved again: with X the inputs it sees in the *current*, already pruned
model and Y what it would have to add to the current residual to reach the dense model's sum of sublayer and residual,
the least-squares fit of ``Y = X W + b`` absorbs both the units that are gone and the errors of the layers below.

Source: methods of this kind are Kwon et al. 2022, arXiv:2204.09656 (mask tuning), and Park et al. 2023,
arXiv:2308.03449 (K-prune, sublayer by sublayer).

A token counts by how much the answer depends on it there (`pruning.token_weights`).

Letters: B batch, S sequence, N tokens, E hidden, K inner width that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.batching import Batch
from pruning.errors import InputError
from pruning.introspect import arch_from_model, encoder_from_model, is_compact, layers_from_model
from pruning.model import attention_bias
from pruning.modes import evaluating
from pruning.scores import Progress
from pruning.token_weights import token_weights

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Strengths of the pull towards the pruned weights, relative to the mean variance of an input feature."""


class LeastSquares:
    """Running sums for ``Y = X W + b`` over tokens, in float64. X is (N, K), Y is (N, E).

    X is counted from an ``origin`` near its mean: products in float32 would otherwise lose the variance of a feature
    whose mean is large, and with it the positive definiteness of the system.
    """

    def __init__(self, inner: int, hidden: int) -> None:
        self.tokens = 0.0
        self.origin: Tensor | None = None  # (K,), the mean of the first tokens
        self.x, self.y = torch.zeros(inner, dtype=torch.float64), torch.zeros(hidden, dtype=torch.float64)
        self.xx = torch.zeros(inner, inner, dtype=torch.float64)
        self.xy = torch.zeros(inner, hidden, dtype=torch.float64)
        self.yy = 0.0

    def add(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> None:
        """Count the tokens ``x`` (N, K) and ``y`` (N, E), each as often as its weight (N,) says; default once."""
        self.origin = x.mean(0) if self.origin is None else self.origin
        x = x - self.origin
        weights = x.new_ones(len(x), 1) if weights is None else weights[:, None]
        self.tokens += float(weights.double().sum())
        self.x += (x * weights).sum(0).double()
        self.y += (y * weights).sum(0).double()
        self.xx += (x.T @ (x * weights)).double()
        self.xy += (x.T @ (y * weights)).double()
        self.yy += float((y.double().square() * weights).sum())

    def covariance(self) -> tuple[Tensor, Tensor]:
        """Centred X'X (K, K) and X'Y (K, E): the intercept is free and exact."""
        mean = self.x / self.tokens
        return self.xx - torch.outer(mean, self.x), self.xy - torch.outer(mean, self.y)

    def bias(self, weight: Tensor) -> Tensor:
        """The best intercept (E,) beside ``weight`` (K, E)."""
        return (self.y - self.x @ weight) / self.tokens - self._at_origin(weight)

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Mean squared error per token of a fit, ``weight`` (K, E), ``bias`` (E,)."""
        bias = bias + self._at_origin(weight)
        squared = self.yy - 2 * (weight * self.xy).sum() - 2 * bias @ self.y
        squared += (weight * (self.xx @ weight)).sum() + 2 * bias @ (self.x @ weight) + self.tokens * bias @ bias
        return float(squared) / self.tokens

    def _at_origin(self, weight: Tensor) -> Tensor:
        assert self.origin is not None
        return self.origin.double() @ weight


def ridge_towards(fit: LeastSquares, prior: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Solve for W (K, E) and b (E,), pulled towards ``prior`` (K, E) and not towards zero.

    ``W = (X'X + lambda I)^-1 (X'Y + lambda prior)`` on centred sums, ``lambda = ridge * mean(diag(X'X))``.

    Raises:
        torch.linalg.LinAlgError: if the system is singular even with the ridge.
    """
    xx, xy = fit.covariance()
    if not len(prior):
        return prior, fit.bias(prior)
    strength = ridge * float(xx.diagonal().mean()) + 1e-12
    factor = torch.linalg.cholesky(xx + strength * torch.eye(len(xx), dtype=xx.dtype))
    weight = torch.cholesky_solve(xy + strength * prior, factor)
    return weight, fit.bias(weight)


@dataclass(eq=False)
class Stream:
    """One batch between layers: states (B, S, E) of both models, additive mask, real tokens, their weights (B, S).

    While a sublayer is solved, ``target`` is the sum of sublayer and residual in the dense model, ``inner`` (B, S, K)
    the input of the pruned output projection (None if the sublayer is empty).
    """

    dense: Tensor
    current: Tensor
    bias: Tensor
    tokens: Tensor
    target: Tensor
    weights: Sequence[Tensor]
    inner: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Streams:
    """The batches to fit on, and the batches to choose with."""

    fit: list[Stream]
    select: list[Stream]


@torch.no_grad()
def reconstruct(
    compact: PreTrainedModel,
    dense: PreTrainedModel,
    fit: Sequence[Batch],
    select: Sequence[Batch],
    *,
    progress: Progress | None = None,
) -> None:
    """Solve the output projections of ``compact`` again, bottom-up, **in place**.

    Args:
        compact: pruned from ``dense``; its output weights and biases are replaced.
        dense: the model to come close to, in compact form (any architecture, the same depth and hidden size).
        fit: batches that the sums are taken over, padding left out.
        select: other batches; they choose the strength of the ridge, or no change, per sublayer.
        progress: called after every layer.

    Raises:
        InputError: if the models do not match, or a layer's statistics are not finite; the layer is named.
    """
    for model in (compact, dense):
        if not is_compact(model):
            raise InputError(f"reconstruct works on compact models; got {type(model).__name__}. Compact it first.")
    _check_same_frame(compact, dense)
    layers = list(zip(layers_from_model(dense), layers_from_model(compact), strict=True))
    with evaluating(compact, dense):
        streams = Streams(*(_start_all(dense, compact, batches) for batches in (fit, select)))
        for index, (original, pruned) in enumerate(layers):
            _solve_attention(original, pruned, streams, index)
            _solve_ffn(original, pruned, streams, index)
            if progress is not None:
                progress(index + 1, len(layers))


def _check_same_frame(compact: PreTrainedModel, dense: PreTrainedModel) -> None:
    frames = [(len(x.layers), x.hidden) for x in map(arch_from_model, (compact, dense))]
    if frames[0] != frames[1]:
        raise InputError(
            f"the pruned model has {frames[0][0]} layers of hidden size {frames[0][1]}, the dense one {frames[1][0]} "
            f"of {frames[1][1]}. Pass the model that it was pruned from."
        )


def _start_all(dense: PreTrainedModel, compact: PreTrainedModel, batches: Sequence[Batch]) -> list[Stream]:
    weights = token_weights(dense, batches)
    return [_start(dense, compact, batch, row) for batch, row in zip(batches, weights, strict=True)]


def _start(dense: PreTrainedModel, compact: PreTrainedModel, batch: Batch, weights: Sequence[Tensor]) -> Stream:
    states = []
    for model in (dense, compact):
        embeddings = encoder_from_model(model).embeddings
        states.append(embeddings(embeddings.word_embeddings(batch["input_ids"]), batch["token_type_ids"], None))
    mask = batch["attention_mask"]
    return Stream(states[0], states[1], attention_bias(mask, states[0].dtype), mask.bool(), states[0], weights)


def _solve_attention(original: Any, pruned: Any, streams: Streams, index: int) -> None:
    for stream in (*streams.fit, *streams.select):
        context = _context(original, stream.dense, stream.bias)
        stream.target = _projected(original.attention.output.dense, context) + stream.dense
        stream.dense = original.attention.output.LayerNorm(stream.target)
        stream.inner = _context(pruned, stream.current, stream.bias)
    _solve(pruned.attention.output.dense, streams, 2 * index)
    for stream in (*streams.fit, *streams.select):
        stream.current = pruned.attention.output(stream.inner, stream.current)


def _solve_ffn(original: Any, pruned: Any, streams: Streams, index: int) -> None:
    for stream in (*streams.fit, *streams.select):
        activations = original.intermediate(stream.dense) if original.ffn else None
        stream.target = _projected(original.output.dense, activations) + stream.dense
        stream.dense = original.output.LayerNorm(stream.target)
        stream.inner = pruned.intermediate(stream.current) if pruned.ffn else None
    _solve(pruned.output.dense, streams, 2 * index + 1)
    for stream in (*streams.fit, *streams.select):
        stream.current = pruned.output(stream.inner, stream.current)


def _context(layer: Any, hidden: Tensor, bias: Tensor) -> Tensor | None:
    return layer.attention.self(hidden, bias, with_weights=False)[0] if layer.attention.heads else None


def _projected(dense: Any, inner: Tensor | None) -> Tensor:
    return dense.bias if inner is None else dense(inner)  # type: ignore[no-any-return]


def _solve(output: Any, streams: Streams, sublayer: int) -> None:
    """Fit every ridge on the first sums, keep what has the smallest error on the second; "no change" competes."""
    fit, select = (_sums(part, len(output.bias), sublayer) for part in (streams.fit, streams.select))
    if not torch.isfinite(fit.xx).all() or not torch.isfinite(fit.xy).all():
        name = f"{('attention', 'FFN')[sublayer % 2]} of layer {sublayer // 2}"
        raise InputError(f"{name}: the calibration statistics are not finite. Check the model's weights.")
    empty = streams.fit[0].inner is None
    bias = output.bias.double()
    prior = bias.new_zeros(0, len(bias)) if empty else output.weight.double().T  # (K, E)
    candidates = [(prior, bias), *(ridge_towards(fit, prior, ridge) for ridge in RIDGES)]
    weight, bias = min(candidates, key=lambda solution: select.error(*solution))
    output.bias.copy_(bias)
    if not empty:
        output.weight.copy_(weight.T)


def _sums(streams: Sequence[Stream], hidden: int, sublayer: int) -> LeastSquares:
    inner = streams[0].inner
    sums = LeastSquares(0 if inner is None else inner.shape[-1], hidden)
    for stream in streams:
        wanted = (stream.target - stream.current)[stream.tokens]  # (N, E)
        x = wanted.new_zeros(len(wanted), 0) if stream.inner is None else stream.inner[stream.tokens]  # (N, K)
        sums.add(x, wanted, stream.weights[sublayer][stream.tokens])
    return sums
