"""Costs and orders of removal against brute force."""

import numpy as np
import pytest
import torch

from pruning import second_order
from pruning.least_squares import Moments
from pruning.second_order import DAMPING, metric_root, removal_path

K, E, TOKENS = 12, 5, 400


def random_matrix(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated_inputs(features=K, seed=0):
    """Tokens (N, K) whose features depend on each other and have a mean."""
    return random_matrix(TOKENS, features, seed=seed) @ random_matrix(features, features, seed=seed + 1) + 2


def psd(size, seed=5):
    root = random_matrix(size, size, seed=seed)
    return root @ root.T


def damped(covariance):
    return covariance + DAMPING * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)


def cost_of_keeping(kept, weight, covariance, metric):
    """The least ``tr(G D' A D) / 2`` over all weights on the kept features, D the change: by solving for them."""
    best = torch.zeros_like(weight)
    best[kept] = torch.linalg.solve(covariance[kept][:, kept], covariance[kept] @ weight)
    change = weight - best
    return float(torch.trace(metric @ change.T @ covariance @ change)) / 2


def features_of(units, unit):
    return (units[:, None] * unit + torch.arange(unit)).flatten()


@pytest.mark.parametrize(
    ("unit", "widths"),
    [(1, list(range(13))), (1, [0, 4, 8, 12]), (1, [0, 5, 10, 12]), (3, [0, 1, 2, 3, 4]), (4, [0, 3])],
)
def test_costs_are_those_of_least_squares_on_the_kept_columns(unit, widths):
    weight, metric = random_matrix(K, E, seed=3), psd(E)
    covariance = torch.cov(correlated_inputs().T)
    path = removal_path(weight @ metric_root(metric), covariance, unit=unit, widths=widths)
    assert path.kept.tolist() == widths
    assert sorted(path.order.tolist()) == list(range(K // unit))
    for kept, cost in zip(path.kept, path.cost, strict=True):
        features = features_of(path.order[len(path.order) - kept :], unit)
        assert cost == pytest.approx(cost_of_keeping(features, weight, damped(covariance), metric), rel=1e-9, abs=1e-9)


def test_the_cost_is_the_measured_error_of_the_best_refit(monkeypatch):
    monkeypatch.setattr(second_order, "DAMPING", 0.0)
    x, weight, metric = correlated_inputs(), random_matrix(K, E, seed=3), psd(E)
    importance = torch.rand(TOKENS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moments = Moments(K)
    for part, weights in zip(x.chunk(7), importance.chunk(7), strict=True):
        moments.add(part, weights)
    path = removal_path(weight @ metric_root(metric), moments.covariance(), unit=1, widths=[0, 4, 8, 12])
    for kept, cost in zip(path.kept, path.cost, strict=True):
        design = torch.cat([x[:, path.order[K - kept :]], torch.ones(TOKENS, 1, dtype=torch.float64)], dim=1)
        root = importance.sqrt()[:, None]
        target = x @ weight
        error = design @ torch.linalg.lstsq(root * design, root * target).solution - target
        measured = (importance * ((error @ metric) * error).sum(1)).sum() / importance.sum() / 2
        assert cost == pytest.approx(float(measured), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("unit", [1, 3])
def test_each_single_step_takes_the_cheapest_unit(unit):
    weight, covariance = random_matrix(K, E, seed=3), torch.cov(correlated_inputs().T)
    units = K // unit
    path = removal_path(weight, covariance, unit=unit, widths=list(range(units + 1)))
    left = list(range(units))
    for gone in path.order.tolist():
        kept = [features_of(torch.tensor([x for x in left if x != one], dtype=torch.long), unit) for one in left]
        costs = [cost_of_keeping(x, weight, damped(covariance), 2 * torch.eye(E, dtype=torch.float64)) for x in kept]
        assert left[int(np.argmin(costs))] == gone
        left.remove(gone)


def test_costs_fall_with_the_width_and_end_at_nothing():
    path = removal_path(random_matrix(K, E), torch.cov(correlated_inputs().T), unit=1, widths=[0, 4, 8, 12])
    assert (np.diff(path.cost) < 0).all()
    assert path.cost[-1] == 0


def test_ranks_keep_what_the_path_keeps():
    path = removal_path(random_matrix(K, E), torch.cov(correlated_inputs().T), unit=1, widths=[0, 6, 12])
    assert set(path.ranks.argsort(descending=True)[:6].tolist()) == set(path.order[6:].tolist())


def test_a_twin_goes_for_next_to_nothing_and_its_partner_does_not(monkeypatch):
    monkeypatch.setattr(second_order, "DAMPING", 1e-6)
    x = correlated_inputs(4)
    x = torch.cat([x, x[:, :1]], dim=1)
    path = removal_path(random_matrix(5, E), torch.cov(x.T), unit=1, widths=[0, 1, 2, 3, 4, 5])
    assert path.order[0] in (0, 4)
    assert path.cost[4] < 1e-3 * path.cost[3]


def test_directions_that_do_not_matter_cost_nothing():
    metric = torch.zeros(E, E, dtype=torch.float64)
    metric[0, 0] = 1.0
    weight = random_matrix(K, E)
    weight[:3, 0] = 0
    covariance = torch.eye(K, dtype=torch.float64)
    path = removal_path(weight @ metric_root(metric), covariance, unit=1, widths=[0, 9, 12])
    assert set(path.order[:3].tolist()) == {0, 1, 2}
    assert path.cost[1] == pytest.approx(0)


def test_metric_root_is_a_root_of_half_the_metric():
    root = metric_root(psd(E))
    torch.testing.assert_close(root @ root.T, psd(E) / 2)


@pytest.mark.parametrize("covariance", [torch.zeros(K, K), torch.ones(K, K), torch.diag(torch.arange(K) // 4).float()])
def test_singular_statistics_are_no_obstacle(covariance):
    path = removal_path(random_matrix(K, E), covariance, unit=3, widths=[0, 1, 2, 3, 4])
    assert np.isfinite(path.cost).all()
    assert (path.cost >= 0).all()


def test_an_empty_sublayer_has_one_level():
    path = removal_path(torch.zeros(0, E), torch.zeros(0, 0), unit=4, widths=[0])
    assert (path.kept.tolist(), path.cost.tolist(), path.order.tolist()) == ([0], [0.0], [])
