"""Optimal brain surgeon for structures: which units of a sublayer to keep at every width, and what that costs.

For ``y = x W + b`` with inputs of covariance A and outputs whose errors cost ``e' G e / 2``, removing the features S
and solving for the others again costs ``tr(G W_S' ((A^-1)_SS)^-1 W_S) / 2``, in units of the loss. Units go greedily
along a grid of widths; A^-1 and W are updated after every step, so that a later removal knows of the earlier ones.

Source: Kurtic et al. 2023 (ZipLM), arXiv:2302.04089, section 3; Hassibi and Stork 1992 (OBS).

Letters: K input features of the output projection, E hidden, U units, u features of a unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.linalg import solve_triangular

DAMPING = 1e-2
"""Added to the diagonal of A, relative to its mean: directions that the texts never show are not free."""


@dataclass(frozen=True, eq=False)
class RemovalPath:
    """``order`` (U,): all units, the first to go first. ``cost[i]``: of keeping only the last ``kept[i]`` of them.

    ``kept`` grows from 0 to U, so the costs fall to 0.
    """

    order: Tensor
    kept: np.ndarray
    cost: np.ndarray

    @property
    def ranks(self) -> Tensor:
        """A score (U,) per unit: its place in ``order``, so that the highest stay longest."""
        return torch.argsort(self.order).float()


def removal_path(weight: Tensor, covariance: Tensor, *, unit: int, widths: Sequence[int]) -> RemovalPath:
    """Remove units down to each of ``widths`` and to none.

    The units of one step are those that cost least alone; the step's cost is that of removing them together.

    Args:
        weight: (K, E), multiplied by `metric_root` if the directions of the output differ in importance.
        covariance: A (K, K), centred.
        unit: features per unit, K / U.
        widths: numbers of units to price, ascending from 0 to U.
    """
    units = len(weight) // unit
    assert list(widths) == sorted({0, units, *widths})
    weight, inverse = weight.double(), damped_inverse(covariance)
    left, order, costs = torch.arange(units, device=weight.device), [], [0.0]
    for width in reversed(widths[:-1]):
        gone = _unit_costs(weight, inverse, unit).argsort(stable=True)[: len(left) - width]
        stays = torch.ones(len(left), dtype=torch.bool, device=left.device)
        stays[gone] = False
        cost, weight, inverse = _remove(weight, inverse, stays.repeat_interleave(unit))
        costs.append(costs[-1] + cost)
        order.append(left[gone])
        left = left[stays]
    return RemovalPath(torch.cat(order).cpu() if order else left.cpu(), np.array(widths), np.array(costs[::-1]))


def damped_inverse(covariance: Tensor) -> Tensor:
    """``(A + lambda I)^-1`` in float64, lambda 1 % of the mean variance: not singular, even for features that are 0."""
    matrix = covariance.double()
    strength = DAMPING * float(matrix.diagonal().mean()) + torch.finfo(torch.float32).tiny
    matrix = matrix + strength * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def metric_root(metric: Tensor) -> Tensor:
    """R (E, E) with ``R R' = G / 2``: the squared norm of an error times R is its cost."""
    values, vectors = torch.linalg.eigh(metric.double() / 2)
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root


def _unit_costs(weight: Tensor, inverse: Tensor, unit: int) -> Tensor:
    """Cost (U,) of removing each unit alone."""
    units = len(weight) // unit
    own = weight.reshape(units, unit, weight.shape[1])  # (U, u, E)
    blocks = inverse.view(units, unit, units, unit).diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (U, u, u)
    scaled: Tensor = solve_triangular(torch.linalg.cholesky(blocks), own, upper=False)
    return scaled.square().sum((1, 2))


def _remove(weight: Tensor, inverse: Tensor, stays: Tensor) -> tuple[float, Tensor, Tensor]:
    """Cost of removing the features that do not stay, and ``weight`` and ``inverse`` of those that do."""
    factor = torch.linalg.cholesky(inverse[~stays][:, ~stays])
    scaled = solve_triangular(factor, weight[~stays], upper=False)  # (S, E)
    shared = solve_triangular(factor, inverse[~stays][:, stays], upper=False)  # (S, K - S)
    rest = inverse[stays][:, stays] - shared.T @ shared
    return float(scaled.square().sum()), weight[stays] - shared.T @ scaled, rest
