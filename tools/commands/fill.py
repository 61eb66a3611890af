"""``slimbert fill``: use the holes that block movement pruning left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from tools import options
from tools.console import print_json, say


def fill(
    model: options.Model,
    task: options.Task,
    data: options.Data,
    teacher: Annotated[str, Option("--teacher", help="Model to learn from: the dense one, or a larger one.")],
    out: Annotated[Path, Option("--out", help="Folder of the new checkpoint; must be new or empty.")],
    eval_data: options.EvalData = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    data_config: options.HubConfig = None,
    hidden_weight: options.HiddenWeight = 0.0,
    max_train_examples: options.MaxTrainExamples = None,
    epochs: options.Epochs = 4,
    batch_size: options.TrainBatchSize = 32,
    accumulate: options.Accumulate = 1,
    learning_rate: options.LearningRate = 3e-5,
    checkpoint_steps: options.CheckpointSteps = None,
    cpu: options.Cpu = False,
    max_length: options.MaxLength = None,
    seed: options.Seed = 0,
    with_code: options.WithCode = False,
    resume: options.Resume = False,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Replace the zeros of a block-pruned checkpoint by small numbers and train it without masks: same size, better."""
    from tools import movement, settings

    source = settings.DataSettings(
        data=data,
        eval_data=eval_data,
        text_column=text_column,
        pair_column=pair_column,
        label_column=label_column,
        data_config=data_config,
    )
    lesson = settings.checked_settings(
        movement.LessonSettings,
        task=task,
        teacher=teacher,
        hidden_weight=hidden_weight,
        max_train_examples=max_train_examples,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        checkpoint_steps=checkpoint_steps,
        cpu=cpu,
        max_length=max_length,
    )
    text = settings.TextSettings(seed=seed, with_code=with_code)
    facts = movement.fill(model, source, lesson, text, out, resume=resume)
    say(f"{facts['summary']}\nCheckpoint: {out}")
    print_json(facts)
