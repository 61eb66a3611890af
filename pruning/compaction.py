"""Masked BERT to compact BERT: the same outputs from smaller dense matrices.

Exact, not approximate. A unit leaves the model if its *contribution* to the output projection does not depend on the
input: zero (masked, or zero columns of the output projection), or a constant, which moves into the output bias. A head
whose V rows are zero is constant whatever it attends to, because attention weights sum to 1; a head whose Q or K is
zero is not, it averages. Zeros inside units that live on stay, and cost full time.

Letters: E hidden, D head_dim, H heads, F ffn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from pruning.arch import ArchSpec
from pruning.config import CompactBertConfig
from pruning.heads import HEAD_CLASSES
from pruning.introspect import arch_from_model, head_from_model, is_compact, layers_from_model
from pruning.masks import Masks, check_masks, full_masks

NOT_COPIED = ("model_type", "architectures", "transformers_version", "_name_or_path", "auto_map")
"""Fields of a dense configuration that say what it was, not how it computes."""

State = dict[str, Tensor]


@dataclass(frozen=True)
class Survivors:
    """What stays of one sublayer: ``index`` of its inner features, and the new output ``bias`` (E,)."""

    index: Tensor
    bias: Tensor


def compact_from_masked(model: PreTrainedModel, masks: Masks | None = None) -> PreTrainedModel:
    """Rebuild ``model`` as a compact BERT without the units that ``masks`` leaves out; the input is not modified.

    Units that are dead by their own weights go too, so without masks this compacts a model in which another tool has
    zeroed weights. The result has the same head, dtype and mode, and equals the masked model on every input.

    Args:
        model: dense or compact BERT.
        masks: True keeps a unit; None keeps all that contribute.

    Raises:
        InputError: if the masks do not fit the model, or the model is not supported.
    """
    arch = arch_from_model(model)
    masks = masks or full_masks(arch)
    check_masks(model, masks)
    prefix = "encoder.layer" if head_from_model(model) == "encoder" else "bert.encoder.layer"
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    heads, ffn = [], []
    for index, layer in enumerate(layers_from_model(model)):
        attention = surviving_heads(layer, masks.head_mask[index], arch.head_dim)
        _slice_attention(state, f"{prefix}.{index}.attention", attention)
        heads.append(len(attention.index) // arch.head_dim)
        neurons = surviving_neurons(layer, masks.neuron_mask[index], model.config.hidden_act)
        _slice_ffn(state, f"{prefix}.{index}", neurons)
        ffn.append(len(neurons.index))
    return _build(model, ArchSpec.from_lists(arch.hidden, arch.head_dim, heads, ffn), state)


def surviving_heads(layer: Any, keep: Tensor, head_dim: int) -> Survivors:
    """Features of the heads that contribute, as an index into (H D,), and the bias with the constant ones folded in.

    Source: contribution of a head, not its Q or K, decides (methods of Lagunas et al. 2021, arXiv:2109.04838).
    """
    output = layer.attention.output.dense
    if not len(keep):
        return Survivors(torch.empty(0, dtype=torch.long), output.bias.detach().clone())
    value = layer.attention.self.value
    columns = output.weight.detach().unflatten(1, (-1, head_dim))  # (E, H, D)
    constant = (value.weight.detach().unflatten(0, (-1, head_dim)) == 0).all(dim=(1, 2))  # (H,)
    silent = (columns == 0).all(dim=(0, 2))  # (H,)
    keep = keep.to(constant.device)
    context = value.bias.detach().unflatten(0, (-1, head_dim)) * (keep & constant)[:, None]  # (H, D)
    bias = output.bias.detach() + torch.einsum("ehd,hd->e", columns, context)
    alive = keep & ~constant & ~silent
    return Survivors(alive.repeat_interleave(head_dim).nonzero().squeeze(-1), bias)


def surviving_neurons(layer: Any, keep: Tensor, hidden_act: str) -> Survivors:
    """Index of the neurons that contribute, and the bias with the constant ones, act(b), folded in."""
    output = layer.output.dense
    if not len(keep):
        return Survivors(torch.empty(0, dtype=torch.long), output.bias.detach().clone())
    up = layer.intermediate.dense
    constant = (up.weight.detach() == 0).all(dim=1)  # (F,)
    silent = (output.weight.detach() == 0).all(dim=0)  # (F,)
    keep = keep.to(constant.device)
    activation = ACT2FN[hidden_act](up.bias.detach()) * (keep & constant)  # (F,)
    bias = output.bias.detach() + output.weight.detach() @ activation
    return Survivors((keep & ~constant & ~silent).nonzero().squeeze(-1), bias)


def _slice_attention(state: State, prefix: str, survivors: Survivors) -> None:
    for name in ("query", "key", "value"):
        _slice_rows(state, f"{prefix}.self.{name}", survivors.index)
    _slice_columns(state, f"{prefix}.output.dense", survivors)


def _slice_ffn(state: State, prefix: str, survivors: Survivors) -> None:
    _slice_rows(state, f"{prefix}.intermediate.dense", survivors.index)
    _slice_columns(state, f"{prefix}.output.dense", survivors)


def _slice_rows(state: State, name: str, index: Tensor) -> None:
    weight, bias = state.pop(f"{name}.weight", None), state.pop(f"{name}.bias", None)
    if weight is not None and bias is not None and len(index):
        state[f"{name}.weight"], state[f"{name}.bias"] = weight[index], bias[index]


def _slice_columns(state: State, name: str, survivors: Survivors) -> None:
    weight = state.pop(f"{name}.weight", None)
    if weight is not None and len(survivors.index):
        state[f"{name}.weight"] = weight[:, survivors.index].contiguous()
    state[f"{name}.bias"] = survivors.bias


def _build(model: PreTrainedModel, arch: ArchSpec, state: State) -> PreTrainedModel:
    head = head_from_model(model)
    fields = {name: value for name, value in model.config.to_dict().items() if name not in NOT_COPIED}
    fields |= {"layer_num_heads": list(arch.heads), "layer_intermediate_sizes": list(arch.ffn)}
    fields["head_dim"] = arch.head_dim
    if head == "encoder":
        fields["add_pooling_layer"] = model.pooler is not None
    with torch.device("meta"):
        compact = HEAD_CLASSES[head](CompactBertConfig(**fields))
    compact.load_state_dict({name: state[name] for name in compact.state_dict()}, assign=True)
    compact.tie_weights()
    assert is_compact(compact)
    return compact.train(model.training)
