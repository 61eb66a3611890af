"""An accelerator of Python objects: queued work takes virtual time on a stream that runs beside the host's clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
from torch import Tensor

from bench.timer import Clock

Result = TypeVar("Result", bound=dict[str, Tensor])


@dataclass
class FakeEvent:
    """Remembers when the stream got to it."""

    device: FakeDevice
    at_ms: float | None = None

    def record(self) -> None:
        self.at_ms = self.device.mark()

    def elapsed_ms_to(self, later: FakeEvent) -> float:
        assert self.device.idle, "elapsed times are valid only after synchronising"
        assert self.at_ms is not None
        assert later.at_ms is not None
        return later.at_ms - self.at_ms


@dataclass
class FakeDevice:
    """``work(gpu_ms, host_ms)`` is what a launch does: the host is busy first, then the stream."""

    name: str = "Fake GPU"
    l2_bytes: int = 1024
    stream: int = 7
    host_ms: float = 0.0
    stream_ms: float = 0.0
    idle: bool = True
    inside: int = 0
    log: list[str] = field(default_factory=list)

    def work(self, gpu_ms: float, host_ms: float = 0.0) -> None:
        self.host_ms += host_ms
        self.stream_ms = max(self.stream_ms, self.host_ms) + gpu_ms
        self.idle = False

    def mark(self) -> float:
        """When the stream gets to what is queued now."""
        self.idle = False
        return max(self.stream_ms, self.host_ms)

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def clock(self) -> Clock:
        """The host's."""
        return Clock("host", lambda: round(self.host_ms * 1e6))

    def event(self) -> FakeEvent:
        return FakeEvent(self)

    def synchronize(self) -> None:
        self.host_ms = max(self.host_ms, self.stream_ms)
        self.idle = True

    @contextmanager
    def computing(self) -> Iterator[None]:
        self.inside += 1
        yield
        self.inside -= 1

    def resident(self, tensor: Tensor) -> Tensor:
        self.log.append("resident")
        return tensor.clone()

    def pinned(self, tensor: Tensor) -> Tensor:
        self.log.append("pinned")
        return tensor.clone()

    def captured(self, call: Callable[[], Result]) -> Callable[[], Result]:
        """Replays by running again what was recorded, and writes its answer to the buffers of the recording."""
        self.log.append("captured")
        outputs = cast("Result", {name: value.clone() for name, value in call().items()})  # no inference tensors

        def replay() -> Result:
            self.log.append("replay")
            for name, value in call().items():
                outputs[name].copy_(value)
            return outputs

        return replay

    def flusher(self) -> Callable[[], object]:
        return lambda: self.log.append("flush")
