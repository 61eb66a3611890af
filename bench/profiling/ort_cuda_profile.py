"""ONNX Runtime's profile on a GPU, in a fresh process in which every launch waits for its kernel.

Kernels run behind the host's back, so the times that ONNX Runtime notes for nodes are those of launching them, and
published wheels are built without its CUPTI profiler. With ``CUDA_LAUNCH_BLOCKING`` the same times hold the kernels; it
counts only if it is set before CUDA is first used. Each launch then takes longer: compare parts, not totals.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.batch_files import load_batches, save_batches
from bench.device import cuda_device
from bench.fresh_process import run_module
from bench.profiling.breakdown import ProfiledCall
from bench.profiling.ort_profile import calls_from_folder
from bench.profiling.request import ProfileRequest
from exporter.ort_cuda import cuda_session_from_onnx
from exporter.ort_session import predict_from_session

MODULE = "bench.profiling.ort_cuda_profile"
BLOCKING = {"CUDA_LAUNCH_BLOCKING": "1"}
INPUTS = "inputs.safetensors"


@dataclass(frozen=True)
class GpuProfileTask:
    """What the fresh process is to do: run the batches in ``folder`` through ``path`` on a GPU."""

    path: str
    folder: str
    gpu: int


def profile_onnx_cuda(request: ProfileRequest) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch.

    Raises:
        InputError: if the process fails, as `exporter.ort_cuda.cuda_session_from_onnx`.
    """
    save_batches(request.batches, request.scratch / INPUTS)
    task = GpuProfileTask(str(request.path.resolve()), str(request.scratch.resolve()), request.options.gpu)
    failure = f"a fresh process could not profile {request.path} in ort-cuda"
    run_module(MODULE, json.dumps(asdict(task)), failure, BLOCKING)
    return calls_from_folder(request.scratch)


def run_task(task: GpuProfileTask) -> None:
    """Run every batch once; ONNX Runtime writes what it takes to the folder."""
    folder = Path(task.folder)
    stream = cuda_device(task.gpu).stream
    session = cuda_session_from_onnx(Path(task.path), task.gpu, stream, profile_folder=folder)
    predict = predict_from_session(session)
    for batch in load_batches(folder / INPUTS):
        predict(batch)
    session.end_profiling()


if __name__ == "__main__":
    run_task(GpuProfileTask(**json.loads(sys.argv[1])))
