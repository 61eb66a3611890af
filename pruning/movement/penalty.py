"""The penalty that drives scores down: the only force towards a smaller model."""

from __future__ import annotations

import torch
from torch import Tensor

from pruning.movement.masked_linear import BlockMask
from pruning.movement.spec import FamilySpec

N_FAMILIES = 2


def penalty(families: list[tuple[FamilySpec, list[BlockMask]]]) -> Tensor:
    """``R = sum over families (lambda_F / 2) mean over its score tensors of mean(sigmoid(S))``, a scalar.

    0.5 where all scores are 0 and both lambdas 1. Every matrix has the same say, whatever its size. Families whose
    scores are not learned add nothing.

    Source: Lagunas et al. 2021, arXiv:2109.04838, section 3.
    """
    total = torch.zeros(())
    for family, masks in families:
        learned = [mask for mask in masks if mask.rule.learned]
        if learned:
            means = torch.stack([mask.rule.open_probability(mask.scores).mean() for mask in learned])
            total = total.to(means.device) + family.penalty / N_FAMILIES * means.mean()
    return total
