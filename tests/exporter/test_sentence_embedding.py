from __future__ import annotations

import pytest
import torch

from exporter.deploy import write_deploy
from exporter.describe import describe_onnx
from exporter.graph import graph_from_model
from exporter.options import Dialect, Dtype, GraphOptions
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.parity import sentence_embeddings
from exporter.to_onnx import onnx_from_model
from pruning.batching import predict_from_model
from pruning.errors import InputError
from tests.exporter.compact import SHAPES, tiny_compact
from tests.tiny import tiny_batch, tiny_bert, tiny_tokenizer


@pytest.mark.parametrize("dtype", Dtype)
@pytest.mark.parametrize("dialect", Dialect)
def test_embedding_is_the_normalised_mean_of_the_tokens(tmp_path, dialect, dtype):
    model = tiny_compact("encoder", *SHAPES["uneven"])
    options = GraphOptions(dialect=dialect, dtype=dtype, pooling="mean")
    export = onnx_from_model(model, tmp_path / "model.onnx", options=options)
    batch = tiny_batch(5, 12, padding="holes")
    found = predict_from_session(session_from_onnx(export.path))(batch)
    states = predict_from_model(model)(batch)["last_hidden_state"]
    expected = torch.stack([x[m.bool()].mean(0) for x, m in zip(states, batch["attention_mask"], strict=True)])
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found["sentence_embedding"], expected, rtol=0, atol=1e-5 if dtype == "fp32" else 1e-2)
    assert found.keys() == {"last_hidden_state", "sentence_embedding"}


def test_row_without_a_token_has_the_embedding_zero(tmp_path):
    export = onnx_from_model(tiny_bert("encoder"), tmp_path / "model.onnx", options=GraphOptions(pooling="mean"))
    batch = tiny_batch()
    batch["attention_mask"][1] = 0
    found = predict_from_session(session_from_onnx(export.path))(batch)["sentence_embedding"]
    assert torch.equal(found[1], torch.zeros(16))
    assert torch.allclose(found[0].norm(), torch.tensor(1.0))
    assert torch.equal(sentence_embeddings(torch.ones(1, 2, 3), torch.zeros(1, 2)), torch.zeros(1, 3))


def test_file_says_how_it_pools(tmp_path):
    export = write_deploy(
        tiny_bert("encoder"), tiny_tokenizer(), tmp_path / "deploy", options=GraphOptions(pooling="mean")
    )
    found = describe_onnx(export.path)
    assert found.form.pooling == "mean"
    assert [(x.name, x.dims) for x in found.outputs] == [
        ("last_hidden_state", ("batch", "sequence", 16)),
        ("sentence_embedding", ("batch", 16)),
    ]


def test_a_task_model_has_no_sentence_embedding():
    with pytest.raises(InputError, match="of a bare encoder; this model has the head question-answering"):
        graph_from_model(tiny_bert("question-answering"), options=GraphOptions(pooling="mean"))
