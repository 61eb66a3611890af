"""Embeddings of the deploy folder in sentence-transformers with its ONNX backend."""

from __future__ import annotations

import json

import pytest
import torch

from exporter.deploy import write_deploy
from exporter.parity import sentence_embeddings
from pruning.batching import encode
from tests.interop.folders import KINDS, TEXTS, answers, model_of
from tests.tiny import tiny_tokenizer

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="sentence-transformers is for the interop environment"
)

pytestmark = pytest.mark.filterwarnings("ignore")  # what other libraries warn about is not ours to change


def embeddings(folder):
    loaded = sentence_transformers.SentenceTransformer(
        str(folder), backend="onnx", device="cpu", local_files_only=True, model_kwargs={"file_name": "onnx/model.onnx"}
    )
    return loaded.encode(TEXTS, convert_to_tensor=True)


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_the_checkpoint(tmp_path, kind):
    model = model_of(kind, "encoder")
    write_deploy(model, tiny_tokenizer(), tmp_path / "deploy")
    mask = encode(tiny_tokenizer(), TEXTS).padded([0, 1, 2])["attention_mask"]
    expected = sentence_embeddings(answers(model)["last_hidden_state"], mask)
    torch.testing.assert_close(embeddings(tmp_path / "deploy"), expected, rtol=0, atol=1e-5)


def test_the_pooling_of_the_source_is_kept(tmp_path):
    source = tmp_path / "source"
    (source / "1_Pooling").mkdir(parents=True)
    names = (("Transformer", ""), ("Pooling", "1_Pooling"))
    steps = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
        for index, (name, path) in enumerate(names)
    ]
    pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (source / "modules.json").write_text(json.dumps(steps))
    (source / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    model = model_of("compact", "encoder")
    write_deploy(model, tiny_tokenizer(), tmp_path / "deploy", source=source)
    first = answers(model)["last_hidden_state"][:, 0]
    torch.testing.assert_close(embeddings(tmp_path / "deploy"), first, rtol=0, atol=1e-4)
