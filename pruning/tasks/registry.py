"""The tasks by name."""

from __future__ import annotations

from pruning.errors import InputError
from pruning.tasks.feature_extraction import FeatureExtraction
from pruning.tasks.question_answering import QuestionAnswering
from pruning.tasks.task import Task
from pruning.tasks.text_classification import TextClassification

TASKS: dict[str, Task] = {task.name: task for task in (TextClassification(), FeatureExtraction(), QuestionAnswering())}


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in TASKS:
        raise InputError(f"there is no task {name!r}; there are: {', '.join(TASKS)}.")
    return TASKS[name]
