"""Tasks by name, and the heads they need."""

from __future__ import annotations

import pytest

from pruning.errors import InputError
from pruning.introspect import head_from_model
from pruning.tasks.registry import TASKS, task_named
from tests.tiny import tiny_bert


def test_tasks_are_found_by_their_own_name() -> None:
    assert set(TASKS) == {"text-classification", "feature-extraction", "question-answering"}
    assert all(task_named(name).name == name for name in TASKS)


@pytest.mark.parametrize("name", ["token-classification", "sentiment"])
def test_unknown_tasks_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match=f"no task '{name}'; there are: text-classification, feature-extraction"):
        task_named(name)


@pytest.mark.parametrize(
    ("task", "head"), [("text-classification", "sequence-classification"), ("feature-extraction", "encoder")]
)
def test_fitting_heads_are_accepted(task: str, head: str) -> None:
    task_named(task).check_head(head_from_model(tiny_bert(head)))


@pytest.mark.parametrize("task", ["text-classification", "feature-extraction"])
def test_other_heads_are_refused(task: str) -> None:
    with pytest.raises(InputError, match=f"task {task} needs a model with .*; this one has: masked-lm"):
        task_named(task).check_head("masked-lm")
