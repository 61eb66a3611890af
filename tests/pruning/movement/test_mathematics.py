"""Every formula, pinned: masks, gradients, schedule, penalty."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pruning.errors import InputError
from pruning.movement.blocks import block_sums, grid_shape, multiply_blocks
from pruning.movement.layers import masks_of
from pruning.movement.mask_functions import L0_INITIAL, MASK_RULES, HardConcrete, rank_levels
from pruning.movement.masked_linear import BlockMask, MaskedLinear, two_four_pattern
from pruning.movement.names import MaskFunction, Variant
from pruning.movement.penalty import penalty
from pruning.movement.schedule import Schedule
from pruning.movement.spec import FamilySpec
from tests.pruning.movement.models import pruner_of

SIGMOID = MASK_RULES[MaskFunction.SIGMOID_THRESHOLD]


def masked_linear(block=(2, 3), rule=SIGMOID, seed=0):
    """6 outputs, 12 inputs, in float64, half of the blocks cut, one row of blocks empty."""
    torch.manual_seed(seed)
    linear = MaskedLinear(nn.Linear(12, 6).double(), BlockMask((6, 12), block, rule).double())
    keep = torch.rand(linear.mask.scores.shape) < 0.5
    keep[0] = False
    linear.mask.decide(keep)
    return linear


def expanded(mask, block):
    return mask.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)


@pytest.mark.parametrize("block", [(1, 1), (2, 3), (6, 12), (1, 12), (3, 4)])
def test_forward_is_the_formula(block):
    linear = masked_linear(block)
    linear.mask.keep[-1] = True
    M = expanded(linear.mask.keep, block).double()
    x = torch.randn(5, 12, dtype=torch.float64)
    expected = x @ (M * linear.weight).T + linear.bias * M.any(dim=1)
    torch.testing.assert_close(linear(x), expected, rtol=0, atol=1e-12)


def test_gradients_are_the_closed_form_without_the_sigmoid():
    linear = masked_linear()
    with torch.no_grad():
        linear.mask.scores.copy_(torch.randn_like(linear.mask.scores))
    x, target = torch.randn(5, 12, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    y = linear(x)
    (y - target).square().sum().backward()
    G = (2 * (y - target)).T.detach() @ x  # dL / d(M * W)
    M = expanded(linear.mask.keep, (2, 3))
    torch.testing.assert_close(linear.weight.grad, M * G)
    torch.testing.assert_close(linear.mask.scores.grad, block_sums(linear.weight * G, (3, 4)))
    assert (linear.mask.scores.grad[~linear.mask.keep] != 0).all()  # blocks that are cut may come back


def test_score_gradient_is_the_slope_of_the_loss_in_the_mask():
    """Finite differences: the mask as a real number, which is what the straight-through estimator pretends."""
    linear = masked_linear()
    x, target = torch.randn(5, 12, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    alive = linear.bias.detach() * expanded(linear.mask.keep, (2, 3)).any(dim=1)

    def loss(factors):
        return (x @ multiply_blocks(linear.weight.detach(), factors).T + alive - target).square().sum().item()

    (linear(x) - target).square().sum().backward()
    factors, step = linear.mask.keep.double(), 1e-6
    for row, column in [(0, 0), (1, 2), (2, 3)]:
        up, down = factors.clone(), factors.clone()
        up[row, column] += step
        down[row, column] -= step
        slope = (loss(up) - loss(down)) / (2 * step)
        assert linear.mask.scores.grad[row, column].item() == pytest.approx(slope, rel=1e-5)


def test_shared_ffn_scores_collect_the_gradients_of_both_matrices():
    first = MaskedLinear(nn.Linear(4, 6).double(), BlockMask((6, 4), (1, 4), SIGMOID).double())
    second = MaskedLinear(nn.Linear(6, 4).double(), first.mask, borrowed=True)
    assert [name for name, _ in second.named_parameters()] == ["weight", "bias"]
    first.mask.decide(torch.tensor([True, True, False, True, False, True])[:, None])
    x = torch.randn(3, 4, dtype=torch.float64)
    inner = torch.nn.functional.gelu(first(x))
    first_weight, second_weight = first.masked_parameters()[0], second.masked_parameters()[0]
    assert (first_weight[[2, 4]] == 0).all()
    assert (second_weight[:, [2, 4]] == 0).all()
    second(inner).square().sum().backward()
    W1, W2 = (linear.weight.detach().clone().requires_grad_() for linear in (first, second))
    keep = first.mask.keep.double()
    hidden = torch.nn.functional.gelu(x @ (W1 * keep).T + first.bias.detach() * keep[:, 0])
    masked1, masked2 = (W1 * keep).detach().requires_grad_(), (W2 * keep.T).detach().requires_grad_()
    hidden = torch.nn.functional.gelu(x @ masked1.T + first.bias.detach() * keep[:, 0])
    (hidden @ masked2.T + second.bias.detach()).square().sum().backward()
    expected = (W1 * masked1.grad).sum(1) + (W2 * masked2.grad).sum(0)
    torch.testing.assert_close(first.mask.scores.grad[:, 0], expected.detach())


@pytest.mark.parametrize("function", list(MaskFunction))
def test_cut_zero_keeps_all_and_one_keeps_nothing(function):
    scores = torch.randn(5, 7).abs() * 5
    scores[0, 0] = -200  # the sigmoid underflows
    rule = MASK_RULES[function]
    assert rule.keep(scores, 0.0).all()
    assert not rule.keep(scores, 1.0).any()


def test_each_function_cuts_what_it_says():
    scores = torch.tensor([[-3.0, -1.0, 0.05, 0.3, 2.0]])
    cases = {
        MaskFunction.SIGMOID_THRESHOLD: ((0.3,), [False, False, True, True, True]),
        MaskFunction.THRESHOLD: ((0.1,), [False, False, False, True, True]),
        MaskFunction.TOPK: ((0.4,), [False, False, True, True, True]),
        MaskFunction.MAGNITUDE: ((0.8,), [False, False, False, False, True]),
        MaskFunction.L0: ((1 / 12,), [False, True, True, True, True]),
    }
    for function, ((cut,), expected) in cases.items():
        assert MASK_RULES[function].keep(scores, cut).tolist() == [expected], function


def test_ties_leave_exactly_the_number_asked_for():
    assert (rank_levels(torch.zeros(10)) > 0.3).tolist() == [True] * 7 + [False] * 3


def test_hard_concrete_gates_are_the_published_ones():
    rule = HardConcrete()
    odds = torch.tensor([[-4.0, 0.0, L0_INITIAL, 6.0]], requires_grad=True)
    keep = torch.ones_like(odds, dtype=torch.bool)
    gates = rule.mask(odds, keep, None)
    assert gates.tolist()[0] == pytest.approx([0.0, 0.5, 0.98, 1.0], abs=1e-6)
    noise = torch.full_like(odds, 0.7)
    noisy = rule.mask(odds, keep, noise)
    s = 1 / (1 + math.exp(-(math.log(0.7 / 0.3) + 0.0) / (2 / 3)))
    assert noisy[0, 1].item() == pytest.approx(min(1, s * 1.2 - 0.1))
    noisy.sum().backward()
    assert odds.grad[0, 3] == 0  # saturated
    assert odds.grad[0, 0] >= 0
    expected = torch.sigmoid(odds - 2 / 3 * math.log(0.1 / 1.1))
    torch.testing.assert_close(rule.open_probability(odds), expected)


def test_schedule_at_given_steps():
    squad = Schedule(110_660, 5_400, 54_000)
    assert squad.threshold(0, 0.1) == 0
    assert squad.threshold(5_400, 0.1) == 0
    assert squad.threshold(5_400 + 51_260 // 2, 0.1) == pytest.approx(0.1 * (1 - 0.5**3))
    assert squad.threshold(56_660, 0.1) == 0.1
    assert squad.threshold(110_660, 0.1) == 0.1
    assert squad.threshold(5_400, 0.1, initial=0.02) == 0.02
    assert Schedule.from_fractions(1000, 0.05, 0.4) == Schedule(1000, 50, 400)


def test_schedule_refuses_what_leaves_no_ramp():
    with pytest.raises(InputError, match="10 training steps with holds of 4 and 6 leave no step"):
        Schedule(10, 4, 6)
    with pytest.raises(InputError, match=r"the final hold is a fraction of the training steps, in \[0, 1\); got 1"):
        Schedule.from_fractions(10, 0.1, 1.0)


@pytest.mark.parametrize("variant", list(Variant))
def test_penalty_is_one_half_at_zero_scores(variant):
    pruner = pruner_of(variant, attention_penalty=1.0)
    assert penalty(pruner._families).item() == pytest.approx(0.5)
    pruner.step(20)
    assert pruner.penalty().item() == pytest.approx(10 * 0.5)
    pruner.step(4)  # half of the ramp
    assert pruner.penalty().item() == pytest.approx(10 * 0.5 * (1 - 0.5**3))


def test_penalty_averages_tensors_not_weights():
    masks = [BlockMask((4, 4), (4, 4), SIGMOID), BlockMask((4, 4), (1, 1), SIGMOID)]
    with torch.no_grad():
        masks[0].scores.fill_(2.0)
        masks[1].scores.fill_(-1.0)
    expected = 0.3 / 2 * (torch.tensor([2.0, -1.0]).sigmoid().mean())
    assert penalty([(FamilySpec(penalty=0.3), masks)]).item() == pytest.approx(expected.item())


def test_magnitudes_are_not_penalised():
    pruner = pruner_of(Variant.HYBRID, MaskFunction.MAGNITUDE, aim=_half())
    assert pruner.scores == []
    assert float(pruner.penalty()) == 0
    pruner.step(0)
    first = next(masks_of(pruner.layers))
    weight = pruner.layers[0].attention[0].weight
    assert first.scores[0, 1].item() == pytest.approx(weight[:4, 8:].abs().mean().item())
    shared, (up, down) = pruner.layers[0].ffn[0].mask, pruner.layers[0].ffn
    expected = up.weight.abs().mean(1) + down.weight.abs().mean(0)
    torch.testing.assert_close(shared.scores[:, 0], expected.detach())


def _half():
    from tests.pruning.movement.models import weights_target  # noqa: PLC0415

    return weights_target(0.5)


def test_two_four_keeps_the_two_largest_of_four():
    weight = torch.tensor([[1.0, -3.0, 2.0, 0.5, 0.0, 0.0, -1.0, 4.0]])
    assert two_four_pattern(weight).int().tolist() == [[0, 1, 1, 0, 0, 0, 1, 1]]
    with pytest.raises(InputError, match="2:4 needs rows whose length is a multiple of 4; got 6"):
        MaskedLinear(nn.Linear(6, 4), BlockMask((4, 6), (1, 1), SIGMOID), two_four=True)


def test_blocks_must_divide_the_matrix():
    assert grid_shape((6, 12), (2, 3)) == (3, 4)
    with pytest.raises(InputError, match="blocks of 4x3 do not divide a matrix of 6x12"):
        grid_shape((6, 12), (4, 3))
