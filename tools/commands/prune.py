"""``slimbert prune``: only the smaller checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from typer import Context, Option

from pruning.errors import InputError
from pruning.methods.names import BLOCK_MOVEMENT, GRADUAL, Method
from pruning.movement.names import MaskFunction, Variant
from tools import options
from tools.console import print_json, say

if TYPE_CHECKING:
    from tools.settings import DataSettings, PriceSettings, TargetSettings, TextSettings

ONE_SHOT = ("reconstruct", "calibration", "ffn_multiple", "shape", "max_drop", "speedups")
SIZES = ("density", "params", "size_bytes", "shape", "max_drop")
LESSON = (
    "task",
    "teacher",
    "hidden_weight",
    "max_train_examples",
    "epochs",
    "batch_size",
    "accumulate",
    "learning_rate",
    "checkpoint_steps",
    "cpu",
)
MOVEMENT = (
    "variant",
    "mask_function",
    "ffn_mask_function",
    "block",
    "final_lambda",
    "attention_penalty",
    "floor_heads",
    "floor_neurons",
    "two_four",
    "rewind",
    "score_learning_rate",
    "hold",
    "final_hold",
    "fill_epochs",
    "no_norm",
    "relu",
)


def prune(
    context: Context,
    model: options.Model,
    data: options.Data,
    out: Annotated[Path, Option("--out", help="Folder of the compact checkpoint; must be new or empty.")],
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    data_config: options.HubConfig = None,
    speedup: options.Speedup = None,
    speedups: options.Speedups = None,
    density: options.Density = None,
    params: options.Params = None,
    size_bytes: options.Bytes = None,
    shape: options.Shape = None,
    max_drop: options.MaxDrop = None,
    latency_table: options.LatencyTables = None,
    scenario_weights: options.ScenarioWeights = None,
    method: options.PruneMethod = None,
    reconstruct: options.Reconstruct = True,
    calibration: options.Calibration = 1024,
    ffn_multiple: options.FfnMultiple = None,
    seq: Annotated[int, Option("--seq", help="Sequence length at which FLOPs are counted.")] = 128,
    max_length: options.MaxLength = None,
    seed: options.Seed = 0,
    with_code: options.WithCode = False,
    eval_data: options.EvalData = None,
    task: options.TrainTask = None,
    teacher: options.Teacher = None,
    hidden_weight: options.PruneHiddenWeight = 0.0,
    max_train_examples: options.MaxTrainExamples = None,
    epochs: options.PruneEpochs = 6,
    batch_size: options.TrainBatchSize = 32,
    accumulate: options.Accumulate = 1,
    learning_rate: options.PruneLearningRate = 3e-5,
    checkpoint_steps: options.CheckpointSteps = None,
    cpu: options.Cpu = False,
    variant: options.Variant = Variant.HYBRID_FILLED,
    mask_function: options.MaskFunctionOption = MaskFunction.SIGMOID_THRESHOLD,
    ffn_mask_function: options.FfnMaskFunction = None,
    block: options.Block = "32x32",
    final_lambda: options.Lambda = None,
    attention_penalty: options.AttentionPenalty = None,
    floor_heads: options.FloorHeads = 0,
    floor_neurons: options.FloorNeurons = 0,
    two_four: options.TwoFour = False,
    rewind: options.Rewind = None,
    score_learning_rate: options.ScoreRate = None,
    hold: options.Hold = 0.05,
    final_hold: options.FinalHold = 0.4,
    fill_epochs: options.FillEpochs = 4,
    no_norm: options.NoNorm = False,
    relu: options.Relu = False,
    resume: options.Resume = False,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Prune a fine-tuned BERT into a compact checkpoint.

    The data are unlabelled text to calibrate on, for gradual also to train on; for block-movement labelled data.
    """
    runs = {GRADUAL: _prune_gradually, BLOCK_MOVEMENT: _prune_by_movement}
    summary, facts = runs.get(method or "", _prune_at_once)(context, _inputs(context))
    say(summary)
    print_json(facts)


class _Inputs(NamedTuple):
    """What every method reads."""

    model: str
    data: DataSettings
    target: TargetSettings
    price: PriceSettings
    text: TextSettings
    out: Path


def _inputs(context: Context) -> _Inputs:
    from tools import settings

    given = context.params
    weights = given["scenario_weights"]
    price = settings.PriceSettings(
        tables=tuple(given["latency_table"] or ()),
        weights=() if weights is None else options.numbers(weights, "--scenario-weights"),
    )
    return _Inputs(
        given["model"],
        settings.settings_from_options(settings.DataSettings, given),
        settings.settings_from_options(settings.TargetSettings, given, bytes=given["size_bytes"]),
        price,
        settings.settings_from_options(settings.TextSettings, given),
        Path(given["out"]),
    )


def _prune_at_once(context: Context, inputs: _Inputs) -> tuple[str, Mapping[str, Any]]:
    """One-shot pruning, and the controls it is compared with."""
    from tools import one_shot_prune, settings

    method = context.params["method"]
    unread = {*LESSON, *MOVEMENT, "speedups", "eval_data", "resume"}
    scored = {"task", "eval_data"} if inputs.target.max_drop is not None else set()
    _refuse_given(context, tuple(sorted(unread - scored)), method or Method.ONESHOT)
    if method not in (None, *Method):
        raise InputError(f"--method {method!r} is unknown; known: {', '.join((*Method, GRADUAL, BLOCK_MOVEMENT))}.")
    request = settings.settings_from_options(
        settings.PruneSettings, context.params, target=inputs.target, price=inputs.price
    )
    facts = one_shot_prune.prune(
        inputs.model, inputs.data, request, inputs.text, inputs.out, task=context.params["task"]
    )
    return f"{facts['summary']}\nCheckpoint: {inputs.out}", facts


def _prune_gradually(context: Context, inputs: _Inputs) -> tuple[str, Mapping[str, Any]]:
    from tools import gradual, settings

    _refuse_given(context, (*MOVEMENT, *SIZES), GRADUAL)
    request = settings.checked_settings(
        settings.PruneSettings,
        target=settings.TargetSettings(speedup=1.0),
        price=inputs.price,
        **_given(context, ("reconstruct", "calibration", "ffn_multiple")),
    )
    speedups = _speedups(context.params["speedup"], context.params["speedups"])
    lesson = settings.checked_settings(gradual.GradualSettings, speedups=speedups, **_given_explicitly(context, LESSON))
    resume = context.params["resume"]
    facts = gradual.prune(inputs.model, inputs.data, (request, lesson), inputs.text, inputs.out, resume=resume)
    return gradual.summary(facts), facts


def _prune_by_movement(context: Context, inputs: _Inputs) -> tuple[str, Mapping[str, Any]]:
    from tools import movement, settings

    _refuse_given(context, ONE_SHOT, BLOCK_MOVEMENT)
    if context.params["task"] is None:
        raise InputError("block-movement trains: pass --task, and labelled data.")
    lesson = settings.checked_settings(movement.LessonSettings, **_given(context, (*LESSON, "max_length")))
    chosen = settings.checked_settings(movement.MovementSettings, **_given(context, MOVEMENT))
    size = settings.PruneSettings(target=inputs.target, price=inputs.price)
    resume = context.params["resume"]
    facts = movement.prune(inputs.model, inputs.data, lesson, chosen, size, inputs.text, inputs.out, resume=resume)
    return f"{facts['summary']}\nCheckpoint: {inputs.out}", facts


def _given(context: Context, names: tuple[str, ...]) -> dict[str, object]:
    """The values of these options, defaults included."""
    return {name: context.params[name] for name in names}


def _given_explicitly(context: Context, names: tuple[str, ...]) -> dict[str, object]:
    """The values of those of these options that were given; the others have other defaults here."""
    return {name: context.params[name] for name in names if _is_given(context, name)}


def _is_given(context: Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _speedups(single: float | None, several: str | None) -> tuple[float, ...]:
    """Those of ``--speedup`` or ``--speedups``."""
    if (single is None) == (several is None):
        raise InputError("gradual takes --speedups, such as 1.5,2,3, or a single --speedup. Pass one of them.")
    return (single,) if single is not None else options.numbers(several or "", "--speedups")


def _refuse_given(context: Context, names: tuple[str, ...], method: str) -> None:
    """An option that the chosen method does not read is a misunderstanding."""
    given = [name for name in names if _is_given(context, name)]
    if given:
        flag = "lambda" if given[0] == "final_lambda" else given[0].replace("_", "-")
        raise InputError(f"--{flag} is not an option of --method {method}. Leave it out, or choose another method.")
