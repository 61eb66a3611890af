"""Runtimes by name."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from bench.runners.base import DEFAULTS, Runner, RunnerOptions
from bench.runners.openvino_cpu import OpenVinoRunner
from bench.runners.ort_cpu import OrtCpuRunner
from bench.runners.ort_cuda import OrtCudaRunner
from bench.runners.tensorrt_engine import TensorRtRtxRunner, TensorRtRunner
from bench.runners.torch_cpu import TorchCpuRunner
from bench.runners.torch_cuda import TorchCudaRunner
from pruning.errors import InputError

RUNNERS: dict[str, type[Runner]] = {
    runner.runtime: runner
    for runner in (
        TorchCpuRunner,
        TorchCudaRunner,
        OrtCpuRunner,
        OrtCudaRunner,
        OpenVinoRunner,
        TensorRtRunner,
        TensorRtRtxRunner,
    )
}


def runner_class_from_runtime(runtime: str) -> type[Runner]:
    """The runner of a runtime that this machine has.

    Raises:
        InputError: if the runtime is unknown, or this machine lacks something for it: named, with what to do.
    """
    if runtime not in RUNNERS:
        raise InputError(f"runtime {runtime!r} is unknown; known: {', '.join(sorted(RUNNERS))}.")
    missing = RUNNERS[runtime].missing()
    if missing is not None:
        raise InputError(f"runtime {runtime} cannot be used here: {missing}")
    return RUNNERS[runtime]


def load_runner(runtime: str, path: Path, threads: int = 1, options: RunnerOptions = DEFAULTS) -> Runner:
    """Load what ``path`` holds into a runtime; a checkpoint is converted on the fly where that is needed.

    Raises:
        InputError: if the runtime is not available or cannot take what ``path`` holds.
    """
    runner_class = runner_class_from_runtime(runtime)
    if threads < 1:
        raise InputError(f"threads must be at least 1; got {threads}.")
    with TemporaryDirectory(prefix="slimbert-") as scratch:
        return runner_class.load(runner_class.prepare(path, Path(scratch), options), threads, options)
