"""What a model is: its encoder, architecture and head, read from the model and not from names or sizes."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import (
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    PreTrainedModel,
)

from pruning.arch import ArchSpec
from pruning.errors import InputError
from pruning.heads import HEAD_CLASSES
from pruning.model import CompactBertModel, CompactBertPreTrainedModel

DENSE_CLASSES: dict[str, type[PreTrainedModel]] = {
    "sequence-classification": BertForSequenceClassification,
    "question-answering": BertForQuestionAnswering,
    "token-classification": BertForTokenClassification,
    "masked-lm": BertForMaskedLM,
    "encoder": BertModel,
}


def head_from_model(model: PreTrainedModel) -> str:
    """Name of the task head: a key of `DENSE_CLASSES`.

    Raises:
        InputError: if the class is neither a supported BERT nor a compact one.
    """
    for classes in (DENSE_CLASSES, HEAD_CLASSES):
        for head, model_class in classes.items():
            if type(model) is model_class:
                return head
    supported = ", ".join(x.__name__ for x in (*DENSE_CLASSES.values(), *HEAD_CLASSES.values()))
    raise InputError(f"{type(model).__name__} is not supported; supported: {supported}.")


def encoder_from_model(model: PreTrainedModel) -> BertModel | CompactBertModel:
    """The bare encoder inside a task model, or the model itself if it is one."""
    return model if head_from_model(model) == "encoder" else model.bert


def layers_from_model(model: PreTrainedModel) -> list[Any]:
    """The encoder layers, bottom first, modules of transformers or ours; both name their parts alike."""
    return list(encoder_from_model(model).encoder.layer)


def is_compact(model: PreTrainedModel) -> bool:
    """Whether the layers of this model may differ in size."""
    return isinstance(model, CompactBertPreTrainedModel)


def arch_from_model(model: PreTrainedModel) -> ArchSpec:
    """Heads and FFN neurons of each layer of a dense or compact model."""
    config = model.config
    if is_compact(model):
        heads, ffn = config.layer_num_heads, config.layer_intermediate_sizes
        return ArchSpec.from_lists(config.hidden_size, config.head_dim, heads, ffn)
    head_dim = config.hidden_size // config.num_attention_heads
    layers = config.num_hidden_layers
    heads, ffn = [config.num_attention_heads] * layers, [config.intermediate_size] * layers
    return ArchSpec.from_lists(config.hidden_size, head_dim, heads, ffn)


def inner_density(model: PreTrainedModel) -> tuple[float, float]:
    """Share of non-zero weights in the matrices of attention and of FFN; 1 where there is none.

    Zeros inside living heads and neurons cost as much time as any other number: only removing whole units is faster.
    """
    matrices = _matrices(model)
    attention = [weight for weights, _ in matrices for weight in weights]
    return _density(attention), _density([weight for _, weights in matrices for weight in weights])


def inner_density_by_layer(model: PreTrainedModel) -> list[tuple[float, float]]:
    """`inner_density` of each layer."""
    return [(_density(attention), _density(ffn)) for attention, ffn in _matrices(model)]


def _matrices(model: PreTrainedModel) -> list[tuple[list[Tensor], list[Tensor]]]:
    """The weights of attention and of FFN in each layer; none of an empty sublayer."""
    found = []
    for layer, sizes in zip(layers_from_model(model), arch_from_model(model).layers, strict=True):
        own = layer.attention
        attention = (own.self.query, own.self.key, own.self.value, own.output.dense) if sizes.heads else ()
        ffn = (layer.intermediate.dense, layer.output.dense) if sizes.ffn else ()
        found.append(([x.weight for x in attention], [x.weight for x in ffn]))
    return found


def _density(weights: list[Tensor]) -> float:
    total = sum(weight.numel() for weight in weights)
    return sum(int(weight.count_nonzero()) for weight in weights) / total if total else 1.0


def reads_first_token(model: PreTrainedModel) -> bool:
    """Whether the head reads the first token's state alone, so that the last layer need not compute the others."""
    return head_from_model(model) == "sequence-classification"
