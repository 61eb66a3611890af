"""Answers to questions as spans of their contexts, from the forms in which data sets store them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pruning.errors import InputError


@dataclass(frozen=True)
class Answer:
    """A span of a context: its text, and the number of the character where it starts."""

    text: str
    start: int


Answers = tuple[Answer, ...]
"""All right answers to one question; none if its context does not answer it (SQuAD v2)."""


def holds_answers(values: Sequence[object]) -> bool:
    """Whether a column holds answers (records, lists, or either as JSON text) and not labels."""
    return any(
        isinstance(value, Mapping | list | tuple | np.ndarray)
        or (isinstance(value, str) and value.lstrip()[:1] in ("{", "["))
        for value in values
    )


def answers_from_column(
    values: Sequence[object], contexts: Sequence[str], name: str, origin: str
) -> tuple[Answers, ...]:
    """One tuple of answers per row.

    A value is ``{"text": [...], "answer_start": [...]}`` or a list of ``{"text": ..., "answer_start": ...}``, either of
    them also as JSON text. No answer at all means that the context does not answer the question.

    Args:
        values: the column.
        contexts: the text that each row's answers are spans of.
        name: of the column, for error messages.
        origin: where the table comes from, for error messages.

    Raises:
        InputError: if a value has another form, or an answer does not stand in its context where it should.
    """
    found = []
    for row, (value, context) in enumerate(zip(values, contexts, strict=True), start=1):
        try:
            answers = _answers(json.loads(value) if isinstance(value, str) else value)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"row {row} of column {name!r} in {origin} holds no answers: {str(value)[:60]!r}. "
                'Write {"text": [...], "answer_start": [...]}; empty lists where there is no answer.'
            ) from error
        for answer in answers:
            _check_in_context(answer, context, f"row {row} of {origin}")
        found.append(answers)
    return tuple(found)


def _answers(value: object) -> Answers:
    if isinstance(value, Mapping):
        pairs = zip(value["text"], value["answer_start"], strict=True)
        return tuple(Answer(str(text), int(start)) for text, start in pairs)
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(Answer(str(item["text"]), int(item["answer_start"])) for item in value)
    raise TypeError


def _check_in_context(answer: Answer, context: str, where: str) -> None:
    end = answer.start + len(answer.text)
    if answer.start < 0 or not answer.text or context[answer.start : end] != answer.text:
        raise InputError(
            f"{where}: the answer {answer.text[:40]!r} does not stand at character {answer.start} of its context "
            f"({context[max(answer.start, 0) : max(end, 0)][:40]!r} does). Fix answer_start."
        )
