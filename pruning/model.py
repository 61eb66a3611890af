"""BERT whose layers differ in size: the compact model that pruning produces.

The computation is BERT's (Devlin et al. 2019, arXiv:1810.04805) and the parameters carry BERT's names. What is
new: layer ``i`` has ``config.layer_num_heads[i]`` heads and ``config.layer_intermediate_sizes[i]`` FFN neurons, and
a sublayer of size zero holds nothing but its output bias: ``LayerNorm(x + bias)``.

Depends on torch, transformers and ``config.py`` alone, because a saved folder can carry both files as its own code.
Letters: B batch, S sequence, H heads, D head_dim, E hidden, F ffn.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import can_return_tuple

from .config import NO_NORM, CompactBertConfig


class NoNorm(nn.Module):
    """Scale and shift of each feature (E,), without normalisation: what is left of a LayerNorm that was trained away.

    Source: MobileBERT, Sun et al. 2020, arXiv:2004.02984, section 3.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., E) to (..., E)."""
        return hidden * self.weight + self.bias


def norm_from_config(config: CompactBertConfig) -> nn.Module:
    """The norm of every sublayer."""
    if config.norm_type == NO_NORM:
        return NoNorm(config.hidden_size)
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class CompactBertEmbeddings(nn.Module):
    """Sum of word, position and token type embeddings, then LayerNorm."""

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, hidden, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, hidden)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, hidden)
        self.LayerNorm = norm_from_config(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, words: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None) -> Tensor:
        """``words`` are word embeddings (B, S, E); types default to 0 and positions to 0...S-1."""
        if position_ids is None:
            position_ids = torch.arange(words.shape[1], device=words.device)[None]  # (1, S)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        types = self.token_type_embeddings(token_type_ids)
        return self.dropout(self.LayerNorm(words + types + self.position_embeddings(position_ids)))  # type: ignore[no-any-return]


class OutputBias(nn.Module):
    """The output projection of an empty sublayer: nothing is left but its bias (E,)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(hidden))


class CompactBertSelfAttention(nn.Module):
    """Queries, keys and values of the kept heads, and their attention."""

    def __init__(self, config: CompactBertConfig, heads: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, config.head_dim
        self.query = nn.Linear(config.hidden_size, heads * config.head_dim)
        self.key = nn.Linear(config.hidden_size, heads * config.head_dim)
        self.value = nn.Linear(config.hidden_size, heads * config.head_dim)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, hidden: Tensor, bias: Tensor | None, with_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Concatenated head contexts (B, S, H D) and, on request, the attention weights (B, H, S, S)."""
        shape = (*hidden.shape[:2], self.heads, self.head_dim)
        query, key, value = (
            linear(hidden).view(shape).transpose(1, 2)  # (B, H, S, D)
            for linear in (self.query, self.key, self.value)
        )
        weights = None
        if with_weights:
            logits = query @ key.transpose(2, 3) / math.sqrt(self.head_dim)  # (B, H, S, S)
            weights = self.dropout((logits if bias is None else logits + bias).softmax(-1))
            context = weights @ value
        else:
            dropout = self.dropout.p if self.training else 0.0
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        return context.transpose(1, 2).flatten(2), weights


class CompactBertOutput(nn.Module):
    """Output projection of a sublayer, residual and LayerNorm. With ``width`` 0 the projection is its bias."""

    def __init__(self, config: CompactBertConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size) if width else OutputBias(config.hidden_size)
        self.LayerNorm = norm_from_config(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, inner: Tensor | None, residual: Tensor) -> Tensor:
        """``inner`` (B, S, width), None for an empty sublayer; ``residual`` and result (B, S, E)."""
        projected = self.dense.bias.expand_as(residual) if inner is None else self.dense(inner)
        return self.LayerNorm(self.dropout(projected) + residual)  # type: ignore[no-any-return]


class CompactBertAttention(nn.Module):
    """The attention sublayer; without heads there is no ``self`` module."""

    def __init__(self, config: CompactBertConfig, heads: int) -> None:
        super().__init__()
        self.heads = heads
        if heads:
            self.self = CompactBertSelfAttention(config, heads)
        self.output = CompactBertOutput(config, heads * config.head_dim)

    def forward(self, hidden: Tensor, bias: Tensor | None, with_weights: bool) -> tuple[Tensor, Tensor | None]:
        """New states (B, S, E) and, on request, attention weights (B, H, S, S), H = 0 included."""
        if not self.heads:
            rows, length = hidden.shape[:2]
            return self.output(None, hidden), hidden.new_zeros(rows, 0, length, length) if with_weights else None
        context, weights = self.self(hidden, bias, with_weights)
        return self.output(context, hidden), weights


class CompactBertIntermediate(nn.Module):
    """First FFN matrix and activation, (B, S, E) to (B, S, F)."""

    def __init__(self, config: CompactBertConfig, ffn: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, ffn)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        """Activations of the kept neurons."""
        return self.intermediate_act_fn(self.dense(hidden))  # type: ignore[no-any-return]


class CompactBertLayer(GradientCheckpointingLayer):
    """One encoder layer; without neurons there is no ``intermediate`` module."""

    def __init__(self, config: CompactBertConfig, heads: int, ffn: int) -> None:
        super().__init__()
        self.ffn = ffn
        self.attention = CompactBertAttention(config, heads)
        if ffn:
            self.intermediate = CompactBertIntermediate(config, ffn)
        self.output = CompactBertOutput(config, ffn)

    def forward(self, hidden: Tensor, bias: Tensor | None, with_weights: bool) -> tuple[Tensor, Tensor | None]:
        """New states (B, S, E) and, on request, attention weights (B, H, S, S)."""
        attended, weights = self.attention(hidden, bias, with_weights)
        return self.output(self.intermediate(attended) if self.ffn else None, attended), weights


class CompactBertEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__()
        sizes = zip(config.layer_num_heads, config.layer_intermediate_sizes, strict=True)
        self.layer = nn.ModuleList(CompactBertLayer(config, heads, ffn) for heads, ffn in sizes)
        self.gradient_checkpointing = False

    def forward(
        self, hidden: Tensor, bias: Tensor | None, with_weights: bool
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """States before the first and after every layer, each (B, S, E), and one attention entry per layer."""
        states, attentions = [hidden], []
        for layer in self.layer:
            hidden, weights = layer(hidden, bias, with_weights)
            states.append(hidden)
            attentions.append(weights)
        return states, attentions


class CompactBertPooler(nn.Module):
    """Linear and tanh on the first token, (B, S, E) to (B, E)."""

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Pooled first token."""
        return torch.tanh(self.dense(hidden[:, 0]))


class CompactBertPreTrainedModel(PreTrainedModel):
    """What all compact models share: configuration class, initialisation, supported features."""

    config_class = CompactBertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the Trainer must divide by its accumulation steps: the losses do not
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = ["CompactBertEmbeddings", "CompactBertLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, OutputBias) and not _already_loaded(module.bias):
            nn.init.zeros_(module.bias)
        if isinstance(module, NoNorm) and not _already_loaded(module.weight):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def _already_loaded(parameter: Tensor) -> bool:
    """Transformers marks parameters read from a checkpoint and initialises only the others."""
    return bool(getattr(parameter, "_is_hf_initialized", False))


def attention_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive bias (B, 1, 1 or S, S) from a mask (B, S) or (B, S, S): 0 = attend, lowest finite = ignore.

    Finite, not -inf: a row without any token then attends uniformly instead of turning into NaN.
    """
    wide = mask[:, None, None, :] if mask.dim() == 2 else mask[:, None]
    return (1.0 - wide.to(dtype)) * torch.finfo(dtype).min


def masks_nothing(mask: Tensor) -> bool:
    """Whether a mask is all ones, so that attention needs no bias; the dense BERT of transformers leaves it out too.

    False wherever the answer would be built into a graph, which must be right for other masks as well, or cannot be
    read: compiled, exported, traced, or captured from a CUDA stream.
    """
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if torch.compiler.is_compiling() or tracing or type(mask) is not Tensor or mask.is_meta:
        return False
    if mask.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    return bool((mask == 1).all())


class CompactBertModel(CompactBertPreTrainedModel):
    """The bare encoder, with a pooler if ``config.add_pooling_layer``."""

    def __init__(self, config: CompactBertConfig, add_pooling_layer: bool | None = None) -> None:
        super().__init__(config)
        pooled = config.add_pooling_layer if add_pooling_layer is None else add_pooling_layer
        self.embeddings = CompactBertEmbeddings(config)
        self.encoder = CompactBertEncoder(config)
        self.pooler = CompactBertPooler(config) if pooled else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embeddings."""
        self.embeddings.word_embeddings = value

    @can_return_tuple
    def forward(  # noqa: PLR0913  # the arguments of every BERT
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Encode tokens.

        Args:
            input_ids: (B, S); or pass ``inputs_embeds`` (B, S, E) instead.
            attention_mask: (B, S), 1 = token, 0 = padding, anywhere in the row; or (B, S, S); default all ones.
            token_type_ids: (B, S), default 0.
            position_ids: (B, S), default 0...S-1.
            inputs_embeds: word embeddings, in place of ``input_ids``.
            output_attentions: also return the attention weights, (B, H, S, S) per layer.
            output_hidden_states: also return the states, (B, S, E), before the first and after every layer.
            kwargs: accepted for the callers that pass more, and ignored.

        Raises:
            ValueError: unless exactly one of ``input_ids`` and ``inputs_embeds`` is given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds.")
        words = self.embeddings.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        with_weights = bool(self.config.output_attentions if output_attentions is None else output_attentions)
        hidden = self.embeddings(words, token_type_ids, position_ids)
        bias = None
        if attention_mask is not None and not masks_nothing(attention_mask):
            bias = attention_bias(attention_mask, hidden.dtype)
        states, attentions = self.encoder(hidden, bias, with_weights)
        with_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutputWithPooling(
            last_hidden_state=states[-1],
            pooler_output=None if self.pooler is None else self.pooler(states[-1]),
            hidden_states=tuple(states) if with_states else None,
            attentions=tuple(attentions) if with_weights else None,
        )
