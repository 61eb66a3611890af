"""What the tests of the pruning core share: compact models, and what a model says about a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.compaction import compact_from_masked
from pruning.config import CompactBertConfig
from pruning.heads import HEAD_CLASSES
from pruning.introspect import head_from_model
from pruning.masks import Masks
from tests.tiny import randomise, tiny_bert, tiny_config

HEADS = sorted(HEAD_CLASSES)
PADDINGS = ["none", "right", "left", "holes"]
UNEVEN = ([2, 0, 4], [0, 24, 5])
"""Heads and neurons of three layers: an empty sublayer of either kind among them."""


def tiny_compact(
    head: str = "sequence-classification",
    heads: list[int] = UNEVEN[0],
    ffn: list[int] = UNEVEN[1],
    seed: int = 0,
    **overrides: object,
) -> PreTrainedModel:
    """A compact BERT in eval mode, every parameter random and large."""
    sizes = {"num_hidden_layers": len(heads), "layer_num_heads": heads, "layer_intermediate_sizes": ffn}
    fields = tiny_config(**(overrides | sizes)).to_dict()
    model = HEAD_CLASSES[head](CompactBertConfig(**_how_it_computes(fields))).eval()
    randomise(model, seed)
    return model


def pruned_bert(head: str = "sequence-classification", seed: int = 0, **overrides: object) -> PreTrainedModel:
    """A dense tiny BERT compacted to the sizes of ``UNEVEN``."""
    heads, ffn = ([torch.arange(full) < kept for kept in sizes] for full, sizes in zip((4, 24), UNEVEN, strict=True))
    return compact_from_masked(tiny_bert(head, seed, **overrides), Masks(heads, ffn))


def twin_of(dense: PreTrainedModel) -> PreTrainedModel:
    """The compact class with all sizes of ``dense`` and its very weights: the names must be the same."""
    fields = _how_it_computes(dense.config.to_dict())
    head = head_from_model(dense)
    if head == "encoder":
        fields["add_pooling_layer"] = dense.pooler is not None
    twin = HEAD_CLASSES[head](CompactBertConfig(**fields))
    twin.load_state_dict(dense.state_dict())
    return twin.to(dense.dtype).train(dense.training)


def _how_it_computes(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in ("model_type", "transformers_version")}


def tensors_of(outputs: object) -> dict[str, Tensor]:
    """All tensors of a model's output by name, hidden states and attentions numbered."""
    flat = {}
    for name, value in outputs.items():
        flat |= {name: value} if isinstance(value, Tensor) else {f"{name}.{i}": x for i, x in enumerate(value)}
    return flat


def largest_gap(expected: object, found: object) -> float:
    """The largest difference between two model outputs, which must hold the same tensors."""
    a, b = tensors_of(expected), tensors_of(found)
    assert set(a) == set(b)
    return max((a[name] - b[name]).abs().max().item() for name in a if a[name].numel())
