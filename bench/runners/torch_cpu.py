"""PyTorch on the CPU: inference mode, scaled dot-product attention; eager, or compiled if asked for and faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import ClassVar, Self, final

import torch
from torch._dynamo.exc import TorchDynamoException
from transformers import PreTrainedModel

from bench.runners.base import DEFAULTS, Outputs, Precision, Runner, RunnerOptions, Variant
from bench.runners.torch_model import (
    allow_recompilations,
    checkpoint_from_artifact,
    forward,
    torch_model,
    traits_from_model,
)
from pruning.batching import Batch
from pruning.errors import InputError

TUNING_CALLS = 5
MS_PER_S = 1_000.0


@final
class TorchCpuRunner(Runner):
    """A checkpoint in PyTorch.

    PyTorch has one thread count per process: it is set here, and put back by ``close``.

    Args:
        model: to run.
        threads: of one forward pass.
        compiler: backend of ``torch.compile`` that `tune` tries; None leaves the model eager.
    """

    runtime: ClassVar[str] = "torch-cpu"
    precisions: ClassVar[tuple[Precision, ...]] = (Precision.FP32, Precision.BF16, Precision.FP16)

    def __init__(self, model: PreTrainedModel, threads: int, *, compiler: str | None = None) -> None:
        super().__init__(traits_from_model(model))
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)
        self._ways: dict[Variant, Callable[..., object]] = {Variant.EAGER: model}
        self._fastest: dict[torch.Size, Variant] = {}
        if compiler is not None:
            allow_recompilations()
            self._ways[Variant.COMPILED] = torch.compile(model, backend=compiler, dynamic=False, fullgraph=True)

    @classmethod
    def prepare(cls, path: Path, scratch: Path, options: RunnerOptions = DEFAULTS) -> Path:
        """The checkpoint folder itself."""
        cls.check_precision(options.dtype)
        return checkpoint_from_artifact(path, cls.runtime)

    @classmethod
    def load(cls, prepared: Path, threads: int, options: RunnerOptions = DEFAULTS) -> Self:
        """Load the checkpoint."""
        compiler = "inductor" if options.compiled else None
        return cls(torch_model(prepared, options.dtype), threads, compiler=compiler)

    def run(self, batch: Batch) -> Outputs:
        """One forward pass, answered in fp32."""
        fastest = self._fastest.get(batch["input_ids"].shape, Variant.EAGER)
        return self._run(batch, fastest)

    def tune(self, batch: Batch) -> Mapping[str, float]:
        """Median milliseconds of eager and compiled calls, interleaved; empty if only eager is there.

        Raises:
            InputError: if the compiler fails.
        """
        if Variant.COMPILED not in self._ways:
            return {}
        try:
            self._run(batch, Variant.COMPILED)
        except TorchDynamoException as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"PyTorch cannot compile this model here ({reason}). Install a C++ compiler, or leave --compile out."
            ) from error
        times: dict[Variant, list[float]] = {variant: [] for variant in self._ways}
        for _ in range(TUNING_CALLS):
            for variant, taken in times.items():
                taken.append(self._time(batch, variant))
        ms = {variant: median(taken) for variant, taken in times.items()}
        self._fastest[batch["input_ids"].shape] = min(ms, key=ms.__getitem__)
        return {variant.value: value for variant, value in ms.items()}

    def close(self) -> None:
        """Put PyTorch's thread count back."""
        torch.set_num_threads(self._threads_before)

    def _run(self, batch: Batch, variant: Variant) -> Outputs:
        return {name: value.float() for name, value in forward(self._ways[variant], batch).items()}

    def _time(self, batch: Batch, variant: Variant) -> float:
        begun_s = time.perf_counter()
        self._run(batch, variant)
        return (time.perf_counter() - begun_s) * MS_PER_S
