"""Labels of a data set against the classes of a model."""

from __future__ import annotations

import pytest

from pruning.errors import InputError
from pruning.tasks.labels import REGRESSION, class_ids, class_names_from_labels, require_labels, scores_from_labels
from pruning.tasks.text_data import Label, TextData


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        (("pos", "neg"), ("neg", "pos"), (1, 0)),
        ((1, 0), ("neg", "pos"), (1, 0)),
        ((5, 3), ("3", "5"), (1, 0)),
        ((1, 2), ("1", "2"), (0, 1)),
    ],
)
def test_labels_map_by_name_and_otherwise_by_number(
    labels: tuple[Label, ...], names: tuple[str, ...], ids: tuple[int, ...]
) -> None:
    assert class_ids(labels, names) == ids


@pytest.mark.parametrize(
    ("labels", "unknown"),
    [
        (("pos", "happy"), "'happy'"),
        ((0, 2), "'2'"),
        ((-1, 0), "'-1'"),
        ((0.0, 1.0), "'0.0', '1.0'"),
        (("pos", 0), "'0'"),
        (tuple(map(str, range(20))), r"'0', '1', .*20 in all"),
    ],
)
def test_unknown_labels_are_named_with_the_known_ones(labels: tuple[Label, ...], unknown: str) -> None:
    with pytest.raises(
        InputError, match=rf"does not know the labels {unknown}.*; it knows: 'neg', 'pos' \(or 0 to 1\)"
    ):
        class_ids(labels, ("neg", "pos"))


@pytest.mark.parametrize(
    ("labels", "names"),
    [(("pos", "neg", "pos"), ("neg", "pos")), ((10, 9, 10), ("9", "10")), ((0.5, 1.0), REGRESSION)],
)
def test_new_heads_get_sorted_names(labels: tuple[Label, ...], names: tuple[str, ...]) -> None:
    assert class_names_from_labels(labels) == names


def test_a_single_class_is_refused() -> None:
    with pytest.raises(InputError, match="at least two classes; every label is '1'"):
        class_names_from_labels((1, 1))


def test_scores_are_numbers() -> None:
    assert scores_from_labels((1, 2.5)) == (1.0, 2.5)
    with pytest.raises(InputError, match="scores must be numbers; got 'high'"):
        scores_from_labels((1, "high"))


def test_missing_labels_are_refused() -> None:
    with pytest.raises(InputError, match="the data have no labels"):
        require_labels(TextData(("a",)))
