"""TensorRT and TensorRT-RTX on a GPU: an engine that `slimbert export` built, or one that is built on the way.

Two builds of one graph may choose other kernels: a checkpoint or ONNX file is built anew in every fresh process, so
that repetition holds that difference too; a finished engine is the same in all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self, final

from torch import Tensor

from bench.device import Device, compute_capability, missing_cuda
from bench.runners.artifact import ENGINE_SUFFIX, Artifact, artifact_from_path
from bench.runners.base import DEFAULTS, Limits, Outputs, Precision, RunnerOptions, Traits, Variant
from bench.runners.device_runner import DeviceRunner, gpu_of
from bench.runners.onnx_source import config_beside, dtype_from_graph, limits_from_config, onnx_from_artifact
from exporter.engine.export import engine_from_onnx
from exporter.engine.library import import_tensorrt
from exporter.engine.load import TensorRtEngine, load_engine
from exporter.engine.options import EngineOptions, EnginePrecision, Library
from exporter.engine.record import read_engine
from exporter.onnx_file import read_onnx
from exporter.options import Dialect
from pruning.errors import InputError

BUILT_ON_THE_WAY = (None, Precision.FP32, Precision.FP16)
"""Precisions that need no text to calibrate with."""


class EngineRunner(DeviceRunner):
    """An engine, launched on the device's stream.

    Its precision is the one proven from its layers, its longest sequence that of its profiles; the vocabulary is that
    of a configuration beside the engine.
    """

    library: ClassVar[Library]
    precisions: ClassVar[tuple[Precision, ...]] = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)

    def __init__(
        self, engine: TensorRtEngine, device: Device, variant: Variant | None = None, *, vocab_size: int | None = None
    ) -> None:
        longest = max(profile.sequence[2] for profile in engine.record.profiles)
        dtype = str(engine.record.proven_precision)
        super().__init__(
            Traits(dtype, Limits(vocab_size, longest), engine.input_names, engine.output_names), device, variant
        )
        self._engine = engine

    @classmethod
    def missing(cls) -> str | None:
        """The library, or a GPU."""
        try:
            import_tensorrt(cls.library)
        except InputError as error:
            return str(error)
        return missing_cuda()

    @classmethod
    def prepare(cls, path: Path, scratch: Path, options: RunnerOptions = DEFAULTS) -> Path:
        """The engine itself, whose side-car says that it is this library's and of this precision; else a new one."""
        cls.check_precision(options.dtype)
        if artifact_from_path(path) is not Artifact.ENGINE:
            return cls._build(path, scratch, options)
        _, record = read_engine(path)
        if record.library is not cls.library:
            raise InputError(f"{path} was built by {record.library}; measure it with --runtime {record.library}.")
        if options.dtype is not None and record.proven_precision != options.dtype.value:
            raise InputError(f"{path} computes in {record.proven_precision}, not in {options.dtype}; build another.")
        return path

    @classmethod
    def _build(cls, path: Path, scratch: Path, options: RunnerOptions) -> Path:
        if options.dtype not in BUILT_ON_THE_WAY:
            raise InputError(
                f"{path} can be built for {cls.runtime} on the way in fp32 or fp16, not in {options.dtype}. "
                f"Build the engine with: slimbert export --to {cls.runtime}"
            )
        source = onnx_from_artifact(path, scratch, options.dtype, Dialect.STANDARD)
        precision = EnginePrecision(dtype_from_graph(read_onnx(source).graph))
        targets = (compute_capability(options.gpu),) if cls.library is Library.TENSORRT_RTX else ()
        engine = scratch / f"model{ENGINE_SUFFIX}"
        engine_from_onnx(source, engine, EngineOptions(cls.library, precision, targets=targets))
        if (config := config_beside(source)) is not None and config.parent != scratch:
            shutil.copy(config, scratch)
        return engine

    @classmethod
    def load(cls, prepared: Path, threads: int, options: RunnerOptions = DEFAULTS) -> Self:
        """Open the engine."""
        config = limits_from_config(prepared)
        engine = load_engine(prepared, device=options.gpu)
        return cls(engine, gpu_of(options), options.variant, vocab_size=config.vocab_size if config else None)

    def launcher(self, inputs: Mapping[str, Tensor], unpadded: bool, variant: Variant) -> Callable[[], Outputs]:
        """One enqueue, or the recording of one."""
        binding = self._engine.bind(dict(inputs))

        def launch() -> Outputs:
            self._engine.enqueue(binding, self._device.stream)
            return dict(binding.outputs)

        return self._device.captured(launch) if variant is Variant.CUDA_GRAPH else launch


@final
class TensorRtRunner(EngineRunner):
    """An engine of TensorRT."""

    runtime: ClassVar[str] = "tensorrt"
    library: ClassVar[Library] = Library.TENSORRT


@final
class TensorRtRtxRunner(EngineRunner):
    """An engine of TensorRT-RTX."""

    runtime: ClassVar[str] = "tensorrt-rtx"
    library: ClassVar[Library] = Library.TENSORRT_RTX
