"""Gradual pruning: prune a little, let the model learn from its teacher, prune again. One run, a family of models.

Every round is one-shot pruning to the next budget, then training on unlabelled text against the teacher's answers and
hidden states. Each round's model is a checkpoint of its own.

Source: ZipLM, Kurtic et al. 2023, arXiv:2302.04089 (gradual runs with token-level distillation).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from pruning.arch import ArchSpec
from pruning.atomic import atomic_folder, recover_folder, write_json
from pruning.batching import Encodings, predict_from_model
from pruning.budget import Budget
from pruning.calibration import Calibration
from pruning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pruning.distillation import Distillation, DistillationOptions, check_teacher
from pruning.divergence import divergences
from pruning.errors import InputError
from pruning.introspect import arch_from_model
from pruning.methods.oneshot import OneshotOptions, prune_oneshot
from pruning.objective import Objective
from pruning.owned_folder import check_owner
from pruning.processes import on_main_process
from pruning.training import TrainingOptions, TrainingRun, train

RECORD, PRUNED, STATES, REQUEST = "gradual.json", "pruned", "states", "request.json"

FOLDER_NAME = re.compile(r"\w[\w.-]*")

GradualProgress = Callable[[str, int, int, str], None]
"""Called with the round and phase, what is done, the total, and how it goes."""


@dataclass(frozen=True)
class Round:
    """A ``name``, which becomes a folder, and what the model of this round may cost."""

    name: str
    target: Budget | ArchSpec


@dataclass(frozen=True)
class GradualOptions:
    """What to prune to, and how to train in between.

    Args:
        rounds: from the largest budget to the smallest.
        oneshot: how each round prunes; its own target is not used.
        training: of every round; the rate rises and falls anew in each.
        distillation: the loss of every round.
        origin: what else makes a run this run, by name, such as the checksum of its data.
        resume: whether a run that is there may be continued.

    Raises:
        InputError: unless there are rounds, each with a name of its own that can be a folder.
    """

    rounds: tuple[Round, ...]
    oneshot: OneshotOptions
    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(
            epochs=1, learning_rate=8e-5, dropout=False, freeze_word_embeddings=True
        )
    )
    distillation: DistillationOptions = field(default_factory=lambda: DistillationOptions(hidden=10.0))
    origin: Mapping[str, str] = field(default_factory=dict)
    resume: bool = True

    def __post_init__(self) -> None:
        names = [x.name for x in self.rounds]
        if not names or len(set(names)) < len(names) or not all(map(FOLDER_NAME.fullmatch, names)):
            raise InputError(f"gradual pruning needs rounds with different names that can be folders; got {names}.")


@dataclass(frozen=True, eq=False)
class Lesson:
    """Who teaches, on which texts, tokenised as both models read them; ``truth`` is the task's objective on them."""

    teacher: PreTrainedModel
    encodings: Encodings
    truth: Objective | None = None


@dataclass(frozen=True)
class GradualStep:
    """One model of the family: its checkpoint ``folder`` and how it came about.

    Divergences are distances to the teacher on texts that chose nothing and trained nothing: right after pruning, and
    at the end. ``kept_training`` is False if other held-out texts showed that training had done harm, and it was taken
    back: too few texts or too high a rate undo what pruning had kept.
    """

    name: str
    folder: Path
    arch: ArchSpec
    divergence_pruned: float
    divergence: float
    kept_training: bool
    steps: int
    seconds: Mapping[str, float]


def prune_gradually(
    student: Checkpoint,
    lesson: Lesson,
    calibration: Calibration,
    options: GradualOptions,
    out: Path,
    progress: GradualProgress = lambda phase, done, total, what: None,
) -> tuple[GradualStep, ...]:
    """Prune and train round after round; ``out`` gets one checkpoint folder per round.

    A stopped run is continued by calling again with the same arguments: finished rounds are read, a pruned model is
    not pruned again, and training goes on at the next batch, to the same result as without the stop. A run is extended
    the same way, by asking for its rounds and further ones after them.

    Args:
        student: the dense model to start from, or a compact one; not modified.
        lesson: the teacher, dense or larger, and the texts to train on.
        calibration: unlabelled texts for pruning; those it reports on should not be in the lesson.
        options: see `GradualOptions`.
        out: made if it does not exist.
        progress: told what goes on.

    Raises:
        InputError: if the teacher does not fit, a target cannot be met, the loss diverges, or ``out`` holds another
            run.
    """
    check_teacher(lesson.teacher, student.model, options.distillation)
    loss, cpu = Distillation(lesson.teacher, lesson.encodings, options.distillation, lesson.truth), options.training.cpu
    on_main_process(partial(_claim, out, student, options, loss), cpu=cpu)
    steps, current = [], student
    for item in options.rounds:
        folder = out / item.name
        on_main_process(partial(recover_folder, folder), cpu=cpu)
        if not (folder / RECORD).is_file():
            _run_round(current, lesson.teacher, calibration, loss, _RoundPlan(item, options, folder, progress))
        steps.append(_read_step(folder))
        current = load_checkpoint(folder)
    return tuple(steps)


@dataclass(frozen=True)
class _RoundPlan:
    """One round, how it is run, where its model goes, and who is told."""

    round: Round
    options: GradualOptions
    folder: Path
    progress: GradualProgress

    @property
    def work(self) -> Path:
        """What the round leaves while it lasts."""
        return self.folder.with_name(f".{self.folder.name}.work")


def _run_round(
    current: Checkpoint,
    teacher: PreTrainedModel,
    calibration: Calibration,
    loss: Distillation,
    plan: _RoundPlan,
) -> None:
    """Prune, or read what was pruned before a stop; train; write the better of both and its record in one move.

    Of several processes only the main one prunes and writes.
    """
    on_main_process(partial(_prune, current, plan, calibration), cpu=plan.options.training.cpu)
    pruned = load_checkpoint(plan.work / PRUNED)

    def on_step(done: int, total: int, value: float) -> None:
        plan.progress(f"{plan.round.name}: train", done, total, f"loss {value:.3f}")

    run = train(pruned.model, loss, plan.options.training, plan.work / STATES, on_step=on_step)
    finish = partial(_finish, pruned, teacher, calibration, run, plan)
    on_main_process(finish, cpu=plan.options.training.cpu)


def _finish(
    trained: Checkpoint, teacher: PreTrainedModel, calibration: Calibration, run: TrainingRun, plan: _RoundPlan
) -> None:
    """Keep the better one of what was trained and what it was before."""
    reference = predict_from_model(teacher)
    untrained = load_checkpoint(plan.work / PRUNED).model
    facts = json.loads((plan.work / PRUNED / RECORD).read_text(encoding="utf-8"))
    models = [predict_from_model(x) for x in (trained.model.cpu(), untrained)]
    after, before = divergences(reference, models, calibration.select)
    facts["kept_training"] = after <= before
    kept = trained.model if facts["kept_training"] else untrained
    after, before = divergences(reference, models, calibration.report)
    facts |= {"divergence_pruned": before, "divergence": after if facts["kept_training"] else before}
    facts |= {"steps": run.steps, "seconds": facts["seconds"] | {"train": run.seconds}}
    with atomic_folder(plan.folder) as folder:
        save_checkpoint(kept, trained.tokenizer, folder)
        write_json(folder / RECORD, {"schema": 1, "name": plan.round.name, **facts})
    shutil.rmtree(plan.work)


def _prune(current: Checkpoint, plan: _RoundPlan, calibration: Calibration) -> None:
    """Prune, unless that was done before a stop."""
    if (plan.work / PRUNED / RECORD).is_file():
        return

    def report(phase: str, done: int, total: int) -> None:
        plan.progress(f"{plan.round.name}: {phase}", done, total, "")

    options = replace(plan.options.oneshot, target=plan.round.target)
    found = prune_oneshot(current.model, calibration, options, report)
    with atomic_folder(plan.work / PRUNED) as folder:
        save_checkpoint(found.model, current.tokenizer, folder)
        write_json(folder / RECORD, {"arch": found.arch.to_dict(), "seconds": found.seconds})


def _claim(out: Path, student: Checkpoint, options: GradualOptions, loss: Distillation) -> None:
    """Make sure that ``out`` is new, or belongs to this very run or one with fewer rounds."""
    request = _request(student, options, loss)
    try:
        stored = dict(json.loads((out / REQUEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        stored = None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{out / REQUEST} cannot be read ({error}). Choose another output folder.") from error
    begun = request if stored is not None and _is_extended(stored, request) else stored
    check_owner(out, begun, request, kind="gradual run", resume=options.resume)
    if stored != request:
        write_json(out / REQUEST, request)


def _is_extended(stored: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether ``request`` is for what ``stored`` was for, and then for further rounds."""
    rounds = stored.get("rounds") or []
    return {**stored, "rounds": request["rounds"]} == request and request["rounds"][: len(rounds)] == rounds


def _request(student: Checkpoint, options: GradualOptions, loss: Distillation) -> dict[str, Any]:
    """What makes a run this run."""
    oneshot = options.oneshot
    return {
        **options.origin,
        "start": arch_from_model(student.model).to_dict(),
        "rounds": [[x.name, _meaning(x.target)] for x in options.rounds],
        "method": oneshot.method.value,
        "ffn_multiple": oneshot.ffn_multiple,
        "reconstruct": oneshot.reconstruct,
        "seed": oneshot.seed,
        "training": asdict(options.training),
        "distillation": asdict(options.distillation),
        "examples": len(loss.lengths),
        "tokens": sum(loss.lengths),
    }


def _meaning(target: Budget | ArchSpec) -> Any:
    return target.to_dict() if isinstance(target, ArchSpec) else target.meaning


def _read_step(folder: Path) -> GradualStep:
    try:
        facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return GradualStep(
            name=facts["name"],
            folder=folder,
            arch=ArchSpec.from_dict(facts["arch"]),
            divergence_pruned=facts["divergence_pruned"],
            divergence=facts["divergence"],
            kept_training=facts["kept_training"],
            steps=facts["steps"],
            seconds=facts["seconds"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / RECORD} is damaged ({error}). Remove the folder to run the round again."
        ) from error
