"""What every task offers: which head it needs, how it is trained, and how a model's answers are scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from pruning.batching import Predict
from pruning.errors import InputError
from pruning.objective import Objective
from pruning.tasks.text_data import TextData

USUAL_LENGTH = 128
"""Tokens of the longest text, unless a task or a user says otherwise."""


@dataclass(frozen=True)
class Metric:
    """One number about ``n`` rows: a fraction or a correlation, not a percentage."""

    name: str
    value: float
    n: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's score on a data set.

    ``metric`` is the primary one, ``others`` the rest by name, and ``outputs`` what the scores were computed from,
    one row per text, for paired comparisons: logits (N, classes), or the embeddings of every text and then of every
    pair.
    """

    metric: Metric
    others: dict[str, float]
    outputs: Tensor


@dataclass(frozen=True)
class EvaluationSettings:
    """How to feed the model, and the names of its classes by number; one class means regression."""

    labels: tuple[str, ...] = ()
    max_length: int = USUAL_LENGTH
    batch_size: int = 32


def settings_from_config(
    config: PretrainedConfig, *, max_length: int = USUAL_LENGTH, batch_size: int = 32
) -> EvaluationSettings:
    """Class names and the longest text the model can read, from its configuration."""
    names = {int(number): str(name) for number, name in config.id2label.items()}
    return EvaluationSettings(
        labels=tuple(names[number] for number in sorted(names)),
        max_length=min(max_length, config.max_position_embeddings),
        batch_size=batch_size,
    )


def length_from_request(config: PretrainedConfig, asked: int | None, usual: int = USUAL_LENGTH) -> int:
    """Tokens of the longest text: what was asked for, or else what is usual, as far as the model's positions go.

    Raises:
        InputError: if more is asked for than the model has positions, or too little for a text.
    """
    positions = config.max_position_embeddings
    if asked is not None and not 1 < asked <= positions:
        raise InputError(f"--max-length must be 2 to {positions}, the positions of the model; got {asked}.")
    return int(min(usual, positions) if asked is None else asked)


class Task(ABC):
    """Data of one kind and the way answers are scored. Stateless: one instance serves every model."""

    name: ClassVar[str]
    head: ClassVar[str]
    """The head it needs, as ``pruning.introspect.head_from_model`` names it."""

    needs_truth: ClassVar[bool]
    """Whether scoring takes labels; if not, a reference model will do."""

    max_length: ClassVar[int] = USUAL_LENGTH
    """Tokens that texts, or windows of them, usually get in this task."""

    def settings(self, config: PretrainedConfig, max_length: int | None = None) -> EvaluationSettings:
        """How to feed a model: texts of ``max_length`` tokens, or the task's own.

        Raises:
            InputError: as `length_from_request`.
        """
        return settings_from_config(config, max_length=length_from_request(config, max_length, self.max_length))

    @abstractmethod
    def has_truth(self, data: TextData) -> bool:
        """Whether the data say what a model should answer."""

    def check_head(self, head: str) -> None:
        """Make sure that a model with this head can do the task.

        Raises:
            InputError: if it cannot.
        """
        if head != self.head:
            raise InputError(
                f"task {self.name} needs a model with a {self.head} head; this one has: {head}. "
                "Pass another model or task, or fine-tune it first."
            )

    @abstractmethod
    def class_names(self, data: TextData) -> tuple[str, ...]:
        """Classes for a new head, from labelled data; one empty name is regression, none means a bare encoder.

        Raises:
            InputError: if the data cannot train this task.
        """

    @abstractmethod
    def check_truth(self, data: TextData, labels: Sequence[str]) -> None:
        """Make sure that labelled data say what a model with these class names should answer.

        Raises:
            InputError: if labels are missing, unknown, or not of the kind this task needs.
        """

    @abstractmethod
    def objective(self, tokenizer: PreTrainedTokenizerBase, data: TextData, settings: EvaluationSettings) -> Objective:
        """The loss that trains a model for this task on labelled data.

        Raises:
            InputError: as `check_truth`.
        """

    @abstractmethod
    def evaluate(
        self,
        predict: Predict,
        tokenizer: PreTrainedTokenizerBase,
        data: TextData,
        settings: EvaluationSettings,
        reference: Predict | None = None,
    ) -> Evaluation:
        """Score a model, in whatever runtime, on labelled data.

        Args:
            predict: the model.
            tokenizer: its tokenizer.
            data: the texts and their labels.
            settings: see `settings_from_config`.
            reference: the dense model, for the measures that compare with it.

        Raises:
            InputError: if the data or the outputs do not fit the task.
        """
