"""PyTorch on the CPU: eager, inference mode, scaled dot-product attention."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bench.runners.artifact import Artifact, artifact_from_path
from bench.runners.base import Limits, Runner
from pruning.batching import OUTPUT_NAMES, Batch
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError

DTYPE_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


@final
class TorchCpuRunner(Runner):
    """A checkpoint in eager PyTorch.

    PyTorch has one thread count per process: it is set here, and put back by ``close``.
    """

    runtime: ClassVar[str] = "torch-cpu"

    def __init__(self, model: PreTrainedModel, threads: int) -> None:
        self._model = model.eval()
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)

    @classmethod
    def prepare(cls, path: Path, scratch: Path) -> Path:
        """The checkpoint folder itself."""
        kind = artifact_from_path(path)
        if kind is not Artifact.CHECKPOINT:
            raise InputError(f"torch-cpu runs a checkpoint folder; {path} is {kind.value}. Use ort-cpu for it.")
        return path

    @classmethod
    def load(cls, prepared: Path, threads: int) -> Self:
        """Load the checkpoint; sdpa is required, since eager attention would make the baseline look slow."""
        model = load_checkpoint(prepared).model
        model.set_attn_implementation("sdpa")
        return cls(model, threads)

    @property
    def dtype(self) -> str:
        """Precision of the weights."""
        return DTYPE_NAMES[self._model.dtype]

    @property
    def limits(self) -> Limits:
        """As the configuration says."""
        config = self._model.config
        return Limits(config.vocab_size, config.max_position_embeddings)

    def run(self, batch: Batch) -> dict[str, Tensor]:
        """One forward pass."""
        with torch.inference_mode():
            outputs = self._model(**batch)
        return {name: outputs[name] for name in OUTPUT_NAMES if name in outputs}

    def close(self) -> None:
        """Put PyTorch's thread count back."""
        torch.set_num_threads(self._threads_before)
