"""PyTorch on the CPU: eager, inference mode, scaled dot-product attention."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self, final

import torch
from transformers import PreTrainedModel

from bench.runners.base import DEFAULTS, Limits, Outputs, Precision, Runner, RunnerOptions
from bench.runners.torch_model import (
    BATCH_NAMES,
    DTYPE_NAMES,
    checkpoint_from_artifact,
    forward,
    limits_from_model,
    output_names,
    torch_model,
)
from pruning.batching import Batch


@final
class TorchCpuRunner(Runner):
    """A checkpoint in eager PyTorch.

    PyTorch has one thread count per process: it is set here, and put back by ``close``.
    """

    runtime: ClassVar[str] = "torch-cpu"
    precisions: ClassVar[tuple[Precision, ...]] = (Precision.FP32, Precision.BF16, Precision.FP16)

    def __init__(self, model: PreTrainedModel, threads: int) -> None:
        self._model = model
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)

    @classmethod
    def prepare(cls, path: Path, scratch: Path, options: RunnerOptions = DEFAULTS) -> Path:
        """The checkpoint folder itself."""
        cls.check_precision(options.dtype)
        return checkpoint_from_artifact(path, cls.runtime)

    @classmethod
    def load(cls, prepared: Path, threads: int, options: RunnerOptions = DEFAULTS) -> Self:
        """Load the checkpoint."""
        return cls(torch_model(prepared, options.dtype), threads)

    @property
    def dtype(self) -> str:
        """Precision of the weights."""
        return DTYPE_NAMES[self._model.dtype]

    @property
    def limits(self) -> Limits:
        """As the configuration says."""
        return limits_from_model(self._model)

    @property
    def input_names(self) -> tuple[str, ...]:
        """All of a batch."""
        return BATCH_NAMES

    @property
    def output_names(self) -> tuple[str, ...]:
        """As the head has them."""
        return output_names(self._model)

    def run(self, batch: Batch) -> Outputs:
        """One forward pass, answered in fp32."""
        return {name: value.float() for name, value in forward(self._model, batch).items()}

    def close(self) -> None:
        """Put PyTorch's thread count back."""
        torch.set_num_threads(self._threads_before)
