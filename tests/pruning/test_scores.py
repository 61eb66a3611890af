import copy

import pytest
import torch
from torch import Tensor

from pruning.arch import ArchSpec
from pruning.errors import InputError
from pruning.introspect import arch_from_model, layers_from_model
from pruning.pooling import mean_pooled
from pruning.scores import Scores, fisher_scores, magnitude_scores, random_scores
from tests.pruning.compact import HEADS, UNEVEN, pruned_bert, tiny_compact
from tests.tiny import tiny_batch, tiny_bert

STEP = 1e-4
SMALL = {"intermediate_size": 5, "num_hidden_layers": 2}


def flat(scores):
    return torch.cat([*scores.heads, *scores.neurons]).double()


def output_matrices(model):
    """Every output projection with the number of its columns that belong to one unit, heads first."""
    layers = layers_from_model(model)
    heads = [(x.attention.output.dense.weight, arch_from_model(model).head_dim) for x in layers if x.attention.heads]
    return heads + [(x.output.dense.weight, 1) for x in layers if x.ffn]


def derivatives(model, answer):
    """Central differences of ``answer(model)`` (B, ...) for a gate on each unit, by scaling its columns."""
    rows = []
    for weight, width in output_matrices(model):
        for start in range(0, weight.shape[1], width):
            columns, ends = weight.data[:, start : start + width], []
            original = columns.clone()
            for gate in (1 + STEP, 1 - STEP):
                columns.copy_(original * gate)
                ends.append(answer(model))
            columns.copy_(original)
            rows.append((ends[0] - ends[1]) / (2 * STEP))
    return torch.stack(rows)  # (units, B, ...)


@torch.no_grad()
def log_probabilities(model, batch):
    """Of every answer that a model can give: (B, positions, classes), and which positions count (B, positions)."""
    outputs = model(**batch)
    mask = batch["attention_mask"].double()
    if "start_logits" in outputs:
        hidden = torch.where(mask > 0, 0.0, -torch.inf)
        logits = torch.stack([outputs["start_logits"] + hidden, outputs["end_logits"] + hidden], dim=1)
        return logits.log_softmax(-1).clamp(min=-1e4), torch.ones(len(mask), 2)
    logits = outputs["logits"]
    if logits.dim() == 2:
        return logits[:, None].log_softmax(-1), torch.ones(len(mask), 1)
    return logits.log_softmax(-1), mask


def exact_fisher(model, batch):
    """Sum over examples, positions and classes of p (d log p / d gate)^2, with nothing sampled."""
    log_p, counts = log_probabilities(model, batch)
    slopes = derivatives(model, lambda changed: log_probabilities(changed, batch)[0])
    return (slopes.square() * log_p.exp() * counts[..., None]).sum(dim=(1, 2, 3))


def compact_twin(head, **overrides):
    """Compact, so that `output_matrices` may ask a layer for its sizes."""
    return pruned_bert(head, **overrides).double()


@pytest.mark.parametrize("padding", ["none", "holes"])
def test_fisher_of_two_classes_is_the_exact_expectation(padding):
    model, batch = compact_twin("sequence-classification"), tiny_batch(padding=padding)
    torch.testing.assert_close(flat(fisher_scores(model, [batch])), exact_fisher(model, batch), rtol=1e-4, atol=1e-7)


def test_fisher_of_a_regression_is_the_squared_slope():
    model, batch = compact_twin("sequence-classification", num_labels=1), tiny_batch()
    with torch.no_grad():
        slopes = derivatives(model, lambda changed: changed(**batch).logits)
    torch.testing.assert_close(
        flat(fisher_scores(model, [batch])), slopes.square().sum(dim=(1, 2)), rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize(
    ("head", "overrides"),
    [
        ("sequence-classification", {"num_labels": 4}),
        ("token-classification", {"num_labels": 3}),
        ("question-answering", {}),
        ("masked-lm", {}),
    ],
)
def test_sampled_fisher_has_the_exact_expectation_as_its_mean(head, overrides):
    model, batch, repeats = compact_twin(head, **overrides), tiny_batch(padding="right"), 120
    sampled = flat(fisher_scores(model, [batch] * repeats)) / repeats
    exact = exact_fisher(model, batch)
    assert ((sampled - exact).norm() / exact.norm()) < 0.2


def test_fisher_of_an_encoder_has_the_squared_jacobian_of_the_embedding_as_its_mean():
    model, batch, repeats = compact_twin("encoder"), tiny_batch(padding="holes"), 120

    @torch.no_grad()
    def embedding(changed) -> Tensor:
        states = changed(**batch).last_hidden_state
        return torch.nn.functional.normalize(mean_pooled(states, batch["attention_mask"]), dim=-1)

    sampled = flat(fisher_scores(model, [batch] * repeats)) / repeats
    exact = derivatives(model, embedding).square().sum(dim=(1, 2))
    assert ((sampled - exact).norm() / exact.norm()) < 0.2


@pytest.mark.parametrize("head", HEADS)
def test_fisher_fits_the_architecture_with_empty_sublayers(head):
    model = tiny_compact(head)
    scores = fisher_scores(model, [tiny_batch()])
    assert [len(row) for row in scores.heads] == UNEVEN[0]
    assert [len(row) for row in scores.neurons] == UNEVEN[1]
    assert flat(scores).min() > 0


def test_fisher_of_a_model_without_units_is_empty():
    scores = fisher_scores(tiny_compact(heads=[0, 0], ffn=[0, 0]), [tiny_batch()])
    assert flat(scores).shape == (0,)


def test_fisher_adds_up_over_examples_and_batches():
    model, batch = tiny_bert().double(), tiny_batch(padding="holes")
    rows = [{name: tensor[i : i + 1] for name, tensor in batch.items()} for i in range(4)]
    together, apart = fisher_scores(model, [batch]), fisher_scores(model, rows)
    torch.testing.assert_close(flat(together), flat(apart), rtol=1e-4, atol=1e-8)


def test_padding_does_not_change_fisher():
    model, short = tiny_bert().double(), tiny_batch(length=6, padding="right")
    long = {name: torch.nn.functional.pad(tensor, (0, 5)) for name, tensor in short.items()}
    long["input_ids"][:, 6:] = 9
    torch.testing.assert_close(
        flat(fisher_scores(model, [short])), flat(fisher_scores(model, [long])), rtol=1e-4, atol=1e-8
    )


def test_a_unit_without_effect_scores_zero():
    model = tiny_bert()
    first = layers_from_model(model)[0]
    first.attention.output.dense.weight.data[:, 4:8] = 0
    first.output.dense.weight.data[:, 3] = 0
    scores = fisher_scores(model, [tiny_batch()])
    assert scores.heads[0][1] == 0
    assert scores.neurons[0][3] == 0
    assert flat(scores).count_nonzero() > 70


def test_fisher_leaves_the_model_as_it_was():
    model = tiny_bert()
    before = copy.deepcopy(model.state_dict())
    fisher_scores(model, [tiny_batch()])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_does_not_reach_fisher():
    model = tiny_bert()
    expected = fisher_scores(model, [tiny_batch()])
    model.train()
    assert torch.equal(flat(fisher_scores(model, [tiny_batch()])), flat(expected))
    assert model.training


def test_fisher_works_where_gradients_are_off():
    expected = flat(fisher_scores(tiny_bert(), [tiny_batch()]))
    with torch.no_grad():
        assert torch.equal(flat(fisher_scores(tiny_bert(), [tiny_batch()])), expected)


def test_sampled_fisher_follows_its_seed_and_not_the_global_one():
    model = tiny_bert(num_labels=3, **SMALL)
    found = []
    for seed, other in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(other)
        found.append(flat(fisher_scores(model, [tiny_batch()], seed=seed)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_fisher_reports_progress():
    calls = []
    fisher_scores(tiny_bert(**SMALL), [tiny_batch()] * 3, progress=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_random_scores_follow_their_seed():
    arch = ArchSpec.from_lists(16, 4, *UNEVEN)
    assert torch.equal(flat(random_scores(arch, 3)), flat(random_scores(arch, 3)))
    assert not torch.equal(flat(random_scores(arch, 3)), flat(random_scores(arch, 4)))


def test_random_scores_are_in_proportion_to_the_weights_of_a_unit():
    scores = random_scores(ArchSpec.from_lists(16, 4, [500], [500]), 0)
    assert scores.heads[0].mean() / (4 * 16 * 4) == pytest.approx(0.5, abs=0.05)
    assert scores.neurons[0].mean() / (2 * 16) == pytest.approx(0.5, abs=0.05)


def test_magnitude_sums_the_squared_weights_of_every_matrix_of_a_unit():
    model = tiny_bert()
    layer, scores = layers_from_model(model)[1], magnitude_scores(model)
    own, rows = layer.attention.self, slice(8, 12)  # the third head of four
    head = sum(x.weight[rows].square().sum() for x in (own.query, own.key, own.value))
    head += layer.attention.output.dense.weight[:, rows].square().sum()
    neuron = layer.intermediate.dense.weight[7].square().sum() + layer.output.dense.weight[:, 7].square().sum()
    torch.testing.assert_close(scores.heads[1][2], head.detach())
    torch.testing.assert_close(scores.neurons[1][7], neuron.detach())


def test_magnitude_of_all_units_is_the_squared_norm_of_all_matrices():
    model = tiny_compact()
    matrices = [x for layer in layers_from_model(model) for x in layer.parameters() if x.dim() == 2]
    torch.testing.assert_close(
        flat(magnitude_scores(model)).sum(), sum(x.detach().double().square().sum() for x in matrices)
    )


def test_magnitude_fits_the_architecture_with_empty_sublayers():
    scores = magnitude_scores(tiny_compact())
    assert [len(row) for row in scores.heads] == UNEVEN[0]
    assert [len(row) for row in scores.neurons] == UNEVEN[1]


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_score_is_a_finite_cost(bad):
    good, row = torch.ones(3), torch.tensor([1.0, bad])
    with pytest.raises(InputError, match=r"scores of the heads in layer 1 must be finite and >= 0; got tensor"):
        Scores((good, row), (good, good))
    with pytest.raises(InputError, match=r"scores of the neurons in layer 0 must be finite and >= 0"):
        Scores((good,), (row,))


def test_a_model_that_diverged_is_refused():
    model = tiny_bert()
    model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match="scores of the heads in layer 0 must be finite"):
        fisher_scores(model, [tiny_batch()])
