"""Blocks that stay whatever their scores: floors per layer, and heads that an earlier run kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruning.errors import InputError
from pruning.movement.layers import MaskedLayer
from pruning.movement.masked_linear import BlockMask, MaskedLinear
from pruning.movement.spec import Floors

Forced = dict[BlockMask, Tensor]
"""Per mask, the blocks that stay: bool (R, C)."""


def check_rewind(rewind: Sequence[Sequence[int]], layers: Sequence[MaskedLayer]) -> None:
    """Make sure that the heads of an earlier run are heads of this model.

    Raises:
        InputError: if layers or heads do not exist.
    """
    if len(rewind) != len(layers):
        raise InputError(f"the earlier run kept heads of {len(rewind)} layers; this model has {len(layers)}.")
    for index, (heads, layer) in enumerate(zip(rewind, layers, strict=True)):
        unknown = [head for head in heads if not 0 <= head < layer.heads]
        if unknown:
            raise InputError(f"the earlier run kept head {unknown[0]} of layer {index}, which has {layer.heads} heads.")


@torch.no_grad()
def forced_blocks(
    layers: Sequence[MaskedLayer], floors: Floors, rewind: Sequence[Sequence[int]] | None = None
) -> Forced:
    """The blocks that must stay, given the scores as they are now.

    Of the best ``floors.heads`` heads and ``floors.neurons`` neurons of each layer, the best block into the unit and
    the best one out of it: enough for it to live. Heads in ``rewind`` stay whole, in all four matrices. Without
    either there is no entry.
    """
    forced: Forced = {}
    if floors == Floors() and rewind is None:
        return forced
    for index, layer in enumerate(layers):
        for linear in layer.linears:
            forced.setdefault(linear.mask, torch.zeros_like(linear.mask.keep))
        _force_best(layer.attention[2:], layer.heads, floors.heads, forced)
        _force_best(layer.ffn, layer.neurons, floors.neurons, forced)
        if rewind is not None:
            _force_heads(layer, rewind[index], forced)
    return forced


def _force_best(matrices: tuple[MaskedLinear, ...], units: int, floor: int, forced: Forced) -> None:
    if not (matrices and floor):
        return
    into, out_of = matrices
    rows, columns = into.mask.scores, _by_column(out_of, out_of.mask.scores)  # both (blocks, blocks across)
    features = into.out_features
    value = _unit_means(rows, units, features) + _unit_means(columns, units, features)
    for unit in value.topk(min(floor, units)).indices.tolist():
        for matrix, scores in ((into, rows), (out_of, columns)):
            blocks = _blocks_of(unit, units, len(scores))
            best = int(scores[blocks].argmax())
            row, column = blocks.start + best // scores.shape[1], best % scores.shape[1]
            target = forced[matrix.mask] if matrix is into else _by_column(matrix, forced[matrix.mask])
            target[row, column] = True


def _force_heads(layer: MaskedLayer, heads: Sequence[int], forced: Forced) -> None:
    for linear in layer.attention:
        mask = forced[linear.mask]
        by_unit = mask if linear is not layer.attention[3] else _by_column(linear, mask)
        for head in heads:
            by_unit[_blocks_of(head, layer.heads, len(by_unit))] = True


def _by_column(matrix: MaskedLinear, blocks: Tensor) -> Tensor:
    """A view with the blocks of an output projection's columns as rows; a borrowed mask lies that way already."""
    return blocks if matrix.borrowed else blocks.t()


def _unit_means(scores: Tensor, units: int, features: int) -> Tensor:
    """Mean score of the blocks that touch each unit, (units,)."""
    return scores.mean(dim=1).repeat_interleave(features // len(scores)).view(units, -1).mean(dim=1)


def _blocks_of(unit: int, units: int, blocks: int) -> slice:
    """The rows of blocks that touch a unit; both divide the same features evenly."""
    return slice(unit * blocks // units, -(-(unit + 1) * blocks // units))
