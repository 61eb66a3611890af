"""``slimbert finetune``: train the dense model that everything else starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Context, Option

from tools import options
from tools.console import print_json, say


def finetune(
    context: Context,
    model: options.Model,
    task: options.Task,
    data: options.Data,
    out: Annotated[Path, Option("--out", help="Folder of the new checkpoint.")],
    eval_data: options.EvalData = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    data_config: options.HubConfig = None,
    epochs: Annotated[int, Option("--epochs", help="Passes over the training data.")] = 3,
    batch_size: Annotated[int, Option("--batch-size", help="Examples per pass through the model.")] = 32,
    accumulate: Annotated[int, Option("--accumulate", help="Passes per step.")] = 1,
    learning_rate: Annotated[float, Option("--learning-rate", help="Peak of the learning rate.")] = 5e-5,
    max_train_examples: Annotated[int | None, Option("--max-train-examples", help="Train on a random part.")] = None,
    checkpoint_steps: Annotated[
        int | None, Option("--checkpoint-steps", help="Steps between stored states; default: once per epoch.")
    ] = None,
    cpu: Annotated[bool, Option("--cpu", help="Stay on the CPU even if there is a GPU.")] = False,
    max_length: options.MaxLength = None,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fine-tune a BERT for a task: a classifier, a regressor, or sentence embeddings."""
    from pruning.finetune import FinetuneOptions
    from pruning.training import TrainingOptions
    from tools import finetuning, settings

    training = TrainingOptions(
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        seed=seed,
        checkpoint_steps=checkpoint_steps,
        cpu=cpu,
    )
    source = settings.settings_from_options(settings.DataSettings, context.params)
    request = FinetuneOptions(model, task, out, max_length, max_train_examples, training)
    facts = finetuning.finetune(request, source, resume=resume)
    metric = facts["metric"]
    say(f"{metric['name']} {metric['value']:.4f} on {metric['n']} rows ({facts['note']})\nCheckpoint: {out}")
    print_json(facts)
