"""``slimbert prune --method block-movement`` and ``slimbert fill``: from folders to folders."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from bench.report.movement_report import html_from_movement
from pruning.arch import ArchSpec
from pruning.atomic import atomic_folder, write_json, write_text
from pruning.batching import predict_from_model
from pruning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pruning.distillation import Distillation, DistillationOptions, check_teacher
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model, reads_first_token
from pruning.methods.block_movement import (
    RECORD,
    MovementOptions,
    fill_and_train,
    heads_kept_by,
    prune_by_movement,
    target_from_budget,
)
from pruning.movement.controller import Target
from pruning.movement.faster_blocks import FasterBlocks
from pruning.movement.names import MaskFunction, Variant
from pruning.movement.pruner import Aim, PaperAim
from pruning.movement.spec import VARIANTS, FamilySpec, Floors, MovementSpec
from pruning.processes import on_main_process
from pruning.tasks.registry import task_named
from pruning.tasks.source import Splits, load_splits
from pruning.training import TrainingOptions
from pruning.training_folder import REQUEST, TrainingFolder, sha256_of
from tools.console import Steps
from tools.model_facts import facts_from_model
from tools.pricing import target_from_request
from tools.settings import DataSettings, PruneSettings, Settings, TextSettings
from tools.teaching import teacher_from_name

TASK_WEIGHT, TEACHER_WEIGHT = 0.1, 0.9
REPORT = "report.html"


class LessonSettings(Settings):
    """What the pruned model learns from, and for how long."""

    task: str
    teacher: str | None = None
    hidden_weight: float = Field(default=0.0, ge=0)
    max_train_examples: int | None = Field(default=None, ge=1)
    epochs: int = 6
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 3e-5
    checkpoint_steps: int | None = None
    cpu: bool = False
    max_length: int | None = Field(default=None, ge=4)

    def training(self, seed: int, epochs: int | None = None) -> TrainingOptions:
        """As the training core wants it."""
        return TrainingOptions(
            epochs=self.epochs if epochs is None else epochs,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            learning_rate=self.learning_rate,
            checkpoint_steps=self.checkpoint_steps,
            seed=seed,
            cpu=self.cpu,
        )


class MovementSettings(Settings):
    """What block movement pruning takes beside a target."""

    variant: Variant = Variant.HYBRID_FILLED
    mask_function: MaskFunction = MaskFunction.SIGMOID_THRESHOLD
    ffn_mask_function: MaskFunction | None = None
    block: str = "32x32"
    final_lambda: float | None = None
    attention_penalty: float | None = None
    floor_heads: int = 0
    floor_neurons: int = 0
    two_four: bool = False
    rewind: str | None = None
    score_learning_rate: float | None = None
    hold: float = 0.05
    final_hold: float = 0.4
    fill_epochs: int = 4
    no_norm: bool = False
    relu: bool = False

    def spec(self) -> MovementSpec:
        """As the method wants it.

        Raises:
            InputError: if the block is not ROWSxCOLUMNS, or the earlier run has no record.
        """
        strength = (
            VARIANTS[self.variant].attention_penalty if self.attention_penalty is None else self.attention_penalty
        )
        return MovementSpec(
            self.variant,
            FamilySpec(self.mask_function, strength),
            FamilySpec(self.ffn_mask_function or self.mask_function),
            block=block_from_text(self.block),
            floors=Floors(self.floor_heads, self.floor_neurons),
            two_four=self.two_four,
            rewind=None if self.rewind is None else heads_kept_by(Path(self.rewind)),
        )


def block_from_text(text: str) -> tuple[int, int]:
    """``32x16`` as rows and columns.

    Raises:
        InputError: if ``text`` is something else.
    """
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise InputError(f"--block takes ROWSxCOLUMNS such as 32x32; got {text!r}.")
    return int(rows), int(columns)


def prune(  # noqa: PLR0913  # one per group of options
    model: str,
    data: DataSettings,
    lesson: LessonSettings,
    movement: MovementSettings,
    size: PruneSettings,
    text: TextSettings,
    out: Path,
    *,
    resume: bool,
) -> dict[str, Any]:
    """Prune and train, evaluate what comes of it, and write the checkpoint with ``movement.json`` beside it.

    Raises:
        InputError: if the request cannot be met, or ``out`` holds anything but a run to resume.
    """
    spec = movement.spec()
    dense, splits = load_checkpoint(model), load_splits(data.source, seed=text.seed)
    aim = _aim(dense, movement, size, text.seq)
    options = MovementOptions(
        spec,
        aim,
        lesson.training(text.seed),
        movement.score_learning_rate,
        movement.hold,
        movement.final_hold,
        lesson.training(text.seed, movement.fill_epochs),
        FasterBlocks(movement.no_norm, movement.relu),
    )
    groups = {"lesson": lesson, "movement": movement, "target": size.target, "price": size.price, "text": text}
    request = _request(model, splits, **groups)
    folder = TrainingFolder(out, RECORD, "block movement")
    on_main_process(lambda: folder.open(request, resume=resume), cpu=lesson.cpu)
    if (out / RECORD).is_file():
        return _facts_of(out)
    objective = _objective(dense, splits, lesson, text)
    on_main_process(lambda: write_json(folder.states / REQUEST, request), cpu=lesson.cpu)
    with Steps() as steps:
        steps.note(f"writing to {out} ...")
        result = prune_by_movement(dense, objective, options, folder.states, steps.update)
    scores = {"dense": dense.model, "candidate": result.model}
    if result.unfilled is not result.model:
        scores["unfilled"] = result.unfilled

    def write() -> None:
        facts = _facts(dense, scores, splits, lesson) | {"record": _without_history(result.record)}
        with atomic_folder(out) as partial:
            save_checkpoint(result.model, dense.tokenizer, partial, with_code=text.with_code)
            record = result.record | {"request": request, "facts": facts}
            write_json(partial / RECORD, record)
            write_text(partial / REPORT, html_from_movement(record))

    on_main_process(write, cpu=lesson.cpu)
    return _facts_of(out)


def fill(
    model: str, data: DataSettings, lesson: LessonSettings, text: TextSettings, out: Path, *, resume: bool
) -> dict[str, Any]:
    """Fill the holes of an older result and train it without masks.

    Raises:
        InputError: if there is no teacher, the request cannot be met, or ``out`` holds anything but a run to resume.
    """
    if lesson.teacher is None:
        raise InputError("filling needs the model that the older run started from: pass it with --teacher.")
    older, splits = load_checkpoint(model), load_splits(data.source, seed=text.seed)
    request = _request(model, splits, lesson=lesson, text=text)
    folder = TrainingFolder(out, RECORD, "fill")
    on_main_process(lambda: folder.open(request, resume=resume), cpu=lesson.cpu)
    if (out / RECORD).is_file():
        return _facts_of(out)
    objective = _objective(older, splits, lesson, text)
    on_main_process(lambda: write_json(folder.states / REQUEST, request), cpu=lesson.cpu)
    filled = Checkpoint(copy.deepcopy(older.model), older.tokenizer, older.path)
    with Steps() as steps:
        count = fill_and_train(filled.model, objective, lesson.training(text.seed), folder.states, steps.update)

    def write() -> None:
        facts = _facts(older, {"unfilled": older.model, "candidate": filled.model}, splits, lesson)
        facts["filled_weights"] = count
        with atomic_folder(out) as partial:
            save_checkpoint(filled.model, older.tokenizer, partial, with_code=text.with_code)
            write_json(partial / RECORD, {"request": request, "facts": facts})

    on_main_process(write, cpu=lesson.cpu)
    return _facts_of(out)


def _aim(dense: Checkpoint, movement: MovementSettings, size: PruneSettings, seq: int) -> Aim:
    """What training is to arrive at; only the size of ``size`` counts, not how one-shot methods choose."""
    target = size.target
    given = [name for name, value in target.model_dump().items() if value is not None]
    if (movement.final_lambda is None) == (not given) or len(given) > 1 or target.shape is not None:
        found = " and ".join(
            f"--{name}" for name in [*given, *(["lambda"] if movement.final_lambda is not None else [])]
        )
        raise InputError(
            "block-movement takes exactly one of --density, --params, --bytes, --speedup and --lambda; "
            f"got {found or 'none'}."
        )
    if movement.final_lambda is not None:
        return PaperAim(movement.final_lambda)
    params = sum(parameter.numel() for parameter in dense.model.parameters())
    budget = target_from_request(dense.model, size, params, seq, first_token=reads_first_token(dense.model))
    assert not isinstance(budget, ArchSpec)
    if VARIANTS[movement.variant].counts_holes and target.density is not None:
        return Target(target.density, None, f"{target.density:.0%} of the weights not zero")
    return target_from_budget(budget, dense.model)


def _objective(student: Checkpoint, splits: Splits, lesson: LessonSettings, text: TextSettings) -> Distillation:
    task = task_named(lesson.task)
    task.check_head(head_from_model(student.model))
    settings = task.settings(student.model.config, lesson.max_length)
    task.check_truth(splits.evaluation, settings.labels)
    options = DistillationOptions(logits=TEACHER_WEIGHT, hidden=lesson.hidden_weight, truth=TASK_WEIGHT)
    teacher = teacher_from_name(student, lesson.teacher)
    check_teacher(teacher, student.model, options)
    count = len(splits.train) if lesson.max_train_examples is None else lesson.max_train_examples
    rows = splits.train.sample(min(count, len(splits.train)), text.seed)
    return Distillation(teacher, None, options, task.objective(student.tokenizer, rows, settings))


def _facts(start: Checkpoint, models: dict[str, Any], splits: Splits, lesson: LessonSettings) -> dict[str, Any]:
    task = task_named(lesson.task)
    settings = task.settings(start.model.config, lesson.max_length)
    facts: dict[str, Any] = {}
    for name, model in models.items():
        evaluation = task.evaluate(predict_from_model(model), start.tokenizer, splits.evaluation, settings)
        facts[name] = facts_from_model(model) | {"metric": asdict(evaluation.metric), "others": evaluation.others}
    metric, arch = facts["candidate"]["metric"], arch_from_model(models["candidate"])
    facts["summary"] = f"{arch}: {metric['name']} {metric['value']:.4f} on {metric['n']} rows ({splits.note})"
    return facts


def _request(model: str, splits: Splits, **groups: Settings) -> dict[str, Any]:
    return {
        "model": model,
        "data_sha256": sha256_of([asdict(splits.train), asdict(splits.evaluation)]),
        **{name: group.model_dump(mode="json") for name, group in groups.items()},
    }


def _facts_of(finished: Path) -> dict[str, Any]:
    return dict(json.loads((finished / RECORD).read_text(encoding="utf-8"))["facts"])


def _without_history(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("history", "pictures")}
