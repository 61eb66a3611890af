"""The removal path of every sublayer of a model, from unlabelled text, with one sublayer's statistics at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.allocation import SublayerLevels, grid_widths
from pruning.batching import Batch
from pruning.budget import Prices
from pruning.introspect import arch_from_model
from pruning.layerwise import Stream, Sublayer, check_finite, start_streams, sublayers_from_model
from pruning.least_squares import Moments
from pruning.modes import evaluating
from pruning.scores import Progress, Scores
from pruning.second_order import RemovalPath, metric_root, removal_path
from pruning.sensitivity import Sensitivity


@torch.no_grad()
def removal_paths(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    sensitivity: Sensitivity,
    *,
    ffn_multiple: int,
    progress: Progress | None = None,
) -> list[RemovalPath]:
    """Order and cost of removing the units of each sublayer, attention and FFN of each layer in turn.

    Args:
        model: compact; not modified.
        batches: unlabelled texts; padding does not count.
        sensitivity: of the model's answers on ``batches``.
        ffn_multiple: FFN widths are multiples of this, or the full width.
        progress: called after every sublayer.

    Raises:
        InputError: if the model is not compact, or statistics are not finite; the sublayer is named.
    """
    head_dim, sublayers = arch_from_model(model).head_dim, sublayers_from_model(model)
    paths = []
    with evaluating(model):
        streams = start_streams(model, batches)
        for sublayer in sublayers:
            weights = [row[sublayer.index] for row in sensitivity.weights]
            unit, multiple = (1, ffn_multiple) if sublayer.index % 2 else (head_dim, 1)
            metric = sensitivity.gradients[sublayer.index]
            covariance = _advance(sublayer, streams, weights)
            check_finite(sublayer.name, covariance, metric, *sublayer.output.dense.parameters())
            weight = _weighted(sublayer, metric)
            widths = grid_widths(sublayer.units, multiple)
            paths.append(removal_path(weight, covariance, unit=unit, widths=widths))
            if progress is not None:
                progress(len(paths), len(sublayers))
    return paths


def scores_from_paths(paths: Sequence[RemovalPath]) -> Scores:
    """Scores that keep, at every width, what the paths keep."""
    ranks = [path.ranks for path in paths]
    return Scores(tuple(ranks[0::2]), tuple(ranks[1::2]))


def levels_from_paths(paths: Sequence[RemovalPath], prices: Prices) -> list[SublayerLevels]:
    """Levels with the costs of the paths: the attention of each layer, then the FFN of each layer."""
    heads, neurons = zip(paths[0::2], prices.heads, strict=True), zip(paths[1::2], prices.neurons, strict=True)
    return [SublayerLevels(path.kept, path.cost, price[path.kept]) for path, price in (*heads, *neurons)]


def _advance(sublayer: Sublayer, streams: Sequence[Stream], weights: Sequence[Tensor]) -> Tensor:
    """Weighted covariance (K, K) of what enters the output projection; the streams move behind the sublayer."""
    moments = Moments(sublayer.width, streams[0].states.device)
    for stream, weight in zip(streams, weights, strict=True):
        inner = sublayer.inner(stream.states, stream.bias)
        if inner is not None:
            moments.add(inner[stream.tokens], weight[stream.tokens])
        stream.states = sublayer.output(inner, stream.states)
    return moments.covariance()


def _weighted(sublayer: Sublayer, metric: Tensor) -> Tensor:
    """The output weight (K, E) in coordinates in which the squared norm of an error is its cost."""
    if not sublayer.units:
        return metric.new_zeros(0, len(metric))
    weight: Tensor = sublayer.output.dense.weight.double().T
    return weight @ metric_root(metric)
