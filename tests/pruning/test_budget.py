import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.arch import ArchSpec
from pruning.budget import Budget, density_budget, flops_budget, params_budget
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
    fixed = parameters(full) - budget.limit
    assert budget.spent(arch_from_model(full)) == budget.limit
    assert fixed + budget.spent(arch_from_model(small)) == parameters(small)


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
    assert parameters(model) - parameters(small) == budget.limit - budget.spent(arch_from_model(small))


def test_a_budget_says_what_it_means():
    assert flops_budget(DENSE, 2, 128).meaning == "encoder FLOPs / 2 at sequence 128"
    assert density_budget(DENSE, 0.25).meaning == "25% of the encoder's matrix weights"
    assert params_budget(DENSE, 9000, 10_000).meaning == "9,000 parameters"


@pytest.mark.parametrize("speedup", [0.5, 0.0, -2.0, float("nan"), float("inf"), 1000.0])
def test_a_speedup_out_of_reach_names_the_reachable(speedup):
    reachable = DENSE.encoder_flops(128) / min(8 * 128 * 16 * 4 + 4 * 128 * 128 * 4, 4 * 128 * 16)
    with pytest.raises(InputError, match=rf"at least 1 and at most {reachable:.0f}, .* got {speedup:g}"):
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


def test_prices_are_per_unit():
    assert Budget(7, 2, 0, "").spent(SMALL) == 7 * 6 + 2 * 29
