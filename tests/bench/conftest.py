"""Folders with tiny models, made once for all tests of a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.to_onnx import onnx_from_model
from pruning.checkpoint import save_checkpoint
from tests.tiny import tiny_bert, tiny_tokenizer


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder."""
    folder = tmp_path_factory.mktemp("models") / "dense"
    save_checkpoint(tiny_bert(), tiny_tokenizer(), folder)
    return folder


@pytest.fixture(scope="session")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a third of the layers."""
    folder = tmp_path_factory.mktemp("models") / "shallow"
    save_checkpoint(tiny_bert(num_hidden_layers=1), tiny_tokenizer(), folder)
    return folder


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deploy folder: configuration at the root, the graph in onnx/."""
    folder = tmp_path_factory.mktemp("models") / "deploy"
    (folder / "onnx").mkdir(parents=True)
    model = tiny_bert()
    (folder / "config.json").write_text(model.config.to_json_string(), encoding="utf-8")
    onnx_from_model(model, folder / "onnx" / "model.onnx")
    return folder
