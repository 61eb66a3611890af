"""Refit what is left, sublayer by sublayer, so that each gives what the dense one gave.

Only the output projection of a sublayer is solved again: with X the inputs it sees in the *current*, already pruned
model and Y what it would have to add to the current residual to reach the dense model's sum of sublayer and residual,
the least-squares fit of ``Y = X W + b`` absorbs both the units that are gone and the errors of the layers below.

Source: methods of this kind are Kwon et al. 2022, arXiv:2204.09656 (mask tuning), and Park et al. 2023,
arXiv:2308.03449 (K-prune, sublayer by sublayer).

A token counts by how much the answer depends on it (`pruning.sensitivity`).

Letters: B batch, S sequence, N tokens, E hidden, K inner width that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.batching import Batch
from pruning.errors import InputError
from pruning.introspect import arch_from_model
from pruning.layerwise import Stream, Sublayer, check_finite, start_streams, sublayers_from_model
from pruning.least_squares import LeastSquares, ridge_towards
from pruning.modes import evaluating
from pruning.scores import Progress

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Strengths of the pull towards the pruned weights, relative to the mean variance of an input feature."""


@dataclass(frozen=True, eq=False)
class WeightedBatches:
    """Batches, and for each of them the weight (B, S) of its tokens in every sublayer (see `pruning.sensitivity`)."""

    batches: Sequence[Batch]
    weights: Sequence[Sequence[Tensor]]


@dataclass(eq=False)
class Pair:
    """The same batch on its way through both models, and its token weights."""

    dense: Stream
    current: Stream
    weights: Sequence[Tensor]


@torch.no_grad()
def reconstruct(
    compact: PreTrainedModel,
    dense: PreTrainedModel,
    fit: WeightedBatches,
    select: WeightedBatches,
    *,
    progress: Progress | None = None,
) -> None:
    """Solve the output projections of ``compact`` again, bottom-up, **in place**.

    Args:
        compact: pruned from ``dense``; its output weights and biases are replaced.
        dense: the model to come close to, in compact form (any architecture, the same depth and hidden size).
        fit: texts that the sums are taken over, padding left out.
        select: other texts; they choose the strength of the ridge, or no change, per sublayer.
        progress: called after every layer.

    Raises:
        InputError: if the models do not match, or a sublayer's statistics are not finite; the sublayer is named.
    """
    originals, pruned = sublayers_from_model(dense), sublayers_from_model(compact)
    _check_same_frame(compact, dense)
    with evaluating(compact, dense):
        fit_pairs, select_pairs = (_start(dense, compact, part) for part in (fit, select))
        for original, sublayer in zip(originals, pruned, strict=True):
            _solve(original, sublayer, fit_pairs, select_pairs)
            if progress is not None and sublayer.index % 2:
                progress(sublayer.index // 2 + 1, len(pruned) // 2)


def _check_same_frame(compact: PreTrainedModel, dense: PreTrainedModel) -> None:
    frames = [(len(x.layers), x.hidden) for x in map(arch_from_model, (compact, dense))]
    if frames[0] != frames[1]:
        raise InputError(
            f"the pruned model has {frames[0][0]} layers of hidden size {frames[0][1]}, the dense one {frames[1][0]} "
            f"of {frames[1][1]}. Pass the model that it was pruned from."
        )


def _start(dense: PreTrainedModel, compact: PreTrainedModel, texts: WeightedBatches) -> list[Pair]:
    streams = [start_streams(model, texts.batches) for model in (dense, compact)]
    return [Pair(*row) for row in zip(*streams, texts.weights, strict=True)]


def _solve(original: Sublayer, pruned: Sublayer, fit_pairs: list[Pair], select_pairs: list[Pair]) -> None:
    """Fit every ridge on the first sums, keep what has the smallest error on the second; "no change" competes."""
    inners: list[Tensor | None] = []
    fit, select = (_sums(original, pruned, pairs, inners) for pairs in (fit_pairs, select_pairs))
    check_finite(pruned.name, fit.inputs.xx, fit.xy, fit.y)
    output = pruned.output.dense
    bias = output.bias.double()
    prior = output.weight.double().T if pruned.units else bias.new_zeros(0, len(bias))  # (K, E)
    candidates = [(prior, bias), *(ridge_towards(fit, prior, ridge) for ridge in RIDGES)]
    weight, bias = min(candidates, key=lambda solution: select.error(*solution))
    output.bias.copy_(bias)
    if pruned.units:
        output.weight.copy_(weight.T)
    for pair, inner in zip((*fit_pairs, *select_pairs), inners, strict=True):
        pair.current.states = pruned.output(inner, pair.current.states)


def _sums(original: Sublayer, pruned: Sublayer, pairs: list[Pair], inners: list[Tensor | None]) -> LeastSquares:
    """Sums over the tokens of ``pairs``; the dense streams move on, the inputs of the projection go to ``inners``."""
    sums = LeastSquares(pruned.width, len(pruned.output.dense.bias), pruned.output.dense.bias.device)
    for pair in pairs:
        dense, current, tokens = pair.dense, pair.current, pair.current.tokens
        target = original.summed(original.inner(dense.states, dense.bias), dense.states)
        dense.states = original.output.LayerNorm(target)
        inner = pruned.inner(current.states, current.bias)
        wanted = (target - current.states)[tokens]  # (N, E)
        x = wanted.new_zeros(len(wanted), 0) if inner is None else inner[tokens]  # (N, K)
        sums.add(x, wanted, pair.weights[pruned.index][tokens])
        inners.append(inner)
    return sums
