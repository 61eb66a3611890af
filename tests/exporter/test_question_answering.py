"""Answers to questions are the same from every form of a model."""

import pytest
import torch

from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.to_onnx import onnx_from_model
from pruning.batching import predict_from_model
from pruning.compaction import compact_from_masked
from pruning.introspect import arch_from_model
from pruning.masks import Masks
from pruning.tasks.question_answering import answer_questions
from tests.pruning.tasks.test_question_answering import DATA, SETTINGS
from tests.tiny import tiny_bert, tiny_tokenizer


def test_dense_compact_and_onnx_give_the_same_answers(tmp_path):
    dense = tiny_bert("question-answering")
    arch = arch_from_model(dense)
    masks = Masks(
        [torch.tensor([1, 0, 1, 1]).bool(), torch.zeros(4).bool(), torch.ones(4).bool()],
        [torch.arange(layer.ffn) % (index + 2) > 0 for index, layer in enumerate(arch.layers)],
    )
    compact = compact_from_masked(dense, masks)
    session = session_from_onnx(onnx_from_model(compact, tmp_path / "model.onnx").path)
    results = [
        answer_questions(predict, tiny_tokenizer(), DATA, SETTINGS)
        for predict in (predict_from_model(compact), predict_from_session(session))
    ]
    for ours, theirs in zip(*results, strict=True):
        assert ours.text == theirs.text
        assert ours.score == pytest.approx(theirs.score, abs=1e-3)
