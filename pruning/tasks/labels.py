"""Labels in a data set against the classes of a model."""

from __future__ import annotations

from collections.abc import Sequence

from pruning.errors import InputError
from pruning.tasks.text_data import Label, TextData

REGRESSION = ("",)
"""The class names of a model that predicts one number."""


def require_labels(data: TextData) -> tuple[Label, ...]:
    """The labels of a data set.

    Raises:
        InputError: if it has none.
    """
    if data.labels is None:
        raise InputError("the data have no labels, which this task needs. Name their column with --label-column.")
    return data.labels


def class_names_from_labels(labels: Sequence[Label]) -> tuple[str, ...]:
    """Class names for a new head, sorted: numbers by value, words by alphabet. Floats ask for regression.

    Raises:
        InputError: if there is only one class.
    """
    if any(isinstance(label, float) for label in labels):
        return REGRESSION
    names = tuple(map(str, sorted(set(labels), key=lambda x: (isinstance(x, str), x))))
    if len(names) < 2:
        raise InputError(f"a classifier needs at least two classes; every label is {names[0]!r}.")
    return names


def class_ids(labels: Sequence[Label], names: Sequence[str]) -> tuple[int, ...]:
    """The number of each label's class: by name where all labels are names, otherwise integers as they are.

    Raises:
        InputError: if a label belongs to no class.
    """
    numbers = {name: number for number, name in enumerate(names)}
    if all(str(label) in numbers for label in labels):
        return tuple(numbers[str(label)] for label in labels)
    if not all(isinstance(label, int) for label in labels):
        _raise_unknown([label for label in labels if str(label) not in numbers], names)
    unknown = [label for label in labels if not 0 <= int(label) < len(names)]
    if unknown:
        _raise_unknown(unknown, names)
    return tuple(map(int, labels))


def scores_from_labels(labels: Sequence[Label]) -> tuple[float, ...]:
    """The labels as numbers.

    Raises:
        InputError: if one is a word.
    """
    words = sorted({label for label in labels if isinstance(label, str)})
    if words:
        raise InputError(f"scores must be numbers; got {_listed(words)}. Name another column with --label-column.")
    return tuple(map(float, labels))


def _raise_unknown(unknown: Sequence[Label], names: Sequence[str]) -> None:
    found = _listed(sorted(set(map(str, unknown))))
    raise InputError(
        f"the model does not know the labels {found}; it knows: {_listed(names)} (or 0 to {len(names) - 1}). "
        "Rename them, or fine-tune a model on them."
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:10])
    return shown + (f", ... ({len(names)} in all)" if len(names) > 10 else "")
