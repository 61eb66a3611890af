"""Scoring classifiers and regressors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pruning.batching import Batch, encode, predict_from_model
from pruning.errors import InputError
from pruning.tasks.task import EvaluationSettings, settings_from_config
from pruning.tasks.text_classification import ClassificationObjective, TextClassification
from pruning.tasks.text_data import Label, TextData
from tests.tiny import VOCAB, tiny_bert, tiny_config, tiny_tokenizer

TASK = TextClassification()
TEXTS = ("a good cat", "the bad dog sat", "good good bird", "a bad bad house under the tree")
NAMES = EvaluationSettings(labels=("neg", "pos"), batch_size=2)


def keyword(batch: Batch) -> dict[str, Tensor]:
    """A classifier that looks for "good" and is sure of it by the length of the text."""
    found = (batch["input_ids"] == VOCAB["good"]).any(-1).float()
    return {"logits": torch.stack([1 - found, found * batch["attention_mask"].sum(-1)], dim=-1)}


def evaluate(labels: tuple[Label, ...] | None, settings: EvaluationSettings = NAMES, predict=keyword, reference=None):
    return TASK.evaluate(predict, tiny_tokenizer(), TextData(TEXTS, labels=labels), settings, reference)


@pytest.mark.parametrize("labels", [("pos", "neg", "pos", "pos"), (1, 0, 1, 1)])
def test_accuracy_is_the_primary_metric(labels: tuple[Label, ...]) -> None:
    evaluation = evaluate(labels)
    assert (evaluation.metric.name, evaluation.metric.value, evaluation.metric.n) == ("accuracy", 0.75, 4)
    assert evaluation.others == pytest.approx({"f1": 0.8, "matthews": 3**-0.5})
    assert evaluation.outputs[:, 1].tolist() == [5, 0, 5, 0]


def test_agreement_with_a_reference() -> None:
    def always_positive(batch: Batch) -> dict[str, Tensor]:
        return {"logits": torch.tensor([[0.0, 1.0]]).expand(len(batch["input_ids"]), 2)}

    assert evaluate((1, 0, 1, 1), reference=always_positive).others["agreement"] == 0.5


def test_spearman_for_regression() -> None:
    def length(batch: Batch) -> dict[str, Tensor]:
        return {"logits": batch["attention_mask"].sum(-1, keepdim=True).float()}

    evaluation = evaluate((0.1, 0.2, 0.1, 0.9), EvaluationSettings(labels=("",)), length)
    assert evaluation.metric.name == "spearman"
    assert evaluation.metric.value == pytest.approx(1.0)
    assert set(evaluation.others) == {"pearson"}


def test_pairs_reach_the_model_side_by_side() -> None:
    def second_is_longer(batch: Batch) -> dict[str, Tensor]:
        second = batch["token_type_ids"].sum(-1).float()
        return {"logits": torch.stack([batch["attention_mask"].sum(-1) - second, second], dim=-1)}

    data = TextData(("a", "a cat sat on the mat"), ("the dog ran under a tree", "a"), (1, 0))
    assert TASK.evaluate(second_is_longer, tiny_tokenizer(), data, NAMES).metric.value == 1.0


def test_a_real_model_is_scored_by_its_own_config() -> None:
    model = tiny_bert(id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1})
    settings = settings_from_config(model.config, max_length=512)
    assert (settings.labels, settings.max_length) == (("neg", "pos"), 40)
    first = evaluate(("pos", "neg", "pos", "neg"), settings, predict_from_model(model))
    flipped = evaluate(("neg", "pos", "neg", "pos"), settings, predict_from_model(model))
    assert first.metric.value + flipped.metric.value == pytest.approx(1.0)


def test_objective_is_the_loss_of_transformers() -> None:
    model = tiny_bert(num_labels=2)
    batch = ClassificationObjective(encode(tiny_tokenizer(), TEXTS), torch.tensor([0, 1, 1, 0])).batch([0, 1])
    inputs = {name: tensor for name, tensor in batch.items() if name != "targets"}
    loss = TASK.objective(tiny_tokenizer(), TextData(TEXTS, labels=(0, 1, 1, 0)), NAMES).loss(model, batch)
    torch.testing.assert_close(loss, model(**inputs, labels=torch.tensor([0, 1])).loss)


def test_missing_labels_are_refused() -> None:
    with pytest.raises(InputError, match="no labels"):
        evaluate(None)


def test_unknown_labels_are_refused() -> None:
    with pytest.raises(InputError, match="does not know the labels 'neutral'"):
        evaluate(("pos", "neg", "neutral", "pos"))


def test_a_model_with_other_classes_is_refused() -> None:
    with pytest.raises(InputError, match="2 logits for 3 labels"):
        evaluate((0, 1, 2, 0), EvaluationSettings(labels=("a", "b", "c")))


@pytest.mark.parametrize("head", ["encoder", "token-classification", "question-answering"])
def test_outputs_of_another_head_are_refused(head: str) -> None:
    with pytest.raises(InputError, match="needs one row of logits per text"):
        evaluate((0, 1, 0, 1), predict=predict_from_model(tiny_bert(head)))


def test_nan_outputs_are_refused() -> None:
    def broken(batch: Batch) -> dict[str, Tensor]:
        return {"logits": torch.full((len(batch["input_ids"]), 2), float("nan"))}

    with pytest.raises(InputError, match="NaN or infinite outputs"):
        evaluate((0, 1, 0, 1), predict=broken)


def test_settings_default_to_two_unnamed_classes() -> None:
    assert settings_from_config(tiny_config()).labels == ("LABEL_0", "LABEL_1")
