"""Exact match and F1 on cases worked out by hand from the definition."""

import pytest

from pruning.tasks.squad_metric import answer_scores, normalised


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cat's  hat!", "cats hat"),
        ("a b the c", "b c"),
        ("an-other", "another"),  # punctuation goes first, so this holds no article
        ("Théatre the", "théatre"),
        ("  U.S. ", "us"),
        ("THE", ""),
        ("theatre", "theatre"),
    ],
)
def test_normalised(text, expected):
    assert normalised(text) == expected


@pytest.mark.parametrize(
    ("predicted", "truths", "exact", "f1"),
    [
        ("the October 1973", ["October 1973"], 1.0, 1.0),
        ("October 1973", ["1973", "in 1974"], 0.0, 2 / 3),
        ("in October 1973", ["October 1973", "1973"], 0.0, 0.8),
        ("cat cat", ["cat dog"], 0.0, 0.5),  # a word counts as often as both have it
        ("x", ["y", "z"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("something", [], 0.0, 0.0),
        ("", ["something"], 0.0, 0.0),
        ("the", ["!"], 1.0, 1.0),  # nothing is left of either
        ("cat", ["the", "cat"], 1.0, 1.0),
        ("", ["the", "cat"], 0.0, 0.0),  # a truth that normalises to nothing yields to a real one
    ],
)
def test_best_of_the_right_answers(predicted, truths, exact, f1):
    assert answer_scores(predicted, truths) == (exact, pytest.approx(f1))
