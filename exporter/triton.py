"""A model repository for NVIDIA Triton: ``<name>/config.pbtxt``, ``<name>/1/model.*``, labels and tokenizer.

Source: the model configuration of Triton Inference Server, ``model_config.proto``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from exporter.describe import OnnxDescription, TensorDescription, describe_onnx
from exporter.templates import render
from exporter.triton_options import TritonOptions
from pruning.atomic import atomic_folder
from pruning.errors import InputError
from pruning.tokenizer_files import save_tokenizer

DATA_TYPES = {"FLOAT": "TYPE_FP32", "FLOAT16": "TYPE_FP16", "INT64": "TYPE_INT64", "INT32": "TYPE_INT32"}
PREFERRED_BATCHES = (4, 8, 16, 32, 64, 128)
LABELS_FILE = "labels.txt"
VERSION = "1"


def triton_config_text(graph: OnnxDescription, options: TritonOptions) -> str:
    """``config.pbtxt`` of a model with the inputs and outputs of an ONNX graph; batch is their first dimension.

    Args:
        graph: the ONNX file itself, or the one that the engine was built from.
        options: how to serve it.

    Raises:
        InputError: if a tensor has no batch dimension, or a type that Triton is not told how to read.
    """
    values = {
        "options": options,
        "inputs": [_tensor_fields(tensor) for tensor in graph.inputs],
        "outputs": [_tensor_fields(tensor) for tensor in graph.outputs],
        "labelled": graph.head == "sequence-classification",
        "labels_file": LABELS_FILE,
        "preferred": [size for size in PREFERRED_BATCHES if size <= options.max_batch],
    }
    return render("triton.pbtxt.jinja", values)


def write_triton_repository(
    file: Path,
    graph: Path,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    options: TritonOptions,
) -> Path:
    """Write a model repository with one model; it appears only when complete.

    Triton ignores folders whose name is not a version, so the tokenizer travels inside the model's.

    Args:
        file: the ONNX file or the engine, which is copied.
        graph: the ONNX file that says what goes in and out: ``file`` itself, or what the engine was built from.
        config: of the model; its labels.
        tokenizer: its tokenizer.
        folder: the repository; replaced if it exists.
        options: how to serve it.

    Returns:
        The model file inside the repository.

    Raises:
        InputError: as `triton_config_text`.
    """
    described = describe_onnx(graph)
    text = triton_config_text(described, options)
    with atomic_folder(folder) as partial:
        model = partial / options.name
        (model / VERSION).mkdir(parents=True)
        shutil.copyfile(file, model / VERSION / options.backend.file)
        (model / "config.pbtxt").write_text(text, encoding="utf-8")
        if described.head == "sequence-classification":
            labels = [str(config.id2label[index]).replace("\n", " ") for index in sorted(config.id2label)]
            (model / LABELS_FILE).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        save_tokenizer(tokenizer, model / "tokenizer")
    return folder / options.name / VERSION / options.backend.file


def _tensor_fields(tensor: TensorDescription) -> dict[str, str]:
    """Name, type and dimensions without the batch; what varies is -1."""
    if tensor.dtype not in DATA_TYPES:
        raise InputError(
            f"{tensor.name} has the type {tensor.dtype}; a Triton model may have {', '.join(DATA_TYPES)} here."
        )
    if not tensor.dims or isinstance(tensor.dims[0], int):
        raise InputError(f"{tensor.name} has dimensions {tensor.dims}; the first must be a batch of any size.")
    return {"name": json.dumps(tensor.name), "dtype": DATA_TYPES[tensor.dtype], "dims": _dims_text(tensor.dims[1:])}


def _dims_text(dims: Sequence[int | str]) -> str:
    return ", ".join(str(dim) if isinstance(dim, int) else "-1" for dim in dims)
