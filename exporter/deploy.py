"""The ``deploy/`` folder: what ONNX Runtime, optimum and transformers.js load, without slimbert."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerBase

from exporter.graph import DEFAULT_OPSET
from exporter.to_onnx import OnnxExport, onnx_from_model
from pruning.atomic import atomic_folder
from pruning.introspect import DENSE_CLASSES, head_from_model
from pruning.tokenizer_files import save_tokenizer

ONNX_FILE = Path("onnx", "model.onnx")
NOT_COPIED = frozenset({"architectures", "auto_map", "model_type", "transformers_version"})


def write_deploy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path, *, opset: int = DEFAULT_OPSET
) -> OnnxExport:
    """Write ``config.json``, the tokenizer and ``onnx/model.onnx``; the folder appears only when complete.

    The configuration says BERT, because that is what the graph computes and what other programs know; it keeps
    the dense model's layer sizes, and the real ones stand in the graph's metadata.

    Args:
        model: dense or compact, fp32.
        tokenizer: its tokenizer.
        folder: replaced if it exists.
        opset: version of the standard operators.

    Raises:
        InputError: as `onnx_from_model`.
        ParityError: as `onnx_from_model`; an older folder stays as it was.
    """
    folder = Path(folder)
    with atomic_folder(folder) as partial:
        export = onnx_from_model(model, partial / ONNX_FILE, opset=opset)
        bert_config_from_model(model).save_pretrained(partial)
        save_tokenizer(tokenizer, partial)
    return replace(export, path=folder / ONNX_FILE)


def bert_config_from_model(model: PreTrainedModel) -> BertConfig:
    """The configuration of a plain BERT with the model's head, labels and dense sizes."""
    known = BertConfig().to_dict().keys() | {"id2label", "label2id", "problem_type"}
    settings = {
        name: value for name, value in model.config.to_dict().items() if name in known and name not in NOT_COPIED
    }
    architecture = DENSE_CLASSES[head_from_model(model)].__name__
    return BertConfig(**settings, architectures=[architecture])
