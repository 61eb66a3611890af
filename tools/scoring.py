"""``slimbert eval``: how good a checkpoint or an ONNX file is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from bench.runners.artifact import Artifact, artifact_from_path
from exporter.deploy import ONNX_FILE
from exporter.describe import describe_onnx
from exporter.ort_session import predict_from_session, session_from_onnx
from pruning.batching import Predict, predict_from_model
from pruning.checkpoint import load_checkpoint, load_tokenizer
from pruning.errors import InputError
from pruning.introspect import head_from_model
from pruning.tasks.registry import task_named
from pruning.tasks.source import load_evaluation
from pruning.tasks.task import Task
from tools.settings import DataSettings
from tools.stages import EVALUATION_THREADS


def evaluate(
    model: str, task_name: str, data: DataSettings, *, reference: str | None, max_length: int | None
) -> dict[str, Any]:
    """Score a checkpoint, in PyTorch, or an ONNX file, in ONNX Runtime.

    Args:
        model: a folder, a hub name or an ONNX file.
        task_name: what it is scored on.
        data: labelled rows.
        reference: a checkpoint to compare the answers with.
        max_length: longest text in tokens; None is the task's own, or what the model can read.

    Raises:
        InputError: if model, task and data do not fit each other, or the model cannot read texts of ``max_length``.
    """
    task = task_named(task_name)
    predict, tokenizer, config = _predictor(model, task)
    rows = load_evaluation(data.source)
    settings = task.settings(config, max_length)
    other = None if reference is None else predict_from_model(load_checkpoint(reference).model)
    result = task.evaluate(predict, tokenizer, rows, settings, other)
    return {"model": model, "task": task_name, "metric": asdict(result.metric), "others": result.others}


def _predictor(model: str, task: Task) -> tuple[Predict, PreTrainedTokenizerBase, PretrainedConfig]:
    """A model in its runtime, with the tokenizer and configuration it goes by."""
    path = Path(model)
    if not path.exists() or artifact_from_path(path) is Artifact.CHECKPOINT:
        loaded = load_checkpoint(model)
        task.check_head(head_from_model(loaded.model))
        return predict_from_model(loaded.model), loaded.tokenizer, loaded.model.config
    if artifact_from_path(path) is Artifact.ENGINE:
        raise InputError(f"{path} is {Artifact.ENGINE.value}; score the ONNX file that it was built from.")
    file = path if path.is_file() else path / ONNX_FILE
    session = session_from_onnx(file, threads=EVALUATION_THREADS)
    head = describe_onnx(file).head
    if head is not None:
        task.check_head(head)
    folder = _folder_with_config(file)
    config = _config(folder)
    return predict_from_session(session), load_tokenizer(folder, config.vocab_size), config


def _config(folder: Path) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'config.json'} cannot be used ({error}). Export the model again.") from error


def _folder_with_config(file: Path) -> Path:
    for folder in (file.parent, file.parent.parent):
        if (folder / "config.json").is_file():
            return folder
    raise InputError(f"{file} has no config.json beside it or one folder up; the labels and tokenizer are unknown.")
