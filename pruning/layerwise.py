"""A compact model one sublayer at a time, so that statistics of one sublayer are in memory and not of all.

Letters: B batch, S sequence, E hidden, K inner width, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.batching import Batch, on_device
from pruning.errors import InputError
from pruning.introspect import encoder_from_model, is_compact, layers_from_model
from pruning.model import attention_bias


@dataclass(frozen=True, eq=False)
class Sublayer:
    """Attention (even ``index``) or FFN (odd) of a compact layer."""

    layer: Any
    index: int

    @property
    def name(self) -> str:
        """For messages: which layer and which half of it."""
        return sublayer_name(self.index)

    @property
    def output(self) -> Any:
        """Output projection ``dense``, residual and LayerNorm."""
        return self.layer.output if self.index % 2 else self.layer.attention.output

    @property
    def width(self) -> int:
        """Features that enter the output projection, K."""
        return len(self.output.dense.weight.T) if self.units else 0

    @property
    def units(self) -> int:
        """Heads or neurons."""
        return int(self.layer.ffn if self.index % 2 else self.layer.attention.heads)

    def inner(self, states: Tensor, bias: Tensor) -> Tensor | None:
        """Input (B, S, K) of the output projection; None if the sublayer is empty."""
        if not self.units:
            return None
        if self.index % 2:
            return self.layer.intermediate(states)  # type: ignore[no-any-return]
        return self.layer.attention.self(states, bias, with_weights=False)[0]  # type: ignore[no-any-return]

    def summed(self, inner: Tensor | None, states: Tensor) -> Tensor:
        """Projection and residual (B, S, E), before the LayerNorm."""
        return states + (self.output.dense.bias if inner is None else self.output.dense(inner))  # type: ignore[no-any-return]


@dataclass(eq=False)
class Stream:
    """One batch between two sublayers: ``states`` (B, S, E), additive mask, and which tokens (B, S) are real."""

    states: Tensor
    bias: Tensor
    tokens: Tensor


def sublayer_name(index: int) -> str:
    """For messages: which layer and which half of it."""
    return f"{'FFN' if index % 2 else 'attention'} of layer {index // 2}"


def sublayers_from_model(model: PreTrainedModel) -> list[Sublayer]:
    """Attention and FFN of every layer, bottom first.

    Raises:
        InputError: if the model is not compact.
    """
    if not is_compact(model):
        raise InputError(f"this works on compact models; got {type(model).__name__}. Compact it first.")
    return [Sublayer(layer, 2 * i + part) for i, layer in enumerate(layers_from_model(model)) for part in (0, 1)]


def start_streams(model: PreTrainedModel, batches: Sequence[Batch]) -> list[Stream]:
    """All batches after the embeddings, on the model's device."""
    return [_start(model, on_device(batch, model.device)) for batch in batches]


def _start(model: PreTrainedModel, batch: Batch) -> Stream:
    embeddings, mask = encoder_from_model(model).embeddings, batch["attention_mask"]
    states = embeddings(embeddings.word_embeddings(batch["input_ids"]), batch["token_type_ids"], None)
    return Stream(states, attention_bias(mask, states.dtype), mask.bool())


def check_finite(name: str, *statistics: Tensor) -> None:
    """Refuse what the calibration texts lead to if NaN or infinity is in it.

    Raises:
        InputError: naming the sublayer.
    """
    if not all(torch.isfinite(tensor).all() for tensor in statistics):
        raise InputError(f"{name}: the calibration statistics are not finite. Check the model's weights.")
