"""ONNX Runtime on the CPU: an ONNX file, a deploy folder, or a checkpoint that is exported first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, final

from bench.runners.base import DEFAULTS, Limits, Outputs, Precision, Runner, RunnerOptions
from bench.runners.onnx_source import dtype_from_graph, limits_from_onnx, onnx_from_artifact
from exporter.onnx_file import read_onnx
from exporter.options import Dialect
from exporter.ort_session import missing_onnxruntime, predict_from_session, session_from_onnx
from pruning.batching import Batch

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@final
class OrtCpuRunner(Runner):
    """An ONNX graph on ONNX Runtime's CPU provider."""

    runtime: ClassVar[str] = "ort-cpu"
    precisions: ClassVar[tuple[Precision, ...]] = (Precision.FP32, Precision.FP16, Precision.INT8)

    def __init__(self, session: InferenceSession, dtype: str, limits: Limits) -> None:
        self._predict = predict_from_session(session)
        self._input_names = tuple(value.name for value in session.get_inputs())
        self._output_names = tuple(value.name for value in session.get_outputs())
        self._dtype, self._limits = dtype, limits

    @classmethod
    def missing(cls) -> str | None:
        """ONNX Runtime."""
        return missing_onnxruntime()

    @classmethod
    def prepare(cls, path: Path, scratch: Path, options: RunnerOptions = DEFAULTS) -> Path:
        """The ONNX file; a checkpoint is exported to ``scratch``, of standard operators unless asked otherwise."""
        cls.check_precision(options.dtype)
        return onnx_from_artifact(path, scratch, options.dtype, options.dialect or Dialect.STANDARD)

    @classmethod
    def load(cls, prepared: Path, threads: int, options: RunnerOptions = DEFAULTS) -> Self:
        """Open a session on the ONNX file."""
        session, graph = session_from_onnx(prepared, threads=threads), read_onnx(prepared).graph
        return cls(session, dtype_from_graph(graph), limits_from_onnx(prepared, graph))

    @property
    def dtype(self) -> str:
        """Precision of the weights in the file."""
        return self._dtype

    @property
    def limits(self) -> Limits:
        """As the configuration beside the file says, else as the graph shows."""
        return self._limits

    @property
    def input_names(self) -> tuple[str, ...]:
        """The graph's inputs."""
        return self._input_names

    @property
    def output_names(self) -> tuple[str, ...]:
        """The graph's outputs."""
        return self._output_names

    def run(self, batch: Batch) -> Outputs:
        """One run of the session, outputs as tensors."""
        return self._predict(batch)

    def close(self) -> None:
        """Drop the session."""
        del self._predict
