"""The options that several commands share, each declared once."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from typer import Context, Option

from pruning.errors import InputError
from pruning.methods.names import BLOCK_MOVEMENT, GRADUAL, Method
from pruning.movement.names import MaskFunction
from pruning.movement.names import Variant as VariantName
from tools import console


def _set_quiet(value: bool) -> bool:
    console.mode.quiet = value
    return value


def _set_json(value: bool) -> bool:
    console.mode.as_json = value
    return value


def _read_config(context: Context, path: Path | None) -> Path | None:
    """Take the defaults of all other options from a YAML file."""
    if path is None:
        return None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"--config {path} cannot be read ({error}). Pass a YAML file of option: value lines."
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"--config {path} must map option names to values; it holds {type(values).__name__}.")
    context.default_map = {**(context.default_map or {}), **_known(context, path, values)}
    return path


def _known(context: Context, path: Path, values: dict[Any, Any]) -> dict[str, Any]:
    names = {parameter.name for parameter in context.command.params} - {"config", None}
    found = {str(key).replace("-", "_"): value for key, value in values.items()}
    unknown = sorted(set(found) - names)
    if unknown:
        listed = ", ".join(sorted(name.replace("_", "-") for name in names if name))
        raise InputError(
            f"--config {path} sets {', '.join(unknown)}, which this command does not have; it has: {listed}."
        )
    return {name: [str(x) for x in value] if isinstance(value, list) else value for name, value in found.items()}


def integers(text: str, name: str) -> tuple[int, ...]:
    """Numbers separated by commas, each at least 1.

    Raises:
        InputError: if something else is in ``text``.
    """
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{name} takes numbers separated by commas, such as 1,8,32; got {text!r}.") from error
    if min(values) < 1:
        raise InputError(f"{name} must be at least 1; got {text!r}.")
    return values


def numbers(text: str, name: str) -> tuple[float, ...]:
    """Numbers separated by commas, each above 0.

    Raises:
        InputError: if something else is in ``text``.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{name} takes numbers separated by commas, such as 2,1; got {text!r}.") from error
    if not all(0 < value < inf for value in values):
        raise InputError(f"{name} must be above 0 and finite; got {text!r}.")
    return values


def names(text: str) -> tuple[str, ...]:
    """Words separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


Config = Annotated[
    Path | None,
    Option("--config", help="YAML file with values for any of these options.", callback=_read_config, is_eager=True),
]
Quiet = Annotated[bool, Option("--quiet", help="No progress and no prose.", callback=_set_quiet, is_eager=True)]
Json = Annotated[bool, Option("--json", help="Print one JSON document.", callback=_set_json, is_eager=True)]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a checkpoint, or a model on the hub.")]
Task = Annotated[str, Option("--task", help="text-classification, question-answering or feature-extraction.")]
Data = Annotated[
    str,
    Option(
        "--data",
        help="CSV, TSV, JSON Lines, SQuAD JSON or Parquet file, a folder of train and dev files, or a hub data set.",
    ),
]
EvalData = Annotated[str | None, Option("--eval-data", help="File to evaluate on; default: the data's own dev split.")]
TextColumn = Annotated[str | None, Option("--text-column", help="Column of the text; default: the usual names.")]
PairColumn = Annotated[str | None, Option("--pair-column", help="Column of the second text of a pair.")]
LabelColumn = Annotated[str | None, Option("--label-column", help="Column of the label or score.")]
HubConfig = Annotated[str | None, Option("--data-config", help="Configuration of a hub data set, such as sst2.")]
Seed = Annotated[int, Option("--seed", help="Seed of everything random.")]
MaxLength = Annotated[
    int | None,
    Option(
        "--max-length",
        help="Longest text in tokens; the rest is cut, or of a long context becomes another window. Default: 128, and "
        "384 for question-answering.",
    ),
]
Threads = Annotated[int, Option("--threads", help="Threads of one model in the benchmark.")]
Resume = Annotated[bool, Option("--resume", help="Continue a stopped run in the same folder.")]
Speedup = Annotated[
    float | None, Option("--speedup", help="Divide the encoder's FLOPs by this, or the time in a latency table.")
]
LatencyTables = Annotated[
    list[str] | None,
    Option(
        "--latency-table", help="--speedup counts time as this file of slimbert bench table has it; may be repeated."
    ),
]
RunLatencyTable = Annotated[
    str | None,
    Option(
        "--latency-table", help="--price measured, with this file of slimbert bench table instead of a new measurement."
    ),
]
PriceName = Annotated[
    str | None,
    Option(
        "--price",
        help="What --speedup counts: flops (the default), or measured: time on this machine at the first --batch and "
        "--seq, in at most 3 rounds of pruning and measuring, which takes minutes longer.",
    ),
]
ScenarioWeights = Annotated[
    str | None, Option("--scenario-weights", help="How much each --latency-table counts, such as 2,1.")
]
Speedups = Annotated[
    str | None,
    Option(
        "--speedups", help="gradual: a family of models from one run, such as 1.5,2,3. --resume takes further ones."
    ),
]
Density = Annotated[float | None, Option("--density", help="Keep this fraction of the encoder's matrix weights.")]
Params = Annotated[int | None, Option("--params", help="Keep this many parameters in all.")]
Bytes = Annotated[int | None, Option("--bytes", help="Keep this many bytes of weights in all, counted as fp32.")]
Shape = Annotated[str | None, Option("--shape", help="JSON file with the heads and FFN neurons of each layer.")]
MaxDrop = Annotated[
    float | None,
    Option(
        "--max-drop",
        help="In place of a size: the fastest model that loses at most so many points of the task's metric. Half of "
        "the labelled evaluation rows choose it, the others report on it.",
    ),
]
PruneMethod = Annotated[
    str | None,
    Option(
        "--method",
        help=f"How to choose: {', '.join(Method)} without labels; {GRADUAL} and "
        f"{BLOCK_MOVEMENT} train. Default: oneshot, or "
        "drop where a latency table shows that narrower sublayers are hardly faster.",
    ),
]
Variant = Annotated[VariantName, Option("--variant", help="What is removed together, and what happens afterwards.")]
MaskFunctionOption = Annotated[MaskFunction, Option("--mask-function", help="How scores become masks.")]
FfnMaskFunction = Annotated[
    MaskFunction | None, Option("--ffn-mask-function", help="Of the FFN, if it differs from attention's.")
]
Block = Annotated[str, Option("--block", help="Rows x columns of a block; transposed in the output projection.")]
Lambda = Annotated[float | None, Option("--lambda", help="Strength of the penalty instead of a target, as published.")]
AttentionPenalty = Annotated[float | None, Option("--attention-penalty", help="Attention's share of the penalty.")]
FloorHeads = Annotated[int, Option("--floor-heads", help="Heads that stay in every layer.")]
FloorNeurons = Annotated[int, Option("--floor-neurons", help="FFN neurons that stay in every layer.")]
TwoFour = Annotated[bool, Option("--two-four", help="Also 2:4 sparsity: shows its accuracy, brings no speed.")]
Rewind = Annotated[str | None, Option("--rewind", help="Folder of an earlier run whose heads stay whole.")]
ScoreRate = Annotated[
    float | None,
    Option("--score-learning-rate", help="Peak rate of the scores; default: 12 / steps, and at least 0.01."),
]
Hold = Annotated[float, Option("--hold", help="Part of the steps before pruning begins.")]
FinalHold = Annotated[float, Option("--final-hold", help="Part of the steps at full strength.")]
FillEpochs = Annotated[int, Option("--fill-epochs", help="Passes over the data after the holes are filled.")]
NoNorm = Annotated[
    bool, Option("--no-norm", help="Train LayerNorm away: only its scale and shift stay. Saved no time on CPUs so far.")
]
Relu = Annotated[bool, Option("--relu", help="Turn the activation into ReLU while training: 3 to 6 % faster at best.")]
TrainTask = Annotated[str | None, Option("--task", help="Task to train for, such as text-classification.")]
Teacher = Annotated[str | None, Option("--teacher", help="Model to learn from; default: the dense model itself.")]
HiddenWeight = Annotated[float, Option("--hidden-weight", help="Weight of the teacher's hidden states in the loss.")]
Epochs = Annotated[int, Option("--epochs", help="Passes over the training data.")]
PruneHiddenWeight = Annotated[
    float,
    Option(
        "--hidden-weight",
        help="Weight of the teacher's hidden states in the loss.  [default: 0; gradual: 10]",
        show_default=False,
    ),
]
PruneEpochs = Annotated[
    int,
    Option("--epochs", help="Passes over the training data.  [default: 6; gradual: 1 a round]", show_default=False),
]
PruneLearningRate = Annotated[
    float,
    Option("--learning-rate", help="Peak of the learning rate.  [default: 3e-05; gradual: 8e-05]", show_default=False),
]
TrainBatchSize = Annotated[int, Option("--batch-size", help="Examples per pass through the model.")]
Accumulate = Annotated[int, Option("--accumulate", help="Passes per step.")]
LearningRate = Annotated[float, Option("--learning-rate", help="Peak of the learning rate.")]
MaxTrainExamples = Annotated[int | None, Option("--max-train-examples", help="Train on a random part.")]
CheckpointSteps = Annotated[
    int | None, Option("--checkpoint-steps", help="Steps between stored states; default: once per epoch.")
]
Cpu = Annotated[bool, Option("--cpu", help="Stay on the CPU even if there is a GPU.")]
Grid = Annotated[str, Option("--speedups", help="Speedups to ask for, separated by commas.")]
Methods = Annotated[str, Option("--methods", help=f"Methods to try, separated by commas: {', '.join(Method)}.")]
Seeds = Annotated[int, Option("--seeds", help="Models per method and speedup, each with calibration texts of its own.")]
UseRay = Annotated[bool, Option("--ray", help="Run the trials on Ray (the extra sweep), side by side.")]
RayAddress = Annotated[
    str | None,
    Option("--address", help="With --ray: of a cluster whose nodes share the output folder; default: this machine."),
]
MethodOption = Annotated[
    Method | None,
    Option(
        "--method",
        help="How heads and neurons are chosen. Default: oneshot, or drop where measured prices show that narrower "
        "sublayers are hardly faster.",
    ),
]
Reconstruct = Annotated[
    bool, Option("--reconstruct/--no-reconstruct", help="Refit the output projections by least squares.")
]
Calibration = Annotated[int, Option("--calibration", help="Unlabelled texts to fit on.")]
FfnMultiple = Annotated[
    int | None,
    Option(
        "--ffn-multiple",
        help="FFN widths are multiples of this. Default: 32 on CPUs; on GPUs 64, and 128 in int8.",
    ),
]
Runtime = Annotated[
    str,
    Option("--runtime", help="Runtimes to measure in, separated by commas; slimbert doctor lists them."),
]
BatchSizes = Annotated[str, Option("--batch", help="Batch sizes to measure, separated by commas.")]
Lengths = Annotated[str, Option("--seq", help="Sequence lengths to measure, separated by commas.")]
Blocks = Annotated[int, Option("--blocks", help="Interleaved blocks per measurement.")]
WarmupSeconds = Annotated[float, Option("--warmup-seconds", help="Shortest warm-up of each model.")]
ClockName = Annotated[
    str,
    Option(
        "--clock", help="Clock of the headline: wall, or thread with one thread; on a GPU: gpu, enqueue or end-to-end."
    ),
]
WithCode = Annotated[bool, Option("--with-code", help="Also save the model's code, for trust_remote_code=True.")]
FirstToken = Annotated[
    bool,
    Option(
        "--first-token/--no-first-token",
        help="Classifiers: compute the end of the encoder for the first token alone, which is exact and faster.",
    ),
]
Push = Annotated[
    str | None, Option("--push", metavar="OWNER/NAME", help="When all is done, upload to this model repository.")
]
Private = Annotated[bool, Option("--private", help="With --push: a repository that is created is private.")]
ExportTo = Annotated[str, Option("--export", help="What to deploy: onnx (always), tensorrt, tensorrt-rtx.")]
Dtypes = Annotated[
    str | None,
    Option(
        "--dtype",
        help="Precisions beside fp32: fp32, fp16, int8. Default: all that pass; if named, exit 1 if one fails. With "
        "--price measured, --speedup is for the first that is named, else for fp32.",
    ),
]
RunDialect = Annotated[
    str,
    Option("--dialect", help="ort-cpu: attention fused, if that is faster here; standard: runs everywhere."),
]
QuantizeEmbeddings = Annotated[bool, Option("--quantize-embeddings", help="int8: also the embedding tables, for size.")]
Opset = Annotated[
    int, Option("--opset", help="Version of the standard operators: 20 to 23. Newer ones narrow who reads the file.")
]
Profile = Annotated[
    list[str] | None,
    Option(
        "--profile",
        metavar="NAME=B,B,B:S,S,S",
        help="engines: batch sizes and sequence lengths to build for, each as smallest,optimal,largest; may be "
        "repeated. Default: batch 1 and batch 1 to 32, each with sequences to 128 and to the model's limit.",
    ),
]
OptimizationLevel = Annotated[
    int | None, Option("--optimization-level", help="engines: 0, built fastest, to 5, runs fastest.")
]
TimingCache = Annotated[
    Path | None, Option("--timing-cache", help="tensorrt: file that keeps measured kernels from build to build.")
]
VersionCompatible = Annotated[
    bool, Option("--version-compatible", help="tensorrt: newer versions of the same major run the engine too.")
]
HardwareCompatibility = Annotated[
    str | None,
    Option("--hardware-compatibility", help="tensorrt: none, same_compute_capability or ampere_plus; wider is slower."),
]
Tf32 = Annotated[bool, Option("--tf32", help="engines in fp32: products at TF32's 10 bits, fast and not fp32.")]
Target = Annotated[str, Option("--target", help="tensorrt-rtx: GPUs, such as SM80,SM89; default: all.")]
