"""How Triton Inference Server is to serve a model. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from pruning.errors import InputError

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class TritonBackend(StrEnum):
    """Which of Triton's backends runs the model."""

    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"

    @property
    def platform(self) -> str:
        """Triton's name of the backend together with the kind of file."""
        return "onnxruntime_onnx" if self is TritonBackend.ONNXRUNTIME else "tensorrt_plan"

    @property
    def file(self) -> str:
        """What Triton calls the model file."""
        return "model.onnx" if self is TritonBackend.ONNXRUNTIME else "model.plan"


class InstanceKind(StrEnum):
    """Where Triton runs the model; AUTO is a GPU if there is one."""

    AUTO = "KIND_AUTO"
    CPU = "KIND_CPU"
    GPU = "KIND_GPU"


@dataclass(frozen=True)
class TritonOptions:
    """How Triton is to serve the model.

    Attributes:
        name: of the model and of its folder.
        backend: ONNX Runtime or TensorRT.
        kind: where it runs.
        max_batch: largest batch that requests are gathered to.
        queue_delay_us: how long a request may wait for others, microseconds.
        profiles: optimization profiles of a TensorRT engine, all of which are loaded; 0 for ONNX Runtime.

    Raises:
        InputError: if the name is not one that Triton takes, a number is out of range, or an engine is not on a GPU.
    """

    name: str
    backend: TritonBackend = TritonBackend.ONNXRUNTIME
    kind: InstanceKind = InstanceKind.AUTO
    max_batch: int = 32
    queue_delay_us: int = 100
    profiles: int = 0

    def __post_init__(self) -> None:
        if not MODEL_NAME.fullmatch(self.name):
            raise InputError(
                f"{self.name!r} is not a name for a Triton model: letters, digits, '_', '-' and '.', not first a sign."
            )
        if self.max_batch < 1 or self.queue_delay_us < 0:
            raise InputError(
                f"max_batch must be at least 1 and queue_delay_us at least 0; got {self.max_batch} and "
                f"{self.queue_delay_us}."
            )
        if self.backend is TritonBackend.TENSORRT and (self.kind is not InstanceKind.GPU or self.profiles < 1):
            raise InputError(
                f"a TensorRT engine runs on a GPU and has profiles; got {self.kind} and {self.profiles} profiles."
            )
