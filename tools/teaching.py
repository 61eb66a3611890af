"""Who teaches a pruned model."""

from __future__ import annotations

import copy

from transformers import PreTrainedModel

from pruning.checkpoint import Checkpoint, load_checkpoint
from pruning.errors import InputError


def teacher_from_name(student: Checkpoint, name: str | None) -> PreTrainedModel:
    """The model that was named, or a copy of the student as it is now.

    Raises:
        InputError: if it reads text in another way than the student.
    """
    if name is None:
        return copy.deepcopy(student.model)
    loaded = load_checkpoint(name)
    if loaded.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise InputError(
            f"--teacher {name} has another vocabulary than the model. Take a teacher of the same tokenizer."
        )
    return loaded.model
