import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.arch import ArchSpec
from pruning.budget import (
    Budget,
    Prices,
    bytes_budget,
    density_budget,
    flops_budget,
    flops_prices,
    params_budget,
    speedup_budget,
    unit_prices,
)
from pruning.compaction import compact_from_masked
from pruning.errors import InputError
from pruning.introspect import arch_from_model
from pruning.masks import Masks, full_masks
from tests.pruning.compact import HEADS, UNEVEN, tiny_compact
from tests.tiny import tiny_bert

DENSE = ArchSpec.from_lists(16, 4, [4, 4, 4], [24, 24, 24])
SMALL = ArchSpec.from_lists(16, 4, *UNEVEN)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@settings(deadline=None)
@given(st.floats(1, 20), st.integers(1, 128))
def test_a_speedup_divides_the_flops(speedup, sequence):
    budget = flops_budget(DENSE, speedup, sequence)
    assert budget.spent(DENSE) == DENSE.encoder_flops(sequence)
    assert budget.spent(SMALL) == SMALL.encoder_flops(sequence)
    assert budget.limit == DENSE.encoder_flops(sequence) / speedup


@settings(deadline=None)
@given(st.floats(0.01, 1))
def test_a_density_is_a_fraction_of_the_matrices(density):
    budget = density_budget(DENSE, density)
    assert budget.spent(SMALL) == SMALL.encoder_linear_params
    assert budget.limit == density * DENSE.encoder_linear_params


@pytest.mark.parametrize("head", HEADS)
def test_parameters_are_counted_as_in_the_real_model(head):
    full, small = tiny_bert(head), tiny_compact(head)
    budget = params_budget(arch_from_model(full), parameters(full), parameters(full))
    assert budget.spent(arch_from_model(full)) == budget.limit == parameters(full)
    assert budget.spent(arch_from_model(small)) == parameters(small)


@pytest.mark.parametrize("weight_bytes", [4, 2])
def test_bytes_are_parameters_times_their_size(weight_bytes):
    full, small = tiny_bert(), tiny_compact("sequence-classification")
    size = weight_bytes * parameters(small)
    budget = bytes_budget(arch_from_model(full), size, parameters(full), weight_bytes=weight_bytes)
    assert budget.limit == size == budget.spent(arch_from_model(small))
    assert budget.meaning == f"{size:,} bytes"


def test_bytes_are_between_nothing_left_and_all():
    with pytest.raises(InputError, match=r"the model has 40,000 bytes, of which 17,632 can .*; got 17,000"):
        bytes_budget(DENSE, 17_000, 10_000)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), min_size=3, max_size=3))
def test_parameters_count_empty_layers_right(layers):
    model = tiny_bert()
    full = full_masks(arch_from_model(model))
    heads, neurons = (
        [row & kept for row, kept in zip(x, layers, strict=True)] for x in (full.head_mask, full.neuron_mask)
    )
    masks = Masks(heads, neurons)
    budget = params_budget(DENSE, parameters(model), parameters(model))
    small = compact_from_masked(model, masks)
    assert budget.spent(arch_from_model(small)) == parameters(small)


def test_a_budget_says_what_it_means():
    assert flops_budget(DENSE, 2, 128).meaning == "encoder FLOPs / 2 at sequence 128"
    assert density_budget(DENSE, 0.25).meaning == "25% of the encoder's matrix weights"
    assert params_budget(DENSE, 9000, 10_000).meaning == "9,000 parameters"


@pytest.mark.parametrize("speedup", [0.5, 0.0, -2.0, float("nan"), float("inf"), 1000.0])
def test_a_speedup_out_of_reach_names_the_reachable(speedup):
    reachable = DENSE.encoder_flops(128) / min(8 * 128 * 16 * 4 + 4 * 128 * 128 * 4, 4 * 128 * 16)
    with pytest.raises(InputError, match=rf"at least 1 and at most {int(reachable)}, .* got {speedup:g}"):
        flops_budget(DENSE, speedup, 128)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, float("nan")])
def test_a_density_is_a_fraction(density):
    with pytest.raises(InputError, match=rf"above 0 and at most 1; got {density:g}. 0.5 keeps half"):
        density_budget(DENSE, density)


@pytest.mark.parametrize("params", [10_001, 0, -5])
def test_parameters_are_between_nothing_left_and_all(params):
    fixed = 10_000 - 12 * (4 * 16 * 4 + 12) - 72 * 33
    with pytest.raises(InputError, match=rf"10,000 parameters, of which {fixed:,} can not be pruned.*got {params:,}"):
        params_budget(DENSE, params, 10_000)


def test_unit_prices_are_per_unit():
    assert unit_prices(DENSE, 7, 2, 100).total(SMALL) == 100 + 7 * 6 + 2 * 29


def test_prices_are_looked_up_per_layer_and_size():
    arch = ArchSpec.from_lists(16, 4, [2, 1], [1, 2])
    heads = (np.array([0.0, 5.0, 6.0]), np.array([1.0, 1.5]))
    neurons = (np.array([0.0, 4.0]), np.array([0.25, 0.5, 9.0]))
    budget = Budget(Prices(heads, neurons, fixed=100.0), 0, "")
    assert budget.spent(arch) == 100 + 6 + 1.5 + 4 + 9
    assert budget.spent(ArchSpec.from_lists(16, 4, [1, 0], [0, 1])) == 100 + 5 + 1 + 0 + 0.5


@pytest.mark.parametrize("row", [[0.0, -1.0], [0.0, 2.0, 1.0], [0.0, float("nan")], [0.0, float("inf")]])
def test_prices_rise_with_the_size(row):
    fine = (np.array([0.0, 1.0]),)
    with pytest.raises(InputError, match="prices of the heads in layer 0 must be finite, >= 0 and not fall"):
        Prices((np.array(row),), fine)
    with pytest.raises(InputError, match="prices of the neurons in layer 1 must be finite"):
        Prices(fine, (*fine, np.array(row)))


@settings(deadline=None)
@given(st.integers(1, 128))
def test_a_first_token_classifier_pays_less_for_its_last_layer(sequence):
    prices = flops_prices(DENSE, sequence, first_token=True)
    last_heads = ArchSpec.from_lists(16, 4, [1, 0, 3], [5, 24, 7])
    assert prices.total(DENSE) == DENSE.encoder_flops(sequence, first_token=True)
    assert prices.total(last_heads) == last_heads.encoder_flops(sequence, first_token=True)
    no_last_heads = ArchSpec.from_lists(16, 4, [1, 2, 0], [5, 24, 7])
    assert prices.total(no_last_heads) >= no_last_heads.encoder_flops(sequence, first_token=True)
    assert flops_budget(DENSE, 2, sequence, first_token=True).limit == prices.total(DENSE) / 2


def test_the_reachable_speedup_is_never_promised_too_high():
    prices = unit_prices(ArchSpec.from_lists(16, 4, [1], [2]), 20, 4, fixed=2)
    with pytest.raises(InputError, match=r"at most 5.00, .* \(in apples, with one unit left\); got 6"):
        speedup_budget(ArchSpec.from_lists(16, 4, [1], [2]), prices, 6, "", counted_in="apples")
    prices = unit_prices(ArchSpec.from_lists(16, 4, [1], [2]), 20, 4, fixed=2.01)
    with pytest.raises(InputError, match=r"at most 4\.99, "):
        speedup_budget(ArchSpec.from_lists(16, 4, [1], [2]), prices, 5, "", counted_in="apples")


def test_a_model_without_units_has_no_speedup():
    with pytest.raises(InputError, match=r"at most 0.00, "):
        flops_budget(ArchSpec.from_lists(16, 4, [0], [0]), 1, 8)
