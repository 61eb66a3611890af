"""ONNX Runtime on the CPU: an ONNX file, a deploy folder, or a checkpoint that is exported first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Self, final

import onnx
from torch import Tensor

from bench.runners.artifact import DEPLOYED, Artifact, artifact_from_path
from bench.runners.base import Limits, Runner
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.to_onnx import onnx_from_model
from pruning.batching import Batch, Predict
from pruning.checkpoint import load_checkpoint

INT8_TYPES = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


@final
class OrtCpuRunner(Runner):
    """An ONNX graph on ONNX Runtime's CPU provider."""

    runtime: ClassVar[str] = "ort-cpu"

    def __init__(self, predict: Predict, dtype: str, limits: Limits) -> None:
        self._predict = predict
        self._dtype = dtype
        self._limits = limits

    @classmethod
    def prepare(cls, path: Path, scratch: Path) -> Path:
        """The ONNX file; a checkpoint is exported to ``scratch``, its configuration beside it."""
        kind = artifact_from_path(path)
        if kind is Artifact.ONNX_FILE:
            return path
        if kind is Artifact.DEPLOY_FOLDER:
            return path / DEPLOYED
        model = load_checkpoint(path).model
        (scratch / "config.json").write_text(model.config.to_json_string(), encoding="utf-8")
        onnx_from_model(model, scratch / "model.onnx")
        return scratch / "model.onnx"

    @classmethod
    def load(cls, prepared: Path, threads: int) -> Self:
        """Open a session on the ONNX file."""
        session = session_from_onnx(prepared, threads=threads)
        graph = onnx.load(prepared, load_external_data=False).graph
        return cls(predict_from_session(session), dtype_from_graph(graph), limits_from_onnx(prepared, graph))

    @property
    def dtype(self) -> str:
        """Precision of the weights in the file."""
        return self._dtype

    @property
    def limits(self) -> Limits:
        """As the configuration beside the file says, else as the graph shows."""
        return self._limits

    def run(self, batch: Batch) -> dict[str, Tensor]:
        """One run of the session, outputs as tensors."""
        return self._predict(batch)

    def close(self) -> None:
        """Drop the session."""
        del self._predict


def dtype_from_graph(graph: onnx.GraphProto) -> str:
    """Precision of the matrices: int8 as soon as one is quantised, fp16 if any is, else fp32."""
    types = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 2}
    if types & INT8_TYPES:
        return "int8"
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"


def limits_from_onnx(path: Path, graph: onnx.GraphProto) -> Limits:
    """Read the ``config.json`` beside the file or one folder up; without one, ask the graph for its vocabulary."""
    for folder in (path.parent, path.parent.parent):
        config = folder / "config.json"
        if config.is_file():
            values = json.loads(config.read_text(encoding="utf-8"))
            return Limits(values.get("vocab_size"), values.get("max_position_embeddings"))
    return Limits(vocab_size_from_graph(graph), None)


def vocab_size_from_graph(graph: onnx.GraphProto) -> int | None:
    """Rows of the table that ``input_ids`` index; None if the graph looks them up some other way."""
    rows = {tensor.name: int(tensor.dims[0]) for tensor in graph.initializer if len(tensor.dims) == 2}
    lookups = [node.input[0] for node in graph.node if node.op_type == "Gather" and node.input[1] == "input_ids"]
    return next((rows[table] for table in lookups if table in rows), None)
