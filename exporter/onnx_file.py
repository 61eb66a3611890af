"""ONNX files from disk, with the ways they can be wrong named."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from pruning.errors import InputError

POSITION_TABLE = "position_embeddings.weight"
"""End of BERT's name for the table whose rows limit the sequence; graphs of other programs mostly keep it."""


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in a file; weights stored beside it are not read.

    Raises:
        InputError: if there is no file, or it holds no ONNX graph.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; pass an ONNX file.")
    return onnx_from_bytes(path.read_bytes(), path)


def onnx_from_bytes(content: bytes, path: Path) -> onnx.ModelProto:
    """The model in the content of a file; ``path`` is for the message.

    Raises:
        InputError: if it holds no ONNX graph.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise InputError(f"{path} is not an ONNX file, or a damaged one ({error}). Export or copy it again.") from error
    if not model.graph.node:
        raise InputError(f"{path} holds no ONNX graph. Export or copy it again.")
    return model


def position_limit(graph: onnx.GraphProto) -> int | None:
    """Rows of the position table, the longest sequence that the graph can read; None if there is no such table."""
    rows = (int(x.dims[0]) for x in graph.initializer if POSITION_TABLE in x.name and len(x.dims) == 2)
    return next(rows, None)
