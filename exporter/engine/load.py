"""An engine on a GPU: checked, opened, and run on batches. Letters: B batch, S sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from exporter.engine.builder import gpu_name_and_capability
from exporter.engine.layers import EngineLayer, layers_from_inspector
from exporter.engine.library import TensorRt, import_tensorrt
from exporter.engine.options import EngineError
from exporter.engine.profile_shapes import profile_index
from exporter.engine.record import EngineRecord, check_gpu, check_version, read_engine
from pruning.batching import Batch, Predict
from pruning.errors import InputError

TORCH_TYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT32": torch.int32,
    "INT64": torch.int64,
}


LayerTime = tuple[str, float]
"""Name of a layer, and its milliseconds on the GPU."""


@dataclass(frozen=True, eq=False)
class Binding:
    """A batch and its output buffers on the GPU, and the profile that holds its shape.

    The buffers stay where they are, which is what a CUDA graph needs: overwrite the inputs, enqueue again.
    """

    profile: int
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


@final
class TensorRtEngine:
    """An opened engine. One execution context per optimization profile, made when first needed.

    Runs on ``stream``, its own. Not safe for several threads, which would share contexts: open it once per thread.
    """

    def __init__(
        self, trt: TensorRt, engine: Any, record: EngineRecord, device: torch.device, stream: torch.cuda.Stream
    ) -> None:
        self.record = record
        self.device = device
        self.stream = stream
        self._trt, self._engine = trt, engine
        self._contexts: dict[int, Any] = {}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        is_input = trt.api.TensorIOMode.INPUT
        self.input_names = tuple(name for name in names if engine.get_tensor_mode(name) == is_input)
        self.output_names = tuple(name for name in names if name not in self.input_names)

    def bind(self, batch: Batch) -> Binding:
        """Copy a batch to the GPU, unless it is there, choose its profile and allocate its outputs.

        Raises:
            InputError: if an input is missing, or the shape is outside every profile.
        """
        missing = [name for name in self.input_names if name not in batch]
        if missing:
            raise InputError(f"the batch lacks {', '.join(missing)}; the engine takes {', '.join(self.input_names)}.")
        rows, length = batch[self.input_names[0]].shape
        profile = profile_index(self.record.profiles, rows, length)
        inputs = {name: self._ready_input(name, batch[name]) for name in self.input_names}
        context = self._context(profile)
        self._set_shapes(context, inputs)
        outputs = {name: self._empty_output(context, name) for name in self.output_names}
        return Binding(profile, inputs, outputs)

    def enqueue(self, binding: Binding, stream: int) -> None:
        """Queue one forward pass on a CUDA stream (its handle); the outputs are ready when the stream gets there.

        Raises:
            EngineError: if TensorRT refuses.
        """
        context = self._context(binding.profile)
        self._set_shapes(context, binding.inputs)
        for name, tensor in {**binding.inputs, **binding.outputs}.items():
            context.set_tensor_address(name, tensor.data_ptr())
        if not context.execute_async_v3(stream):
            raise EngineError(f"TensorRT could not run profile {self.record.profiles[binding.profile]}.")

    def layers(self) -> tuple[EngineLayer, ...]:
        """The layers as the engine describes them, of every profile.

        Raises:
            EngineError: if it does not.
        """
        inspector = self._engine.create_engine_inspector()
        return layers_from_inspector(inspector.get_engine_information(self._trt.api.LayerInformationFormat.JSON))

    def layer_times(self, binding: Binding) -> tuple[LayerTime, ...]:
        """Run once and time every layer, in the order of execution; from then on this profile runs slower.

        Raises:
            EngineError: as `enqueue`.
        """
        reporter = reporter_from_api(self._trt.api)
        self._context(binding.profile).profiler = reporter
        self.enqueue(binding, self.stream.cuda_stream)
        self.stream.synchronize()
        return tuple(reporter.times)

    def run(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs of one batch, on the GPU, in the engine's types; ordered after and before the caller's stream.

        Raises:
            InputError: as `bind`.
            EngineError: as `enqueue`.
        """
        caller = torch.cuda.current_stream(self.device)
        binding = self.bind(batch)
        self.stream.wait_stream(caller)  # the inputs may still be on their way
        self.enqueue(binding, self.stream.cuda_stream)
        caller.wait_stream(self.stream)
        for tensor in (*binding.inputs.values(), *binding.outputs.values()):
            tensor.record_stream(self.stream)  # their memory must not be reused before the engine is done with it
        return dict(binding.outputs)

    def predict(self) -> Predict:
        """The engine as a `Predict`: outputs come back on the CPU in fp32."""

        def predict(batch: Batch) -> dict[str, Tensor]:
            return {name: value.float().cpu() for name, value in self.run(batch).items()}

        return predict

    def _context(self, profile: int) -> Any:
        if profile not in self._contexts:
            self._contexts[profile] = self._new_context(profile)
        return self._contexts[profile]

    def _new_context(self, profile: int) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError("TensorRT could not create an execution context; is the GPU's memory full?")
        handle = self.stream.cuda_stream
        if not context.set_optimization_profile_async(profile, handle):
            raise EngineError(f"TensorRT could not choose profile {self.record.profiles[profile]}.")
        self.stream.synchronize()
        return context

    def _set_shapes(self, context: Any, inputs: Mapping[str, Tensor]) -> None:
        for name, tensor in inputs.items():
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise EngineError(f"TensorRT refuses {name} of shape {tuple(tensor.shape)}.")

    def _ready_input(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self._torch_type(name), non_blocking=True).contiguous()

    def _empty_output(self, context: Any, name: str) -> Tensor:
        return torch.empty(tuple(context.get_tensor_shape(name)), dtype=self._torch_type(name), device=self.device)

    def _torch_type(self, name: str) -> torch.dtype:
        return TORCH_TYPES[self._engine.get_tensor_dtype(name).name]


def reporter_from_api(api: Any) -> Any:
    """What TensorRT tells its layer times to, a subclass of its own interface; ``times`` holds them."""

    class Reporter(api.IProfiler):
        def __init__(self) -> None:
            api.IProfiler.__init__(self)
            self.times: list[LayerTime] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            """Called by TensorRT once per layer, when a pass has ended."""
            self.times.append((layer_name, float(ms)))

    return Reporter()


def load_engine(path: str | Path, *, device: int = 0) -> TensorRtEngine:
    """Check an engine against its side-car, the installed library and the GPU, then open it.

    Args:
        path: of the engine; its side-car ``<path>.json`` lies beside it.
        device: index of the GPU.

    Raises:
        InputError: if a file is missing or changed, the library is missing or of another version, or the
            GPU is another one: named, with what the engine needs.
        EngineError: if TensorRT refuses an engine that passed all checks.
    """
    data, record = read_engine(Path(path))
    trt = import_tensorrt(record.library)
    check_version(record, trt.version)
    check_gpu(record, gpu_name_and_capability(device))
    runtime = trt.api.Runtime(trt.logger)
    if record.version_compatible:  # such an engine brings code of its builder along; the checksum says it is ours
        runtime.engine_host_code_allowed = True
    with torch.cuda.device(device):
        engine = runtime.deserialize_cuda_engine(data)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    if engine is None:
        raise EngineError(f"{record.library} {trt.version_text} cannot open {path}. Build the engine again.")
    return TensorRtEngine(trt, engine, record, torch.device("cuda", device), stream)
