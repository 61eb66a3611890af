"""masked == compact, in float64, on uneven and empty layers; dead units leave, their constants stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pruning.compaction import compact_from_masked
from pruning.errors import InputError
from pruning.introspect import arch_from_model, layers_from_model
from pruning.masks import Masks, full_masks, masked
from tests.tiny import DENSE_CLASSES, tiny_batch, tiny_bert

PADDINGS = ["none", "right", "left", "holes"]


def outputs(model, batch):
    with torch.no_grad():
        result = model(**batch, output_hidden_states=True)
    return [*result.hidden_states, *(result[key] for key in ("logits", "start_logits", "end_logits") if key in result)]


def largest_gap(model, masks, compact, batch):
    with masked(model, masks):
        expected = outputs(model, batch)
    return max((a - b).abs().max().item() for a, b in zip(expected, outputs(compact, batch), strict=True))


def random_masks(arch, seed, density):
    generator = torch.Generator().manual_seed(seed)
    heads = [torch.rand(x.heads, generator=generator) < density for x in arch.layers]
    neurons = [torch.rand(x.ffn, generator=generator) < density for x in arch.layers]
    return Masks(heads, neurons)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    head=st.sampled_from(sorted(DENSE_CLASSES)),
    seed=st.integers(0, 10_000),
    density=st.sampled_from([0.1, 0.5, 0.9]),
    padding=st.sampled_from(PADDINGS),
    heads=st.sampled_from([1, 2, 4, 8]),
    ffn=st.integers(1, 40),
    layers=st.integers(1, 4),
    act=st.sampled_from(["gelu", "relu", "gelu_new"]),
)
def test_compact_equals_masked_in_float64(head, seed, density, padding, heads, ffn, layers, act):
    model = tiny_bert(
        head, seed, num_attention_heads=heads, intermediate_size=ffn, num_hidden_layers=layers, hidden_act=act
    ).double()
    masks = random_masks(arch_from_model(model), seed, density)
    compact = compact_from_masked(model, masks)
    assert arch_from_model(compact) == masks.arch(16, 16 // heads)
    assert largest_gap(model, masks, compact, tiny_batch(seed=seed, padding=padding)) < 1e-10


@pytest.mark.parametrize("head", sorted(DENSE_CLASSES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compact_equals_masked_at_the_extremes(head, dtype):
    model = tiny_bert(head).to(dtype)
    full = full_masks(arch_from_model(model))
    none = Masks([~x for x in full.head_mask], [~x for x in full.neuron_mask])
    one = Masks(
        [torch.arange(len(x)) == 2 for x in full.head_mask], [torch.arange(len(x)) == 5 for x in full.neuron_mask]
    )
    empty_ends = Masks(
        [none.head_mask[0], full.head_mask[1], none.head_mask[2]],
        [none.neuron_mask[0], full.neuron_mask[1], none.neuron_mask[2]],
    )
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for masks in (full, none, one, empty_ends):
        compact = compact_from_masked(model, masks)
        assert compact.dtype == dtype
        for padding in PADDINGS:
            assert largest_gap(model, masks, compact, tiny_batch(padding=padding)) < tolerance


def test_masking_changes_the_output():
    model = tiny_bert()
    full = full_masks(arch_from_model(model))
    batch = tiny_batch()
    before = outputs(model, batch)[-1]
    with masked(model, Masks([x & (torch.arange(4) > 0) for x in full.head_mask], full.neuron_mask)):
        assert (outputs(model, batch)[-1] - before).abs().max() > 1e-2
    assert torch.equal(outputs(model, batch)[-1], before)


def test_compaction_of_a_compact_model():
    model = tiny_bert().double()
    once = compact_from_masked(model, random_masks(arch_from_model(model), 1, 0.7))
    masks = random_masks(arch_from_model(once), 2, 0.5)
    twice = compact_from_masked(once, masks)
    assert largest_gap(once, masks, twice, tiny_batch(padding="holes")) < 1e-10


def test_compaction_leaves_its_input_alone():
    model = tiny_bert()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compact = compact_from_masked(model)
    for parameter in compact.parameters():
        parameter.data.fill_(7.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_zero_rows_of_the_first_ffn_matrix_leave_their_activation_in_the_bias():
    model = tiny_bert().double()
    for layer in layers_from_model(model):
        layer.intermediate.dense.weight.data[3:7] = 0
    compact = compact_from_masked(model)
    assert set(arch_from_model(compact).ffn) == {20}
    assert largest_gap(model, full_masks(arch_from_model(model)), compact, tiny_batch()) < 1e-10


def test_zero_value_rows_leave_their_bias_and_zero_queries_stay():
    model = tiny_bert().double()
    first, second, third = layers_from_model(model)
    first.attention.self.value.weight.data[4:8] = 0
    second.attention.self.query.weight.data[4:8] = 0
    third.attention.output.dense.weight.data[:, 0:4] = 0
    compact = compact_from_masked(model)
    assert arch_from_model(compact).heads == (3, 4, 3)
    full = full_masks(arch_from_model(model))
    for padding in PADDINGS:
        assert largest_gap(model, full, compact, tiny_batch(padding=padding)) < 1e-10


def test_a_masked_unit_with_constant_weights_contributes_nothing():
    model = tiny_bert().double()
    layer = layers_from_model(model)[0]
    layer.attention.self.value.weight.data[0:4] = 0
    layer.intermediate.dense.weight.data[0] = 0
    full = full_masks(arch_from_model(model))
    masks = Masks(
        [x & (torch.arange(4) > 0) for x in full.head_mask], [x & (torch.arange(24) > 0) for x in full.neuron_mask]
    )
    assert largest_gap(model, masks, compact_from_masked(model, masks), tiny_batch()) < 1e-10


def test_a_fully_masked_row_stays_finite_and_equal():
    model = tiny_bert("encoder").double()
    masks = random_masks(arch_from_model(model), 3, 0.5)
    batch = tiny_batch()
    batch["attention_mask"][1] = 0
    states = outputs(compact_from_masked(model, masks), batch)
    assert all(torch.isfinite(state).all() for state in states)


@pytest.mark.parametrize("training", [True, False])
def test_compaction_keeps_mode_and_head(training):
    model = tiny_bert("masked-lm").train(training)
    compact = compact_from_masked(model)
    assert compact.training is training
    assert type(compact).__name__ == "CompactBertForMaskedLM"
    assert compact.cls.predictions.decoder.weight is compact.bert.embeddings.word_embeddings.weight


def test_masks_of_another_model_are_refused():
    model = tiny_bert()
    with pytest.raises(InputError, match="masks are for 1 layers, the model has 3"):
        compact_from_masked(model, Masks([torch.ones(4, dtype=torch.bool)], [torch.ones(24, dtype=torch.bool)]))
    wrong = Masks(torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 25, dtype=torch.bool))
    with pytest.raises(InputError, match="layer 0 has 4 heads and 24 neurons; its masks have 4 and 25"):
        compact_from_masked(model, wrong)


def test_masks_check_their_form():
    flags = torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(InputError, match="head_mask of layer 0 must be a bool vector"):
        Masks(torch.ones(2, 4), flags)
    with pytest.raises(InputError, match="one row per layer; got 2 and 1 rows"):
        Masks(flags, flags[:1])
