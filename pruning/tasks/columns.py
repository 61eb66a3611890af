"""From named columns to `TextData`: which column is which, and whether the values make sense."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pruning.errors import InputError
from pruning.tasks.answers import answers_from_column, holds_answers
from pruning.tasks.text_data import Label, TextData

Columns = Mapping[str, Sequence[object]]
"""A table: the values of each column, top to bottom."""

PAIR_COLUMNS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "context"),
    ("query", "passage"),
    ("text1", "text2"),
    ("text", "text_pair"),
)
TEXT_COLUMNS = ("text", "sentence", "content", "prompt", "review", "comment", "utterance", "query", "question")
ANSWER_COLUMN = "answers"
LABEL_COLUMNS = ("label", "labels", "score", "similarity_score", "similarity", "target", "class", "intent", "category")

INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"-?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class ColumnNames:
    """The columns to read, where the caller says so; ``None`` means: find it by the usual names.

    Naming ``text`` without ``pair`` asks for single texts.
    """

    text: str | None = None
    pair: str | None = None
    label: str | None = None


def text_data_from_columns(columns: Columns, names: ColumnNames, origin: str) -> TextData:
    """Pick, check and convert the columns of one table.

    Labels that are numbers written as text become numbers; a table without labels is fine.

    Args:
        columns: the table.
        names: the caller's choice of columns.
        origin: where the table comes from, for error messages.

    Raises:
        InputError: if a column is absent or cannot be found, there is no row, a text is missing, empty or not
            text, or some labels are missing.
    """
    text, pair = _text_columns(columns, names, origin)
    if not columns[text]:
        raise InputError(f"{origin} is empty: it has a header but no rows. Pass data with at least one text.")
    texts = _checked_texts(columns[text], text, origin)
    pairs = None if pair is None else _checked_texts(columns[pair], pair, origin)
    answers = _answer_column(columns, names)
    if answers is not None and pairs is not None:
        return TextData(texts, pairs, answers=answers_from_column(columns[answers], pairs, answers, origin))
    label = _label_column(columns, names, origin)
    return TextData(
        texts=texts,
        pairs=pairs,
        labels=None if label is None else _checked_labels(columns[label], label, origin),
    )


def _text_columns(columns: Columns, names: ColumnNames, origin: str) -> tuple[str, str | None]:
    if names.text is not None:
        _require(columns, names.text, origin)
    if names.pair is not None:
        _require(columns, names.pair, origin)
    if names.text is not None:
        return names.text, names.pair
    first, second = _detected_texts(columns, names.pair)
    if first is None:
        raise InputError(
            f"cannot tell which column of {origin} holds the text; it has: {_listed(columns)}. Pass --text-column."
        )
    return first, second


def _detected_texts(columns: Columns, pair: str | None) -> tuple[str | None, str | None]:
    for first, second in PAIR_COLUMNS:
        if first in columns and second in columns and pair in (None, second):
            return first, second
    candidates = [name for name in TEXT_COLUMNS if name in columns and name != pair]
    if not candidates and len(columns) == 1:
        candidates = list(columns)
    return (candidates[0] if candidates else None), pair


def _answer_column(columns: Columns, names: ColumnNames) -> str | None:
    """The column of answers to questions, by its name and by what it holds."""
    name = ANSWER_COLUMN if names.label is None else names.label
    return name if name in columns and holds_answers(columns[name]) else None


def _label_column(columns: Columns, names: ColumnNames, origin: str) -> str | None:
    if names.label is not None:
        _require(columns, names.label, origin)
        return names.label
    for name in LABEL_COLUMNS:
        if name in columns and not all(map(_is_missing, columns[name])):
            return name
    return None


def _require(columns: Columns, name: str, origin: str) -> None:
    if name not in columns:
        raise InputError(f"{origin} has no column {name!r}; it has: {_listed(columns)}. Name one of those.")


def _listed(columns: Columns) -> str:
    shown = [name[:40] for name in columns]
    return ", ".join(shown[:20]) + (", ..." if len(shown) > 20 else "")


def _checked_texts(values: Sequence[object], name: str, origin: str) -> tuple[str, ...]:
    texts = []
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str):
            raise InputError(
                f"row {row} of column {name!r} in {origin} is not text but {value!r}. "
                "Fix the row or name another column."
            )
        if not value.strip():
            raise InputError(f"row {row} of column {name!r} in {origin} is empty. Remove the row or fill in its text.")
        texts.append(value)
    return tuple(texts)


def _checked_labels(values: Sequence[object], name: str, origin: str) -> tuple[Label, ...]:
    labels: list[Label] = []
    for row, value in enumerate(values, start=1):
        if _is_missing(value):
            raise InputError(
                f"row {row} of column {name!r} in {origin} has no label. Label every row, or name a column that does."
            )
        if not isinstance(value, int | float | str):
            raise InputError(
                f"row {row} of column {name!r} in {origin} is no label: {value!r}. Labels are numbers or words."
            )
        labels.append(int(value) if isinstance(value, bool) else value)
    return _as_numbers(labels)


def _is_missing(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return value is None or (isinstance(value, str) and not value.strip())


def _as_numbers(labels: list[Label]) -> tuple[Label, ...]:
    """All integers, all floats, or all words: the strictest reading that fits every label."""
    words = [str(label) for label in labels]
    if all(isinstance(label, int) or INTEGER.fullmatch(word) for label, word in zip(labels, words, strict=True)):
        return tuple(map(int, words))
    if all(isinstance(label, int | float) or NUMBER.fullmatch(word) for label, word in zip(labels, words, strict=True)):
        return tuple(map(float, words))
    return tuple(words)
