"""Tokens count by how much the answer depends on them."""

from __future__ import annotations

import pytest
import torch

from pruning.compaction import compact_from_masked
from pruning.masks import Masks
from pruning.sensitivity import PLAIN_SHARE, output_sensitivity
from tests.tiny import DENSE_CLASSES, tiny_batch, tiny_bert

BATCHES = [tiny_batch(seed=seed, padding=padding) for seed, padding in enumerate(("right", "left", "holes", "none"))]


def compact(head="sequence-classification"):
    return compact_from_masked(tiny_bert(head))


@pytest.mark.parametrize("head", sorted(DENSE_CLASSES))
def test_weights_of_each_text_have_mean_one_and_padding_has_none(head):
    weights = output_sensitivity(compact(head), BATCHES).weights
    assert {len(row) for row in weights} == {6}
    for row, batch in zip(weights, BATCHES, strict=True):
        padding, real = batch["attention_mask"] == 0, batch["attention_mask"].sum(1).float()
        for weight in row:
            torch.testing.assert_close(weight.sum(1), real)
            assert (weight[padding] == 0).all()


def test_weights_do_not_depend_on_how_sure_the_model_is():
    sure = compact()
    sure.classifier.weight.data *= 20
    found = [output_sensitivity(model, BATCHES) for model in (compact(), sure)]
    for rows in zip(*(x.weights for x in found), strict=True):
        for a, b in zip(*rows, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_classifier_reads_only_the_first_token_of_the_last_ffn():
    for row, batch in zip(output_sensitivity(compact(), BATCHES).weights, BATCHES, strict=True):
        read = batch["attention_mask"][:, 0].bool()  # where padding comes first, nothing real is read
        others = row[-1][read, 1:][batch["attention_mask"][read, 1:].bool()]
        torch.testing.assert_close(others, torch.full_like(others, PLAIN_SHARE))


def test_weights_follow_finite_differences_of_the_logits():
    model, batch = compact().double(), BATCHES[3]
    weight = output_sensitivity(model, [batch]).weights[0][0]
    changes = torch.zeros_like(weight)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(400, *weight.shape, 16, generator=generator, dtype=torch.float64)
    dropout = model.bert.encoder.layer[0].attention.output.dropout
    with torch.no_grad():
        before = model(**batch).logits
        scale = before.softmax(-1).prod(-1).sqrt()
        for token in range(weight.shape[1]):
            for direction in directions[:, :, token]:

                def nudge(_module, _inputs, output, token=token, direction=direction):
                    output = output.clone()
                    output[:, token] += 1e-6 * direction
                    return output

                handle = dropout.register_forward_hook(nudge)
                change = (model(**batch).logits - before) / 1e-6
                handle.remove()
                changes[:, token] += (scale * (change[:, 1] - change[:, 0])).square()
    expected = PLAIN_SHARE + (1 - PLAIN_SHARE) * changes / changes.mean(1, keepdim=True)
    torch.testing.assert_close(weight, expected, rtol=0.35, atol=0.1)


def test_sublayers_that_nothing_depends_on_count_their_tokens_alike():
    model = compact()
    model.classifier.weight.data.zero_()
    for row, batch in zip(output_sensitivity(model, BATCHES).weights, BATCHES, strict=True):
        assert all(torch.equal(weight, batch["attention_mask"].float()) for weight in row)


def test_empty_sublayers_have_weights_too():
    model = tiny_bert()
    nothing = torch.zeros(3, 4, dtype=torch.bool), torch.zeros(3, 24, dtype=torch.bool)
    weights = output_sensitivity(compact_from_masked(model, Masks(*nothing)), BATCHES).weights
    assert all(torch.isfinite(weight).all() for row in weights for weight in row)
    assert {len(row) for row in weights} == {6}


def test_gradients_are_the_exact_expectation_over_two_classes():
    """Sum over classes of p times the outer product of d log p with itself, over all tokens."""
    model, batch = compact().double(), BATCHES[2]
    mask, kept = batch["attention_mask"].bool(), []
    layer = model.bert.encoder.layer[0]
    handle = layer.output.dropout.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    log_p = model(**batch).logits.log_softmax(-1)
    handle.remove()
    expected = torch.zeros(16, 16, dtype=torch.float64)
    for row in range(len(mask)):
        for value in log_p[row]:
            gradient = torch.autograd.grad(value, kept[0], retain_graph=True)[0][mask]
            expected += value.exp().detach() * gradient.T @ gradient / len(mask)
    found = output_sensitivity(model, [batch]).gradients[1]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_gradients_add_up_over_batches():
    model = compact().double()
    together = output_sensitivity(model, BATCHES[:2]).gradients
    apart = [output_sensitivity(model, [batch]).gradients for batch in BATCHES[:2]]
    for a, b, c in zip(together, *apart, strict=True):
        torch.testing.assert_close(a, (b + c) / 2)


def test_it_reports_progress():
    calls = []
    output_sensitivity(compact(), BATCHES, progress=lambda *done: calls.append(done))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
