"""An accelerator with one compute stream, as the runners and timers see it: faked in tests, CUDA in earnest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import Protocol, TypeVar, final

import torch
from torch import Tensor

from bench.device_timer import Event
from pruning.errors import InputError

FLUSH_FACTOR = 2
"""A cold cache is one through which twice its size has just been written."""
CAPTURE_WARMUPS = 3
"""Calls before a capture: libraries choose kernels and allocate workspaces then, which a capture cannot hold."""

Result = TypeVar("Result")


class Device(Protocol):
    """One compute stream and the memory beside it."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def torch_device(self) -> torch.device:
        """Where its tensors are."""

    @property
    def stream(self) -> int:
        """Handle of the compute stream."""

    @property
    def l2_bytes(self) -> int:
        """Size of the last cache before memory."""

    def event(self) -> Event:
        """A new mark for the compute stream."""

    def synchronize(self) -> None:
        """Wait until the compute stream is idle."""

    def computing(self) -> AbstractContextManager[object]:
        """Inside, PyTorch queues its work on the compute stream."""

    def resident(self, tensor: Tensor) -> Tensor:
        """A copy in device memory, in place once this returns."""

    def pinned(self, tensor: Tensor) -> Tensor:
        """A copy in host memory from which the device can read by itself."""

    def captured(self, call: Callable[[], Result]) -> Callable[[], Result]:
        """The work that ``call`` queues, recorded once: replayed by the result, which gives the recorded outputs."""

    def flusher(self) -> Callable[[], object]:
        """Queues writes over more memory than the cache holds."""


@final
class CudaEvent:
    """A CUDA event with timing, on one stream."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def record(self) -> None:
        """Put the mark behind the work queued so far."""
        self._event.record(self._stream)

    def elapsed_ms_to(self, later: CudaEvent) -> float:
        """Device milliseconds to a later mark."""
        return float(self._event.elapsed_time(later._event))


@final
class CudaDevice:
    """A GPU and the stream that everything measured on it runs on: PyTorch, ONNX Runtime and TensorRT alike."""

    def __init__(self, index: int) -> None:
        self.torch_device = torch.device("cuda", index)
        properties = torch.cuda.get_device_properties(self.torch_device)
        self.name, self.l2_bytes = str(properties.name), int(properties.L2_cache_size)
        self._stream = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]

    @property
    def stream(self) -> int:
        """Handle of the compute stream; never 0, which libraries take for none."""
        return int(self._stream.cuda_stream)

    def event(self) -> CudaEvent:
        """A new mark for the compute stream."""
        return CudaEvent(self._stream)

    def synchronize(self) -> None:
        """Wait until the compute stream is idle."""
        self._stream.synchronize()

    def computing(self) -> AbstractContextManager[object]:
        """Inside, PyTorch queues its work on the compute stream."""
        return torch.cuda.stream(self._stream)

    def resident(self, tensor: Tensor) -> Tensor:
        """A copy in device memory, in place once this returns."""
        with self.computing():
            copy = torch.empty_like(tensor, device=self.torch_device).copy_(tensor)
        self.synchronize()
        return copy

    def pinned(self, tensor: Tensor) -> Tensor:
        """A copy in host memory from which the device can read by itself."""
        return tensor.pin_memory()

    def captured(self, call: Callable[[], Result]) -> Callable[[], Result]:
        """The work that ``call`` queues, recorded as a CUDA graph."""
        with self.computing():
            for _ in range(CAPTURE_WARMUPS):
                call()
        self.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            result = call()

        def replay() -> Result:
            graph.replay()
            return result

        return replay

    def flusher(self) -> Callable[[], object]:
        """Queues writes over more memory than the cache holds."""
        with self.computing():
            waste = torch.empty(FLUSH_FACTOR * self.l2_bytes, dtype=torch.uint8, device=self.torch_device)
        return waste.zero_


@cache
def cuda_device(index: int) -> CudaDevice:
    """The GPU with its one compute stream, the same for every caller.

    Raises:
        InputError: if there is no such GPU, or none that PyTorch can use.
    """
    missing = missing_cuda()
    if missing is not None:
        raise InputError(missing)
    count = torch.cuda.device_count()
    if not 0 <= index < count:
        raise InputError(f"there is no GPU {index}; this machine has {count}, numbered from 0.")
    return CudaDevice(index)


def compute_capability(index: int) -> str:
    """Of a GPU, as TensorRT names it: SM89."""
    return "SM{}{}".format(*torch.cuda.get_device_capability(index))


def missing_cuda() -> str | None:
    """Why PyTorch cannot use a GPU here, in one line; None if it can."""
    if torch.version.cuda is None:
        return "this PyTorch is built without CUDA; install torch from PyPI, or from PyTorch's index for your CUDA."
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device; check the driver with nvidia-smi."
    return None
