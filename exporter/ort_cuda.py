"""ONNX files in ONNX Runtime on a GPU: on the caller's stream, all products there, inputs and outputs bound there.

Letters: B batch, S sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from exporter.int8.options import refuse_dynamic_int8
from exporter.onnx_file import read_onnx
from exporter.ort_session import check_provider, missing_onnxruntime, open_session, session_options
from pruning.errors import InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CUDA_PROVIDER = "CUDAExecutionProvider"
EXTRA = 'pip uninstall onnxruntime, then: pip install "slimbert[gpu]"'
RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"
NO_SYNCHRONISATION = "disable_synchronize_execution_providers"
GRAPH_ID = "gpu_graph_id"
SHAPE_OPERATORS = frozenset({"Shape", "Slice", "Squeeze", "Unsqueeze", "Concat"})
"""ONNX Runtime computes shapes on the CPU on purpose; any other node there is a fall-back."""
ELEMENT_TYPES = {
    "tensor(float)": (np.float32, torch.float32),
    "tensor(float16)": (np.float16, torch.float16),
    "tensor(int64)": (np.int64, torch.int64),
}


def missing_ort_cuda() -> str | None:
    """How to get ONNX Runtime with CUDA, in one line; None if it is there."""
    missing = missing_onnxruntime()
    if missing is not None:
        return missing.replace("[cpu]", "[gpu]")
    import onnxruntime  # noqa: PLC0415  # optional

    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        return f"this onnxruntime has no {CUDA_PROVIDER}; {EXTRA}"
    return None


def cuda_provider(gpu: int, stream: int, *, cuda_graph: bool) -> tuple[str, dict[str, str]]:
    """The provider with its options: the caller's stream, no TF32, so that fp32 means on the GPU what it says.

    Args:
        gpu: index.
        stream: handle of the stream that all kernels go to; never 0, which ONNX Runtime takes for none.
        cuda_graph: record the work of each binding at its first runs, then replay it.
    """
    options = {
        "device_id": str(gpu),
        "user_compute_stream": str(stream),
        "use_tf32": "0",
        "enable_cuda_graph": str(int(cuda_graph)),
    }
    return CUDA_PROVIDER, options


def cuda_session_from_onnx(
    path: Path, gpu: int, stream: int, *, cuda_graph: bool = False, profile_folder: Path | None = None
) -> InferenceSession:
    """Open an ONNX file on a GPU.

    Args:
        path: of the file.
        gpu: index.
        stream: as `cuda_provider`, and so is the next one.
        cuda_graph: see there.
        profile_folder: as `exporter.ort_session.session_options`.

    Raises:
        InputError: if ONNX Runtime has no CUDA here, the file cannot be run or is of dynamic int8, or a node other
            than the arithmetic of shapes fell back to the CPU.
    """
    missing = missing_ort_cuda()
    if missing is not None:
        raise InputError(missing)
    if any(node.op_type == "DynamicQuantizeLinear" for node in read_onnx(path).graph.node):
        refuse_dynamic_int8("ort-cuda")
    options = session_options(1, profile_folder)
    options.add_session_config_entry(RECORD_PLACEMENT, "1")
    session = open_session(path, options, [cuda_provider(gpu, stream, cuda_graph=cuda_graph)])
    check_provider(session.get_providers(), CUDA_PROVIDER)
    check_placement(session, CUDA_PROVIDER)
    return session


def check_placement(session: InferenceSession, provider: str) -> None:
    """Do nothing if every node that computes something is on a provider; the session must record its placement.

    Raises:
        InputError: naming the operators that fell back.
    """
    elsewhere = {
        f"{node.op_type} on {part.ep_name}"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
        if node.op_type not in SHAPE_OPERATORS
    }
    if elsewhere:
        raise InputError(
            f"ONNX Runtime did not place everything on {provider}: {', '.join(sorted(elsewhere))}. "
            "Export the file for this runtime, with --dialect ort-cuda."
        )


def bound_launch(
    session: InferenceSession, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], *, graph_id: int | None
) -> Callable[[], Any]:
    """Queues one run from and to buffers that stay where they are, and does not wait for it.

    Args:
        session: on the GPU of the buffers.
        inputs: by name, contiguous.
        outputs: by name, contiguous.
        graph_id: from 1, another one for each set of buffers; None for a session without CUDA graphs.
    """
    import onnxruntime  # noqa: PLC0415  # optional

    binding, options = session.io_binding(), onnxruntime.RunOptions()
    for buffers, bind in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
        for name, tensor in buffers.items():
            kind = next(known for known, dtype in ELEMENT_TYPES.values() if dtype == tensor.dtype)
            bind(name, tensor.device.type, tensor.device.index or 0, kind, tuple(tensor.shape), tensor.data_ptr())
    options.add_run_config_entry(NO_SYNCHRONISATION, "1")
    if graph_id is not None:
        options.add_run_config_entry(GRAPH_ID, str(graph_id))

    def launch() -> None:
        session.run_with_iobinding(binding, options)

    return launch
