"""OpenVINO on the CPU: an ONNX file, a deploy folder, or a checkpoint that is exported first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, final

from bench.runners.base import DEFAULTS, Outputs, Precision, Runner, RunnerOptions, Traits
from bench.runners.onnx_source import limits_from_onnx, onnx_from_artifact
from exporter import openvino_session
from exporter.onnx_file import read_onnx
from exporter.options import Dialect
from pruning.batching import Batch
from pruning.errors import InputError

if TYPE_CHECKING:
    from openvino import CompiledModel


@final
class OpenVinoRunner(Runner):
    """An ONNX graph compiled by OpenVINO for the CPU, at low latency."""

    runtime: ClassVar[str] = "openvino"
    precisions: ClassVar[tuple[Precision, ...]] = (Precision.FP32, Precision.BF16, Precision.INT8)

    def __init__(self, compiled: CompiledModel, path: Path) -> None:
        graph = read_onnx(path).graph
        super().__init__(
            Traits(
                dtype=openvino_session.precision_from_compiled(compiled),
                limits=limits_from_onnx(path, graph),
                input_names=openvino_session.input_names(graph),
                output_names=openvino_session.output_names(graph),
            )
        )
        self._predict = openvino_session.predict_from_compiled(compiled, path)

    @classmethod
    def missing(cls) -> str | None:
        """OpenVINO."""
        return openvino_session.missing_openvino()

    @classmethod
    def prepare(cls, path: Path, scratch: Path, options: RunnerOptions = DEFAULTS) -> Path:
        """The ONNX file, fp32 where bf16 is asked for: OpenVINO rounds by itself."""
        cls.check_precision(options.dtype)
        stored = Precision.FP32 if options.dtype is Precision.BF16 else options.dtype
        return onnx_from_artifact(path, scratch, stored, options.dialect or Dialect.STANDARD)

    @classmethod
    def load(cls, prepared: Path, threads: int, options: RunnerOptions = DEFAULTS) -> Self:
        """Compile the ONNX file, and refuse a precision that the compiled model does not have."""
        bf16 = options.dtype is Precision.BF16
        compiled = openvino_session.compiled_from_onnx(prepared, threads=threads, bf16=bf16)
        runner = cls(compiled, prepared)
        if options.dtype is not None and runner.dtype != options.dtype:
            raise InputError(f"OpenVINO computes {prepared} in {runner.dtype} on this CPU, not in {options.dtype}.")
        return runner

    def run(self, batch: Batch) -> Outputs:
        """One inference, outputs as tensors."""
        return self._predict(batch)

    def close(self) -> None:
        """Drop the compiled model."""
        del self._predict
