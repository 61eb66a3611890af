"""Labelled rows that choose a model, apart from those that it is reported on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bench.report.schema import Metric as MetricFacts
from pruning.batching import predict_from_model
from pruning.checkpoint import Checkpoint
from pruning.errors import InputError
from pruning.tasks.labels import class_ids, require_labels
from pruning.tasks.source import Splits
from pruning.tasks.task import Evaluation, Metric, Task, settings_from_config
from pruning.tasks.text_data import TextData
from tools.drop_search import DropTrial

FEWEST_ROWS = 20
POINTS = 100.0


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The task, the dense model, and labelled ``rows`` on which others are compared with it."""

    task: Task
    dense: Checkpoint
    rows: TextData
    max_length: int

    def trial(self, model: PreTrainedModel, speedup: float) -> DropTrial:
        """What ``model``, which was pruned to ``speedup``, loses against the dense one."""
        before, after = self._dense, self._evaluate(model)
        loss = POINTS * (before.metric.value - after.metric.value)
        error = self._error(before, after)
        return DropTrial(speedup, loss, None if error is None else POINTS * error)

    def metric(self, model: PreTrainedModel) -> Metric:
        """The score of ``model``."""
        return self._evaluate(model).metric

    @cached_property
    def _dense(self) -> Evaluation:
        return self._evaluate(self.dense.model)

    def _evaluate(self, model: PreTrainedModel) -> Evaluation:
        settings = settings_from_config(self.dense.model.config, max_length=self.max_length)
        return self.task.evaluate(predict_from_model(model), self.dense.tokenizer, self.rows, settings)

    def _error(self, before: Evaluation, after: Evaluation) -> float | None:
        """Standard error of the difference: paired for classes, an upper bound for other shares, else not known."""
        if before.metric.name == "accuracy":
            names = settings_from_config(self.dense.model.config).labels
            truth = torch.tensor(class_ids(require_labels(self.rows), names))
            return paired_error(*(x.outputs.argmax(-1) == truth for x in (before, after)))
        errors = [MetricFacts(name=x.name, value=x.value, n=x.n).standard_error for x in (before.metric, after.metric)]
        known = [error for error in errors if error is not None]
        return sqrt(sum(error**2 for error in known)) if len(known) == len(errors) else None


def paired_error(first: Tensor, second: Tensor) -> float:
    """Standard error of the difference of two shares of right answers, (N,) bool each, to the same N questions."""
    differences = first.double() - second.double()
    return float(differences.std(correction=0)) / sqrt(len(differences))


def split_for_choice(splits: Splits, task: Task, seed: int) -> tuple[TextData, Splits]:
    """Half of the evaluation rows to choose a model with, and the splits with the other half to report on.

    Raises:
        InputError: if there are no labels, or too few rows.
    """
    rows = splits.evaluation
    if not task.has_truth(rows):
        raise InputError("--max-drop needs labelled evaluation data: there are no labels. Pass --eval-data with some.")
    if len(rows) < FEWEST_ROWS:
        raise InputError(
            f"--max-drop needs at least {FEWEST_ROWS} labelled evaluation rows; got {len(rows)}. Pass more."
        )
    half = len(rows) // 2
    choice, report = rows.split([half, len(rows) - half], seed)
    note = f"{splits.note}: {len(report)} of its {len(rows)} rows; the other {half} chose the model"
    return choice, replace(splits, evaluation=report, note=note)
