"""PyTorch on a GPU: eager, compiled and CUDA-graphed, in fp32, fp16 or bf16."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, Self, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bench.device import Device
from bench.runners.base import DEFAULTS, Outputs, Precision, RunnerOptions, Variant
from bench.runners.device_runner import DeviceRunner, gpu_of
from bench.runners.torch_model import (
    allow_recompilations,
    checkpoint_from_artifact,
    forward,
    torch_model,
    traits_from_model,
)


@final
class TorchCudaRunner(DeviceRunner):
    """A checkpoint in PyTorch on a GPU; fp32 products stay fp32 (no TF32), PyTorch's default.

    A batch without padding is passed without a mask, to the baseline and the candidates alike: that opens PyTorch's
    fastest attention kernels, and spares a look at the mask for which the host would wait.
    """

    runtime: ClassVar[str] = "torch-cuda"
    precisions: ClassVar[tuple[Precision, ...]] = (Precision.FP32, Precision.FP16, Precision.BF16)
    variants: ClassVar[tuple[Variant, ...]] = (Variant.EAGER, Variant.COMPILED, Variant.CUDA_GRAPH)

    def __init__(
        self, model: PreTrainedModel, device: Device, variant: Variant | None = None, *, backend: str = "inductor"
    ) -> None:
        super().__init__(traits_from_model(model), device, variant)
        self._model = model.to(device.torch_device)
        allow_recompilations()
        self._compiled = torch.compile(self._model, backend=backend, dynamic=False, fullgraph=True)

    @classmethod
    def prepare(cls, path: Path, scratch: Path, options: RunnerOptions = DEFAULTS) -> Path:
        """The checkpoint folder itself."""
        cls.check_precision(options.dtype)
        return checkpoint_from_artifact(path, cls.runtime)

    @classmethod
    def load(cls, prepared: Path, threads: int, options: RunnerOptions = DEFAULTS) -> Self:
        """Load the checkpoint onto the GPU."""
        return cls(torch_model(prepared, options.dtype), gpu_of(options), options.variant)

    def launcher(self, inputs: Mapping[str, Tensor], unpadded: bool, variant: Variant) -> Callable[[], Outputs]:
        """One forward pass; a compiled one is specialised to these shapes, and never falls back to eager."""
        used = {name: x for name, x in inputs.items() if not (unpadded and name == "attention_mask")}
        if variant is Variant.COMPILED:
            return partial(forward, self._compiled, used)
        eager = partial(forward, self._model, used)
        return self._device.captured(eager) if variant is Variant.CUDA_GRAPH else eager
