"""Scores on given numbers."""

from __future__ import annotations

import numpy as np
import pytest

from pruning.tasks.metrics import classification_scores, correlations


def test_binary_scores() -> None:
    scores = classification_scores(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0]), classes=2)
    assert scores == pytest.approx({"accuracy": 0.75, "f1": 2 / 3, "matthews": 3**-0.5})


def test_f1_of_many_classes_is_their_mean() -> None:
    scores = classification_scores(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]), classes=3)
    assert scores["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_everywhere_is_no_correlation(value: int) -> None:
    same = np.full(3, value)
    scores = classification_scores(same, same, classes=2)
    assert scores == {"accuracy": 1.0, "f1": float(value), "matthews": 0.0}


def test_correlations_of_ranks_and_values() -> None:
    scores = correlations(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 100.0]))
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["pearson"] == pytest.approx(99 / (2 * 5994) ** 0.5)


@pytest.mark.parametrize("truth", [[1.0, 1.0], [1.0]])
def test_constants_do_not_correlate(truth: list[float]) -> None:
    zeros = {"spearman": 0.0, "pearson": 0.0}
    assert correlations(np.array(truth), np.arange(float(len(truth)))) == zeros
    assert correlations(np.arange(float(len(truth))), np.array(truth)) == zeros
