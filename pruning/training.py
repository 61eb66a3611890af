"""Train any BERT, dense or compact, on an `Objective`, with the Trainer of transformers underneath.

The Trainer brings devices, mixed precision, the optimiser and exact checkpoints; the order of the batches is ours:
fixed in advance by the seed, texts of similar length together. One run is one pass over that plan, whatever the
number of epochs, so that a stopped run continues at the very next batch. Several processes, as accelerate or torchrun
launch them, take turns with the batches of one plan.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers import logging as hf_logging

from pruning.batching import Batch, bucketed_indices
from pruning.errors import InputError
from pruning.modes import without_dropout
from pruning.objective import Objective
from pruning.processes import process_count, process_rank, wait_for_all

OnStep = Callable[[int, int, float], None]
"""Called after each step with its number, the number of all steps, and the loss."""

COMPLETE = "complete"
"""Written last into a stored state: one without it was cut short."""

EPOCH_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class TrainingOptions:
    """AdamW with linear warm-up and decay.

    Args:
        epochs: passes over the examples.
        batch_size: examples per pass through the model.
        accumulate: passes of each process per step; ``batch_size * accumulate * processes`` examples move the weights
            once.
        learning_rate: its peak.
        warmup_fraction: part of the steps in which the rate rises.
        weight_decay: on matrices only, never on biases and LayerNorm.
        max_grad_norm: gradients are clipped to this norm.
        seed: of the order of the examples, and of dropout.
        dropout: apply the model's own; a student repeats its teacher better without.
        freeze_word_embeddings: leave the word embeddings as they are; they cost more than the rest of a short step.
        checkpoint_steps: steps between stored states; ``None``: once per epoch.
        cpu: stay on the CPU even if there is a GPU.

    Raises:
        InputError: if a value makes no sense.
    """

    epochs: int = 3
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 5e-5
    warmup_fraction: float = 0.06
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 0
    dropout: bool = True
    freeze_word_embeddings: bool = False
    checkpoint_steps: int | None = None
    cpu: bool = False

    def __post_init__(self) -> None:
        steps = 1 if self.checkpoint_steps is None else self.checkpoint_steps
        counts = {"epochs": self.epochs, "batch_size": self.batch_size, "accumulate": self.accumulate}
        for name, value in (counts | {"checkpoint_steps": steps}).items():
            if value < 1:
                raise InputError(f"{name} must be at least 1; got {value}.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"learning_rate must be above 0; got {self.learning_rate}. Usual: 1e-5 to 1e-4.")
        if not 0 <= self.warmup_fraction < 1:
            raise InputError(f"warmup_fraction must be in [0, 1); got {self.warmup_fraction}.")


@dataclass(frozen=True, eq=False)
class TrainingExtension:
    """What a method adds to the loop: callbacks, and the optimiser's groups of parameters in place of the usual."""

    callbacks: Sequence[TrainerCallback] = ()
    parameter_groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None


@dataclass(frozen=True)
class TrainingRun:
    """What happened: steps in all, seconds spent by this process, and the loss of the last step it took."""

    steps: int
    seconds: float
    last_loss: float | None


def train(
    model: PreTrainedModel,
    objective: Objective,
    options: TrainingOptions,
    folder: Path,
    *,
    on_step: OnStep | None = None,
    extension: TrainingExtension | None = None,
) -> TrainingRun:
    """Train ``model`` in place; it ends in evaluation mode, on the device it was trained on.

    Continues from the newest complete state in ``folder``, if there is one: on a CPU the result is then the same,
    bit for bit, as that of an undisturbed run. Reseeds the global random generators. In bf16 on a GPU that has it,
    weights and optimiser staying in fp32; otherwise in fp32.

    Args:
        model: dense or compact.
        objective: the examples and the loss.
        options: see `TrainingOptions`.
        folder: where states are stored: weights as safetensors, the optimiser's as torch files of this process.
        on_step: progress.
        extension: what a method adds to the loop.

    Raises:
        InputError: if the loss becomes NaN or infinite.
    """
    plan = shared_plan(batch_plan(objective, options))[process_rank() :: process_count()]
    steps = steps_of(objective, options)
    watcher = _Watcher(on_step)
    newest = newest_state(folder)
    start = time.perf_counter()
    dropout = nullcontext() if options.dropout else without_dropout(model)
    with _without_progress_bars(), _frozen(model, options.freeze_word_embeddings), dropout:
        trainer = _PlannedTrainer(model, _training_arguments(options, folder, steps), objective, plan, watcher)
        trainer.extend(extension or TrainingExtension())
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    model.eval()
    return TrainingRun(steps, time.perf_counter() - start, watcher.last_loss)


def batch_plan(objective: Objective, options: TrainingOptions) -> list[tuple[int, ...]]:
    """The examples of every step of the run: each epoch has each example once, in an order of its own."""
    return [
        batch
        for epoch in range(options.epochs)
        for batch in bucketed_indices(
            objective.lengths, options.batch_size, seed=options.seed + EPOCH_SEED_STRIDE * epoch
        )
    ]


def shared_plan(plan: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The plan with as many of its first batches again as let every process have the same number."""
    return plan + list(islice(cycle(plan), -len(plan) % process_count()))


def steps_of(objective: Objective, options: TrainingOptions) -> int:
    """Optimiser steps of the run."""
    batches = math.ceil(len(objective.lengths) / options.batch_size) * options.epochs
    return math.ceil(math.ceil(batches / process_count()) / options.accumulate)


def newest_state(folder: Path) -> Path | None:
    """The last state that was stored completely, if any."""
    states = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(states, key=_step_of, default=None)


class _Watcher(TrainerCallback):
    """Reports each step, refuses a loss that is no number, and keeps one stored state: the newest complete one."""

    def __init__(self, on_step: OnStep | None) -> None:
        self._on_step = on_step
        self.last_loss: float | None = None

    def see_loss(self, loss: Tensor, step: int) -> None:
        self.last_loss = loss.item()
        if not math.isfinite(self.last_loss):
            raise InputError(f"the loss became {self.last_loss} at step {step}. Use a lower --learning-rate.")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self._on_step is not None and self.last_loss is not None:
            self._on_step(state.global_step, state.max_steps, self.last_loss)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        wait_for_all(cpu=args.use_cpu)  # each has stored its random state
        newest = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            (newest / COMPLETE).touch()
            for stored in newest.parent.glob("checkpoint-*"):
                if stored != newest:
                    shutil.rmtree(stored)


class _PlannedTrainer(Trainer):
    """Takes its batches from a plan and its loss from an `Objective`, and keeps quiet."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        objective: Objective,
        plan: Sequence[tuple[int, ...]],
        watcher: _Watcher,
    ) -> None:
        super().__init__(model=model, args=args, train_dataset=range(len(objective.lengths)), callbacks=[watcher])
        self.remove_callback(PrinterCallback)
        self._objective, self._plan, self._watcher = objective, plan, watcher
        self._parameter_groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None
        self.model_accepts_loss_kwargs = False  # our losses are means: the Trainer divides them by the micro-batches

    def extend(self, extension: TrainingExtension) -> None:
        for callback in extension.callbacks:
            self.add_callback(callback)
        self._parameter_groups = extension.parameter_groups

    def create_optimizer(self, *args: Any) -> torch.optim.Optimizer:
        if self._parameter_groups is None:
            return super().create_optimizer(*args)  # type: ignore[no-any-return]
        kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        self.optimizer = kind(self._parameter_groups(self.model), **settings)
        return self.optimizer  # type: ignore[no-any-return]

    def get_train_dataloader(self) -> DataLoader[int]:
        # A generator of its own: the loader must not draw from the one that dropout uses.
        return DataLoader(
            range(len(self._objective.lengths)),  # type: ignore[arg-type]  # a range is a map-style data set
            batch_sampler=self._plan,  # type: ignore[arg-type]  # so is a list of batches a sampler
            collate_fn=self._objective.batch,
            generator=torch.Generator(),
        )

    def compute_loss(self, model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any) -> Tensor:
        loss = self._objective.loss(model, inputs)
        self._watcher.see_loss(loss.detach(), self.state.global_step + 1)
        return loss

    def floating_point_ops(self, inputs: Batch) -> int:
        return 0


class OneDeviceArguments(TrainingArguments):
    """Several visible GPUs do not split a batch: replicas of a module would not share what its masks are made from."""

    @property
    def n_gpu(self) -> int:
        """One at most."""
        visible: int = super().n_gpu
        return min(1, visible)


def _training_arguments(options: TrainingOptions, folder: Path, steps: int) -> OneDeviceArguments:
    gpu = torch.cuda.is_available() and not options.cpu
    return OneDeviceArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(options.warmup_fraction * steps),
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        seed=options.seed,
        use_cpu=options.cpu,
        bf16=gpu and torch.cuda.is_bf16_supported(including_emulation=False),
        save_strategy="steps",
        save_steps=options.checkpoint_steps or math.ceil(steps / options.epochs),
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )


@contextmanager
def _frozen(model: PreTrainedModel, freeze: bool) -> Iterator[None]:
    """Inside, the word embeddings take no gradient, if asked for; afterwards they are as they were."""
    weight = model.get_input_embeddings().weight
    before = weight.requires_grad
    weight.requires_grad_(before and not freeze)
    try:
        yield
    finally:
        weight.requires_grad_(before)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Storing a state draws a bar of its own for each file."""
    enabled = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            hf_logging.enable_progress_bar()


def _step_of(state: Path) -> int:
    found = re.fullmatch(r"checkpoint-(\d+)", state.name)
    return -1 if found is None else int(found[1])
