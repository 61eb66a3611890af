"""Block movement pruning from start to end: train under masks, compact, and for ``hybrid-filled`` fill and train again.

Source: Lagunas et al. 2021, arXiv:2109.04838.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerCallback

from pruning.atomic import recover_folder, write_json
from pruning.budget import Budget
from pruning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pruning.errors import InputError
from pruning.introspect import arch_from_model, inner_density, inner_density_by_layer
from pruning.movement.controller import Target
from pruning.movement.faster_blocks import BlockCallback, FasterBlocks, replace_blocks
from pruning.movement.fill import fill_holes
from pruning.movement.pictures import layer_pictures
from pruning.movement.pruner import Aim, MovementPruner, attach
from pruning.movement.schedule import Schedule
from pruning.movement.spec import MovementSpec
from pruning.movement.training import MovementCallback, MovementObjective, parameter_groups, score_rate
from pruning.objective import Objective
from pruning.processes import on_main_process
from pruning.training import TrainingExtension, TrainingOptions, steps_of, train

MASKED, COMPACT, FILLED, RECORD = "masked", "compact", "filled", "movement.json"

MovementProgress = Callable[[str, int, int, str], None]
"""Called with the phase, what is done, the total, and how things stand in words."""


@dataclass(frozen=True)
class MovementOptions:
    """What to prune and how to train.

    Args:
        spec: the variant.
        aim: a target, or the lambda of the paper.
        training: under masks.
        score_learning_rate: peak rate of the scores; None: `pruning.movement.training.score_rate`.
        hold: part of the steps before pruning begins.
        final_hold: part of the steps at full strength.
        fill_training: training without masks after the fill; used by ``hybrid-filled``.
        blocks: faster building blocks, mixed in along the ramp.
    """

    spec: MovementSpec
    aim: Aim
    training: TrainingOptions = field(default_factory=lambda: TrainingOptions(epochs=6, learning_rate=3e-5))
    score_learning_rate: float | None = None
    hold: float = 0.05
    final_hold: float = 0.4
    fill_training: TrainingOptions = field(default_factory=lambda: TrainingOptions(epochs=4, learning_rate=3e-5))
    blocks: FasterBlocks = field(default_factory=FasterBlocks)

    def __post_init__(self) -> None:
        if self.score_learning_rate is not None and not 0 < self.score_learning_rate < float("inf"):
            raise InputError(f"the learning rate of the scores must be above 0; got {self.score_learning_rate:g}.")


@dataclass(frozen=True, eq=False)
class MovementResult:
    """The compact model and its way there.

    ``unfilled`` is the model before the fill, ``model`` itself where nothing was filled. ``record`` is the content of
    ``movement.json``: variant, aim, heads and neurons kept, inner density of what lives, and the schedule's history.
    """

    model: PreTrainedModel
    unfilled: PreTrainedModel
    record: dict[str, Any]


def target_from_budget(budget: Budget, model: PreTrainedModel) -> Target:
    """A budget in weights, parameters, FLOPs or milliseconds as the target of `attach`."""
    return Target(budget.limit / budget.spent(arch_from_model(model)), budget.spent, budget.meaning)


def prune_by_movement(
    dense: Checkpoint,
    objective: Objective,
    options: MovementOptions,
    folder: Path,
    progress: MovementProgress = lambda phase, done, total, what: None,
) -> MovementResult:
    """Prune while training; the input is not modified.

    Continues from what ``folder`` holds of the same request: on a CPU the result is that of an undisturbed run.

    Args:
        dense: fine-tuned model and its tokenizer.
        objective: of training, under masks and after the fill; usually a `pruning.distillation.Distillation`.
        options: see `MovementOptions`.
        folder: of the stored states.
        progress: called after every step.

    Raises:
        InputError: if the model cannot be pruned so, the aim cannot be reached, or the loss diverges. States that are
            stored stay.
    """
    cpu = options.training.cpu
    on_main_process(partial(recover_folder, folder / COMPACT), cpu=cpu)
    if not (folder / COMPACT).is_dir():
        pruner = train_under_masks(dense, objective, options, folder / MASKED, progress)
        on_main_process(partial(_write_compact, pruner, dense, folder), cpu=cpu)
    compact = load_checkpoint(folder / COMPACT).model
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if not options.spec.row.filled:
        return MovementResult(compact, compact, record)
    filled = copy.deepcopy(compact)
    record["filled_weights"] = fill_and_train(filled, objective, options.fill_training, folder / FILLED, progress)
    return MovementResult(filled, compact, record)


def fill_and_train(
    model: PreTrainedModel,
    objective: Objective,
    options: TrainingOptions,
    folder: Path,
    progress: MovementProgress = lambda phase, done, total, what: None,
) -> int:
    """Fill the holes of a compact model and train it without masks, in place.

    Returns:
        The number of weights that were filled.
    """
    filled = fill_holes(model, options.seed)
    train(
        model,
        objective,
        options,
        folder,
        on_step=lambda step, total, loss: progress("fill", step, total, f"loss {loss:.3f}"),
    )
    return filled


def train_under_masks(
    dense: Checkpoint, objective: Objective, options: MovementOptions, folder: Path, progress: MovementProgress
) -> MovementPruner:
    """Train a copy of the dense model under masks, up to the last decision of the masks.

    Args:
        dense: fine-tuned model and its tokenizer; not modified.
        objective: of training.
        options: see `MovementOptions`; nothing is filled.
        folder: of the stored states, which it continues from.
        progress: called after every step.

    Returns:
        The pruner, finished, with the masked model in ``model``.

    Raises:
        InputError: as `prune_by_movement`.
    """
    model = copy.deepcopy(dense.model)
    steps = steps_of(objective, options.training)
    schedule = Schedule.from_fractions(steps, options.hold, options.final_hold)
    pruner = attach(model, options.spec, schedule, options.aim, seed=options.training.seed)
    replacement = replace_blocks(model, options.blocks, schedule) if options.blocks else None
    groups = partial(
        parameter_groups,
        pruner=pruner,
        weight_decay=options.training.weight_decay,
        score_learning_rate=options.score_learning_rate or score_rate(steps),
    )
    callbacks: list[TrainerCallback] = [MovementCallback(pruner, penalty_in_loss=True)]
    if replacement is not None:
        callbacks.append(BlockCallback(replacement))
    train(
        model,
        MovementObjective(objective, pruner),
        options.training,
        folder,
        on_step=lambda step, total, loss: progress("prune", step, total, f"loss {loss:.3f}, {pruner.history[-1]}"),
        extension=TrainingExtension(callbacks, groups),
    )
    pruner.finish()
    if replacement is not None:
        replacement.finish()
    return pruner


def _write_compact(pruner: MovementPruner, dense: Checkpoint, folder: Path) -> None:
    compact = pruner.compact()
    write_json(folder / RECORD, record_from_pruner(pruner, compact))
    save_checkpoint(compact.cpu(), dense.tokenizer, folder / COMPACT)


def record_from_pruner(pruner: MovementPruner, compact: PreTrainedModel) -> dict[str, Any]:
    """What is worth knowing about a run, as plain data.

    ``heads`` and ``neurons`` are the numbers of those kept, per layer; ``inner_density`` is the share of weights in
    them that are not zero, of attention and of FFN, and ``layers`` has it for each. ``pictures`` are those of
    `pruning.movement.pictures`, for each layer.
    """
    census, aim, last = pruner.census(), pruner.aim, pruner.history[-1]
    attention, ffn = inner_density(compact)
    return {
        "schema": 1,
        "spec": asdict(pruner.spec),
        "aim": aim.meaning if isinstance(aim, Target) else f"lambda {aim.final_lambda:g}",
        "wanted": aim.wanted if isinstance(aim, Target) else None,
        "schedule": asdict(pruner.schedule),
        "density": last.density,
        "nonzero": last.nonzero,
        "threshold": last.threshold,
        "penalty_lambda": last.penalty_lambda,
        "heads": [list(heads) for heads in census.heads],
        "neurons": [list(neurons) for neurons in census.neurons],
        "inner_density": {"attention": attention, "ffn": ffn},
        "layers": [{"attention": attention, "ffn": ffn} for attention, ffn in inner_density_by_layer(compact)],
        "dense_arch": pruner.dense_arch.to_dict(),
        "pictures": [layer_pictures(layer) for layer in pruner.layers],
        "history": [asdict(record) for record in pruner.history],
    }


def heads_kept_by(folder: Path) -> tuple[tuple[int, ...], ...]:
    """The heads that an earlier run kept, by layer, for `MovementSpec.rewind`.

    Raises:
        InputError: if ``folder`` holds no record of one.
    """
    path = folder / RECORD
    try:
        return tuple(tuple(map(int, heads)) for heads in json.loads(path.read_text(encoding="utf-8"))["heads"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no record of block movement pruning ({error}). Pass the output folder of an earlier run."
        ) from error
