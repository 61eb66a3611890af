from __future__ import annotations

import json

import onnx
import pytest

from exporter.agreement import mean_agreement
from exporter.artifact_parity import parity_with_artifact
from exporter.text_cases import text_batches, text_cases, texts_from_file, texts_to_json
from exporter.to_onnx import onnx_from_model
from pruning.batching import Encodings, predict_from_model
from pruning.errors import InputError
from tests.tiny import tiny_bert

TEXTS = Encodings(((2, 7, 8, 3), (2, 9, 3), (2, 10, 11, 12, 13, 3)), ((0,) * 4, (0,) * 3, (0,) * 6), pad_id=0)


def test_every_text_is_compared_once_and_the_masks_are_those_of_real_life():
    assert sum(len(batch["input_ids"]) for batch in text_batches(TEXTS).values()) == 3
    cases = text_cases(TEXTS)
    assert cases["one text"]["input_ids"].tolist() == [[2, 7, 8, 3]]
    left, holes = cases["texts padded on the left"], cases["texts with holes"]
    assert left["input_ids"].tolist() == [[0, 0, 2, 7, 8, 3], [0, 0, 0, 2, 9, 3], [2, 10, 11, 12, 13, 3]]
    assert left["attention_mask"][1].tolist() == [0, 0, 0, 1, 1, 1]
    assert holes["attention_mask"].tolist() == [[1, 1, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 1, 0]]


def test_texts_survive_the_disk(tmp_path):
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(texts_to_json(TEXTS)))
    assert texts_from_file(path) == TEXTS


@pytest.mark.parametrize("content", ["{", "{}", '{"input_ids": [1], "token_type_ids": [1], "pad_id": 0}'])
def test_a_damaged_file_of_texts_is_named(tmp_path, content):
    (tmp_path / "texts.json").write_text(content)
    with pytest.raises(InputError, match="holds no token ids"):
        texts_from_file(tmp_path / "texts.json")


@pytest.mark.parametrize("head", ["sequence-classification", "question-answering", "encoder"])
def test_a_model_agrees_with_itself_and_not_with_another(head):
    batches = list(text_batches(TEXTS).values())
    model, other = (predict_from_model(tiny_bert(head, seed=seed)) for seed in (0, 5))
    assert mean_agreement(model, model, batches) == pytest.approx(1.0)
    assert mean_agreement(model, other, batches) < 1.0
    assert mean_agreement(model, other, []) == 1.0


@pytest.mark.parametrize("head", ["sequence-classification", "token-classification"])
def test_parity_of_an_artifact_covers_masks_and_texts(tmp_path, head):
    path = onnx_from_model(tiny_bert(head), tmp_path / "model.onnx").path
    right = parity_with_artifact(tiny_bert(head), path, TEXTS)
    assert right.passed
    assert (right.precision, right.agreement) == ("fp32", 1.0)
    assert {"holes", "texts 1", "one text"} <= {case.case for case in right.cases}
    assert not parity_with_artifact(tiny_bert(head, seed=1), path, TEXTS).passed
    assert parity_with_artifact(tiny_bert(head), path, None).agreement is None


def test_a_foreign_file_does_not_say_what_it_should_answer_like(tmp_path):
    path = onnx_from_model(tiny_bert(), tmp_path / "model.onnx").path
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(InputError, match="was not written by slimbert"):
        parity_with_artifact(tiny_bert(), path, None)
