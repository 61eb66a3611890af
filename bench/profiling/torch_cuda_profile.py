"""PyTorch's profiler on a GPU: the kernels of every operator, charged to the module that launched them.

Eager, since compiled and graphed launches run the same products and no longer tell which module they belong to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity

from bench.device import Device
from bench.profiling.breakdown import ProfiledCall
from bench.profiling.request import ProfileRequest
from bench.profiling.torch_profile import US_PER_MS, call_from_root, profiled_roots
from bench.runners.device_runner import gpu_of
from bench.runners.torch_model import torch_model
from pruning.batching import Batch

ACTIVITIES = (ProfilerActivity.CPU, ProfilerActivity.CUDA)


def profile_checkpoint_cuda(request: ProfileRequest) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch in the precision asked for; the model is loaded for it and thrown away.

    Raises:
        InputError: if the GPU is not there.
    """
    device = gpu_of(request.options)
    return profile_module_on_device(torch_model(request.path, request.options.dtype), request.batches, device)


def profile_module_on_device(
    model: nn.Module, batches: Sequence[Batch], device: Device, activities: Sequence[ProfilerActivity] = ACTIVITIES
) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch; its whole time is that between two events around it, gaps between kernels included.

    Inputs are on the device beforehand, and a batch without padding is passed without a mask, as when it is timed.
    """
    model.to(device.torch_device)
    marks = [(device.event(), device.event()) for _ in batches]

    def call_of(batch: Batch, index: int) -> Callable[[], object]:
        unpadded = bool(batch["attention_mask"].all())
        used = {x: device.resident(y) for x, y in batch.items() if not (unpadded and x == "attention_mask")}

        def call() -> None:
            start, stop = marks[index]
            start.record()
            model(**used)
            stop.record()
            device.synchronize()

        return call

    calls = [call_of(batch, index) for index, batch in enumerate(batches)]
    with device.computing(), torch.inference_mode():
        roots = profiled_roots(model, calls, activities)
    totals_ms = [start.elapsed_ms_to(stop) for start, stop in marks]
    return tuple(call_from_root(root, total_ms, kernel_ms) for root, total_ms in zip(roots, totals_ms, strict=True))


def kernel_ms(event: Any) -> float:
    """Milliseconds of the kernels that an operator itself launched."""
    return float(sum(kernel.duration for kernel in event.kernels) / US_PER_MS)
