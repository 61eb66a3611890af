"""ONNX Runtime on the CPU: an ONNX file, a deploy folder, or a checkpoint that is exported first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, final

from bench.runners.base import DEFAULTS, Outputs, Precision, Runner, RunnerOptions, Traits
from bench.runners.onnx_source import onnx_from_artifact, traits_from_session
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

    def __init__(self, session: InferenceSession, traits: Traits) -> None:
        super().__init__(traits)
        self._predict = predict_from_session(session)

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
        session = session_from_onnx(prepared, threads=threads)
        return cls(session, traits_from_session(session, prepared))

    def run(self, batch: Batch) -> Outputs:
        """One run of the session, outputs as tensors."""
        return self._predict(batch)

    def close(self) -> None:
        """Drop the session."""
        del self._predict
