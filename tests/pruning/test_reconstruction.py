import copy

import pytest
import torch

from pruning.batching import predict_from_model
from pruning.compaction import compact_from_masked
from pruning.divergence import divergence
from pruning.errors import InputError
from pruning.introspect import arch_from_model, encoder_from_model, layers_from_model
from pruning.least_squares import BLOCK, LeastSquares, ridge_towards
from pruning.masks import Masks, full_masks
from pruning.reconstruction import WeightedBatches, reconstruct
from pruning.sensitivity import output_sensitivity
from tests.pruning.compact import HEADS, tiny_compact
from tests.tiny import tiny_batch, tiny_bert

FIT = [tiny_batch(rows=24, length=12, seed=seed, padding="right") for seed in range(4)]
SELECT = [tiny_batch(rows=24, length=12, seed=9, padding="right")]
REPORT = [tiny_batch(rows=24, length=12, seed=11, padding="right")]


def masks_without(model, heads=(), neurons=()):
    """Full masks but for the (layer, unit) pairs named."""
    full = full_masks(arch_from_model(model))
    for rows, gone in ((full.head_mask, heads), (full.neuron_mask, neurons)):
        for layer, unit in gone:
            rows[layer][unit] = False
    return Masks(full.head_mask, full.neuron_mask)


def half_of(model, seed=0):
    """A random half of the units."""
    generator = torch.Generator().manual_seed(seed)
    full = full_masks(arch_from_model(model))
    rows = ([torch.rand(len(x), generator=generator) < 0.5 for x in y] for y in (full.head_mask, full.neuron_mask))
    return compact_from_masked(model, Masks(*rows))


def weighted(dense, batches):
    return WeightedBatches(batches, output_sensitivity(dense, batches).weights)


def rebuilt(compact, dense, fit=FIT, select=SELECT):
    result = copy.deepcopy(compact)
    reconstruct(result, dense, weighted(dense, fit), weighted(dense, select))
    return result


def gap(model, other, batches=REPORT):
    return divergence(predict_from_model(model), predict_from_model(other), batches)


@torch.no_grad()
def state_error(model, other, batch=REPORT[0]):
    """Mean squared distance of the last states of two models, tokens only."""
    states = [encoder_from_model(x)(**batch).last_hidden_state[batch["attention_mask"].bool()] for x in (model, other)]
    return float((states[0] - states[1]).square().sum(1).mean())


# --- least squares ---------------------------------------------------------------------------------------------------


def sums_of(x, y, parts=1):
    sums = LeastSquares(x.shape[1], y.shape[1])
    for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
        sums.add(a, b)
    return sums


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator, dtype=torch.float64) + 3
    y = x @ torch.randn(5, 4, generator=generator, dtype=torch.float64) + 2
    return x, y + torch.randn(60, 4, generator=generator, dtype=torch.float64)


def test_sums_do_not_depend_on_how_tokens_are_split(data):
    for a, b in zip(sums_of(*data).covariance(), sums_of(*data, parts=7).covariance(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("features", [BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 3])
def test_products_in_blocks_are_the_whole_product(features):
    x, y = torch.randn(40, features, dtype=torch.float64), torch.randn(40, 2, dtype=torch.float64)
    weights = torch.rand(40, dtype=torch.float64)
    sums = LeastSquares(features, 2)
    for rows in (slice(0, 15), slice(15, 40)):
        sums.add(x[rows], y[rows], weights[rows])
    shifted = x - x[:15].mean(0)
    torch.testing.assert_close(sums.inputs.xx, shifted.T @ (weights[:, None] * shifted))


def test_covariance_is_centred(data):
    x, y = data
    xx, xy = sums_of(x, y).covariance()
    torch.testing.assert_close(xx, torch.cov(x.T) * 59)
    torch.testing.assert_close(xy, (x - x.mean(0)).T @ (y - y.mean(0)))


def test_error_is_the_mean_squared_distance(data):
    x, y = data
    weight, bias = torch.randn(5, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    expected = (x @ weight + bias - y).square().sum(1).mean()
    assert sums_of(x, y).error(weight, bias) == pytest.approx(float(expected))


def test_without_ridge_it_is_least_squares(data):
    x, y = data
    weight, bias = ridge_towards(sums_of(x, y), torch.randn(5, 4, dtype=torch.float64), 0.0)
    expected = torch.linalg.lstsq(torch.cat([x, torch.ones(60, 1, dtype=torch.float64)], dim=1), y).solution
    torch.testing.assert_close(torch.cat([weight, bias[None]]), expected)


def test_an_endless_ridge_gives_the_prior_and_the_best_bias(data):
    x, y = data
    prior = torch.randn(5, 4, dtype=torch.float64)
    weight, bias = ridge_towards(sums_of(x, y), prior, 1e12)
    torch.testing.assert_close(weight, prior)
    torch.testing.assert_close(bias, (y - x @ prior).mean(0))


def test_a_ridge_is_relative_to_the_variance_of_the_features(data):
    x, y = data
    prior = torch.zeros(5, 4, dtype=torch.float64)
    small, large = (ridge_towards(sums_of(x * scale, y), prior, 0.1)[0] * scale for scale in (1, 1000))
    torch.testing.assert_close(small, large)


def test_without_inputs_the_bias_is_the_mean(data):
    _, y = data
    weight, bias = ridge_towards(sums_of(torch.zeros(60, 0, dtype=torch.float64), y), torch.zeros(0, 4).double(), 0.1)
    assert weight.shape == (0, 4)
    torch.testing.assert_close(bias, y.mean(0))


def test_redundant_features_are_no_obstacle(data):
    x, y = data
    weight, bias = ridge_towards(sums_of(torch.cat([x, x], dim=1), y), torch.zeros(10, 4, dtype=torch.float64), 1e-3)
    assert (torch.cat([x, x], dim=1) @ weight + bias - y).square().mean() < 1.2


@pytest.mark.parametrize("offset", [1.0, 100.0, 3000.0])
def test_features_that_hardly_vary_are_no_obstacle_in_single_precision(data, offset):
    x, y = (part.float() for part in data)
    x = x[:, :3] * 1e-2
    x[:, 0] = offset  # constant
    x[:, 1] += offset
    weight, bias = ridge_towards(sums_of(x, y), torch.zeros(3, 4, dtype=torch.float64), 1e-3)
    error = (x.double() @ weight + bias - y).square().mean()
    assert error < 1.05 * (y - y.mean(0)).square().mean()


def test_no_number_has_no_solution(data):
    x, y = data
    with pytest.raises(torch.linalg.LinAlgError, match=r"linalg.cholesky"):
        ridge_towards(sums_of(x * float("nan"), y), torch.zeros(5, 4, dtype=torch.float64), 0.1)


# --- whole models ----------------------------------------------------------------------------------------------------


def twins(model, layer=1):
    """Make neurons 3 and 5, and heads 0 and 2, of one layer compute the same; their outputs still differ."""
    chosen = layers_from_model(model)[layer]
    up, own = chosen.intermediate.dense, chosen.attention.self
    for part in (up.weight.data, up.bias.data):
        part[5] = part[3]
    for linear in (own.query, own.key, own.value):
        for part in (linear.weight.data, linear.bias.data):
            part[8:12] = part[0:4]
    return model


@pytest.mark.parametrize("gone", [{"neurons": [(1, 5)]}, {"heads": [(1, 2)]}, {"heads": [(1, 0)], "neurons": [(1, 3)]}])
def test_a_unit_whose_twin_stays_is_recovered(gone):
    model = twins(tiny_bert().double())
    dense, pruned = compact_from_masked(model), compact_from_masked(model, masks_without(model, **gone))
    before, after = gap(dense, pruned), gap(dense, rebuilt(pruned, dense))
    assert before > 1e-4
    assert after < 1e-3 * before


@pytest.mark.parametrize("head", HEADS)
def test_it_brings_random_halves_closer(head):
    dense = compact_from_masked(tiny_bert(head))
    halves = [half_of(dense, seed) for seed in range(4)]
    before, after = (
        [state_error(model, dense) for model in models] for models in (halves, [rebuilt(x, dense) for x in halves])
    )
    assert sum(after) < 0.5 * sum(before)


def test_nothing_to_do_changes_next_to_nothing():
    dense = compact_from_masked(tiny_bert().double())
    assert gap(dense, rebuilt(dense, dense)) < 1e-12


def first_attention_error(pruned, dense, batch):
    """Mean squared error of the first sublayer before its norm: there both models have the same residual."""
    found = []
    for model in (pruned, dense):
        model.encoder.layer[0].attention.output.dense.register_forward_hook(lambda _m, _i, out: found.append(out))
        model(**batch)
    return float((found[0] - found[1])[batch["attention_mask"].bool()].square().sum(1).mean())


@pytest.mark.parametrize("seed", range(5))
def test_a_sublayer_is_never_worse_on_the_texts_that_choose(seed):
    dense = compact_from_masked(tiny_bert("encoder", seed).double())
    pruned = compact_from_masked(dense, masks_without(dense, heads=[(0, seed % 4)]))
    few = [tiny_batch(rows=2, length=4, seed=seed, padding="none")]  # so few that a fit can do harm
    after = rebuilt(pruned, dense, few, SELECT)
    with torch.no_grad():
        errors = [first_attention_error(model, copy.deepcopy(dense), SELECT[0]) for model in (after, pruned)]
    assert errors[0] <= errors[1] * (1 + 1e-9)


def test_an_empty_sublayer_gets_the_mean_of_what_is_missing():
    dense = compact_from_masked(tiny_bert("encoder", num_hidden_layers=1).double())
    full = full_masks(arch_from_model(dense))
    pruned = compact_from_masked(dense, Masks([~full.head_mask[0]], full.neuron_mask))
    missing = []
    dense.encoder.layer[0].attention.output.dense.register_forward_hook(lambda _m, _i, out: missing.append(out))
    with torch.no_grad():
        for batch in FIT:
            dense(**batch)
    tokens = torch.cat([out[batch["attention_mask"].bool()] for out, batch in zip(missing, FIT, strict=True)])
    bias = rebuilt(pruned, dense).encoder.layer[0].attention.output.dense.bias
    rows = zip(output_sensitivity(dense, FIT).weights, FIT, strict=True)
    weights = torch.cat([row[0][batch["attention_mask"].bool()] for row, batch in rows])[:, None].double()
    expected = (tokens * weights).sum(0) / weights.sum()
    torch.testing.assert_close(bias.detach(), expected, rtol=1e-6, atol=1e-6)


def test_empty_layers_come_closer_too():
    dense = compact_from_masked(tiny_bert())
    gone = {"heads": [(0, i) for i in range(4)], "neurons": [(2, i) for i in range(24)]}
    pruned = compact_from_masked(dense, masks_without(dense, **gone))
    assert gap(dense, rebuilt(pruned, dense)) < gap(dense, pruned)


def test_padding_does_not_count():
    dense = compact_from_masked(tiny_bert().double())
    pruned = half_of(dense)
    longer = []
    for batch in FIT:
        longer.append({name: torch.nn.functional.pad(tensor, (0, 6)) for name, tensor in batch.items()})
        longer[-1]["input_ids"][:, -6:] = 17
    a, b = rebuilt(pruned, dense), rebuilt(pruned, dense, longer)
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7)


def test_only_output_projections_change_and_the_dense_model_does_not():
    dense = compact_from_masked(tiny_bert())
    pruned = half_of(dense)
    before = copy.deepcopy(dense.state_dict())
    after = rebuilt(pruned, dense).state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in dense.state_dict().items())
    changed = {name for name, tensor in pruned.state_dict().items() if not torch.equal(tensor, after[name])}
    assert {name.split(".", 4)[-1].removeprefix("attention.") for name in changed} == {
        "output.dense.weight",
        "output.dense.bias",
    }


def test_dropout_does_not_reach_the_statistics():
    dense = compact_from_masked(tiny_bert())
    pruned = half_of(dense)
    expected = rebuilt(pruned, dense)
    noisy = rebuilt(pruned.train(), dense.train())
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), noisy.parameters(), strict=True))
    assert noisy.training
    assert dense.training


def test_it_reports_progress():
    dense, calls = compact_from_masked(tiny_bert()), []
    reconstruct(
        half_of(dense), dense, weighted(dense, FIT), weighted(dense, SELECT), progress=lambda *done: calls.append(done)
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_dense_models_have_to_be_compacted_first():
    dense = tiny_bert()
    with pytest.raises(
        InputError, match=r"this works on compact models; got BertForSequenceClassification. Compact it"
    ):
        reconstruct(compact_from_masked(dense), dense, weighted(dense, FIT), weighted(dense, SELECT))


@pytest.mark.parametrize(("heads", "ffn", "hidden"), [([4, 4], [24, 24], 16), ([4, 4, 4], [24, 24, 24], 32)])
def test_models_of_another_frame_are_refused(heads, ffn, hidden):
    other = tiny_compact("sequence-classification", heads, ffn, hidden_size=hidden)
    dense = compact_from_masked(tiny_bert())
    expected = rf"the pruned model has {len(heads)} layers of hidden size {hidden}, the dense one 3 of 16"
    with pytest.raises(InputError, match=expected):
        reconstruct(other, dense, weighted(dense, FIT), weighted(dense, SELECT))


@pytest.mark.parametrize(
    ("part", "name"), [("attention.output.dense", "attention of layer 1"), ("output.dense", "FFN of layer 1")]
)
def test_a_model_that_diverged_is_named_by_layer(part, name):
    dense = compact_from_masked(tiny_bert())
    pruned = half_of(dense)
    texts = weighted(dense, FIT), weighted(dense, SELECT)
    layers_from_model(dense)[1].get_submodule(part).bias.data.fill_(float("inf"))
    with pytest.raises(InputError, match=rf"{name}: the calibration statistics are not finite"):
        reconstruct(pruned, dense, *texts)
