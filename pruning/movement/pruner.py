"""The pruner: masks on a model, moved along the schedule. Three calls make a training loop of any kind prune.

pruner = attach(model, spec, schedule, aim)          # before the optimiser is built
pruner.step(step)                                    # at the start of every optimiser step
loss = model(**batch).loss + pruner.penalty()
compact = pruner.compact()                           # after the last one
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.arch import ArchSpec
from pruning.compaction import compact_from_masked
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model
from pruning.movement.controller import PenaltyController, Target, cut_for
from pruning.movement.floors import check_rewind, forced_blocks
from pruning.movement.layers import Census, Levels, MaskedLayer, census_of, dense_from_masked, mask_layers, masks_of
from pruning.movement.layers import penalised_families as families_of
from pruning.movement.mask_functions import MASK_RULES, MaskRule
from pruning.movement.masked_linear import BlockMask
from pruning.movement.penalty import penalty
from pruning.movement.schedule import Schedule
from pruning.movement.spec import MovementSpec

CONTROL_UPDATES = 200
"""Times that the cut is solved and the penalty steered within the ramp."""
INITIAL_LAMBDA = 10.0
"""Where the feedback starts; published runs end between 5 and 20."""
NOISE_SEED_STRIDE = 7919


@dataclass(frozen=True)
class PaperAim:
    """Prune as the paper does: a final lambda, and the size that comes of it."""

    final_lambda: float

    def __post_init__(self) -> None:
        if not 0 <= self.final_lambda < float("inf"):
            raise InputError(f"--lambda must be finite and at least 0; got {self.final_lambda:g}. Published: 5 to 20.")


Aim = PaperAim | Target


@dataclass(frozen=True)
class MovementRecord:
    """The state of the pruning at one step.

    ``density`` is the share of the encoder's matrix weights in heads and neurons that live, ``nonzero`` that of
    weights that are not masked; ``threshold`` the cut in force and ``penalty_lambda`` the strength of the penalty.
    """

    step: int
    threshold: float
    penalty_lambda: float
    penalty: float
    density: float
    nonzero: float
    heads: tuple[int, ...]
    neurons: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"density {self.density:.3f}, threshold {self.threshold:.3f}, lambda {self.penalty_lambda:.3g}, "
            f"penalty {self.penalty:.3g}, {sum(self.heads)} heads, {sum(self.neurons)} neurons"
        )


class MovementPruner:
    """See the module. Made by `attach`; it owns no weights: scores are parameters of the model.

    ``history`` holds a record per control step.
    """

    def __init__(self, model: PreTrainedModel, spec: MovementSpec, schedule: Schedule, aim: Aim, seed: int) -> None:
        self.model, self.spec, self.schedule, self.aim, self.seed = model, spec, schedule, aim, seed
        self.dense_arch: ArchSpec = arch_from_model(model)
        self.layers: list[MaskedLayer] = mask_layers(model, spec)
        self.history: list[MovementRecord] = []
        self._families = families_of(self.layers, spec)
        self._every = max(1, schedule.ramp_steps // CONTROL_UPDATES)
        self._needed = self._initial_cut = _initial_cut(self._rules)
        self._final_cut = _final_cut(self._rules)
        self._controller: PenaltyController | None = None
        self._lambda = 0.0
        if isinstance(aim, Target) and self._final_cut is not None:
            start = torch.tensor(INITIAL_LAMBDA).log().item()
            self._controller = PenaltyController(self._initial_cut, self._final_cut, start)
            self._lambda = INITIAL_LAMBDA
        if isinstance(aim, PaperAim):
            self._lambda = aim.final_lambda
        self.threshold = 0.0
        self.penalty_lambda = 0.0

    @property
    def scores(self) -> list[torch.nn.Parameter]:
        """The learned scores: parameters that want their own learning rate, and no weight decay at all."""
        return [mask.scores for mask in masks_of(self.layers) if mask.scores.requires_grad]

    @torch.no_grad()
    def step(self, step: int) -> MovementRecord | None:
        """Decide which blocks live during optimiser step ``step`` (0 is the first); call it once before each.

        Returns:
            A record, at control steps.
        """
        self._refresh_magnitudes()
        control = step % self._every == 0 or step >= self.schedule.total_steps
        levels = self._levels()
        if control:
            self._steer(step, levels)
        progress = self.schedule.progress(step)
        self.threshold = progress * self._needed
        self.penalty_lambda = progress * self._lambda
        self._decide(levels.keep(self.threshold), step)
        if not control:
            return None
        record = self.record(step)
        self.history.append(record)
        return record

    def penalty(self) -> Tensor:
        """``lambda(t) R``: add it to the loss of every micro-batch, before it is divided by their number."""
        return self.penalty_lambda * penalty(self._families)

    def finish(self) -> MovementRecord:
        """Decide for the last time, at full strength.

        Raises:
            InputError: if the target is missed by more than the tolerance: the units are too coarse for it.
        """
        record = self.step(self.schedule.total_steps)
        assert record is not None
        if isinstance(self.aim, Target):
            left = self.aim.measured(self.census(), self.dense_arch)
            if not self.aim.is_met(left):
                raise InputError(
                    f"the target, {self.aim.meaning}, is {self.aim.wanted:.1%} of the dense model and pruning came to "
                    f"{left:.1%}: no cut comes closer. Use smaller blocks, lower floors, or another target."
                )
        return record

    def check_reachable(self) -> None:
        """Make sure that the blocks which must stay leave room for the target.

        Raises:
            InputError: if they do not.
        """
        if not isinstance(self.aim, Target):
            return
        least = self.aim.measured(self._census(self._levels(), 1.0), self.dense_arch)
        if least > self.aim.wanted:
            raise InputError(
                f"the target, {self.aim.meaning}, leaves {self.aim.wanted:.1%} of the dense model, but floors and kept "
                f"heads hold {least:.1%} of it. Lower them, or ask for a larger model."
            )

    def dense(self) -> PreTrainedModel:
        """A copy of full size, with zeros in ordinary linear layers."""
        return dense_from_masked(self.model)

    def compact(self) -> PreTrainedModel:
        """The compact model under the masks as they are; equal to the masked one on every input."""
        return compact_from_masked(self.dense())

    def census(self) -> Census:
        """What lives now."""
        kept = {mask: mask.keep.float() for mask in masks_of(self.layers)}
        return self._census(Levels.from_blocks(self.layers, kept), 0.5)

    @torch.no_grad()
    def record(self, step: int) -> MovementRecord:
        """The state of the pruning, now."""
        census = self.census()
        return MovementRecord(
            step=step,
            threshold=self.threshold,
            penalty_lambda=self.penalty_lambda,
            penalty=float(self.penalty()),
            density=census.arch.encoder_linear_params / self.dense_arch.encoder_linear_params,
            nonzero=census.kept_weights / census.all_weights,
            heads=census.arch.heads,
            neurons=census.arch.ffn,
        )

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside the model's parameters, as plain data."""
        return {
            "needed": self._needed,
            "lambda": self._lambda,
            "controller": None if self._controller is None else asdict(self._controller),
            "history": [asdict(record) for record in self.history],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._needed, self._lambda = state["needed"], state["lambda"]
        if state["controller"] is not None:
            self._controller = PenaltyController(**state["controller"])
        self.history = [
            MovementRecord(**(x | {"heads": tuple(x["heads"]), "neurons": tuple(x["neurons"])}))
            for x in state["history"]
        ]

    @property
    def _rules(self) -> list[MaskRule]:
        return [MASK_RULES[family.mask_function] for family in (self.spec.attention, self.spec.ffn)]

    def _steer(self, step: int, levels: Levels) -> None:
        if isinstance(self.aim, PaperAim):
            assert self._final_cut is not None
            self._needed = self._final_cut
            return
        aim = self.aim
        self._needed = cut_for(aim.wanted, lambda cut: aim.measured(self._census(levels, cut), self.dense_arch))
        since = (step - self.schedule.hold_steps) / self.schedule.ramp_steps
        if self._controller is not None and since >= 0:
            self._lambda = self._controller.update(self._needed, since)

    def _levels(self) -> Levels:
        blocks = {mask: mask.rule.levels(mask.scores.detach()) for mask in masks_of(self.layers)}
        for mask, forced in forced_blocks(self.layers, self.spec.floors, self.spec.rewind).items():
            blocks[mask] = blocks[mask].masked_fill(forced, math.inf)
        return Levels.from_blocks(self.layers, blocks)

    def _census(self, levels: Levels, cut: float) -> Census:
        return census_of(self.layers, levels, cut, self.dense_arch)

    def _decide(self, keep: dict[BlockMask, Tensor], step: int) -> None:
        generator = torch.Generator().manual_seed(self.seed + NOISE_SEED_STRIDE * step)
        for mask, kept in keep.items():
            mask.decide(kept, mask.rule.noise(mask.scores, generator))
        for linear in (linear for layer in self.layers for linear in layer.linears):
            linear.refresh_pattern()

    def _refresh_magnitudes(self) -> None:
        sums: dict[BlockMask, Tensor] = {}
        for linear in (linear for layer in self.layers for linear in layer.linears):
            if not linear.mask.rule.learned:
                sums[linear.mask] = sums.get(linear.mask, 0) + linear.magnitudes()
        for mask, magnitude in sums.items():
            mask.scores.copy_(magnitude)


def attach(
    model: PreTrainedModel, spec: MovementSpec, schedule: Schedule, aim: Aim, *, seed: int = 0
) -> MovementPruner:
    """Put masks on ``model``, in place, and return the pruner that moves them.

    Args:
        model: dense or compact BERT. Build the optimiser afterwards, with the groups of `parameter_groups`.
        spec: what is pruned.
        schedule: in optimiser steps.
        aim: a target, or the lambda of the paper.
        seed: of the noise of ``l0`` gates; the same on every process.

    Raises:
        InputError: if the model is not a supported BERT, a block shape does not divide a matrix, floors or an earlier
            run do not fit, or the aim cannot be reached.
    """
    head_from_model(model)
    _check_aim(spec, aim)
    pruner = MovementPruner(model, spec, schedule, aim, seed)
    if spec.rewind is not None:
        check_rewind(spec.rewind, pruner.layers)
    pruner.check_reachable()
    return pruner


def _check_aim(spec: MovementSpec, aim: Aim) -> None:
    functions = (spec.attention.mask_function, spec.ffn.mask_function)
    if isinstance(aim, PaperAim):
        fixed = [name for name in functions if MASK_RULES[name].final_cut is None]
        if fixed:
            raise InputError(
                f"{fixed[0]} keeps a fraction of each matrix and knows no lambda. Pass a target such as --density."
            )
    elif spec.row.counts_holes and aim.price is not None:
        raise InputError(
            f"variant {spec.variant} leaves zeros inside living heads and neurons, which make nothing smaller or "
            "faster: its only target is --density. For --params or --speedup use hybrid, hybrid-filled or struct."
        )


def _final_cut(rules: list[MaskRule]) -> float | None:
    """Where the paper's schedule ends, if every family has such a place."""
    cuts = [rule.final_cut for rule in rules]
    known = [cut for cut in cuts if cut is not None]
    return known[0] if len(known) == len(cuts) else None


def _initial_cut(rules: list[MaskRule]) -> float:
    """The cut at which the fresh scores of the first family would be removed."""
    return rules[0].start
