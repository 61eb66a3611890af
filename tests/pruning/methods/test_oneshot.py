import copy
import random
from dataclasses import replace

import pytest
import torch

from pruning.arch import ArchSpec
from pruning.batching import predict_from_model
from pruning.budget import density_budget, flops_budget
from pruning.calibration import Calibration, calibration_from_texts
from pruning.divergence import divergence
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model
from pruning.methods.names import Method
from pruning.methods.oneshot import OneshotOptions, prune_oneshot
from tests.pruning.compact import HEADS, UNEVEN, tiny_compact
from tests.tiny import WORDS, tiny_batch, tiny_bert, tiny_tokenizer

DENSE = ArchSpec.from_lists(16, 4, [4, 4, 4], [24, 24, 24])
HALF = flops_budget(DENSE, 2, 12)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    generator = random.Random(0)
    texts = [" ".join(generator.choices(WORDS.split(), k=generator.randint(4, 12))) for _ in range(200)]
    return calibration_from_texts(tiny_tokenizer(), texts, examples=96)


def options(**changes):
    return OneshotOptions(**({"target": HALF, "ffn_multiple": 4} | changes))


def weights(result):
    return torch.cat([parameter.flatten() for parameter in result.model.parameters()])


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("reconstruct", [True, False])
def test_every_method_keeps_to_its_budget(calibration, method, reconstruct):
    result = prune_oneshot(tiny_bert(), calibration, options(method=method, reconstruct=reconstruct))
    assert HALF.spent(result.arch) <= HALF.limit
    assert arch_from_model(result.model) == result.arch
    assert all(x.ffn % 4 == 0 for x in result.arch.layers)
    assert torch.isfinite(result.model(**tiny_batch()).logits).all()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("build", [tiny_bert, tiny_compact])
def test_every_head_and_a_compact_start_work(calibration, head, build):
    model = build(head)
    budget = density_budget(arch_from_model(model), 0.6)
    result = prune_oneshot(model, calibration, options(target=budget))
    assert head_from_model(result.model) == head
    assert 0 < budget.spent(result.arch) <= budget.limit
    assert result.divergence >= 0


def test_an_architecture_as_target_is_honoured(calibration):
    target = ArchSpec.from_lists(16, 4, *UNEVEN)
    result = prune_oneshot(tiny_bert(), calibration, options(target=target))
    assert result.arch == target


@pytest.mark.parametrize("target", [ArchSpec.from_lists(32, 4, *UNEVEN), ArchSpec.from_lists(16, 8, *UNEVEN)])
def test_an_architecture_of_another_frame_is_refused(calibration, target):
    expected = (
        rf"the shape is for hidden {target.hidden} and head_dim {target.head_dim}; the model has hidden 16 and head"
    )
    with pytest.raises(InputError, match=expected):
        prune_oneshot(tiny_bert(), calibration, options(target=target))


def test_an_architecture_larger_than_the_model_is_refused(calibration):
    with pytest.raises(InputError, match="layer 0 of the shape wants 5 heads"):
        prune_oneshot(tiny_bert(), calibration, options(target=ArchSpec.from_lists(16, 4, [5, 1, 1], [1, 1, 1])))


def test_uniform_keeps_the_same_in_every_layer(calibration):
    result = prune_oneshot(tiny_bert(), calibration, options(method=Method.UNIFORM))
    assert len(set(result.arch.layers)) == 1


def test_drop_keeps_sublayers_whole_or_not_at_all(calibration):
    result = prune_oneshot(tiny_bert(), calibration, options(method=Method.DROP))
    assert {x.heads for x in result.arch.layers} <= {0, 4}
    assert {x.ffn for x in result.arch.layers} <= {0, 24}
    assert HALF.spent(result.arch) <= HALF.limit


@pytest.mark.parametrize("speedup", [1.5, 2, 4])
def test_a_budget_is_used_and_not_exceeded(calibration, speedup):
    budget = flops_budget(DENSE, speedup, 12)
    result = prune_oneshot(tiny_bert(), calibration, options(target=budget))
    assert 0.7 * budget.limit < budget.spent(result.arch) <= budget.limit


def test_second_order_loses_less_than_random_structure(calibration):
    found = {
        method: sum(prune_oneshot(tiny_bert(seed=s), calibration, options(method=method)).divergence for s in range(4))
        for method in (Method.ONESHOT, Method.RANDOM)
    }
    assert found[Method.ONESHOT] < 0.7 * found[Method.RANDOM]


def test_reconstruction_brings_random_structures_closer(calibration):
    results = [
        prune_oneshot(tiny_bert(seed=seed), calibration, options(method=Method.RANDOM, seed=seed)) for seed in range(4)
    ]
    assert all(result.divergence_unreconstructed is not None for result in results)
    assert sum(x.divergence for x in results) < 0.8 * sum(x.divergence_unreconstructed for x in results)


def test_reconstruction_that_does_harm_is_taken_back(calibration, monkeypatch):
    def harm(compact, *_texts, **_options):
        compact.classifier.weight.data.mul_(-1000)

    monkeypatch.setattr("pruning.methods.oneshot.reconstruct", harm)
    result = prune_oneshot(tiny_bert(), calibration, options())
    assert not result.kept_reconstruction
    assert result.divergence == result.divergence_unreconstructed
    assert torch.equal(weights(result), weights(prune_oneshot(tiny_bert(), calibration, options(reconstruct=False))))


def test_without_reconstruction_there_is_nothing_to_compare(calibration):
    result = prune_oneshot(tiny_bert(), calibration, options(reconstruct=False))
    assert result.divergence_unreconstructed is None
    assert not result.kept_reconstruction


def test_divergence_is_measured_on_the_report_set(calibration):
    model = tiny_bert()
    result = prune_oneshot(model, calibration, options())
    found = divergence(predict_from_model(model), predict_from_model(result.model), calibration.report)
    assert result.divergence == pytest.approx(found)


@pytest.mark.parametrize("method", list(Method))
def test_the_same_seed_gives_the_same_bits(calibration, method):
    model = tiny_bert(num_labels=3)
    found = []
    for other in (1, 2):
        torch.manual_seed(other)
        found.append(weights(prune_oneshot(model, calibration, options(method=method, seed=5))))
    assert torch.equal(*found)


def test_another_seed_keeps_other_units_in_random_structures(calibration):
    shape = options(method=Method.RANDOM, target=ArchSpec.from_lists(16, 4, *UNEVEN), reconstruct=False)
    first, second = (weights(prune_oneshot(tiny_bert(), calibration, replace(shape, seed=seed))) for seed in (0, 1))
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_the_input_is_not_modified(calibration):
    model = tiny_bert()
    before = copy.deepcopy(model.state_dict())
    prune_oneshot(model, calibration, options())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert arch_from_model(model) == DENSE
    assert not model.training


def test_a_model_in_training_mode_is_pruned_without_dropout(calibration):
    expected = prune_oneshot(tiny_bert(), calibration, options())
    result = prune_oneshot(tiny_bert().train(), calibration, options())
    assert torch.equal(weights(result), weights(expected))
    assert result.model.training


def test_nothing_is_lost_where_nothing_is_pruned(calibration):
    result = prune_oneshot(tiny_bert(), calibration, options(target=density_budget(DENSE, 1.0)))
    assert result.arch == DENSE
    assert result.divergence < 1e-6


def test_progress_and_seconds_name_the_phases(calibration):
    calls = []
    result = prune_oneshot(tiny_bert(), calibration, options(), lambda *call: calls.append(call))
    assert set(result.seconds) == {"score", "compact", "reconstruct"}
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert [call for call in calls if call[0] == "reconstruct"] == [("reconstruct", i, 3) for i in (1, 2, 3)]
    scored = [call for call in calls if call[0] == "score"]
    assert scored == [("score", i, len(calibration.fit)) for i in range(1, len(calibration.fit) + 1)]


def test_progress_is_optional_and_methods_without_texts_report_none(calibration):
    calls = []
    prune_oneshot(
        tiny_bert(), calibration, options(method=Method.MAGNITUDE, reconstruct=False), lambda *call: calls.append(call)
    )
    assert calls == []


def test_a_budget_out_of_reach_is_refused(calibration):
    with pytest.raises(InputError, match="leaves no head and no neuron"):
        prune_oneshot(tiny_bert(), calibration, options(target=flops_budget(DENSE, 150, 32), ffn_multiple=8))
