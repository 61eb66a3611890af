"""The best spans against a search over all of them."""

import itertools

import numpy as np
import pytest
import torch

from pruning.batching import Encodings
from pruning.tasks import spans as module
from pruning.tasks.spans import NO_SPAN, best_spans, predictions_from_spans
from pruning.tasks.windows import Windows


def batch_of(lengths, question=3):
    """Windows with ``question`` tokens before the context, padded to the longest."""
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    types = (torch.arange(longest) >= question).expand(len(lengths), -1) & mask
    return {"input_ids": mask.long(), "attention_mask": mask.long(), "token_type_ids": types.long()}


def logits(rows, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, rows, length, generator=generator) * 3


def brute_force(start, end, length, question, longest):
    allowed = range(question, length - 1)
    found = [(float(start[a] + end[b]), a, b) for a, b in itertools.product(allowed, allowed) if a <= b < a + longest]
    return sorted(found, reverse=True)


@pytest.mark.parametrize("longest", [1, 3, 30])
def test_best_spans_are_those_of_a_full_search(monkeypatch, longest):
    monkeypatch.setattr(module, "LONGEST_ANSWER", longest)
    lengths = (14, 9, 5)
    start, end = logits(3, 14).double()
    rows = best_spans(start, end, batch_of(lengths), spans=6)
    assert rows.shape == (3, 19)
    for row, length, s, e in zip(rows, lengths, start, end, strict=True):
        expected = brute_force(s, e, length, 3, longest)[:6]
        count = len(expected)
        assert row[:count].tolist() == pytest.approx([score for score, *_ in expected])
        assert list(zip(row[6 : 6 + count].int().tolist(), row[12 : 12 + count].int().tolist(), strict=True)) == [
            (a, b) for _, a, b in expected
        ]
        assert (row[count:6] <= NO_SPAN / 2).all()
        assert row[-1] == pytest.approx(float(s[0] + e[0]))


def test_fewer_places_than_spans():
    start, end = logits(1, 6)
    rows = best_spans(start, end, batch_of([6]), spans=500)
    assert rows.shape == (1, 1501)
    assert torch.isfinite(rows).all()


def windows(questions, lengths, question=3):
    offsets = [
        np.array(
            [[-1, -1] if i < question or i == n - 1 else [2 * (i - question), 2 * (i - question) + 1] for i in range(n)]
        )
        for n in lengths
    ]
    return Windows(Encodings(((),) * len(lengths), ((),) * len(lengths), 0), np.array(questions), tuple(offsets))


def test_a_question_takes_the_best_of_its_windows():
    start, end = torch.zeros(2, 3, 8)
    start[0, 4], end[0, 4] = 2.0, 2.0  # 4 in the first window of question 0
    start[1, 3], end[1, 5] = 5.0, 5.0  # 10 in its second
    start[2, 5], end[2, 5] = 1.0, 1.0
    start[:, 0] = torch.tensor([3.0, 7.0, 9.0])
    rows = best_spans(start, end, batch_of([8, 8, 8]))
    first, second = predictions_from_spans(rows, windows([0, 0, 1], [8, 8, 8]), ["a b c d e", "f g h i j"])
    assert (first.text, first.score, first.no_answer_score, first.answerable) == ("a b c", 10.0, 3.0, True)
    assert (second.text, second.score, second.no_answer_score, second.answerable) == ("h", 2.0, 9.0, False)
    texts, probabilities = zip(*first.alternatives, strict=True)
    assert sum(probabilities) == pytest.approx(1)
    assert list(probabilities) == sorted(probabilities, reverse=True)
    assert texts[0] == first.text


def test_a_window_without_context_answers_nothing():
    start, end = logits(1, 4)
    rows = best_spans(start, end, batch_of([4]))
    (found,) = predictions_from_spans(rows, windows([0], [4]), [""])
    assert (found.text, found.alternatives, found.answerable) == ("", (), False)
