"""Layer drop is chosen where widths bring no speed."""

import numpy as np
import pytest

from pruning.arch import ArchSpec
from pruning.budget import Budget, Prices, flops_prices, unit_prices
from pruning.calibration import calibration_from_texts
from pruning.methods.choice import LEAST_WIDTH_GAIN, method_for_target, width_gain
from pruning.methods.names import Method
from pruning.methods.oneshot import OneshotOptions, prune_oneshot
from tests.tiny import WORDS, tiny_bert, tiny_tokenizer

DENSE = ArchSpec.from_lists(16, 4, [4, 4, 4], [24, 24, 24])


def flat_prices(slope):
    """Any width of a sublayer costs 1, and all of it ``slope`` more; nothing costs nothing."""

    def row(units):
        return np.concatenate([[0.0], 1 + slope * np.linspace(0, 1, units)])

    return Prices(tuple(row(4) for _ in range(3)), tuple(row(24) for _ in range(3)), 1.0)


def budget(prices, share=0.6):
    return Budget(prices, prices.total(DENSE) * share, "made up")


@pytest.mark.parametrize(("slope", "gain"), [(0.0, 0.0), (0.1, 0.0545), (9.0, 0.5)])
def test_the_gain_is_what_halving_saves(slope, gain):
    assert width_gain(flat_prices(slope)) == pytest.approx(gain, abs=0.06)


def test_where_price_goes_with_width_the_gain_is_a_half():
    assert width_gain(unit_prices(DENSE, 5, 1)) == pytest.approx(0.5)
    assert width_gain(flops_prices(DENSE, 32, first_token=True)) == pytest.approx(0.5)


def test_where_nothing_saves_anything_there_is_nothing_to_choose():
    nothing = Prices((np.zeros(5),) * 3, (np.zeros(25),) * 3, 1.0)
    assert width_gain(nothing) == 1.0
    assert method_for_target(Budget(nothing, 1.0, "free")).method == Method.ONESHOT


def test_widths_are_pruned_where_they_pay():
    for target in (DENSE, budget(unit_prices(DENSE, 5, 1)), budget(flat_prices(2.0))):
        choice = method_for_target(target)
        assert (choice.method, choice.reason) == (Method.ONESHOT, None)


def test_whole_sublayers_are_dropped_where_they_do_not():
    choice = method_for_target(budget(flat_prices(0.1)))
    assert choice.method == Method.DROP
    assert "Halving every sublayer would save 5% of what removing them saves" in choice.reason
    assert width_gain(flat_prices(0.1)) < LEAST_WIDTH_GAIN


def test_the_chosen_method_leaves_whole_sublayers_within_the_budget():
    target = budget(flat_prices(0.1))
    words = WORDS.split()
    texts = [" ".join(words[i : i + 5]) for i in range(20)]
    calibration = calibration_from_texts(tiny_tokenizer(), texts, examples=12)
    found = prune_oneshot(
        tiny_bert(), calibration, OneshotOptions(target, method_for_target(target).method, reconstruct=False)
    )
    assert set(found.arch.heads) <= {0, 4}
    assert set(found.arch.ffn) <= {0, 24}
    assert target.spent(found.arch) <= target.limit
