"""Profilers by runtime."""

from __future__ import annotations

from collections.abc import Callable

from bench.profiling.breakdown import ProfiledCall
from bench.profiling.openvino_profile import profile_openvino
from bench.profiling.ort_cuda_profile import profile_onnx_cuda
from bench.profiling.ort_profile import profile_onnx
from bench.profiling.request import ProfileRequest
from bench.profiling.tensorrt_profile import profile_engine
from bench.profiling.torch_cuda_profile import profile_checkpoint_cuda
from bench.profiling.torch_profile import profile_checkpoint
from pruning.errors import InputError

Profiler = Callable[[ProfileRequest], tuple[ProfiledCall, ...]]
"""Profiles a prepared model: one call per batch of the request."""

PROFILERS: dict[str, Profiler] = {
    "torch-cpu": profile_checkpoint,
    "torch-cuda": profile_checkpoint_cuda,
    "ort-cpu": profile_onnx,
    "ort-cuda": profile_onnx_cuda,
    "openvino": profile_openvino,
    "tensorrt": profile_engine,
    "tensorrt-rtx": profile_engine,
}


def profiler_from_runtime(runtime: str) -> Profiler:
    """The profiler of a runtime.

    Raises:
        InputError: if there is none.
    """
    if runtime not in PROFILERS:
        raise InputError(f"{runtime} cannot be profiled; runtimes that can: {', '.join(sorted(PROFILERS))}.")
    return PROFILERS[runtime]
