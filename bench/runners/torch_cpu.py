"""PyTorch on the CPU: eager, inference mode, scaled dot-product attention."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self, final

import torch
from transformers import PreTrainedModel

from bench.runners.base import DEFAULTS, Outputs, Precision, Runner, RunnerOptions
from bench.runners.torch_model import checkpoint_from_artifact, forward, torch_model, traits_from_model
from pruning.batching import Batch


@final
class TorchCpuRunner(Runner):
    """A checkpoint in eager PyTorch.

    PyTorch has one thread count per process: it is set here, and put back by ``close``.
    """

    runtime: ClassVar[str] = "torch-cpu"
    precisions: ClassVar[tuple[Precision, ...]] = (Precision.FP32, Precision.BF16, Precision.FP16)

    def __init__(self, model: PreTrainedModel, threads: int) -> None:
        super().__init__(traits_from_model(model))
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

    def run(self, batch: Batch) -> Outputs:
        """One forward pass, answered in fp32."""
        return {name: value.float() for name, value in forward(self._model, batch).items()}

    def close(self) -> None:
        """Put PyTorch's thread count back."""
        torch.set_num_threads(self._threads_before)
