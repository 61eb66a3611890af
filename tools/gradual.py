"""``slimbert prune --method gradual``: a family of models from one run, each pruned a little further and trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import Field

from pruning.atomic import write_json
from pruning.batching import encode, predict_from_model
from pruning.checkpoint import Checkpoint, load_checkpoint
from pruning.distillation import DistillationOptions
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model, reads_first_token
from pruning.methods.choice import method_for_target
from pruning.methods.gradual import GradualOptions, GradualStep, Lesson, Round, prune_gradually
from pruning.methods.oneshot import OneshotOptions
from pruning.processes import on_main_process
from pruning.tasks.reading import rows_as_read
from pruning.tasks.registry import task_named
from pruning.tasks.source import Splits, load_splits
from pruning.tasks.task import Task, settings_from_config
from pruning.tasks.text_data import TextData
from pruning.training import TrainingOptions
from pruning.training_folder import sha256_of
from tools.calibrating import calibration_from_rows
from tools.console import Steps
from tools.model_facts import PRUNE_FACTS
from tools.pricing import budgets_from_request, table_width_step
from tools.settings import DataSettings, PruneSettings, Settings, TextSettings
from tools.teaching import teacher_from_name

CALIBRATION_SHARE = 3
"""At most a third of the texts calibrates; no text of theirs trains."""


class GradualSettings(Settings):
    """From how many times faster to how many, and how to train in between; ``task`` is for scores, not for training."""

    speedups: tuple[float, ...]
    task: str | None = None
    teacher: str | None = None
    hidden_weight: float = Field(default=10.0, ge=0)
    max_train_examples: int | None = Field(default=None, ge=1)
    epochs: int = 1
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 8e-5
    checkpoint_steps: int | None = None
    cpu: bool = False

    def training(self, seed: int) -> TrainingOptions:
        """As the training core wants it."""
        return TrainingOptions(
            epochs=self.epochs,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            learning_rate=self.learning_rate,
            seed=seed,
            dropout=False,
            freeze_word_embeddings=True,
            checkpoint_steps=self.checkpoint_steps,
            cpu=self.cpu,
        )


def rising_speedups(speedups: Sequence[float]) -> tuple[float, ...]:
    """The speedups, checked.

    Raises:
        InputError: unless each is larger than the one before, and the first at least 1.
    """
    if not speedups or speedups[0] < 1 or any(b <= a for a, b in pairwise(speedups)):
        raise InputError(f"--speedups takes rising numbers of at least 1, such as 1.5,2,3; got {_listed(speedups)}.")
    return tuple(speedups)


def prune(
    model: str,
    data: DataSettings,
    request: tuple[PruneSettings, GradualSettings],
    text: TextSettings,
    out: Path,
    *,
    resume: bool,
) -> dict[str, Any]:
    """Prune and train round after round; ``out`` gets a checkpoint per speedup, and ``prune.json``.

    Args:
        model: folder or hub name of the dense model.
        data: unlabelled text to calibrate on and to train on; labels are for scores.
        request: prices and calibration, and speedups and training.
        text: lengths and seed.
        out: the folder of the family.
        resume: continue a stopped run.

    Raises:
        InputError: if the request cannot be met, or ``out`` holds anything but a run to resume.
    """
    oneshot, gradual = request
    dense, splits = load_checkpoint(model), load_splits(data.source, seed=text.seed)
    task = None if gradual.task is None else _checked_task(gradual.task, dense, splits)
    longest = text.longest(dense.model.config, gradual.task)
    rows = rows_as_read(dense.model, splits.train)
    calibrating, teaching = _disjoint(rows, 2 * oneshot.calibration, text.seed)
    if gradual.max_train_examples is not None:
        teaching = teaching.sample(gradual.max_train_examples, text.seed)
    calibration = calibration_from_rows(
        dense, calibrating, examples=oneshot.calibration, max_length=longest, seed=text.seed
    )
    encodings = encode(dense.tokenizer, teaching.texts, teaching.pairs, max_length=longest)
    lesson = Lesson(teacher_from_name(dense, gradual.teacher), encodings)
    origin = {"model": model, "teacher": gradual.teacher or model, "data_sha256": sha256_of(asdict(splits.train))}
    options = _options(dense, oneshot, gradual, text, origin, resume=resume)
    with Steps() as steps:
        for line in (f"writing to {out} ...", *calibration.warnings):
            steps.note(line)
        family = prune_gradually(dense, lesson, calibration, options, out, steps.update)
    warnings = {"warnings": list(calibration.warnings)}

    def score() -> None:
        write_json(out / PRUNE_FACTS, _facts(dense, family, task, splits, text) | warnings)

    on_main_process(score, cpu=gradual.cpu)
    return dict(json.loads((out / PRUNE_FACTS).read_text(encoding="utf-8")))


def _options(
    dense: Checkpoint,
    oneshot: PruneSettings,
    gradual: GradualSettings,
    text: TextSettings,
    origin: Mapping[str, str],
    *,
    resume: bool,
) -> GradualOptions:
    first_token = reads_first_token(dense.model)
    budgets = budgets_from_request(dense.model, oneshot, text.seq, first_token=first_token)
    rounds = tuple(Round(f"{speedup:g}x", budgets(speedup)) for speedup in rising_speedups(gradual.speedups))
    target = rounds[-1].target
    return GradualOptions(
        rounds,
        OneshotOptions(
            target,
            method_for_target(target).method,
            oneshot.reconstruct,
            ffn_multiple=table_width_step(oneshot),
            seed=text.seed,
        ),
        gradual.training(text.seed),
        DistillationOptions(hidden=gradual.hidden_weight),
        origin,
        resume,
    )


def _disjoint(rows: TextData, wanted: int, seed: int) -> tuple[TextData, TextData]:
    """Rows to calibrate with, and all rows with other texts."""
    count = min(wanted, len(rows) // CALIBRATION_SHARE)
    if count < 1:
        raise InputError(f"gradual pruning needs at least {CALIBRATION_SHARE} texts; got {len(rows)}. Pass more data.")
    calibrating = rows.sample(count, seed)
    used = set(_keys(calibrating))
    left = [index for index, key in enumerate(_keys(rows)) if key not in used]
    if not left:
        raise InputError("gradual pruning needs other texts to train on than to calibrate on. Pass more data.")
    return calibrating, rows.subset(left)


def _keys(rows: TextData) -> list[tuple[str, str]]:
    return list(zip(rows.texts, rows.pairs or [""] * len(rows), strict=True))


def _checked_task(name: str, dense: Checkpoint, splits: Splits) -> Task:
    task = task_named(name)
    task.check_head(head_from_model(dense.model))
    task.check_truth(splits.evaluation, settings_from_config(dense.model.config).labels)
    return task


def _facts(
    dense: Checkpoint, family: Sequence[GradualStep], task: Task | None, splits: Splits, text: TextSettings
) -> dict[str, Any]:
    first_token = reads_first_token(dense.model)
    full = arch_from_model(dense.model).encoder_flops(text.seq, first_token=first_token)
    models = [
        {
            "name": step.name,
            "checkpoint": str(step.folder),
            "arch": step.arch.to_dict(),
            "flops_ratio": full / max(step.arch.encoder_flops(text.seq, first_token=first_token), 1),
            "divergence_pruned": step.divergence_pruned,
            "divergence": step.divergence,
            "kept_training": step.kept_training,
            "steps": step.steps,
            "seconds": dict(step.seconds),
            "metric": _metric(load_checkpoint(step.folder), task, splits, text),
        }
        for step in family
    ]
    return {"baseline": {"metric": _metric(dense, task, splits, text)}, "models": models, "note": splits.note}


def _metric(model: Checkpoint, task: Task | None, splits: Splits, text: TextSettings) -> dict[str, Any] | None:
    if task is None:
        return None
    settings = task.settings(model.model.config, text.max_length)
    predict = predict_from_model(model.model)
    return asdict(task.evaluate(predict, model.tokenizer, splits.evaluation, settings).metric)


def summary(facts: Mapping[str, Any]) -> str:
    """One line per model, for people."""
    dense = facts["baseline"]["metric"]
    lines = [] if dense is None else [f"dense: {dense['name']} {dense['value']:.4f}"]
    for x in facts["models"]:
        score = "" if x["metric"] is None else f", {x['metric']['name']} {x['metric']['value']:.4f}"
        before = f"{x['divergence_pruned']:.4f} before training"
        if not x["kept_training"]:
            before = "training did harm and was taken back: train on more texts or at a lower rate"
        lines.append(
            f"{x['name']}: {x['flops_ratio']:.2f}x fewer encoder FLOPs, divergence {x['divergence']:.4f} ({before})"
            f"{score}: {x['checkpoint']}"
        )
    return "\n".join(lines)


def _listed(speedups: Sequence[float]) -> str:
    return ",".join(f"{speedup:g}" for speedup in speedups) or "none"
