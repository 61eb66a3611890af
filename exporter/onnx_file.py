"""ONNX files from disk, with the ways they can be wrong named."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from pruning.errors import InputError


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in a file; weights stored beside it are not read.

    Raises:
        InputError: if there is no file, or it holds no ONNX graph.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; pass an ONNX file.")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise InputError(f"{path} is not an ONNX file, or a damaged one ({error}). Copy it again.") from error
    if not model.graph.node:
        raise InputError(f"{path} holds no ONNX graph. Export or copy it again.")
    return model
