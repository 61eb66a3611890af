"""Scores of predictions against the truth. Letters: N texts, C classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def classification_scores(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> dict[str, float]:
    """Accuracy, F1 and Matthews correlation of class numbers, both (N,).

    F1 is that of class 1 where there are two classes, as GLUE does, and otherwise the mean over the classes that occur.
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef  # noqa: PLC0415  # heavy, and most commands score nothing

    average = "binary" if classes == 2 else "macro"
    constant = np.unique(np.concatenate([truth, predicted])).size == 1
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "f1": float(f1_score(truth, predicted, average=average, zero_division=0.0)),
        "matthews": 0.0 if constant else float(matthews_corrcoef(truth, predicted)),
    }


def correlations(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    """Spearman's and Pearson's correlation of two (N,) arrays; 0 where one of them is constant."""
    from scipy.stats import pearsonr, spearmanr  # noqa: PLC0415  # heavy, and most commands score nothing

    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return {"spearman": 0.0, "pearson": 0.0}
    return {
        "spearman": float(spearmanr(truth, predicted).statistic),
        "pearson": float(pearsonr(truth, predicted).statistic),
    }
