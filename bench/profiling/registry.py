"""Profilers by runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.profiling.breakdown import ProfiledCall
from bench.profiling.openvino_profile import profile_openvino
from bench.profiling.ort_profile import profile_onnx
from bench.profiling.tensorrt_profile import profile_engine
from bench.profiling.torch_profile import profile_checkpoint
from bench.runners.base import Precision
from pruning.batching import Batch
from pruning.errors import InputError

Profiler = Callable[[Path, Sequence[Batch], int, Path], tuple[ProfiledCall, ...]]
"""Profiles a prepared model on batches with a number of threads, with a folder for what it has to write."""

PROFILERS: dict[str, Profiler] = {
    "torch-cpu": profile_checkpoint,
    "ort-cpu": profile_onnx,
    "openvino": profile_openvino,
    "tensorrt": profile_engine,
    "tensorrt-rtx": profile_engine,
}


ROUNDS_WHEN_LOADED = ("torch-cpu", "openvino")
"""Runtimes whose files stay fp32 when half precision is asked for: profilers see the file, and not what was asked."""


def check_profile(runtime: str, dtype: str | None) -> None:
    """Do nothing if a runtime can be profiled in a precision, None for the model's own.

    Raises:
        InputError: if not.
    """
    profiler_from_runtime(runtime)
    if runtime in ROUNDS_WHEN_LOADED and dtype in (Precision.FP16, Precision.BF16):
        raise InputError(f"{runtime} is profiled in fp32, not in {dtype}; leave out --profile or --dtype.")


def profiler_from_runtime(runtime: str) -> Profiler:
    """The profiler of a runtime.

    Raises:
        InputError: if there is none.
    """
    if runtime not in PROFILERS:
        raise InputError(f"{runtime} cannot be profiled; runtimes that can: {', '.join(sorted(PROFILERS))}.")
    return PROFILERS[runtime]
