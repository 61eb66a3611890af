"""The product under a mask gives the gradients that autograd finds for its formula, and keeps less for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruning.movement.blocks import multiply_blocks
from pruning.movement.mask_functions import L0_INITIAL, MASK_RULES
from pruning.movement.masked_linear import BlockMask, MaskedLinear
from pruning.movement.masked_product import MaskedProduct
from pruning.movement.names import MaskFunction

IN, OUT = 96, 48


def operands(dtype=torch.float64, blocks=(6, 8), seed=0):
    """Input with two leading dimensions, weight, bias, and gates with values between 0 and 1 and exact zeros."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 5, IN), (OUT, IN), (OUT,), blocks]
    x, weight, bias, factors = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return x, weight, bias, factors.clamp(0, 1)


@pytest.mark.parametrize("wanted", [0b1111, 0b0111, 0b1101, 0b0010, 0b1000, 0b0001])
def test_gradients_are_those_of_autograd_whichever_are_wanted(wanted):
    given = operands()
    learned = [tensor.requires_grad_(bool(wanted >> place & 1)) for place, tensor in enumerate(given)]
    x, weight, bias, factors = learned
    expected = F.linear(x, multiply_blocks(weight, factors), bias)
    found = MaskedProduct.apply(x, weight, bias, factors, False)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    wanted_tensors = [tensor for tensor in learned if tensor.requires_grad]
    upstream = torch.randn(expected.shape, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(found, wanted_tensors, upstream),
        torch.autograd.grad(expected, wanted_tensors, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_gradients_are_finite_differences():
    given = [tensor.requires_grad_() for tensor in operands()]
    given[3].data.add_(0.1)  # all smooth
    assert torch.autograd.gradcheck(lambda *tensors: MaskedProduct.apply(*tensors, False), given)


def test_one_vector_and_no_bias():
    x, weight, _, factors = operands()
    row = x[0, 0].clone().requires_grad_()
    MaskedProduct.apply(row, weight, None, factors, False).square().sum().backward()
    other = row.detach().clone().requires_grad_()
    F.linear(other, multiply_blocks(weight, factors)).square().sum().backward()
    torch.testing.assert_close(row.grad, other.grad)


def masked_linear(function, *, borrowed=False):
    torch.manual_seed(0)
    linear = nn.Linear(IN, OUT)
    matrix = (IN, OUT) if borrowed else (OUT, IN)
    mask = BlockMask(matrix, (8, 8), MASK_RULES[function])
    keep = torch.rand(mask.scores.shape) < 0.5
    noise = torch.rand(mask.scores.shape) if function is MaskFunction.L0 else None
    with torch.no_grad():
        mask.scores.copy_(torch.randn(mask.scores.shape) + (L0_INITIAL if noise is not None else 0))
    mask.decide(keep, noise)
    return MaskedLinear(linear, mask, borrowed=borrowed)


@pytest.mark.parametrize("borrowed", [False, True])
@pytest.mark.parametrize("function", list(MaskFunction))
def test_masked_layer_has_the_gradients_of_the_formula(function, borrowed):
    linear, reference = masked_linear(function, borrowed=borrowed), masked_linear(function, borrowed=borrowed)
    x = torch.randn(4, IN)
    linear(x).square().sum().backward()
    F.linear(x, *reference.masked_parameters()).square().sum().backward()
    tensors = [linear.weight, linear.bias, linear.mask.scores]
    others = [reference.weight, reference.bias, reference.mask.scores]
    for mine, theirs in zip(tensors, others, strict=True):
        if theirs.grad is None:
            assert mine.grad is None
        else:
            torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("function", list(MaskFunction))
def test_no_masked_copy_of_the_weight_is_kept(function):
    linear, x, kept = masked_linear(function), torch.randn(4, IN), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        linear(x)
    own = {x.data_ptr(), linear.weight.data_ptr()}
    extra = [tensor for tensor in kept if tensor.data_ptr() not in own]
    assert linear.weight.data_ptr() in {tensor.data_ptr() for tensor in kept}
    assert sum(tensor.nbytes for tensor in extra) < linear.weight.nbytes / 4


@pytest.mark.parametrize("trained", [torch.float32, torch.float64])
def test_bf16_autocast_computes_as_a_dense_layer_does(trained):
    linear = masked_linear(MaskFunction.SIGMOID_THRESHOLD).to(trained)
    dense = nn.Linear(IN, OUT, dtype=trained)
    with torch.no_grad():
        weight, bias = linear.masked_parameters()
        dense.weight.copy_(weight)
        dense.bias.copy_(bias)
    x = torch.randn(4, IN, dtype=trained)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, expected = linear(x), dense(x)
    assert y.dtype == expected.dtype
    torch.testing.assert_close(y, expected)
    y.float().square().sum().backward()
    expected.float().square().sum().backward()
    assert linear.weight.grad.dtype == linear.mask.scores.grad.dtype == trained
    living = linear.mask.keep.repeat_interleave(8, 0).repeat_interleave(8, 1)
    torch.testing.assert_close(linear.weight.grad, dense.weight.grad * living)
