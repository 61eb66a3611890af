"""``slimbert finetune``: a trained checkpoint, and its score."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pruning.finetune import FinetuneOptions
from pruning.finetune import finetune as train
from pruning.tasks.source import load_splits
from tools.console import Steps
from tools.settings import DataSettings


def finetune(request: FinetuneOptions, data: DataSettings, *, resume: bool) -> dict[str, Any]:
    """Fine-tune with a progress display.

    Raises:
        InputError: as `pruning.finetune.finetune`.
    """
    splits = load_splits(data.source, seed=request.training.seed)
    with Steps() as steps:
        steps.note(f"writing to {request.out} ...")
        result = train(
            request,
            splits,
            on_step=lambda step, total, loss: steps.update("finetune", step, total, f"loss {loss:.3f}"),
            resume=resume,
        )
    return {**asdict(result), "checkpoint": str(result.checkpoint)}
