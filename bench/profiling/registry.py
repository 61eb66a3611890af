"""Profilers by runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.profiling.breakdown import ProfiledCall
from bench.profiling.ort_profile import profile_onnx
from bench.profiling.torch_profile import profile_checkpoint
from pruning.batching import Batch
from pruning.errors import InputError

Profiler = Callable[[Path, Sequence[Batch], int, Path], tuple[ProfiledCall, ...]]
"""Profiles a prepared model on batches with a number of threads, with a folder for what it has to write."""

PROFILERS: dict[str, Profiler] = {"torch-cpu": profile_checkpoint, "ort-cpu": profile_onnx}


def profiler_from_runtime(runtime: str) -> Profiler:
    """The profiler of a runtime.

    Raises:
        InputError: if there is none.
    """
    if runtime not in PROFILERS:
        raise InputError(f"{runtime} cannot be profiled; runtimes that can: {', '.join(sorted(PROFILERS))}.")
    return PROFILERS[runtime]
