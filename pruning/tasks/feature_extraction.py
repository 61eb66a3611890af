"""Sentence embeddings by mean pooling. Letters: N texts, B batch, S sequence, E hidden."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from pruning.batching import Batch, Encodings, Predict, bucketed_batches, encode, predict_rows
from pruning.errors import InputError
from pruning.objective import Objective
from pruning.pooling import mean_pooled
from pruning.tasks.labels import scores_from_labels
from pruning.tasks.metrics import correlations
from pruning.tasks.task import Evaluation, EvaluationSettings, Metric, Task
from pruning.tasks.text_data import TextData

COSENT_SCALE = 20.0


class SimilarityObjective(Objective):
    """CoSENT: of two pairs, the one with the higher score should have the higher cosine similarity.

    Args:
        encodings: the N first texts, then the N second ones.
        scores: (N,), in any unit: only their order counts.
    """

    def __init__(self, encodings: Encodings, scores: Tensor) -> None:
        self._encodings, self._scores = encodings, scores

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the longer text of each pair."""
        lengths, count = self._encodings.lengths, len(self._scores)
        return tuple(map(max, lengths[:count], lengths[count:]))

    def batch(self, indices: Sequence[int]) -> Batch:
        """The first texts, then the second ones, as one batch of 2 B rows; and ``targets`` (B,)."""
        both = [*indices, *(index + len(self._scores) for index in indices)]
        return {**self._encodings.padded(both), "targets": self._scores[list(indices)]}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Objective.loss`; computed in fp32."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "targets"}
        states = model(**inputs).last_hidden_state.float()  # (2 B, S, E)
        first, second = mean_pooled(states, batch["attention_mask"]).chunk(2)
        return cosent_loss(F.cosine_similarity(first, second, dim=-1), batch["targets"])


def cosent_loss(similarity: Tensor, scores: Tensor) -> Tensor:
    """``log(1 + sum exp(20 (similarity_j - similarity_i)))`` over all i, j with ``score_i > score_j``.

    Args:
        similarity: cosine of each pair, (B,).
        scores: (B,).

    Returns:
        A scalar; 0 where all scores are equal.

    Source: CoSENT (Su 2022), the cosine objective of AnglE, Li and Li 2023, arXiv:2309.12871.
    """
    gaps = COSENT_SCALE * (similarity[None, :] - similarity[:, None])  # (B, B), row i, column j
    ranked = gaps[scores[:, None] > scores[None, :]]
    return torch.logsumexp(torch.cat([ranked.new_zeros(1), ranked]), dim=0)


class FeatureExtraction(Task):
    """How well embeddings rank the similarity of scored pairs, and how close they are to the dense model's.

    ``fidelity``: mean cosine between the model's embedding of a text and the reference's, over texts and pairs.
    ``spearman``: rank correlation of the pairs' cosine similarity with their scores (as in STS-B).
    """

    name = "feature-extraction"
    head = "encoder"
    needs_truth = False

    def has_truth(self, data: TextData) -> bool:
        """See `Task.has_truth`: there are pairs with scores."""
        return data.pairs is not None and data.labels is not None

    def class_names(self, data: TextData) -> tuple[str, ...]:
        """None: an encoder has no classes."""
        self.targets(data, ())
        return ()

    def check_truth(self, data: TextData, labels: Sequence[str]) -> None:
        """See `Task.check_truth`."""
        self.targets(data, labels)

    def targets(self, data: TextData, labels: Sequence[str]) -> Tensor:
        """The scores of the pairs, float64 (N,).

        Raises:
            InputError: see `Task.check_truth`.
        """
        if data.pairs is None or data.labels is None:
            raise InputError(
                f"feature-extraction needs scored pairs here; the data have no {_missing(data)}. "
                "Name the columns with --pair-column and --label-column."
            )
        return torch.tensor(scores_from_labels(data.labels), dtype=torch.float64)

    def objective(self, tokenizer: PreTrainedTokenizerBase, data: TextData, settings: EvaluationSettings) -> Objective:
        """CoSENT on the cosine similarity of mean-pooled embeddings."""
        scores = self.targets(data, ())
        encodings = encode(tokenizer, data.texts + (data.pairs or ()), max_length=settings.max_length)
        return SimilarityObjective(encodings, scores)

    def evaluate(
        self,
        predict: Predict,
        tokenizer: PreTrainedTokenizerBase,
        data: TextData,
        settings: EvaluationSettings,
        reference: Predict | None = None,
    ) -> Evaluation:
        """See `Task.evaluate`. Primary metric: Spearman if the data are scored pairs, otherwise fidelity.

        Raises:
            InputError: if there is neither a reference nor scored pairs, scores are words, or the model does not
                give token states.
        """
        scored = self.has_truth(data)
        if not scored and reference is None:
            raise InputError(
                "feature-extraction needs scored pairs, or a dense model to compare with; the data have no "
                f"{_missing(data)}. Name the columns with --pair-column and --label-column."
            )
        texts = data.texts + (data.pairs or ())
        embeddings = embed(predict, tokenizer, texts, settings)  # (N, E) or (2 N, E)
        scores = _similarity_scores(self.targets(data, ()), embeddings) if scored else {}
        if reference is not None:
            expected = embed(reference, tokenizer, texts, settings)
            scores["fidelity"] = F.cosine_similarity(embeddings, expected, dim=-1).mean().item()
        primary = "spearman" if scored else "fidelity"
        others = {name: value for name, value in scores.items() if name != primary}
        return Evaluation(Metric(primary, scores[primary], len(data)), others, embeddings)


def embed(
    predict: Predict, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], settings: EvaluationSettings
) -> Tensor:
    """Mean-pooled embeddings (N, E) in the order of the texts; not normalised.

    Raises:
        InputError: if the model does not give token states.
    """
    encodings = encode(tokenizer, texts, max_length=settings.max_length)
    return predict_rows(predict, bucketed_batches(encodings, settings.batch_size), _pooled)


def _pooled(outputs: dict[str, Tensor], batch: Batch) -> Tensor:
    if "last_hidden_state" not in outputs:
        raise InputError(
            f"feature-extraction needs token states; the model gives {', '.join(outputs)}. Pass a bare encoder."
        )
    return mean_pooled(outputs["last_hidden_state"], batch["attention_mask"])


def _missing(data: TextData) -> str:
    return "pairs" if data.pairs is None else "scores"


def _similarity_scores(truth: Tensor, embeddings: Tensor) -> dict[str, float]:
    first, second = embeddings.double().reshape(2, len(truth), -1)
    return correlations(truth.numpy(), F.cosine_similarity(first, second, dim=-1).numpy())
