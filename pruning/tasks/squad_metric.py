"""Exact match and F1 of answers, as SQuAD defines them.

Both compare *normalised* text: lower case, no punctuation, no English articles, single spaces. A question with several
right answers scores the best of them; the right answer to an unanswerable question is the empty text.

Source: Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1; 2018, arXiv:1806.03822 for questions without an answer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """The text as both measures compare it; punctuation goes before articles, so "the-" is one."""
    words = ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION))
    return " ".join(words.split())


def answer_scores(predicted: str, truths: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of one answer, each the best over the right answers; without any, only "" is right.

    Truths that normalise to nothing ("the", "!") are left out unless no other is there.
    """
    right = [text for text in map(normalised, truths) if text] or [""]
    answer = normalised(predicted)
    return max(float(answer == text) for text in right), max(_f1(answer, text) for text in right)


def _f1(predicted: str, truth: str) -> float:
    """Harmonic mean of precision and recall over words; 1 or 0 where one side is empty."""
    words, right = predicted.split(), truth.split()
    if not words or not right:
        return float(words == right)
    common = (Counter(words) & Counter(right)).total()
    return 2 * common / (len(words) + len(right))
