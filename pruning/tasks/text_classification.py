"""Text classification and regression, of single texts and of pairs. Letters: N texts, C classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from pruning.batching import Batch, Encodings, IndexedBatch, Predict, bucketed_batches, encode, predict_rows
from pruning.errors import InputError
from pruning.objective import Objective
from pruning.tasks.labels import class_ids, class_names_from_labels, require_labels, scores_from_labels
from pruning.tasks.metrics import classification_scores, correlations
from pruning.tasks.task import Evaluation, EvaluationSettings, Metric, Task
from pruning.tasks.text_data import TextData


class ClassificationObjective(Objective):
    """Cross-entropy against class numbers, or mean squared error against scores.

    Args:
        encodings: N texts or pairs.
        targets: (N,), int64 for classes and float for regression.
    """

    def __init__(self, encodings: Encodings, targets: Tensor) -> None:
        self._encodings, self._targets = encodings, targets

    @property
    def lengths(self) -> tuple[int, ...]:
        """See `Objective.lengths`."""
        return self._encodings.lengths

    def batch(self, indices: Sequence[int]) -> Batch:
        """The padded texts, and ``targets`` (B,)."""
        return {**self._encodings.padded(indices), "targets": self._targets[list(indices)]}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Objective.loss`; computed in fp32."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "targets"}
        logits = model(**inputs).logits.float()  # (B, C)
        targets = batch["targets"]
        if targets.is_floating_point():
            return F.mse_loss(logits[:, 0], targets.float())
        return F.cross_entropy(logits, targets)


class TextClassification(Task):
    """Accuracy, F1 and Matthews correlation; Spearman and Pearson for a model with one output.

    With a reference, ``agreement`` is the fraction of texts on which both predict the same class.
    """

    name = "text-classification"
    head = "sequence-classification"
    needs_truth = True

    def has_truth(self, data: TextData) -> bool:
        """See `Task.has_truth`: there are labels."""
        return data.labels is not None

    def class_names(self, data: TextData) -> tuple[str, ...]:
        """See `Task.class_names`. Integers and words name classes; floats ask for regression."""
        return class_names_from_labels(require_labels(data))

    def check_truth(self, data: TextData, labels: Sequence[str]) -> None:
        """See `Task.check_truth`."""
        self.targets(data, labels)

    def targets(self, data: TextData, labels: Sequence[str]) -> Tensor:
        """What the labels say, (N,): class numbers (int64), or scores (float64) where there is one class name.

        Raises:
            InputError: see `Task.check_truth`.
        """
        found = require_labels(data)
        if len(labels) == 1:
            return torch.tensor(scores_from_labels(found), dtype=torch.float64)
        return torch.tensor(class_ids(found, labels))

    def objective(self, tokenizer: PreTrainedTokenizerBase, data: TextData, settings: EvaluationSettings) -> Objective:
        """Cross-entropy, or mean squared error for regression."""
        encodings = encode(tokenizer, data.texts, data.pairs, max_length=settings.max_length)
        return ClassificationObjective(encodings, self.targets(data, settings.labels))

    def evaluate(
        self,
        predict: Predict,
        tokenizer: PreTrainedTokenizerBase,
        data: TextData,
        settings: EvaluationSettings,
        reference: Predict | None = None,
    ) -> Evaluation:
        """See `Task.evaluate`. Primary metric: accuracy, or Spearman for regression.

        Raises:
            InputError: if labels are missing or unknown to the model, or the outputs are not those of a classifier.
        """
        truth, classes = self.targets(data, settings.labels), len(settings.labels)
        encodings = encode(tokenizer, data.texts, data.pairs, max_length=settings.max_length)
        batches = bucketed_batches(encodings, settings.batch_size)
        logits = _logits(predict, batches, classes)
        if classes == 1:
            scores = correlations(truth.numpy(), logits[:, 0].double().numpy())
            return _evaluation("spearman", scores, logits)
        predicted = logits.argmax(-1)
        scores = classification_scores(truth.numpy(), predicted.numpy(), classes)
        if reference is not None:
            same = predicted == _logits(reference, batches, classes).argmax(-1)
            scores["agreement"] = same.double().mean().item()
        return _evaluation("accuracy", scores, logits)


def _logits(predict: Predict, batches: list[IndexedBatch], classes: int) -> Tensor:
    """Logits (N, C) in the order of the texts."""
    logits = predict_rows(predict, batches, lambda outputs, _: _classifier_logits(outputs))
    if logits.shape[1] != classes:
        raise InputError(
            f"the model gives {logits.shape[1]} logits for {classes} labels. Evaluate it with its own config.json."
        )
    return logits


def _classifier_logits(outputs: dict[str, Tensor]) -> Tensor:
    logits = outputs.get("logits")
    if logits is None or logits.dim() != 2:
        raise InputError(
            f"text-classification needs one row of logits per text; the model gives {', '.join(outputs)}. "
            "Pass a model with a sequence-classification head."
        )
    return logits


def _evaluation(primary: str, scores: dict[str, float], outputs: Tensor) -> Evaluation:
    others = {name: value for name, value in scores.items() if name != primary}
    return Evaluation(Metric(primary, scores[primary], len(outputs)), others, outputs)
