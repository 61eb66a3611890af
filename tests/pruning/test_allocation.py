import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.allocation import (
    SublayerLevels,
    arch_from_budget,
    arch_from_levels,
    cheapest_levels,
    levels_from_scores,
    masks_from_scores,
    uniform_arch,
)
from pruning.arch import ArchSpec
from pruning.budget import Budget, Prices, density_budget, flops_budget, unit_prices
from pruning.errors import InputError
from pruning.scores import Scores, random_scores
from tests.pruning.compact import UNEVEN

DENSE = ArchSpec.from_lists(16, 4, [4, 4, 4], [24, 24, 24])
MINILM = ArchSpec.from_lists(384, 32, [12] * 6, [1536] * 6)
EMPTY_PARTS = ArchSpec.from_lists(16, 4, *UNEVEN)


@st.composite
def sublayers(draw):
    """Up to four sublayers of up to five levels; the first is empty and free, the others as they come."""
    found = []
    for count in draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)):
        prices = [0.0, *sorted(draw(st.lists(st.integers(1, 40), min_size=count - 1, max_size=count - 1)))]
        costs = draw(st.lists(st.floats(0, 100), min_size=count, max_size=count))
        found.append(SublayerLevels(np.arange(count), np.array(costs), np.array(prices, dtype=float)))
    return found


def cheapest_by_trying_all(levels, limit):
    choices = itertools.product(*(range(len(x.kept)) for x in levels))
    return min(
        sum(x.cost[i] for x, i in zip(levels, choice, strict=True))
        for choice in choices
        if sum(x.price[i] for x, i in zip(levels, choice, strict=True)) <= limit
    )


@settings(max_examples=60, deadline=None)
@given(sublayers(), st.sampled_from([1, 10, 20, 50, 100]))
def test_the_dynamic_programme_finds_the_cheapest_of_all(levels, limit):
    """The limits divide ten thousand, so that no price is rounded."""
    chosen = cheapest_levels(levels, limit)
    assert sum(x.price[i] for x, i in zip(levels, chosen, strict=True)) <= limit
    cost = sum(x.cost[i] for x, i in zip(levels, chosen, strict=True))
    assert cost == pytest.approx(cheapest_by_trying_all(levels, limit))


@settings(max_examples=60, deadline=None)
@given(sublayers(), st.floats(0.1, 200))
def test_rounding_loses_less_than_a_ten_thousandth_per_sublayer(levels, limit):
    chosen = cheapest_levels(levels, limit)
    cost = sum(x.cost[i] for x, i in zip(levels, chosen, strict=True))
    assert cost <= cheapest_by_trying_all(levels, limit * (1 - len(levels) / 10_000)) + 1e-9


def test_a_unit_that_just_fits_is_kept():
    """Rounded up, three prices of a seventh plus the rest would not fit."""
    level = SublayerLevels(np.array([0, 1]), np.array([1.0, 0.0]), np.array([0.0, 1 / 7]))
    rest = SublayerLevels(np.array([0, 1]), np.array([1.0, 0.0]), np.array([0.0, 4 / 7 - 1e-12]))
    assert cheapest_levels([level, level, level, rest], 1.0) == [1, 1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(sublayers(), st.floats(0.1, 200))
def test_no_single_level_that_fits_is_left_out(levels, limit):
    chosen = cheapest_levels(levels, limit)
    spent = sum(x.price[i] for x, i in zip(levels, chosen, strict=True))
    for x, i in zip(levels, chosen, strict=True):
        better = x.cost < x.cost[i]
        assert (spent - x.price[i] + x.price[better] > limit * (1 - 1e-12)).all()


@settings(max_examples=60, deadline=None)
@given(sublayers(), st.floats(0.1, 200))
def test_the_limit_always_holds(levels, limit):
    chosen = cheapest_levels(levels, limit)
    assert sum(x.price[i] for x, i in zip(levels, chosen, strict=True)) <= limit * (1 + 1e-9)


def test_a_limit_below_the_lowest_prices():
    level = SublayerLevels(np.array([1, 2]), np.array([1.0, 0.0]), np.array([3.0, 4.0]))
    with pytest.raises(InputError, match=r"budget of 5 is below the smallest possible price, 6. Ask for less"):
        cheapest_levels([level, level], 5)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([DENSE, EMPTY_PARTS, MINILM]), st.floats(1, 8), st.integers(0, 99), st.sampled_from([1, 4, 7, 32])
)
def test_an_architecture_keeps_to_budget_and_grid(arch, speedup, seed, multiple):
    budget = flops_budget(arch, speedup, 64)
    found = arch_from_budget(arch, random_scores(arch, seed), budget, ffn_multiple=multiple)
    assert budget.spent(found) <= budget.limit
    assert (found.hidden, found.head_dim, len(found.layers)) == (arch.hidden, arch.head_dim, len(arch.layers))
    for kept, full in zip(found.layers, arch.layers, strict=True):
        assert kept.heads <= full.heads
        assert kept.ffn == full.ffn or kept.ffn % multiple == 0


@pytest.mark.parametrize("speedup", [1.05, 1.5, 2, 3.7, 8])
def test_a_budget_is_used_up_to_grid_and_rounding(speedup):
    budget = flops_budget(MINILM, speedup, 64)
    found = arch_from_budget(MINILM, random_scores(MINILM, 0), budget, ffn_multiple=16)
    assert budget.limit - budget.spent(found) < 16 * budget.prices.neurons[0][1]


def test_the_least_important_units_go_first():
    heads = tuple(torch.tensor([5.0, 1.0, 9.0, 7.0]) * scale for scale in (1, 10, 100))
    neurons = tuple(torch.full((24,), 1e6) for _ in range(3))
    budget = Budget(unit_prices(DENSE, 100, 1), 100 * 7 + 72, "seven heads and every neuron")
    assert arch_from_budget(DENSE, Scores(heads, neurons), budget, ffn_multiple=1).heads == (0, 3, 4)


def test_costs_are_weighed_against_prices():
    """A head costs more to lose than a neuron, but less per unit of price."""
    scores = Scores(tuple(torch.full((4,), 10.0) for _ in range(3)), tuple(torch.full((24,), 1.0) for _ in range(3)))
    found = arch_from_budget(DENSE, scores, Budget(unit_prices(DENSE, 100, 1), 600, "half"), ffn_multiple=1)
    assert (sum(found.heads), sum(found.ffn)) == (5, 72)


def test_prices_per_layer_and_level_decide():
    """Heads are free in layer 1 and neurons come in one step in layer 2: a table of latencies may look like that."""
    flat, rising, step = np.zeros(5), 100.0 * np.arange(5), np.array([0.0] + [10.0] * 24)
    prices = Prices((rising, flat, rising), (np.arange(25.0), np.arange(25.0), step))
    scores = Scores(tuple(torch.ones(4) for _ in range(3)), tuple(torch.ones(24) for _ in range(3)))
    found = arch_from_budget(DENSE, scores, Budget(prices, 30, "a little"), ffn_multiple=4)
    assert found.heads == (0, 4, 0)
    assert found.ffn[2] == 24
    assert sum(found.ffn[:2]) == 20


def test_costs_per_level_may_come_from_anywhere():
    """Not sums of scores: the second head of layer 0 is worth nothing without the third."""
    budget = Budget(unit_prices(DENSE, 10, 1), 30 + 72, "three heads and every neuron")
    levels = levels_from_scores(random_scores(DENSE, 0), budget.prices, ffn_multiple=24)
    kept = np.arange(5)
    costs = [np.array([9.0, 8.0, 8.0, 0.0, 0.0]), np.array([2.0, 1.0, 0.5, 0.1, 0.0]), np.array([1.0, 0, 0, 0, 0])]
    levels[:3] = [SublayerLevels(kept, cost, 10.0 * kept) for cost in costs]
    assert arch_from_levels(DENSE, levels, budget).heads == (3, 0, 0)


def test_a_first_token_classifier_keeps_its_last_ffn():
    budget = flops_budget(MINILM, 3, 128, first_token=True)
    found = arch_from_budget(MINILM, random_scores(MINILM, 0), budget, ffn_multiple=32)
    assert found.ffn[-1] == 1536
    assert found.encoder_flops(128, first_token=True) <= MINILM.encoder_flops(128, first_token=True) / 3


@pytest.mark.parametrize("arch", [DENSE, EMPTY_PARTS, MINILM])
def test_a_budget_for_everything_keeps_everything(arch):
    for budget in (density_budget(arch, 1.0), flops_budget(arch, 1.0, 77)):
        assert arch_from_budget(arch, random_scores(arch, 0), budget, ffn_multiple=32) == arch
        assert uniform_arch(arch, budget, ffn_multiple=32) == arch


def test_a_budget_for_nothing_is_refused():
    budget = flops_budget(DENSE, 150, 32)
    with pytest.raises(InputError, match=r"\(encoder FLOPs / 150 .*\) leaves no head and .*: at most 33.00 times"):
        arch_from_budget(DENSE, random_scores(DENSE, 0), budget, ffn_multiple=8)
    with pytest.raises(InputError, match=r"leaves no head and no neuron in any layer. Ask for less"):
        uniform_arch(DENSE, budget, ffn_multiple=8)


@pytest.mark.parametrize("speedup", [1.2, 1.5, 2, 3, 4, 6])
@pytest.mark.parametrize("multiple", [1, 32])
def test_uniform_is_the_same_in_every_layer(speedup, multiple):
    budget = flops_budget(MINILM, speedup, 128)
    found = uniform_arch(MINILM, budget, ffn_multiple=multiple)
    assert len(set(found.layers)) == 1
    assert budget.spent(found) <= budget.limit
    assert found.ffn[0] % multiple == 0
    assert found.heads[0] / 12 == pytest.approx(found.ffn[0] / 1536, abs=1 / 12)
    assert found.heads[0] / 12 == pytest.approx(1 / speedup, abs=1 / 12)


def test_uniform_takes_fractions_of_uneven_layers():
    arch = ArchSpec.from_lists(16, 4, [8, 4, 0], [40, 20, 60])
    found = uniform_arch(arch, density_budget(arch, 0.5), ffn_multiple=1)
    assert found == ArchSpec.from_lists(16, 4, [4, 2, 0], [20, 10, 30])


@pytest.mark.parametrize(("heads", "ffn"), [([8, 4], [0, 0]), ([0, 0], [8, 4])])
def test_uniform_takes_fractions_of_what_there_is(heads, ffn):
    arch = ArchSpec.from_lists(16, 4, heads, ffn)
    found = uniform_arch(arch, density_budget(arch, 0.5), ffn_multiple=1)
    assert found == ArchSpec.from_lists(16, 4, [h // 2 for h in heads], [f // 2 for f in ffn])


def test_uniform_refuses_a_budget_below_nothing():
    with pytest.raises(InputError, match=r"no uniform architecture fits the budget \(a joke\). Ask for less"):
        uniform_arch(DENSE, Budget(unit_prices(DENSE, 1, 1), -1, "a joke"), ffn_multiple=1)


def scores_of(heads, neurons):
    return Scores(tuple(map(torch.tensor, heads)), tuple(map(torch.tensor, neurons)))


def test_masks_keep_the_highest_scores():
    scores = scores_of([[0.1, 0.9, 0.5], [3.0]], [[2.0, 1.0], [0.0, 5.0, 1.0]])
    masks = masks_from_scores(scores, ArchSpec.from_lists(16, 4, [2, 0], [1, 2]))
    assert [row.tolist() for row in masks.head_mask] == [[False, True, True], [False]]
    assert [row.tolist() for row in masks.neuron_mask] == [[True, False], [False, True, True]]


def test_of_equal_scores_the_first_are_kept():
    scores = scores_of([[1.0] * 100], [[1.0] * 1000])
    masks = masks_from_scores(scores, ArchSpec.from_lists(16, 4, [30], [333]))
    assert masks.head_mask[0].nonzero().flatten().tolist() == list(range(30))
    assert masks.neuron_mask[0].nonzero().flatten().tolist() == list(range(333))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 24)), min_size=3, max_size=3), st.integers(0, 99))
def test_masks_have_the_target_architecture(sizes, seed):
    target = ArchSpec.from_lists(16, 4, [h for h, _ in sizes], [f for _, f in sizes])
    assert masks_from_scores(random_scores(DENSE, seed), target).arch(16, 4) == target


def test_masks_need_a_target_of_the_same_depth():
    with pytest.raises(InputError, match="the shape has 1 layers, the model 3"):
        masks_from_scores(random_scores(DENSE, 0), ArchSpec.from_lists(16, 4, [1], [1]))


@pytest.mark.parametrize(("heads", "ffn"), [([4, 5, 4], [24, 24, 24]), ([4, 4, 4], [24, 25, 24])])
def test_masks_cannot_keep_more_than_there_is(heads, ffn):
    with pytest.raises(InputError, match=r"layer 1 of the shape wants . heads and .. neurons; the model has 4 and 24"):
        masks_from_scores(random_scores(DENSE, 0), ArchSpec.from_lists(16, 4, heads, ffn))
