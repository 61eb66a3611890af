"""From start and end logits to answers: the best spans of every window, then of every question.

What runs once per window is a tensor operation. Letters: B batch, S sequence, K spans, F windows, N questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruning.batching import Batch
from pruning.tasks.windows import Windows

SPANS = 20
LONGEST_ANSWER = 30
"""Tokens; longer spans are no answers."""

NO_SPAN = -1e30
"""The score of a place in the list of spans that no span fills: finite, below every real score."""


@dataclass(frozen=True)
class Prediction:
    """The best answer to one question, its score, and the score of there being none (sums of two logits).

    ``alternatives`` are the best spans of all windows with their probabilities among each other, best first.
    """

    text: str
    score: float
    no_answer_score: float
    alternatives: tuple[tuple[str, float], ...]

    @property
    def answerable(self) -> bool:
        """Whether the best span scores at least as high as no answer."""
        return self.score >= self.no_answer_score


def best_spans(start_logits: Tensor, end_logits: Tensor, batch: Batch, *, spans: int = SPANS) -> Tensor:
    """The K highest-scoring spans of each window, and the score of no answer.

    Every span of at most 30 tokens inside the context is considered, not only those between the best starts and ends.

    Args:
        start_logits: (B, S).
        end_logits: (B, S).
        batch: right-padded windows, ``[CLS] question [SEP] context [SEP]``.
        spans: K.

    Returns:
        float64 (B, 3 K + 1): K scores, K first tokens, K last tokens, and the score of ``[CLS]``, which is no answer.
    """
    start, end = start_logits.double(), end_logits.double()
    context = _context_tokens(batch)  # (B, S)
    start, end = start.masked_fill(~context, NO_SPAN), end.masked_fill(~context, NO_SPAN)
    padded = torch.nn.functional.pad(end, (0, LONGEST_ANSWER - 1), value=NO_SPAN)
    scores = start[:, :, None] + padded.unfold(1, LONGEST_ANSWER, 1)  # (B, S, 30): start, length - 1
    best = scores.flatten(1).topk(min(spans, scores[0].numel()), dim=1)
    first, longer = best.indices // LONGEST_ANSWER, best.indices % LONGEST_ANSWER
    found = torch.stack([best.values.clamp(min=NO_SPAN), first.double(), (first + longer).double()], dim=1)  # (B, 3, K)
    missing = spans - found.shape[2]
    found = torch.nn.functional.pad(found, (0, missing))
    if missing:
        found[:, 0, -missing:] = NO_SPAN
    no_answer = start_logits[:, 0].double() + end_logits[:, 0].double()
    return torch.cat([found.flatten(1), no_answer[:, None]], dim=1)


def predictions_from_spans(rows: Tensor, windows: Windows, contexts: Sequence[str]) -> list[Prediction]:
    """The answer to each question from the spans of its windows.

    Args:
        rows: (F, 3 K + 1), from `best_spans`.
        windows: the F windows, in the same order.
        contexts: of the N questions.
    """
    table = rows.numpy()
    windows_until = np.searchsorted(windows.questions, np.arange(len(contexts) + 1))  # (N + 1,)
    spans = _ranked_spans(table, windows)
    spans_until = np.searchsorted(spans.questions, np.arange(len(contexts) + 1))
    no_answer = np.minimum.reduceat(table[:, -1], windows_until[:-1])
    return [
        _prediction(spans.part(begin, stop), score, context)
        for begin, stop, score, context in zip(
            spans_until[:-1].tolist(), spans_until[1:].tolist(), no_answer.tolist(), contexts, strict=True
        )
    ]


@dataclass(frozen=True, eq=False)
class _Spans:
    """Spans of many questions, the best first within each: question, score, and characters, all (M,)."""

    questions: NDArray[np.int64]
    scores: NDArray[np.float64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]

    def part(self, begin: int, stop: int) -> _Spans:
        """Those from ``begin`` to ``stop`` (exclusive)."""
        chosen = slice(begin, stop)
        return _Spans(self.questions[chosen], self.scores[chosen], self.begins[chosen], self.ends[chosen])


def _ranked_spans(table: NDArray[np.float64], windows: Windows) -> _Spans:
    """The K best spans of each question; of equal ones, those of earlier windows first."""
    scores, first, last = table[:, :-1].reshape(len(table), 3, -1).transpose(1, 0, 2)  # each (F, K)
    count = scores.shape[1]
    whose = windows.questions.repeat(count)  # (F K,)
    order = np.lexsort((-scores.ravel(), whose))
    rank = np.arange(len(order)) - np.searchsorted(whose, whose)  # within the question
    kept = order[(rank < count) & (scores.ravel()[order] > NO_SPAN / 2)]
    characters = np.concatenate(windows.offsets)  # (all tokens, 2)
    lengths = [len(offsets) for offsets in windows.offsets]
    begins = (np.cumsum(lengths) - lengths)[kept // count]  # of the windows, in `characters`
    first, last = (tokens.ravel()[kept].astype(np.int64) for tokens in (first, last))
    return _Spans(whose[kept], scores.ravel()[kept], characters[begins + first, 0], characters[begins + last, 1])


def _context_tokens(batch: Batch) -> Tensor:
    """Where the context is, (B, S): the second segment without its closing ``[SEP]`` and the padding."""
    mask = batch["attention_mask"].bool()
    last = mask.sum(1, keepdim=True) - 1  # (B, 1)
    inside: Tensor = mask & (batch["token_type_ids"] == 1)
    return inside & (torch.arange(mask.shape[1]) < last)


def _prediction(spans: _Spans, no_answer: float, context: str) -> Prediction:
    """Of one question."""
    if not len(spans.scores):
        return Prediction("", NO_SPAN, no_answer, ())
    weights = np.exp(spans.scores - spans.scores[0])
    texts = [context[a:b] for a, b in zip(spans.begins.tolist(), spans.ends.tolist(), strict=True)]
    alternatives = tuple(zip(texts, (weights / weights.sum()).tolist(), strict=True))
    return Prediction(texts[0], float(spans.scores[0]), no_answer, alternatives)
