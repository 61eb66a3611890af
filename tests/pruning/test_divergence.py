import pytest
import torch
from torch.nn import functional as F

from pruning.batching import predict_from_model
from pruning.divergence import divergence, divergences
from pruning.pooling import mean_pooled
from tests.pruning.compact import HEADS, tiny_compact
from tests.tiny import tiny_batch, tiny_bert

BATCHES = [tiny_batch(seed=1, padding="right"), tiny_batch(rows=3, length=6, seed=2, padding="holes")]
HEADS_AND_LABELS = [(head, 2) for head in HEADS] + [("sequence-classification", 1), ("sequence-classification", 5)]


def models(head, labels):
    build = {"num_labels": labels} if labels != 2 else {}
    return tiny_bert(head, seed=1, **build), tiny_compact(head, seed=2, **build)


def kl(a, b):
    """KL(a || b) of two vectors of logits, from the definition."""
    p, q = a.double().softmax(0), b.double().softmax(0)
    return float((p * (p / q).log()).sum())


def expected_for_row(a, b, kept):
    """The distance of one text, token by token; ``kept`` are its tokens."""
    if "start_logits" in a:
        return sum(kl(a[name][kept], b[name][kept]) for name in ("start_logits", "end_logits"))
    if "last_hidden_state" in a:
        means = [x["last_hidden_state"][kept].double().mean(0) for x in (a, b)]
        return 1 - float(F.cosine_similarity(*means, dim=0))
    a, b = a["logits"], b["logits"]
    if a.dim() == 2:
        return sum(kl(x, y) for x, y in zip(a[kept], b[kept], strict=True)) / int(kept.sum())
    return float((a - b).square()) if len(a) == 1 else kl(a, b)


@pytest.mark.parametrize(("head", "labels"), HEADS_AND_LABELS)
def test_formula_of_every_head(head, labels):
    dense, compact = (predict_from_model(model) for model in models(head, labels))
    rows = []
    for batch in BATCHES:
        a, b = dense(batch), compact(batch)
        for i, kept in enumerate(batch["attention_mask"].bool()):
            rows.append(expected_for_row({k: v[i] for k, v in a.items()}, {k: v[i] for k, v in b.items()}, kept))
    assert divergence(dense, compact, BATCHES) == pytest.approx(sum(rows) / len(rows), rel=1e-4)


@pytest.mark.parametrize(("head", "labels"), HEADS_AND_LABELS)
def test_a_model_is_no_distance_from_itself(head, labels):
    predict = predict_from_model(models(head, labels)[0])
    assert divergence(predict, predict, BATCHES) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("head", "labels"), HEADS_AND_LABELS)
def test_padding_does_not_count(head, labels):
    dense, compact = (predict_from_model(model) for model in models(head, labels))
    longer = [{name: F.pad(tensor, (0, 4)) for name, tensor in batch.items()} for batch in BATCHES]
    assert divergence(dense, compact, longer) == pytest.approx(divergence(dense, compact, BATCHES), rel=1e-4)


def test_the_mean_is_over_texts_and_not_over_batches():
    dense, compact = (predict_from_model(model) for model in models("sequence-classification", 3))
    batch = tiny_batch(rows=5)
    parts = [{name: tensor[cut] for name, tensor in batch.items()} for cut in (slice(0, 1), slice(1, 5))]
    assert divergence(dense, compact, parts) == pytest.approx(divergence(dense, compact, [batch]), rel=1e-4)


def test_several_candidates_are_compared_with_one_answer_of_the_reference():
    dense, compact = (predict_from_model(model) for model in models("sequence-classification", 3))
    asked = []

    def counted(batch):
        asked.append(batch)
        return dense(batch)

    assert divergences(counted, [compact, dense], BATCHES) == [divergence(dense, compact, BATCHES), 0.0]
    assert len(asked) == len(BATCHES)


def test_the_reference_comes_first():
    dense, compact = (predict_from_model(model) for model in models("sequence-classification", 3))
    assert divergence(dense, compact, BATCHES) != pytest.approx(divergence(compact, dense, BATCHES), rel=1e-3)


def test_pooling_is_the_mean_over_tokens():
    states, mask = torch.randn(2, 3, 4), torch.tensor([[1, 0, 1], [0, 1, 0]])
    pooled = mean_pooled(states, mask)
    torch.testing.assert_close(pooled, torch.stack([(states[0, 0] + states[0, 2]) / 2, states[1, 1]]))


def test_pooling_of_a_row_without_tokens_is_zero():
    assert torch.equal(mean_pooled(torch.randn(1, 3, 4), torch.zeros(1, 3, dtype=torch.long)), torch.zeros(1, 4))
