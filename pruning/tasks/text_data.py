"""Texts, their pairs and their labels: what every reader returns and every task takes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pruning.errors import InputError
from pruning.tasks.answers import Answers

Label = int | float | str
"""A class by number or name, or a score. Floats mean scores."""


@dataclass(frozen=True)
class TextData:
    """N texts, optionally N second texts, N labels or, of questions, N sets of answers.

    Without labels it still serves for calibration.

    Raises:
        InputError: if there is no text, or the columns differ in length.
    """

    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None = None
    labels: tuple[Label, ...] | None = None
    answers: tuple[Answers, ...] | None = None

    def __post_init__(self) -> None:
        if not self.texts:
            raise InputError("the data set is empty: it has no rows. Pass data with at least one text.")
        for name, values in (("pairs", self.pairs), ("labels", self.labels), ("answers", self.answers)):
            if values is not None and len(values) != len(self.texts):
                raise InputError(f"{name} must be one per text; got {len(values)} for {len(self.texts)} texts.")

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, indices: Sequence[int]) -> TextData:
        """The chosen rows, in the given order."""
        return TextData(
            texts=tuple(self.texts[i] for i in indices),
            pairs=None if self.pairs is None else tuple(self.pairs[i] for i in indices),
            labels=None if self.labels is None else tuple(self.labels[i] for i in indices),
            answers=None if self.answers is None else tuple(self.answers[i] for i in indices),
        )

    def sample(self, count: int, seed: int) -> TextData:
        """``count`` rows drawn without replacement, or all of them in their order if there are no more.

        Raises:
            InputError: if ``count`` is below 1.
        """
        if count < 1:
            raise InputError(f"a sample needs at least 1 row; got {count}.")
        return self if count >= len(self) else self.subset(self._shuffled(seed)[:count])

    def split(self, counts: Sequence[int], seed: int) -> tuple[TextData, ...]:
        """Disjoint random parts of the given sizes; rows beyond their sum are left out.

        Raises:
            InputError: if a part is empty or there are fewer rows than asked for.
        """
        if min(counts, default=0) < 1 or sum(counts) > len(self):
            raise InputError(
                f"cannot split {len(self)} rows into parts of {list(counts)}: every part needs at least one row. "
                "Ask for fewer rows or pass more data."
            )
        order, parts, start = self._shuffled(seed), [], 0
        for count in counts:
            parts.append(self.subset(order[start : start + count]))
            start += count
        return tuple(parts)

    def _shuffled(self, seed: int) -> list[int]:
        order = list(range(len(self)))
        random.Random(seed).shuffle(order)
        return order
