"""The search on made-up models: the loss is a known function of the speedup."""

import pytest
import torch

from pruning.errors import InputError
from tools.drop_search import FINEST_RATIO, MOST_TRIALS, DropTrial, search_drop
from tools.held_out import paired_error


def search(loss, allowed=1.0, reachable=50.0):
    return search_drop(allowed, reachable, lambda speedup, number: DropTrial(speedup, loss(speedup), 0.5))


@pytest.mark.parametrize("limit", [1.1, 1.5, 2.0, 2.9, 3.7, 6.0, 11.0])
def test_the_fastest_model_within_the_loss_is_found(limit):
    trials, best = search(lambda speedup: 0.0 if speedup <= limit else 5.0)
    assert trials[best].speedup <= limit
    assert limit / trials[best].speedup <= FINEST_RATIO
    assert len(trials) <= MOST_TRIALS
    assert all(x.speedup <= trials[best].speedup for x in trials if x.loss_points <= 1.0)


def test_it_doubles_and_then_halves_the_gap():
    trials, best = search(lambda speedup: speedup / 3)
    assert [x.speedup for x in trials[:4]] == pytest.approx([2, 4, 8**0.5, (2 * 2**0.5 * 4) ** 0.5])
    assert trials[best].loss_points <= 1.0


def test_a_loss_that_falls_by_chance_is_not_chased():
    """3x seems better than 2x: but 2x had lost too much."""
    trials, best = search(lambda speedup: 0.0 if speedup > 2.5 or speedup < 1.3 else 2.0)
    assert max(x.speedup for x in trials) == 2.0
    assert trials[best].speedup < 1.3


def test_the_smallest_model_may_be_good_enough():
    trials, best = search(lambda speedup: -0.3, reachable=5.0)
    assert [x.speedup for x in trials] == [2, 4, 5]
    assert best == 2


def test_a_loss_that_no_model_keeps_is_out_of_reach():
    with pytest.raises(
        InputError, match=r"at most 1 points is out of reach: even at 1.04x .* loses 2.00 points .*0.50"
    ):
        search(lambda speedup: 2.0)
    with pytest.raises(InputError, match="nothing in this model can be pruned"):
        search(lambda speedup: 0.0, reachable=1.0)


def test_a_trial_is_a_number():
    with pytest.raises(InputError, match="a speedup of at least 1"):
        DropTrial(0.5, 0.0)
    with pytest.raises(InputError, match="a loss that is a number"):
        DropTrial(2.0, float("nan"))


def test_the_error_of_a_paired_difference():
    """McNemar: b answers lost and c won of N, variance (b + c - (b - c)^2 / N) / N^2."""
    first = torch.tensor([True] * 90 + [False] * 10)
    second = torch.tensor([True] * 82 + [False] * 8 + [True] * 3 + [False] * 7)
    assert paired_error(first, second) == pytest.approx(((8 + 3 - 25 / 100) / 100**2) ** 0.5)
    assert paired_error(first, first) == 0.0
