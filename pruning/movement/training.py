"""The pruner inside a training loop: an objective for ours, a callback for any Trainer, the optimiser's groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from pruning.batching import Batch
from pruning.movement.pruner import MovementPruner, MovementRecord
from pruning.objective import Objective

SCORE_LEARNING_RATE = 1e-2
"""Published, for runs of 100,000 steps."""
SCORE_TRAVEL = 12.0
"""Least ``steps * rate``: scores must be able to travel from 0 to twice logit(0.1) = -2.2 within the ramp."""
ParameterGroups = list[dict[str, Any]]
OnRecord = Callable[[MovementRecord], None]


def parameter_groups(
    model: nn.Module, pruner: MovementPruner, *, weight_decay: float = 0.01, score_learning_rate: float | None = None
) -> ParameterGroups:
    """Groups for AdamW: matrices with weight decay, biases and LayerNorm without, scores with a rate of their own.

    The decay of the scores is exactly 0: PyTorch's default, 0.01, would pull them to the middle of the sigmoid.
    """
    scores = {id(score) for score in pruner.scores}
    others = [x for x in model.parameters() if x.requires_grad and id(x) not in scores]
    return [
        {"params": [x for x in others if x.dim() > 1], "weight_decay": weight_decay},
        {"params": [x for x in others if x.dim() <= 1], "weight_decay": 0.0},
        {"params": pruner.scores, "weight_decay": 0.0, "lr": score_learning_rate or SCORE_LEARNING_RATE},
    ]


def score_rate(steps: int) -> float:
    """Peak rate of the scores for a run of ``steps``: the published 1e-2, and more in short runs, ``12 / steps``.

    AdamW moves a score by at most the rate in each step. With linear decay and the default holds the ramp is worth
    about ``0.37 steps`` steps at the peak, so below some 1,200 steps the published rate leaves all scores so close to 0
    that no threshold but one near 0.5 cuts anything, and the order in which blocks go is decided by noise.
    """
    return max(SCORE_LEARNING_RATE, SCORE_TRAVEL / steps)


class MovementObjective(Objective):
    """An objective plus the penalty of the pruner."""

    def __init__(self, objective: Objective, pruner: MovementPruner) -> None:
        self._objective, self._pruner = objective, pruner

    @property
    def lengths(self) -> tuple[int, ...]:
        """See `Objective.lengths`."""
        return self._objective.lengths

    def batch(self, indices: Sequence[int]) -> Batch:
        """See `Objective.batch`."""
        return self._objective.batch(indices)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Objective.loss`; the penalty included."""
        loss = self._objective.loss(model, batch)
        return loss + self._pruner.penalty().to(loss.device)


class MovementCallback(TrainerCallback, ExportableState):
    """Moves the pruner along in any `transformers.Trainer`, and stores its state in the Trainer's checkpoints.

    Log lines and evaluations in mid-training name the threshold that was in force.

    Args:
        pruner: attached to the Trainer's model.
        penalty_in_loss: the loss holds `MovementPruner.penalty` already. If not, the callback adds its gradient to
            the scores before each optimiser step: once, whatever the micro-batches and processes, and after the
            clipping, which in the paper comes last.
        on_record: called with every record.
    """

    def __init__(
        self, pruner: MovementPruner, *, penalty_in_loss: bool = False, on_record: OnRecord | None = None
    ) -> None:
        self.pruner, self._penalty_in_loss, self._on_record = pruner, penalty_in_loss, on_record

    def state(self) -> dict[str, Any]:
        """What the Trainer stores in ``trainer_state.json``."""
        return {"args": {}, "attributes": self.pruner.state()}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Take up the stored state; a fresh run has stored its own beginning."""
        stored = state.stateful_callbacks.get(type(self).__name__)
        if stored is not None and state.global_step:
            self.pruner.load_state(stored["attributes"])

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Decide which blocks live during this step."""
        record = self.pruner.step(state.global_step)
        if record is not None and self._on_record is not None:
            self._on_record(record)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Add the gradient of the penalty, unless the loss holds it."""
        if not self._penalty_in_loss:
            add_penalty_gradient(self.pruner)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Name the threshold beside the metrics."""
        if kwargs.get("metrics") is not None:
            kwargs["metrics"]["eval_threshold"] = self.pruner.threshold

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add threshold, lambda and density to the log line."""
        logs = kwargs.get("logs")
        if logs is not None:
            record = self.pruner.record(state.global_step)
            logs |= {
                "threshold": record.threshold,
                "penalty_lambda": record.penalty_lambda,
                "density": record.density,
            }


class MovementTrainer(Trainer):
    """A Trainer that prunes: the callback, and the optimiser's groups. Put it among the bases of your own Trainer.

    Args:
        args: positional arguments of the Trainer.
        pruner: attached to the model.
        score_learning_rate: of the scores.
        kwargs: of the Trainer.
    """

    def __init__(
        self, *args: Any, pruner: MovementPruner, score_learning_rate: float = SCORE_LEARNING_RATE, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._pruner, self._score_learning_rate = pruner, score_learning_rate
        self.add_callback(MovementCallback(pruner))

    def create_optimizer(self, *args: Any) -> torch.optim.Optimizer:
        """The Trainer's optimiser, with the scores in a group of their own."""
        kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        groups = parameter_groups(
            self.model,
            self._pruner,
            weight_decay=self.args.weight_decay,
            score_learning_rate=self._score_learning_rate,
        )
        self.optimizer = kind(groups, **settings)
        return self.optimizer  # type: ignore[no-any-return]


def add_penalty_gradient(pruner: MovementPruner) -> None:
    """Add the gradient of ``lambda(t) R`` to the gradients of the scores."""
    scores = pruner.scores
    if not scores or pruner.penalty_lambda == 0:
        return
    gradients = torch.autograd.grad(pruner.penalty(), scores, allow_unused=True)
    for score, gradient in zip(scores, gradients, strict=True):
        if gradient is not None:
            score.grad = gradient if score.grad is None else score.grad + gradient
