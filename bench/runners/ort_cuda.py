"""ONNX Runtime on a GPU: fused operators, bound buffers, eager or as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, final

import torch
from torch import Tensor

from bench.device import Device, missing_cuda
from bench.runners.base import DEFAULTS, Outputs, Precision, RunnerOptions, Variant
from bench.runners.device_runner import CAPTURE_RUNS, DeviceRunner, gpu_of
from bench.runners.onnx_source import onnx_from_artifact, traits_from_session
from exporter.options import Dialect
from exporter.ort_cuda import ELEMENT_TYPES, bound_launch, cuda_session_from_onnx, missing_ort_cuda
from exporter.ort_session import check_right_padded, is_right_padding_only, metadata_from_session
from pruning.batching import Batch

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class OpenSession(Protocol):
    """`cuda_session_from_onnx` with its file and GPU bound."""

    def __call__(self, *, cuda_graph: bool) -> InferenceSession:
        """A session that records CUDA graphs, or one that does not."""


@final
class OrtCudaRunner(DeviceRunner):
    """An ONNX graph on ONNX Runtime's CUDA provider, on the stream that the events are recorded on.

    Each variant has a session of its own, opened when first needed: ONNX Runtime fixes CUDA graphs per session.
    """

    runtime: ClassVar[str] = "ort-cuda"
    precisions: ClassVar[tuple[Precision, ...]] = (Precision.FP32, Precision.FP16)

    def __init__(self, path: Path, open_session: OpenSession, device: Device, variant: Variant | None = None) -> None:
        self._open, self._sessions, self._graph_ids = open_session, dict[Variant, "InferenceSession"](), count(1)
        session = self._session(Variant.EAGER)
        super().__init__(traits_from_session(session, path), device, variant)
        self._outputs = {value.name: (value.type, value.shape) for value in session.get_outputs()}
        self._right_padding = is_right_padding_only(metadata_from_session(session))

    @classmethod
    def missing(cls) -> str | None:
        """ONNX Runtime with CUDA, or a GPU that PyTorch can use."""
        return missing_ort_cuda() or missing_cuda()

    @classmethod
    def prepare(cls, path: Path, scratch: Path, options: RunnerOptions = DEFAULTS) -> Path:
        """The ONNX file; a checkpoint is exported to ``scratch``, with fused operators unless asked otherwise."""
        cls.check_precision(options.dtype)
        return onnx_from_artifact(path, scratch, options.dtype, options.dialect or Dialect.ORT_CUDA)

    @classmethod
    def load(cls, prepared: Path, threads: int, options: RunnerOptions = DEFAULTS) -> Self:
        """Open a session on the GPU."""
        device = gpu_of(options)

        def open_session(*, cuda_graph: bool) -> InferenceSession:
            return cuda_session_from_onnx(prepared, options.gpu, device.stream, cuda_graph=cuda_graph)

        return cls(prepared, open_session, device, options.variant)

    def check(self, batch: Batch) -> None:
        """Refuse masks that the file is wrong for."""
        if self._right_padding:
            check_right_padded(batch)

    def launcher(self, inputs: Mapping[str, Tensor], unpadded: bool, variant: Variant) -> Callable[[], Outputs]:
        """One run on bound buffers; a CUDA graph is recorded here, before anything is timed."""
        B, S = inputs["input_ids"].shape
        outputs = {name: self._buffer(kind, shape, B, S) for name, (kind, shape) in self._outputs.items()}
        recorded = variant is Variant.CUDA_GRAPH
        queue = bound_launch(
            self._session(variant), inputs, outputs, graph_id=next(self._graph_ids) if recorded else None
        )
        for _ in range(CAPTURE_RUNS if recorded else 0):
            queue()
        self._device.synchronize()

        def launch() -> Outputs:
            queue()
            return outputs

        return launch

    def close(self) -> None:
        """Drop buffers, recordings and sessions."""
        super().close()
        self._sessions.clear()

    def _session(self, variant: Variant) -> InferenceSession:
        if variant not in self._sessions:
            self._sessions[variant] = self._open(cuda_graph=variant is Variant.CUDA_GRAPH)
        return self._sessions[variant]

    def _buffer(self, kind: str, shape: list[int | str], B: int, S: int) -> Tensor:
        """An output: its first axis is the batch, and any other without a fixed size the sequence."""
        sizes = [B, *(size if isinstance(size, int) else S for size in shape[1:])]
        return torch.empty(sizes, dtype=ELEMENT_TYPES[kind][1], device=self._device.torch_device)
