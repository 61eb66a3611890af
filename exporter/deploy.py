"""The ``deploy/`` folder: what ONNX Runtime, optimum, transformers.js and sentence-transformers load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerBase

from exporter.embedding_modules import write_embedding_modules
from exporter.graph import resolved_options
from exporter.options import GraphOptions
from exporter.to_onnx import OnnxExport, onnx_from_model
from pruning.atomic import atomic_folder
from pruning.introspect import DENSE_CLASSES, head_from_model
from pruning.tokenizer_files import save_tokenizer

ONNX_FILE, FP16_FILE = Path("onnx", "model.onnx"), Path("onnx", "model_fp16.onnx")
INT8_FILE = Path("onnx", "model_quantized.onnx")
"""The names that optimum and transformers.js look for: transformers.js asks for them as fp32, fp16 and q8."""
NOT_COPIED = frozenset({"architectures", "auto_map", "model_type", "transformers_version"})


def write_deploy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    *,
    opset: int | None = None,
    options: GraphOptions | None = None,
    source: Path | None = None,
) -> OnnxExport:
    """Write ``config.json``, the tokenizer and ``onnx/model.onnx``; the folder appears only when complete.

    The configuration says BERT, because that is what the graph computes and what other programs know; it keeps
    the dense model's layer sizes, and the real ones stand in the graph's metadata.

    Args:
        model: dense or compact, fp32.
        tokenizer: its tokenizer.
        folder: replaced if it exists.
        opset: in place of ``options.opset``.
        options: how the graph is written.
        source: as in `write_deploy_graphs`.

    Raises:
        InputError: as `onnx_from_model`.
        FusionError: as `onnx_from_model`.
        ParityError: as `onnx_from_model`; an older folder stays as it was.
    """
    graphs = {ONNX_FILE: resolved_options(options, opset)}
    return write_deploy_graphs(model, tokenizer, folder, graphs, source=source)[ONNX_FILE]


def write_deploy_graphs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    graphs: Mapping[Path, GraphOptions],
    *,
    source: Path | None = None,
) -> dict[Path, OnnxExport]:
    """`write_deploy` with several graphs, for example `ONNX_FILE` and `FP16_FILE`.

    A bare encoder also gets what sentence-transformers needs to make embeddings of its states.

    Args:
        model: dense or compact, fp32.
        tokenizer: its tokenizer.
        folder: replaced if it exists.
        graphs: files relative to ``folder``, and how each is written.
        source: the folder the model came from, or was pruned from; an embedding model's pooling is read there.

    Raises:
        InputError: as `onnx_from_model`.
        FusionError: as `onnx_from_model`.
        ParityError: as `onnx_from_model`; an older folder stays as it was.
    """
    folder = Path(folder)
    with atomic_folder(folder) as partial:
        exports = {file: onnx_from_model(model, partial / file, options=options) for file, options in graphs.items()}
        save_client_files(model, tokenizer, partial, source=source)
    return {file: replace(export, path=folder / file) for file, export in exports.items()}


def save_client_files(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, source: Path | None = None
) -> None:
    """What clients read beside the graphs: ``config.json`` of a plain BERT, the tokenizer, a bare encoder's pooling.

    Args:
        model: dense or compact.
        tokenizer: its tokenizer.
        folder: to write into.
        source: as in `write_deploy_graphs`.
    """
    bert_config_from_model(model).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    if head_from_model(model) == "encoder":
        write_embedding_modules(folder, model.config.hidden_size, source)


def bert_config_from_model(model: PreTrainedModel) -> BertConfig:
    """The configuration of a plain BERT with the model's head, labels and dense sizes."""
    known = BertConfig().to_dict().keys() | {"id2label", "label2id", "problem_type"}
    settings = {
        name: value for name, value in model.config.to_dict().items() if name in known and name not in NOT_COPIED
    }
    architecture = DENSE_CLASSES[head_from_model(model)].__name__
    return BertConfig(**settings, architectures=[architecture])
