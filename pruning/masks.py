"""Which heads and FFN neurons to keep, and hooks that silence the others in a model of full size.

The hooks scale the *input of the output projection* of a sublayer, so they need nothing from the model but BERT's
module names, and a unit that is masked contributes exactly zero. Letters: D head_dim, H heads, F ffn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.arch import ArchSpec
from pruning.errors import InputError
from pruning.introspect import arch_from_model, layers_from_model


@dataclass(frozen=True)
class Masks:
    """Bool tensors, True = keep: ``head_mask[i]`` (H_i,) and ``neuron_mask[i]`` (F_i,) of layer ``i``.

    A (layers, heads) and a (layers, ffn) tensor will do as well; layers of different sizes need tuples.

    Raises:
        InputError: if the layer counts differ, or a mask is not a vector of bool.
    """

    head_mask: Sequence[Tensor]
    neuron_mask: Sequence[Tensor]

    def __post_init__(self) -> None:
        for name in ("head_mask", "neuron_mask"):
            rows = tuple(getattr(self, name))
            for layer, row in enumerate(rows):
                if row.dtype != torch.bool or row.dim() != 1:
                    raise InputError(
                        f"{name} of layer {layer} must be a bool vector, True = keep; "
                        f"got {row.dtype} of shape {tuple(row.shape)}."
                    )
            object.__setattr__(self, name, rows)
        if len(self.head_mask) != len(self.neuron_mask):
            raise InputError(
                f"head_mask and neuron_mask need one row per layer; got {len(self.head_mask)} "
                f"and {len(self.neuron_mask)} rows."
            )

    def arch(self, hidden: int, head_dim: int) -> ArchSpec:
        """The architecture that is left."""
        heads = [int(row.sum()) for row in self.head_mask]
        ffn = [int(row.sum()) for row in self.neuron_mask]
        return ArchSpec.from_lists(hidden, head_dim, heads, ffn)


def full_masks(arch: ArchSpec) -> Masks:
    """Masks that keep everything."""
    heads = [torch.ones(x.heads, dtype=torch.bool) for x in arch.layers]
    neurons = [torch.ones(x.ffn, dtype=torch.bool) for x in arch.layers]
    return Masks(heads, neurons)


def check_masks(model: PreTrainedModel, masks: Masks) -> None:
    """Make sure that ``masks`` has one entry per head and neuron of ``model``.

    Raises:
        InputError: naming the first layer that differs.
    """
    arch = arch_from_model(model)
    if len(masks.head_mask) != len(arch.layers):
        raise InputError(f"masks are for {len(masks.head_mask)} layers, the model has {len(arch.layers)}.")
    rows = zip(arch.layers, masks.head_mask, masks.neuron_mask, strict=True)
    for index, (layer, heads, neurons) in enumerate(rows):
        if (len(heads), len(neurons)) != (layer.heads, layer.ffn):
            raise InputError(
                f"layer {index} has {layer.heads} heads and {layer.ffn} neurons; "
                f"its masks have {len(heads)} and {len(neurons)} entries."
            )


@contextmanager
def masked(model: PreTrainedModel, masks: Masks) -> Iterator[PreTrainedModel]:
    """Within the context, ``model`` computes as if the masked heads and neurons were gone.

    Raises:
        InputError: if the masks do not fit the model.
    """
    check_masks(model, masks)
    with gated(model, masks.head_mask, masks.neuron_mask):
        yield model


@contextmanager
def gated(model: PreTrainedModel, head_gates: Sequence[Tensor], neuron_gates: Sequence[Tensor]) -> Iterator[None]:
    """Within the context, multiply each head's context and each neuron's activation by its gate.

    Gates are (H_i,) and (F_i,) tensors per layer, or (B, 1, H_i) and (B, 1, F_i) to gate each example on its own.
    Float gates may require gradients, which is how the mask Fisher is computed.
    """
    head_dim = arch_from_model(model).head_dim
    handles = []
    for layer, heads, neurons in zip(layers_from_model(model), head_gates, neuron_gates, strict=True):
        if heads.shape[-1]:
            gate = heads.repeat_interleave(head_dim, dim=-1)  # (..., H D)
            handles.append(layer.attention.output.dense.register_forward_pre_hook(_scale_input(gate)))
        if neurons.shape[-1]:
            handles.append(layer.output.dense.register_forward_pre_hook(_scale_input(neurons)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scale_input(gate: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor]]:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (inputs[0] * gate.to(inputs[0]),)

    return hook
