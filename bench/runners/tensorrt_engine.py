"""TensorRT and TensorRT-RTX on a GPU: an engine that `slimbert export` built, checked before it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self, final

from torch import Tensor

from bench.device import Device, missing_cuda
from bench.runners.artifact import Artifact, artifact_from_path
from bench.runners.base import DEFAULTS, Limits, Outputs, Precision, RunnerOptions, Traits, Variant
from bench.runners.device_runner import DeviceRunner, gpu_of
from bench.runners.onnx_source import limits_from_config
from exporter.engine.library import import_tensorrt
from exporter.engine.load import TensorRtEngine, load_engine
from exporter.engine.options import Library
from exporter.engine.record import read_engine
from pruning.errors import InputError


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
        """The engine itself, whose side-car says that it is this library's and of this precision."""
        cls.check_precision(options.dtype)
        kind = artifact_from_path(path)
        if kind is not Artifact.ENGINE:
            raise InputError(
                f"{cls.runtime} runs an engine; {path} is {kind.value}. "
                f"Build one with: slimbert export --to {cls.runtime}"
            )
        _, record = read_engine(path)
        if record.library is not cls.library:
            raise InputError(f"{path} was built by {record.library}; measure it with --runtime {record.library}.")
        if options.dtype is not None and record.proven_precision != options.dtype.value:
            raise InputError(f"{path} computes in {record.proven_precision}, not in {options.dtype}; build another.")
        return path

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
