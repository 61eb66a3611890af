"""From scores to masks: which blocks live under a cut, and the mask that training sees.

A cut x in [0, 1] removes nothing at 0 and everything at 1, whatever the function: for ``sigmoid-threshold``,
``threshold`` and ``l0`` it is a threshold, for ``topk`` and ``magnitude`` the removed fraction of each matrix. Every
block therefore has a *level*, the cut that removes it, and a mask at any cut is one comparison. All tensors are the
scores of one matrix, (R, C), or masks of that shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from pruning.movement.names import MaskFunction

L0_LOW, L0_HIGH, L0_BETA = -0.1, 1.1, 2 / 3
"""Stretch and temperature of the hard concrete distribution."""
SMALLEST_LEVEL = torch.finfo(torch.float32).tiny
"""Above a cut of 0, which removes nothing."""
L0_INITIAL = math.log(9)
"""Log-odds of an open gate at the start: a dropout rate of 0.1."""


class StraightThrough(torch.autograd.Function):
    """The mask of ``keep``, differentiated as if it were the scores themselves.

    The derivative of the sigmoid is left out, and blocks that are cut receive gradients like the others, so that they
    may come back.

    Source: Sanh et al. 2020, arXiv:2005.07683, section 4; Bengio et al. 2013, arXiv:1308.3432.
    """

    @staticmethod
    def forward(_ctx: Any, scores: Tensor, keep: Tensor) -> Tensor:
        """1 where ``keep`` is True, else 0, in the dtype of the scores."""
        return keep.to(scores.dtype)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient of the mask is the gradient of the scores."""
        return gradients[0], None


class MaskRule(ABC):
    """One mask function. Stateless: one instance serves every matrix."""

    initial_score: ClassVar[float]
    learned: ClassVar[bool] = True
    """Whether training changes the scores; if not, they are magnitudes of weights."""

    binary: ClassVar[bool] = True
    """Whether the factors of training are 0 or 1 and nothing between."""

    start: ClassVar[float] = 0.5
    """The cut at which fresh scores are removed."""

    final_cut: ClassVar[float | None] = None
    """Where the schedule of the paper ends; None where only a target can say."""

    @abstractmethod
    def levels(self, scores: Tensor) -> Tensor:
        """The smallest cut that removes each block, (R, C) in (0, 1]."""

    @final
    def keep(self, scores: Tensor, cut: float) -> Tensor:
        """Bool (R, C): the blocks that live at ``cut`` in [0, 1]."""
        return self.levels(scores) > cut

    def mask(self, scores: Tensor, keep: Tensor, _noise: Tensor | None) -> Tensor:
        """The factor of each block in training, with a gradient to the scores."""
        return StraightThrough.apply(scores, keep)  # type: ignore[no-any-return, no-untyped-call]  # autograd is untyped

    def noise(self, _scores: Tensor, _generator: torch.Generator) -> Tensor | None:
        """What makes the mask of one step random, if anything."""
        return None

    def open_probability(self, scores: Tensor) -> Tensor:
        """What the penalty averages, (R, C) in [0, 1]."""
        return torch.sigmoid(scores)


@final
class SigmoidThreshold(MaskRule):
    """``1[sigmoid(S) > cut]``: soft movement pruning, the default."""

    initial_score, final_cut = 0.0, 0.1

    def levels(self, scores: Tensor) -> Tensor:
        """See `MaskRule.levels`. At 0 nothing is cut, not even where the sigmoid underflows."""
        return torch.sigmoid(scores).clamp(min=SMALLEST_LEVEL)


@final
class Threshold(MaskRule):
    """``1[S > cut]``, without a sigmoid: scores start at 0.5, where the sigmoid would put them."""

    initial_score, final_cut = 0.5, 0.1

    def levels(self, scores: Tensor) -> Tensor:
        """See `MaskRule.levels`."""
        return scores.clamp(SMALLEST_LEVEL, 1)


@final
class TopK(MaskRule):
    """The blocks with the highest scores, the same fraction of every matrix: movement pruning as first published."""

    initial_score = 0.0

    def levels(self, scores: Tensor) -> Tensor:
        """See `MaskRule.levels`. Ties go to the block that comes first."""
        return rank_levels(scores)


@final
class Magnitude(MaskRule):
    """The blocks with the largest mean absolute weight, the same fraction of every matrix: the control."""

    initial_score, learned = 0.0, False

    def levels(self, scores: Tensor) -> Tensor:
        """See `MaskRule.levels`; the scores are magnitudes."""
        return rank_levels(scores)

    def mask(self, scores: Tensor, keep: Tensor, _noise: Tensor | None) -> Tensor:
        """The hard mask: there is nothing to learn."""
        return keep.to(scores.dtype)


@final
class HardConcrete(MaskRule):
    """Stochastic gates with a real chance of being exactly 0; the scores are their log-odds.

    Source: Louizos et al. 2018, arXiv:1712.01312.
    """

    initial_score, start, binary = L0_INITIAL, 0.9, False
    final_cut = -L0_LOW / (L0_HIGH - L0_LOW)  # below it a gate without noise is exactly 0

    def levels(self, scores: Tensor) -> Tensor:
        """See `MaskRule.levels`."""
        return torch.sigmoid(scores).clamp(min=SMALLEST_LEVEL)

    def mask(self, scores: Tensor, keep: Tensor, noise: Tensor | None) -> Tensor:
        """The gate in [0, 1], differentiable; without noise its deterministic value."""
        odds = scores if noise is None else (torch.logit(noise) + scores) / L0_BETA
        gate = (torch.sigmoid(odds) * (L0_HIGH - L0_LOW) + L0_LOW).clamp(0, 1)
        return gate * keep

    def noise(self, scores: Tensor, generator: torch.Generator) -> Tensor | None:
        """Uniform numbers strictly between 0 and 1."""
        return torch.rand(scores.shape, generator=generator).clamp(1e-6, 1 - 1e-6).to(scores)

    def open_probability(self, scores: Tensor) -> Tensor:
        """The probability that the gate is not 0."""
        return torch.sigmoid(scores - L0_BETA * math.log(-L0_LOW / L0_HIGH))


MASK_RULES: dict[MaskFunction, MaskRule] = {
    MaskFunction.SIGMOID_THRESHOLD: SigmoidThreshold(),
    MaskFunction.THRESHOLD: Threshold(),
    MaskFunction.TOPK: TopK(),
    MaskFunction.MAGNITUDE: Magnitude(),
    MaskFunction.L0: HardConcrete(),
}


def rank_levels(scores: Tensor) -> Tensor:
    """Levels by rank, in steps of 1 / number of ``scores``, any shape: cut x removes the smallest fraction x."""
    order = scores.flatten().argsort(descending=True, stable=True)
    levels = torch.empty(scores.numel(), device=scores.device)
    levels[order] = torch.arange(scores.numel(), 0, -1, device=scores.device, dtype=levels.dtype) - 0.5
    return (levels / scores.numel()).view(scores.shape)
