"""Removal paths of whole models: the statistics are those of the model, whatever the batches look like."""

import copy

import numpy as np
import pytest
import torch

from pruning.allocation import masks_from_scores
from pruning.arch import ArchSpec
from pruning.budget import flops_prices
from pruning.compaction import compact_from_masked
from pruning.errors import InputError
from pruning.introspect import arch_from_model, layers_from_model
from pruning.layerwise import sublayers_from_model
from pruning.removal_paths import levels_from_paths, removal_paths, scores_from_paths
from pruning.second_order import DAMPING
from pruning.sensitivity import output_sensitivity
from tests.pruning.compact import HEADS, UNEVEN, pruned_bert
from tests.tiny import tiny_batch, tiny_bert

BATCHES = [
    tiny_batch(rows=16, length=10, seed=seed, padding=padding) for seed, padding in enumerate(("right", "holes"))
]


def dense(head="sequence-classification", **overrides):
    return compact_from_masked(tiny_bert(head, **overrides).double())


def paths_of(model, batches=BATCHES, multiple=8, sensitivity=None):
    found = sensitivity or output_sensitivity(model, batches)
    return removal_paths(model, batches, found, ffn_multiple=multiple)


@torch.no_grad()
def inputs_of(model, batches, sublayer):
    """Everything that enters an output projection, from an ordinary forward pass."""
    found = []
    handle = sublayers_from_model(model)[sublayer].output.dense.register_forward_pre_hook(
        lambda _module, inputs: found.append(inputs[0])
    )
    for batch in batches:
        model(**batch)
    handle.remove()
    return torch.cat([x[batch["attention_mask"].bool()] for x, batch in zip(found, batches, strict=True)])


@pytest.mark.parametrize("sublayer", range(6))
def test_streamed_statistics_are_those_of_the_whole_model(sublayer):
    """The cost of an empty sublayer needs no order: ``tr(G W' A W) / 2`` on all inputs at once."""
    model = dense()
    sensitivity = output_sensitivity(model, BATCHES)
    masks = [batch["attention_mask"].bool() for batch in BATCHES]
    weights = torch.cat([row[sublayer][mask] for row, mask in zip(sensitivity.weights, masks, strict=True)])
    x = inputs_of(model, BATCHES, sublayer)
    centred = x - (weights[:, None] * x).sum(0) / weights.sum()
    covariance = centred.T @ (weights[:, None] * centred) / weights.sum()
    covariance += DAMPING * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=x.dtype)
    weight = sublayers_from_model(model)[sublayer].output.dense.weight.detach().T
    expected = torch.trace(sensitivity.gradients[sublayer] @ weight.T @ covariance @ weight) / 2
    assert paths_of(model, sensitivity=sensitivity)[sublayer].cost[0] == pytest.approx(float(expected), rel=1e-9)


def test_the_order_and_the_padding_of_batches_do_not_matter():
    model = dense()
    longer = [{name: torch.nn.functional.pad(tensor, (0, 4)) for name, tensor in batch.items()} for batch in BATCHES]
    longer[0]["input_ids"][:, -4:] = 9
    rows = [{name: tensor[i : i + 4] for name, tensor in longer[0].items()} for i in range(0, 16, 4)]
    for a, b in zip(paths_of(model), paths_of(model, [longer[1], *rows[::-1]]), strict=True):
        assert a.order.tolist() == b.order.tolist()
        np.testing.assert_allclose(a.cost, b.cost, rtol=1e-7)


@pytest.mark.parametrize("head", HEADS)
def test_paths_fit_the_architecture_with_empty_sublayers(head):
    model = pruned_bert(head)
    paths = paths_of(model, multiple=10)
    assert [path.kept.tolist() for path in paths[0::2]] == [list(range(heads + 1)) for heads in UNEVEN[0]]
    assert [path.kept.tolist() for path in paths[1::2]] == [[0], [0, 10, 20, 24], [0, 5]]
    assert [len(row) for row in scores_from_paths(paths).heads] == UNEVEN[0]


def test_masks_keep_the_last_of_every_path():
    model = dense()
    paths = paths_of(model)
    masks = masks_from_scores(scores_from_paths(paths), ArchSpec.from_lists(16, 4, [3, 0, 4], [8, 16, 0]))
    assert set(masks.head_mask[0].nonzero().flatten().tolist()) == set(paths[0].order[1:].tolist())
    assert set(masks.neuron_mask[1].nonzero().flatten().tolist()) == set(paths[3].order[8:].tolist())


def test_levels_carry_costs_and_prices_attention_first():
    model = pruned_bert()
    paths, prices = paths_of(model, multiple=10), flops_prices(arch_from_model(model), 12)
    levels = levels_from_paths(paths, prices)
    assert [level.kept.tolist() for level in levels[:3]] == [[0, 1, 2], [0], [0, 1, 2, 3, 4]]
    assert levels[4].price.tolist() == prices.neurons[1][[0, 10, 20, 24]].tolist()
    assert levels[4].cost.tolist() == paths[3].cost.tolist()


def test_the_model_is_left_as_it_was():
    model = dense().train()
    before = copy.deepcopy(model.state_dict())
    paths_of(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_it_reports_progress():
    model, calls = dense(), []
    sensitivity = output_sensitivity(model, BATCHES)
    removal_paths(model, BATCHES, sensitivity, ffn_multiple=8, progress=lambda *done: calls.append(done))
    assert calls == [(i, 6) for i in range(1, 7)]


def test_models_have_to_be_compacted_first():
    with pytest.raises(InputError, match="this works on compact models; got BertForSequenceClassification"):
        paths_of(tiny_bert())


@pytest.mark.parametrize(
    ("part", "name"),
    [("attention.output.dense", "attention of layer 1"), ("output.dense", "FFN of layer 1")],
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_named_by_sublayer(part, name, bad):
    model = dense()
    sensitivity = output_sensitivity(model, BATCHES)
    layers_from_model(model)[1].get_submodule(part).weight.data[2, 3] = bad
    with pytest.raises(InputError, match=rf"{name}: the calibration statistics are not finite. Check the model's"):
        paths_of(model, sensitivity=sensitivity)
