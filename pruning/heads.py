"""Task heads on the compact encoder, under the names BERT gives their parameters.

Depends on torch, transformers and the files beside it alone, because a saved folder can carry them as its own code.
Letters: B batch, S sequence, E hidden.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from .config import CompactBertConfig
from .model import CompactBertModel, CompactBertPreTrainedModel, norm_from_config

DECODER_WEIGHT, WORD_EMBEDDINGS = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"
DECODER_BIAS, PREDICTION_BIAS = "cls.predictions.decoder.bias", "cls.predictions.bias"


def _extras(outputs: BaseModelOutputWithPooling) -> dict[str, Any]:
    return {"hidden_states": outputs.hidden_states, "attentions": outputs.attentions}


def _as_objects(kwargs: dict[str, Any]) -> dict[str, Any]:
    return kwargs | {"return_dict": True}


def _head_dropout(config: CompactBertConfig) -> nn.Dropout:
    own = config.classifier_dropout
    return nn.Dropout(config.hidden_dropout_prob if own is None else own)


class CompactBertForSequenceClassification(CompactBertPreTrainedModel):
    """Encoder, pooler and a linear classifier or regressor on the pooled first token."""

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bert = CompactBertModel(config, add_pooling_layer=True)
        self.dropout = _head_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Logits (B, labels). ``labels``: (B,) classes or values, or (B, labels)."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **_as_objects(kwargs)
        )
        logits = self.classifier(self.dropout(outputs.pooler_output))
        loss = None if labels is None else sequence_loss(logits, labels, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits, **_extras(outputs))


def sequence_loss(logits: Tensor, labels: Tensor, config: CompactBertConfig) -> Tensor:
    """Mean squared error, cross-entropy or binary cross-entropy, by ``config.problem_type``.

    Unset, the type follows from the number of labels and the labels' dtype, as everywhere in transformers.
    """
    single = "single_label_classification" if not labels.is_floating_point() else "multi_label_classification"
    problem = config.problem_type or ("regression" if config.num_labels == 1 else single)
    if problem == "regression":
        return F.mse_loss(logits.view(labels.shape), labels.to(logits.dtype))
    if problem == "single_label_classification":
        return F.cross_entropy(logits, labels.view(-1))
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


class CompactBertForTokenClassification(CompactBertPreTrainedModel):
    """Encoder and a linear classifier on every token."""

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bert = CompactBertModel(config, add_pooling_layer=False)
        self.dropout = _head_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Logits (B, S, labels). ``labels``: (B, S), -100 is ignored."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **_as_objects(kwargs)
        )
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return TokenClassifierOutput(loss=loss, logits=logits, **_extras(outputs))


class CompactBertForQuestionAnswering(CompactBertPreTrainedModel):
    """Encoder and a linear layer that scores every token as start and end of the answer."""

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__(config)
        self.bert = CompactBertModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(  # noqa: PLR0913  # the arguments of every BERT
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """Start and end logits, each (B, S). Positions (B,) outside the sequence do not count in the loss."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **_as_objects(kwargs)
        )
        start, end = self.qa_outputs(outputs.last_hidden_state).unbind(-1)  # each (B, S)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = (_position_loss(start, start_positions) + _position_loss(end, end_positions)) / 2
        return QuestionAnsweringModelOutput(loss=loss, start_logits=start, end_logits=end, **_extras(outputs))


def _position_loss(logits: Tensor, positions: Tensor) -> Tensor:
    length = logits.shape[1]
    return F.cross_entropy(logits, positions.view(-1).clamp(0, length), ignore_index=length)


class CompactBertPredictionTransform(nn.Module):
    """Linear, activation and LayerNorm before the vocabulary projection."""

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_act_fn = ACT2FN[config.hidden_act]
        self.LayerNorm = norm_from_config(config)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, S, E) to (B, S, E)."""
        return self.LayerNorm(self.transform_act_fn(self.dense(hidden)))  # type: ignore[no-any-return]


class CompactBertLMPredictionHead(nn.Module):
    """Vocabulary projection; if the configuration ties it, its weight is that of the word embeddings."""

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__()
        self.transform = CompactBertPredictionTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=True)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def _tie_weights(self) -> None:
        self.decoder.bias = self.bias  # called by transformers 4; 5 reads `_tied_weights_keys`

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, S, E) to (B, S, vocabulary)."""
        return self.decoder(self.transform(hidden))  # type: ignore[no-any-return]


class CompactBertLMHead(nn.Module):
    """Holds the prediction head under the name BERT gives it."""

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__()
        self.predictions = CompactBertLMPredictionHead(config)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, S, E) to (B, S, vocabulary)."""
        return self.predictions(hidden)  # type: ignore[no-any-return]


class CompactBertForMaskedLM(CompactBertPreTrainedModel):
    """Encoder and vocabulary projection."""

    # transformers 5 wants to know what each tied weight is tied to; transformers 4 wants a list of names.
    _tied_weights_keys: ClassVar[Any] = (
        [DECODER_WEIGHT, DECODER_BIAS]
        if transformers.__version__.startswith("4.")
        else {DECODER_WEIGHT: WORD_EMBEDDINGS, DECODER_BIAS: PREDICTION_BIAS}
    )

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__(config)
        self.bert = CompactBertModel(config, add_pooling_layer=False)
        self.cls = CompactBertLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """The vocabulary projection."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the vocabulary projection and its bias."""
        self.cls.predictions.decoder = value
        self.cls.predictions.bias = value.bias

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits (B, S, vocabulary). ``labels``: (B, S), -100 is ignored."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **_as_objects(kwargs)
        )
        logits = self.cls(outputs.last_hidden_state)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return MaskedLMOutput(loss=loss, logits=logits, **_extras(outputs))


HEAD_CLASSES: dict[str, type[CompactBertPreTrainedModel]] = {
    "sequence-classification": CompactBertForSequenceClassification,
    "question-answering": CompactBertForQuestionAnswering,
    "token-classification": CompactBertForTokenClassification,
    "masked-lm": CompactBertForMaskedLM,
    "encoder": CompactBertModel,
}
