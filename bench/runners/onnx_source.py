"""The ONNX file that an artifact stands for, and what the file tells about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from bench.runners.artifact import Artifact, artifact_from_path
from bench.runners.base import Limits, Precision, Traits
from exporter.deploy import FP16_FILE, INT8_FILE, ONNX_FILE
from exporter.onnx_file import position_limit, read_onnx
from exporter.options import Dialect, Dtype, GraphOptions
from exporter.to_onnx import onnx_from_model
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INT8_TYPES = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
DEPLOYED_FILES = {Precision.FP32: ONNX_FILE, Precision.FP16: FP16_FILE, Precision.INT8: INT8_FILE}


def onnx_from_artifact(path: Path, scratch: Path, dtype: Precision | None, dialect: Dialect) -> Path:
    """The ONNX file to load; a checkpoint is exported to ``scratch``, its configuration beside it.

    Args:
        path: checkpoint, deploy folder or ONNX file.
        scratch: an empty folder.
        dtype: precision of the file; None takes what is there, and fp32 for a checkpoint.
        dialect: operators of a checkpoint's export.

    Raises:
        InputError: if ``path`` is an engine, or its precision is another one.
    """
    kind = artifact_from_path(path)
    if kind is Artifact.ENGINE:
        raise InputError(f"{path} is {kind.value}; measure it with --runtime tensorrt or tensorrt-rtx.")
    if kind is Artifact.CHECKPOINT:
        return _exported(path, scratch, dtype or Precision.FP32, dialect)
    file = path if kind is Artifact.ONNX_FILE else path / DEPLOYED_FILES.get(dtype or Precision.FP32, ONNX_FILE)
    if dtype is None:
        return file
    found = dtype_from_graph(read_onnx(file).graph)
    if found != dtype:
        raise InputError(f"{file} is {found}, not {dtype}; pass a file of that precision, or a checkpoint to export.")
    return file


def traits_from_session(session: InferenceSession, path: Path) -> Traits:
    """What a session of ONNX Runtime and its file tell; the precision is that of the weights in the file."""
    graph = read_onnx(path).graph
    return Traits(
        dtype=dtype_from_graph(graph),
        limits=limits_from_onnx(path, graph),
        input_names=tuple(value.name for value in session.get_inputs()),
        output_names=tuple(value.name for value in session.get_outputs()),
    )


def dtype_from_graph(graph: onnx.GraphProto) -> str:
    """Precision of the matrices: int8 as soon as one is quantised, fp16 if any is, else fp32."""
    types = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 2}
    if types & INT8_TYPES:
        return "int8"
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"


def limits_from_onnx(path: Path, graph: onnx.GraphProto) -> Limits:
    """As the configuration beside the file says; without one, as the graph's own tables."""
    return limits_from_config(path) or Limits(vocab_size_from_graph(graph), position_limit(graph))


def limits_from_config(path: Path) -> Limits | None:
    """What the ``config.json`` beside a file or one folder up says; None without one."""
    config = config_beside(path)
    if config is None:
        return None
    values = _read_json(config)
    return Limits(values.get("vocab_size"), values.get("max_position_embeddings"))


def config_beside(path: Path) -> Path | None:
    """The ``config.json`` beside a file or one folder up; None without one."""
    found = (folder / "config.json" for folder in (path.parent, path.parent.parent))
    return next((config for config in found if config.is_file()), None)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}). Export the model again.") from error
    return values


def vocab_size_from_graph(graph: onnx.GraphProto) -> int | None:
    """Rows of the table that ``input_ids`` index; None if the graph looks them up some other way."""
    rows = {tensor.name: int(tensor.dims[0]) for tensor in graph.initializer if len(tensor.dims) == 2}
    lookups = [node.input[0] for node in graph.node if node.op_type == "Gather" and node.input[1] == "input_ids"]
    return next((rows[table] for table in lookups if table in rows), None)


def _exported(path: Path, scratch: Path, dtype: Precision, dialect: Dialect) -> Path:
    if dtype is Precision.INT8:
        raise InputError(
            f"{path} is a checkpoint, and int8 is not made on the way, because it is proven on real text. "
            "Make the file with: slimbert export --dtype int8"
        )
    model = load_checkpoint(path).model
    (scratch / "config.json").write_text(model.config.to_json_string(), encoding="utf-8")
    onnx_from_model(model, scratch / "model.onnx", options=GraphOptions(dialect=dialect, dtype=Dtype(dtype.value)))
    return scratch / "model.onnx"
