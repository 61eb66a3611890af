"""Tokens count by how much the answer depends on them."""

from __future__ import annotations

import pytest
import torch

from pruning.compaction import compact_from_masked
from pruning.masks import Masks
from pruning.token_weights import PLAIN_SHARE, token_weights
from tests.tiny import DENSE_CLASSES, tiny_batch, tiny_bert

BATCHES = [tiny_batch(seed=seed, padding=padding) for seed, padding in enumerate(("right", "left", "holes", "none"))]


def compact(head="sequence-classification"):
    return compact_from_masked(tiny_bert(head))


@pytest.mark.parametrize("head", sorted(DENSE_CLASSES))
def test_weights_have_mean_one_and_padding_has_none(head):
    weights = token_weights(compact(head), BATCHES)
    real = sum(float(batch["attention_mask"].sum()) for batch in BATCHES)
    assert {len(row) for row in weights} == {6}
    for sublayer in range(6):
        total = sum(float(row[sublayer].sum()) for row in weights)
        assert total / real == pytest.approx(1.0, rel=1e-4)
    for row, batch in zip(weights, BATCHES, strict=True):
        padding = batch["attention_mask"] == 0
        assert all((weight[padding] == 0).all() for weight in row)


def test_a_classifier_reads_only_the_first_token_of_the_last_ffn():
    for row, batch in zip(token_weights(compact(), BATCHES), BATCHES, strict=True):
        others = row[-1][:, 1:][batch["attention_mask"][:, 1:].bool()]
        torch.testing.assert_close(others, torch.full_like(others, PLAIN_SHARE))


def test_weights_follow_finite_differences_of_the_logits():
    model, batch = compact().double(), BATCHES[3]
    weight = token_weights(model, [batch])[0][0]
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
    expected = PLAIN_SHARE + (1 - PLAIN_SHARE) * changes / changes.mean()
    torch.testing.assert_close(weight, expected, rtol=0.35, atol=0.1)


def test_sublayers_that_nothing_depends_on_count_their_tokens_alike():
    model = compact()
    model.classifier.weight.data.zero_()
    for row, batch in zip(token_weights(model, BATCHES), BATCHES, strict=True):
        assert all(torch.equal(weight, batch["attention_mask"].float()) for weight in row)


def test_empty_sublayers_have_weights_too():
    model = tiny_bert()
    nothing = torch.zeros(3, 4, dtype=torch.bool), torch.zeros(3, 24, dtype=torch.bool)
    weights = token_weights(compact_from_masked(model, Masks(*nothing)), BATCHES)
    assert all(torch.isfinite(weight).all() for row in weights for weight in row)
    assert {len(row) for row in weights} == {6}
