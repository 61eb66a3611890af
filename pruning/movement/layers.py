"""Masked layers: put masks on a BERT's linear layers, take them off again, count what lives.

Letters: E hidden, D head_dim, H heads, F ffn.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.arch import ArchSpec
from pruning.errors import InputError
from pruning.introspect import arch_from_model, layers_from_model
from pruning.movement.blocks import BlockShape
from pruning.movement.mask_functions import MASK_RULES, MaskRule
from pruning.movement.masked_linear import BlockMask, MaskedLinear
from pruning.movement.spec import FamilySpec, MovementSpec, Unit


@dataclass(frozen=True, eq=False)
class MaskedLayer:
    """The masked matrices of one encoder layer; a sublayer without units has none.

    ``attention`` is (query, key, value, output), ``ffn`` (first, second).
    """

    heads: int
    neurons: int
    attention: tuple[MaskedLinear, ...]
    ffn: tuple[MaskedLinear, ...]

    @property
    def linears(self) -> tuple[MaskedLinear, ...]:
        """All of them."""
        return (*self.attention, *self.ffn)


@dataclass(frozen=True)
class Census:
    """What lives under the masks: ``heads`` and ``neurons`` by number per layer, and single weights.

    A unit lives if its contribution to the output projection is not zero: a head with a row of V and a column of the
    output projection, a neuron with its row and its column. Dead queries or keys alone leave an average, not nothing.
    """

    hidden: int
    head_dim: int
    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]
    kept_weights: int
    all_weights: int

    @property
    def arch(self) -> ArchSpec:
        """The architecture that compaction will leave."""
        return ArchSpec.from_lists(self.hidden, self.head_dim, [*map(len, self.heads)], [*map(len, self.neurons)])


def mask_layers(model: PreTrainedModel, spec: MovementSpec) -> list[MaskedLayer]:
    """Replace the linear layers of the encoder by masked ones, in place; with no block cut they compute the same.

    Raises:
        InputError: if the model is not a supported BERT, has nothing to prune, is masked already, or a block shape
            does not divide a matrix. The model is then as it was.
    """
    arch, layers = arch_from_model(model), layers_from_model(model)
    if not arch.encoder_linear_params:
        raise InputError("the model has neither heads nor FFN neurons left to prune. Pass the dense model.")
    if any(isinstance(module, MaskedLinear) for module in model.modules()):
        raise InputError("the model is masked already. Attach a pruner once, or reload the model.")
    masked = [
        MaskedLayer(
            sizes.heads,
            sizes.ffn,
            _masked_attention(layer, spec, arch.head_dim) if sizes.heads else (),
            _masked_ffn(layer, spec) if sizes.ffn else (),
        )
        for layer, sizes in zip(layers, arch.layers, strict=True)
    ]
    for layer, replacement in zip(layers, masked, strict=True):
        for name, linear in zip(_places(layer), replacement.linears, strict=True):
            _parent(layer, name).__setattr__(name.rsplit(".", 1)[-1], linear.to(linear.weight.device))
    return masked


@torch.no_grad()
def dense_from_masked(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the masked ``model`` with ordinary linear layers that hold its zeros; gates without their noise."""
    copied = copy.deepcopy(model).eval()
    for layer in layers_from_model(copied):
        for name in _places(layer):
            parent, attribute = _parent(layer, name), name.rsplit(".", 1)[-1]
            parent.__setattr__(attribute, _plain(getattr(parent, attribute)))
    return copied.train(model.training)


def masks_of(layers: list[MaskedLayer]) -> Iterator[BlockMask]:
    """Every mask once."""
    for linear in (linear for layer in layers for linear in layer.linears):
        if not linear.borrowed:
            yield linear.mask


@dataclass(frozen=True, eq=False)
class Levels:
    """The smallest cut that removes each block, head and neuron: what lives at any cut is then a comparison away.

    Blocks that must stay have an infinite level. ``heads`` and ``neurons`` hold (H,) and (F,) per layer.
    """

    blocks: dict[BlockMask, Tensor]
    heads: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]

    @classmethod
    def from_blocks(cls, layers: list[MaskedLayer], blocks: dict[BlockMask, Tensor]) -> Levels:
        """Levels of units from the levels of ``blocks``, (R, C) per mask."""
        heads = tuple(_unit_levels(layer.attention[2:], blocks, layer.heads) for layer in layers)
        return cls(blocks, heads, tuple(_unit_levels(layer.ffn, blocks, layer.neurons) for layer in layers))

    def keep(self, cut: float) -> dict[BlockMask, Tensor]:
        """Bool (R, C) per mask: the blocks that live at ``cut``."""
        return {mask: levels > cut for mask, levels in self.blocks.items()}


def census_of(layers: list[MaskedLayer], levels: Levels, cut: float, dense: ArchSpec) -> Census:
    """Count what lives at ``cut``; ``dense`` is the architecture without masks."""
    uses = Counter(linear.mask for layer in layers for linear in layer.linears)
    kept = sum(int((levels.blocks[x] > cut).sum()) * x.weights_per_block * count for x, count in uses.items())
    heads, neurons = (tuple(_alive(x, cut) for x in units) for units in (levels.heads, levels.neurons))
    total = sum(x.weight.numel() for layer in layers for x in layer.linears)
    return Census(dense.hidden, dense.head_dim, heads, neurons, kept, total)


def _alive(levels: Tensor, cut: float) -> tuple[int, ...]:
    return tuple((levels > cut).nonzero().flatten().tolist())


def _unit_levels(matrices: tuple[MaskedLinear, ...], blocks: dict[BlockMask, Tensor], units: int) -> Tensor:
    """A unit goes with the last block into it or the last one out of it, whichever is first, (units,)."""
    if not matrices:
        return torch.empty(0)
    into, out_of = matrices
    rows = blocks[into.mask].amax(dim=1)
    columns = blocks[out_of.mask].amax(dim=1 if out_of.borrowed else 0)
    return torch.minimum(_per_unit(rows, into.out_features, units), _per_unit(columns, out_of.in_features, units))


def _per_unit(levels: Tensor, features: int, units: int) -> Tensor:
    """The highest level of the blocks that touch each unit: (blocks,) to (units,)."""
    return levels.repeat_interleave(features // len(levels)).view(units, -1).amax(dim=1)


def _masked_attention(layer: Any, spec: MovementSpec, head_dim: int) -> tuple[MaskedLinear, ...]:
    own, output = layer.attention.self, layer.attention.output.dense
    rule = MASK_RULES[spec.attention.mask_function]
    blocks = _attention_block(spec, head_dim, own.query.in_features)
    inward = [_masked(x, blocks, rule, spec) for x in (own.query, own.key, own.value)]
    return (*inward, _masked(output, blocks[::-1], rule, spec))


def _attention_block(spec: MovementSpec, head_dim: int, hidden: int) -> BlockShape:
    return {Unit.WEIGHT: (1, 1), Unit.BLOCK: spec.block, Unit.HEAD: (head_dim, hidden)}[spec.row.attention]


def _masked_ffn(layer: Any, spec: MovementSpec) -> tuple[MaskedLinear, ...]:
    up, down = layer.intermediate.dense, layer.output.dense
    rule = MASK_RULES[spec.ffn.mask_function]
    if spec.row.ffn is Unit.NEURON:
        first = _masked(up, (1, up.in_features), rule, spec)
        return first, MaskedLinear(down, first.mask, borrowed=True, two_four=spec.two_four)
    block = (1, 1) if spec.row.ffn is Unit.WEIGHT else spec.block
    return _masked(up, block, rule, spec), _masked(down, block[::-1], rule, spec)


def _masked(linear: nn.Linear, block: BlockShape, rule: MaskRule, spec: MovementSpec) -> MaskedLinear:
    mask = BlockMask((linear.out_features, linear.in_features), block, rule)
    return MaskedLinear(linear, mask, two_four=spec.two_four)


def _places(layer: Any) -> list[str]:
    """Where the encoder layer keeps its matrices, in the order of `MaskedLayer.linears`."""
    own = [f"attention.self.{name}" for name in ("query", "key", "value")]
    attention = [*own, "attention.output.dense"] if isinstance(layer.attention.output.dense, nn.Linear) else []
    ffn = ["intermediate.dense", "output.dense"] if isinstance(layer.output.dense, nn.Linear) else []
    return attention + ffn


def _parent(layer: nn.Module, name: str) -> nn.Module:
    return layer.get_submodule(name.rsplit(".", 1)[0])


def _plain(masked: MaskedLinear) -> nn.Linear:
    weight, bias = masked.masked_parameters()
    linear = nn.Linear(masked.in_features, masked.out_features, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.clone())
    return linear


def penalised_families(layers: list[MaskedLayer], spec: MovementSpec) -> list[tuple[FamilySpec, list[BlockMask]]]:
    """The two families with their masks, each mask once; a family without matrices is left out."""
    attention = [x.mask for layer in layers for x in layer.attention]
    ffn = [x.mask for layer in layers for x in layer.ffn if not x.borrowed]
    return [(family, masks) for family, masks in ((spec.attention, attention), (spec.ffn, ffn)) if masks]
