"""Extractive question answering, as in SQuAD. Letters: N questions, F windows, B batch, S sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from pruning.batching import Batch, Encodings, IndexedBatch, Predict, bucketed_batches, predict_rows
from pruning.errors import InputError
from pruning.objective import Objective
from pruning.tasks.answers import Answers
from pruning.tasks.spans import Prediction, best_spans, predictions_from_spans
from pruning.tasks.squad_metric import answer_scores
from pruning.tasks.task import Evaluation, EvaluationSettings, Metric, Task
from pruning.tasks.text_data import TextData
from pruning.tasks.windows import Windows, positions_from_answers, require_contexts, windows_from_questions


class SpanObjective(Objective):
    """Cross-entropy of the first and of the last token of the answer, averaged; ``[CLS]`` where a window has none.

    Args:
        encodings: F windows.
        first: the answer's first token in each window, (F,).
        last: its last token, (F,).
    """

    def __init__(self, encodings: Encodings, first: Tensor, last: Tensor) -> None:
        self._encodings, self._first, self._last = encodings, first, last

    @property
    def lengths(self) -> tuple[int, ...]:
        """See `Objective.lengths`."""
        return self._encodings.lengths

    def batch(self, indices: Sequence[int]) -> Batch:
        """The padded windows, and ``targets`` (B, 2): first and last token."""
        chosen = list(indices)
        targets = torch.stack([self._first[chosen], self._last[chosen]], dim=1)
        return {**self._encodings.padded(indices), "targets": targets}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Objective.loss`; computed in fp32."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "targets"}
        outputs, targets = model(**inputs), batch["targets"]
        first = F.cross_entropy(outputs.start_logits.float(), targets[:, 0])
        return (first + F.cross_entropy(outputs.end_logits.float(), targets[:, 1])) / 2


class QuestionAnswering(Task):
    """F1 and exact match of the answers; with unanswerable questions in the data also of either kind alone.

    With a reference, ``agreement`` is the fraction of questions to which both give the same answer.
    """

    name = "question-answering"
    head = "question-answering"
    needs_truth = True
    max_length = 384

    def has_truth(self, data: TextData) -> bool:
        """See `Task.has_truth`: the questions have answers."""
        return data.answers is not None

    def class_names(self, data: TextData) -> tuple[str, ...]:
        """None: the head has two outputs, start and end."""
        self.check_truth(data, ())
        return ()

    def check_truth(self, data: TextData, labels: Sequence[str]) -> None:
        """See `Task.check_truth`: contexts and answers."""
        _require_answers(data)

    def objective(self, tokenizer: PreTrainedTokenizerBase, data: TextData, settings: EvaluationSettings) -> Objective:
        """Cross-entropy of start and end over all windows."""
        answers = _require_answers(data)
        windows = windows_from_questions(tokenizer, data, max_length=settings.max_length)
        return SpanObjective(windows.encodings, *positions_from_answers(windows, answers))

    def evaluate(
        self,
        predict: Predict,
        tokenizer: PreTrainedTokenizerBase,
        data: TextData,
        settings: EvaluationSettings,
        reference: Predict | None = None,
    ) -> Evaluation:
        """See `Task.evaluate`. Primary metric: F1; ``outputs`` are exact match and F1 of each question, (N, 2).

        Where the data have unanswerable questions, a model may decline to answer, as SQuAD v2 asks.
        """
        truths = _require_answers(data)
        declines = any(not answers for answers in truths)
        prepared = _prepare(tokenizer, data, settings)
        given = _answers(predict, prepared, declines=declines)
        rows = [
            answer_scores(text, [answer.text for answer in right]) for text, right in zip(given, truths, strict=True)
        ]
        scores = torch.tensor(rows, dtype=torch.float64)  # (N, 2)
        others = {"exact_match": scores[:, 0].mean().item()}
        if declines:
            others |= _scores_by_kind(scores, truths)
        if reference is not None:
            expected = _answers(reference, prepared, declines=declines)
            others["agreement"] = sum(map(str.__eq__, given, expected)) / len(given)
        return Evaluation(Metric("f1", scores[:, 1].mean().item(), len(data)), others, scores)


def answer_questions(
    predict: Predict, tokenizer: PreTrainedTokenizerBase, data: TextData, settings: EvaluationSettings
) -> list[Prediction]:
    """The best answers of a model, in whatever runtime, to N questions.

    Raises:
        InputError: if there are no contexts, or the model gives no start and end logits.
    """
    return _predictions(predict, _prepare(tokenizer, data, settings))


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Questions as a model takes them: made once for all models that answer them."""

    contexts: Sequence[str]
    windows: Windows
    batches: Sequence[IndexedBatch]


def _prepare(tokenizer: PreTrainedTokenizerBase, data: TextData, settings: EvaluationSettings) -> _Prepared:
    windows = windows_from_questions(tokenizer, data, max_length=settings.max_length)
    return _Prepared(require_contexts(data), windows, bucketed_batches(windows.encodings, settings.batch_size))


def _predictions(predict: Predict, prepared: _Prepared) -> list[Prediction]:
    rows = predict_rows(predict, prepared.batches, _spans)
    return predictions_from_spans(rows, prepared.windows, prepared.contexts)


def _answers(predict: Predict, prepared: _Prepared, *, declines: bool) -> list[str]:
    found = _predictions(predict, prepared)
    return [prediction.text if prediction.answerable or not declines else "" for prediction in found]


def _spans(outputs: dict[str, Tensor], batch: Batch) -> Tensor:
    if "start_logits" not in outputs or "end_logits" not in outputs:
        raise InputError(
            f"question-answering needs start and end logits; the model gives {', '.join(outputs)}. "
            "Pass a model with a question-answering head."
        )
    return best_spans(outputs["start_logits"], outputs["end_logits"], batch)


def _require_answers(data: TextData) -> tuple[Answers, ...]:
    require_contexts(data)
    if data.answers is None:
        raise InputError(
            "question-answering needs answers; the data have none. Pass SQuAD JSON, or a column named answers "
            'with {"text": [...], "answer_start": [...]}.'
        )
    return data.answers


def _scores_by_kind(scores: Tensor, truths: Sequence[Answers]) -> dict[str, float]:
    """Exact match and F1 of the answerable and of the unanswerable questions, where there are any."""
    answerable = torch.tensor([bool(answers) for answers in truths])
    kinds = {"answerable": scores[answerable], "unanswerable": scores[~answerable]}
    return {
        f"{measure}_{kind}": part[:, column].mean().item()
        for kind, part in kinds.items()
        if len(part)
        for column, measure in enumerate(("exact_match", "f1"))
    }
