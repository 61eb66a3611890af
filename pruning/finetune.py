"""Fine-tune a BERT for a task: the dense model that everything else starts from.

The output folder is a checkpoint plus ``finetune.json``. While the run lasts it holds only ``.training``, from which
a stopped run continues; both are swapped in one move at the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pruning.atomic import atomic_folder, write_json
from pruning.batching import predict_from_model
from pruning.checkpoint import Checkpoint, load_for_finetuning, save_checkpoint
from pruning.errors import InputError
from pruning.processes import on_main_process
from pruning.tasks.registry import task_named
from pruning.tasks.source import Splits
from pruning.tasks.task import Evaluation, EvaluationSettings, Metric
from pruning.training import OnStep, TrainingOptions, TrainingRun, train
from pruning.training_folder import REQUEST, TrainingFolder, sha256_of

RESULT = "finetune.json"


@dataclass(frozen=True)
class FinetuneOptions:
    """What to train, for what, and where to put it.

    Args:
        model: a checkpoint folder or a hub name.
        task: a name of ``pruning.tasks.registry.TASKS``.
        out: the folder of the new checkpoint.
        max_length: tokens of the longest text; what is beyond is cut. None: what is usual for the task.
        max_train_examples: train on a random part of this size.
        training: the optimiser's side.
    """

    model: str
    task: str
    out: Path
    max_length: int | None = None
    max_train_examples: int | None = None
    training: TrainingOptions = field(default_factory=TrainingOptions)


@dataclass(frozen=True)
class FinetuneResult:
    """The new checkpoint and its score.

    ``labels`` are the classes of the head: none for an encoder, one empty name for regression. ``note`` says where
    the evaluation data come from. ``seconds`` is the training time of the process that finished the run.
    """

    checkpoint: Path
    metric: Metric
    others: dict[str, float]
    labels: tuple[str, ...]
    train_examples: int
    steps: int
    seconds: float
    last_loss: float | None
    note: str


def finetune(
    options: FinetuneOptions, data: Splits, *, on_step: OnStep | None = None, resume: bool = False
) -> FinetuneResult:
    """Train, evaluate, and write the checkpoint.

    Args:
        options: see `FinetuneOptions`.
        data: labelled texts; scored pairs for ``feature-extraction``.
        on_step: progress.
        resume: continue a stopped run of the same request, or return the result of a finished one.

    Raises:
        InputError: if the data do not suit the task, the model cannot be loaded, the loss diverges, or ``options.out``
            holds anything but a run to resume.
    """
    task = task_named(options.task)
    labels = task.class_names(data.train)
    task.check_truth(data.evaluation, labels)  # unusable evaluation data are refused before an hour of training
    request, cpu = _request(options, data), options.training.cpu
    folder = TrainingFolder(options.out, RESULT, "fine-tuning")
    on_main_process(lambda: folder.open(request, resume=resume), cpu=cpu)
    finished = read_result(options.out)
    if finished is not None:
        return finished
    torch.manual_seed(options.training.seed)  # of the new head
    start = load_for_finetuning(options.model, task.head, labels)
    settings = replace(task.settings(start.model.config, options.max_length), labels=labels)
    count = len(data.train) if options.max_train_examples is None else options.max_train_examples
    chosen = data.train.sample(count, options.training.seed)
    objective = task.objective(start.tokenizer, chosen, settings)
    on_main_process(lambda: write_json(folder.states / REQUEST, request), cpu=cpu)
    run = train(start.model, objective, options.training, folder.states, on_step=on_step)

    def write() -> None:
        evaluation = _evaluate(start, options.task, data, settings)
        _write(start, _result(options, data.note, labels, len(chosen), run, evaluation), request)

    on_main_process(write, cpu=cpu)
    result = read_result(options.out)
    assert result is not None
    return result


def read_result(folder: Path) -> FinetuneResult | None:
    """What a finished run says about itself, or ``None`` if ``folder`` holds no finished run.

    Raises:
        InputError: if ``finetune.json`` is damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["result"]
        metric, labels = Metric(**stored.pop("metric")), tuple(stored.pop("labels"))
        return FinetuneResult(checkpoint=folder, metric=metric, labels=labels, **stored)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}). Fine-tune into another folder.") from error


def _request(options: FinetuneOptions, data: Splits) -> dict[str, Any]:
    """What makes a run this run, wherever its folder lies."""
    return {
        "model": options.model,
        "task": options.task,
        "max_length": options.max_length,
        "max_train_examples": options.max_train_examples,
        "training": asdict(options.training),
        "data_sha256": sha256_of([asdict(data.train), asdict(data.evaluation)]),
    }


def _evaluate(trained: Checkpoint, task: str, data: Splits, settings: EvaluationSettings) -> Evaluation:
    predict = predict_from_model(trained.model)
    return task_named(task).evaluate(predict, trained.tokenizer, data.evaluation, settings)


def _result(  # it gathers what every stage left
    options: FinetuneOptions,
    note: str,
    labels: tuple[str, ...],
    examples: int,
    run: TrainingRun,
    evaluation: Evaluation,
) -> FinetuneResult:
    return FinetuneResult(
        checkpoint=options.out,
        metric=evaluation.metric,
        others=evaluation.others,
        labels=labels,
        train_examples=examples,
        steps=run.steps,
        seconds=run.seconds,
        last_loss=run.last_loss,
        note=note,
    )


def _write(trained: Checkpoint, result: FinetuneResult, request: Mapping[str, Any]) -> None:
    """Swap the stored states for the checkpoint and its record, all at once."""
    stored = {name: value for name, value in asdict(result).items() if name != "checkpoint"}
    with atomic_folder(result.checkpoint) as partial:
        save_checkpoint(trained.model, trained.tokenizer, partial)
        write_json(partial / RESULT, {"schema": 1, "request": request, "result": stored})
