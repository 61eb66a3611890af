"""Weighted sums over tokens, and the ridge regression that they are for.

Products of one batch are in float32 (float64 for a model in float64), sums over batches and factorisations in float64,
all on the model's device. Letters: N tokens, K input features, E output features.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
"""Columns per product of a symmetric sum: fewer calls above it, less saved."""


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision is too coarse for sums of squares."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Moments:
    """Running weighted sums of ``x`` (N, K) and of its products.

    Everything is counted from an ``origin`` near the mean: products in float32 would otherwise lose the variance of a
    feature whose mean is large, and with it the positive definiteness of the system.
    """

    def __init__(self, features: int, device: torch.device | str = "cpu") -> None:
        self.tokens = 0.0
        self.origin: Tensor | None = None  # (K,), the mean of the first tokens
        self.x = torch.zeros(features, dtype=torch.float64, device=device)
        self._lower = torch.zeros(features, features, dtype=torch.float64, device=device)

    @property
    def xx(self) -> Tensor:
        """Sum of the products, (K, K), from the origin."""
        lower = self._lower.tril()
        return lower + lower.tril(-1).T

    def add(self, x: Tensor, weights: Tensor) -> Tensor:
        """Count the tokens ``x`` (N, K), each as often as its weight (N,) says; returns ``x`` from the origin."""
        x = at_least_float32(x)
        self.origin = x.mean(0) if self.origin is None else self.origin
        x = x - self.origin
        self.tokens += float(weights.double().sum())
        self.x += (x * weights[:, None]).sum(0).double()
        rooted = x * weights.sqrt()[:, None]
        for start in range(0, x.shape[1], BLOCK):  # only the blocks on and below the diagonal
            self._lower[start:, start : start + BLOCK] += rooted[:, start:].T @ rooted[:, start : start + BLOCK]
        return x

    def scatter(self) -> Tensor:
        """Centred X'X (K, K): with an intercept, only differences from the mean count."""
        return self.xx - torch.outer(self.x, self.x) / self.tokens

    def covariance(self) -> Tensor:
        """Mean of the centred products per unit of weight, (K, K)."""
        return self.scatter() / self.tokens

    def at_origin(self, weight: Tensor) -> Tensor:
        """What ``weight`` (K, E) makes of the origin, (E,)."""
        assert self.origin is not None
        return self.origin.double() @ weight


class LeastSquares:
    """Running sums for ``Y = X W + b`` over tokens. X is (N, K), Y is (N, E)."""

    def __init__(self, inner: int, hidden: int, device: torch.device | str = "cpu") -> None:
        self.inputs = Moments(inner, device)
        self.y = torch.zeros(hidden, dtype=torch.float64, device=device)
        self.xy = torch.zeros(inner, hidden, dtype=torch.float64, device=device)
        self.yy = 0.0

    def add(self, x: Tensor, y: Tensor, weights: Tensor | None = None) -> None:
        """Count the tokens ``x`` (N, K) and ``y`` (N, E), each as often as its weight (N,) says; default once."""
        weights = x.new_ones(len(x)) if weights is None else weights
        x, weighted = self.inputs.add(x, weights), at_least_float32(y) * weights[:, None]
        self.y += weighted.sum(0).double()
        self.xy += (x.T @ weighted).double()
        self.yy += float((y.double().square() * weights[:, None]).sum())

    def covariance(self) -> tuple[Tensor, Tensor]:
        """Centred X'X (K, K) and X'Y (K, E): the intercept is free and exact."""
        return self.inputs.scatter(), self.xy - torch.outer(self.inputs.x, self.y) / self.inputs.tokens

    def bias(self, weight: Tensor) -> Tensor:
        """The best intercept (E,) beside ``weight`` (K, E)."""
        return (self.y - self.inputs.x @ weight) / self.inputs.tokens - self.inputs.at_origin(weight)

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Mean squared error per token of a fit, ``weight`` (K, E), ``bias`` (E,)."""
        tokens, x = self.inputs.tokens, self.inputs.x
        bias = bias + self.inputs.at_origin(weight)
        squared = self.yy - 2 * (weight * self.xy).sum() - 2 * bias @ self.y
        squared += (weight * (self.inputs.xx @ weight)).sum() + 2 * bias @ (x @ weight) + tokens * bias @ bias
        return float(squared) / tokens


def ridge_towards(fit: LeastSquares, prior: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Solve for W (K, E) and b (E,), pulled towards ``prior`` (K, E) and not towards zero.

    ``W = (X'X + lambda I)^-1 (X'Y + lambda prior)`` on centred sums, ``lambda = ridge * mean(diag(X'X))``.

    Raises:
        torch.linalg.LinAlgError: if the system is singular even with the ridge.
    """
    xx, xy = fit.covariance()
    if not len(prior):
        return prior, fit.bias(prior)
    strength = ridge * float(xx.diagonal().mean()) + 1e-12
    factor = torch.linalg.cholesky(xx + strength * torch.eye(len(xx), dtype=xx.dtype, device=xx.device))
    weight = torch.cholesky_solve(xy + strength * prior, factor)
    return weight, fit.bias(weight)
