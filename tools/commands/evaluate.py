"""``slimbert eval``: score a checkpoint or an artifact on data."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context, Option

from tools import options
from tools.console import print_json, say


def evaluate(
    context: Context,
    model: Annotated[
        str, Argument(metavar="MODEL_OR_ARTIFACT", help="Checkpoint folder, hub model, deploy folder or ONNX file.")
    ],
    task: options.Task,
    data: options.Data,
    eval_data: options.EvalData = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    data_config: options.HubConfig = None,
    reference: Annotated[
        str | None, Option("--reference", help="Dense checkpoint to compare the answers with.")
    ] = None,
    max_length: options.MaxLength = None,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score a model, in PyTorch or ONNX Runtime, on labelled data."""
    from tools import scoring, settings

    source = settings.settings_from_options(settings.DataSettings, context.params)
    facts = scoring.evaluate(model, task, source, reference=reference, max_length=max_length)
    metric, others = facts["metric"], facts["others"]
    say(f"{metric['name']}: {metric['value']:.4f} on {metric['n']} rows")
    for name, value in others.items():
        say(f"{name}: {value:.4f}")
    print_json(facts)
