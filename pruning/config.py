"""Configuration of `CompactBert`: every BERT field, plus the size of each layer.

Depends on transformers alone, because a saved folder can carry this file as its own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig

LAYER_NORM, NO_NORM = "layer_norm", "no_norm"
"""What follows each residual sum: LayerNorm, or only its scale and shift."""


class CompactBertConfig(PretrainedConfig):
    """A BERT whose layers differ in heads and FFN neurons.

    ``layer_num_heads`` and ``layer_intermediate_sizes`` hold one integer per layer, zero included, and are the
    truth; ``num_attention_heads`` and ``intermediate_size`` keep the dense model's values so that other people's
    code can read them. ``head_dim`` is the size of one head in every layer. Left out, the three take the dense
    model's values. ``add_pooling_layer`` says whether the bare encoder has a pooler.
    ``norm_type`` is ``layer_norm`` or ``no_norm``, for every norm in the model.

    Raises:
        ValueError: if a list does not have one integer >= 0 per layer, or the norm is unknown.
    """

    model_type = "compact_bert"

    def __init__(  # noqa: PLR0913  # one parameter per BERT field, as in every configuration of transformers
        self,
        vocab_size: int = 30522,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        layer_num_heads: Sequence[int] | None = None,
        layer_intermediate_sizes: Sequence[int] | None = None,
        head_dim: int | None = None,
        add_pooling_layer: bool = True,
        hidden_act: str = "gelu",
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        norm_type: str = LAYER_NORM,
        pad_token_id: int | None = 0,
        classifier_dropout: float | None = None,
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(pad_token_id=pad_token_id, tie_word_embeddings=tie_word_embeddings, **kwargs)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.layer_num_heads = _per_layer("layer_num_heads", layer_num_heads, num_attention_heads, num_hidden_layers)
        self.layer_intermediate_sizes = _per_layer(
            "layer_intermediate_sizes", layer_intermediate_sizes, intermediate_size, num_hidden_layers
        )
        self.head_dim = hidden_size // num_attention_heads if head_dim is None else head_dim
        self.add_pooling_layer = add_pooling_layer
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        if norm_type not in (LAYER_NORM, NO_NORM):
            raise ValueError(f"norm_type must be {LAYER_NORM} or {NO_NORM}; got {norm_type!r}.")
        self.norm_type = norm_type
        self.classifier_dropout = classifier_dropout


def _per_layer(name: str, sizes: Sequence[int] | None, dense: int, layers: int) -> list[int]:
    values = [dense] * layers if sizes is None else list(sizes)
    if len(values) != layers or any(not isinstance(size, int) or size < 0 for size in values):
        raise ValueError(f"{name} must hold {layers} integers >= 0, one per layer; got {values}.")
    return values
