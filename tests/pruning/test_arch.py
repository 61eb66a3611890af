import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from pruning.arch import ArchSpec, LayerSpec, head_flops, head_params, neuron_flops, neuron_params
from pruning.compaction import compact_from_masked
from pruning.errors import InputError
from pruning.introspect import arch_from_model, layers_from_model
from pruning.masks import Masks
from tests.tiny import tiny_bert

SPEC = ArchSpec(16, 4, (LayerSpec(4, 24), LayerSpec(0, 7), LayerSpec(2, 0)))

layer_specs = st.builds(LayerSpec, st.integers(0, 64), st.integers(0, 9000))
arch_specs = st.builds(
    ArchSpec, st.integers(1, 4096), st.integers(1, 256), st.lists(layer_specs, min_size=1, max_size=30).map(tuple)
)


def pruned_model():
    flags = [torch.arange(4) < heads for heads in (4, 0, 2)], [torch.arange(24) < ffn for ffn in (24, 7, 0)]
    return compact_from_masked(tiny_bert("encoder"), Masks(*flags))


@settings(deadline=None)
@given(arch_specs)
def test_json_round_trip(arch):
    assert ArchSpec.from_json(arch.to_json()) == arch


@settings(deadline=None)
@given(arch_specs)
def test_text_and_json_are_one_line(arch):
    assert "\n" not in str(arch) + arch.to_json()


def test_text_names_every_size():
    assert str(SPEC) == "hidden 16, head_dim 4, heads [4,0,2], ffn [24,7,0]"


def test_dict_is_the_form_of_the_report():
    layers = [{"heads": 4, "ffn": 24}, {"heads": 0, "ffn": 7}, {"heads": 2, "ffn": 0}]
    assert json.loads(SPEC.to_json()) == SPEC.to_dict() == {"hidden": 16, "head_dim": 4, "layers": layers}


def test_from_lists_and_properties_are_inverse():
    assert ArchSpec.from_lists(16, 4, SPEC.heads, SPEC.ffn) == SPEC


def test_a_list_of_layers_becomes_a_tuple():
    assert hash(ArchSpec(16, 4, list(SPEC.layers))) == hash(SPEC)


def test_spec_is_frozen():
    with pytest.raises(AttributeError, match="cannot assign to field"):
        SPEC.hidden = 3


def test_linear_params_are_those_of_a_real_model():
    model = pruned_model()
    matrices = [
        parameter
        for layer in layers_from_model(model)
        for name, parameter in layer.named_parameters()
        if parameter.dim() == 2 and "LayerNorm" not in name
    ]
    assert arch_from_model(model) == SPEC
    assert sum(matrix.numel() for matrix in matrices) == SPEC.encoder_linear_params


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 40))
def test_flops_are_what_torch_counts(sequence):
    model = pruned_model().requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        model.encoder(torch.randn(1, sequence, 16), None, with_weights=True)
    assert counter.get_total_flops() == SPEC.encoder_flops(sequence)


@pytest.mark.parametrize(("heads", "first"), [([2, 1, 3], 2), ([2, 1, 0], 1), ([2, 0, 0], 0), ([0, 0, 0], 0)])
def test_flops_of_a_first_token_classifier(heads, first):
    """From the last layer with heads on: keys and values for all tokens, everything else for one."""
    arch, S = ArchSpec.from_lists(16, 4, heads, [5, 6, 7]), 10
    assert arch.first_token_layer == first
    saved = sum(4 * (S - 1) * 4 * (16 + S) * heads[i] + 4 * (S - 1) * 16 * arch.ffn[i] for i in range(first, 3))
    assert arch.encoder_flops(S, first_token=True) == arch.encoder_flops(S) - saved


@settings(deadline=None)
@given(arch_specs, st.integers(1, 512))
def test_costs_add_up_over_units(arch, sequence):
    heads, ffn = sum(arch.heads), sum(arch.ffn)
    assert arch.encoder_linear_params == heads * head_params(arch) + ffn * neuron_params(arch)
    assert arch.encoder_flops(sequence) == heads * head_flops(arch, sequence) + ffn * neuron_flops(arch, sequence)


@pytest.mark.parametrize("value", [-1, 2.0, True, "3", None])
def test_a_layer_refuses_what_is_no_count(value):
    with pytest.raises(InputError, match=r"heads of a layer must be an integer >= 0; got"):
        LayerSpec(value, 1)
    with pytest.raises(InputError, match=r"ffn of a layer must be an integer >= 0; got"):
        LayerSpec(1, value)


@pytest.mark.parametrize("value", [0, -4, 1.5, True])
def test_dimensions_are_positive_integers(value):
    with pytest.raises(InputError, match="hidden must be an integer >= 1; got"):
        ArchSpec(value, 4, SPEC.layers)
    with pytest.raises(InputError, match="head_dim must be an integer >= 1; got"):
        ArchSpec(16, value, SPEC.layers)


def test_an_architecture_has_a_layer():
    with pytest.raises(InputError, match="at least one layer"):
        ArchSpec(16, 4, ())


def test_lists_have_one_length():
    with pytest.raises(InputError, match="got 2 head counts and 1 FFN widths"):
        ArchSpec.from_lists(16, 4, [1, 2], [3])


@pytest.mark.parametrize(
    "data",
    [{}, {"hidden": 16, "head_dim": 4}, SPEC.to_dict() | {"layers": 3}, SPEC.to_dict() | {"layers": [{"heads": 1}]}],
)
def test_other_data_is_no_architecture(data):
    with pytest.raises(InputError, match="not an architecture: expected"):
        ArchSpec.from_dict(data)


def test_wrong_values_in_data_are_named():
    with pytest.raises(InputError, match="hidden must be an integer"):
        ArchSpec.from_dict(SPEC.to_dict() | {"hidden": "16"})


def test_text_that_is_no_json():
    with pytest.raises(InputError, match="invalid JSON"):
        ArchSpec.from_json("{")


def test_json_that_is_no_object():
    with pytest.raises(InputError, match="expected a JSON object; got list"):
        ArchSpec.from_json("[]")
