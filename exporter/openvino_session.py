"""ONNX files in OpenVINO on a CPU: compiled for one stream, run as a `Predict`, and asked what they really compute in.

A product of the compiled model is an operator that multiplies by weights: its precision is the precision in use.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import Tensor

from exporter.metadata import metadata_from_props
from exporter.onnx_file import read_onnx
from exporter.operator_sets import check_operator_sets
from exporter.ort_session import check_right_padded, is_right_padding_only
from pruning.batching import Batch, Predict
from pruning.errors import InputError

if TYPE_CHECKING:
    from openvino import CompiledModel

DEVICE = "CPU"
BF16_CAPABILITY = "BF16"
PRODUCT_LAYER = "FullyConnected"
PRECISION_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}
DYNAMIC_INT8 = "DynamicQuantizeLinear"


def missing_openvino() -> str | None:
    """How to get OpenVINO, in one line; None if it is there."""
    try:
        import openvino  # noqa: F401, PLC0415  # optional
    except ImportError:
        return 'openvino is not installed; install it with: pip install "slimbert[openvino]"'
    return None


def compiled_from_onnx(
    path: str | Path, *, threads: int = 1, bf16: bool = False, counters: bool = False
) -> CompiledModel:
    """Compile an ONNX file for low latency on the CPU.

    Args:
        path: an fp32 or fp16 file, or one of symmetric Q/DQ.
        threads: CPU threads of one forward pass; with one, the calling thread does all the work.
        bf16: compute products in bf16, where the CPU has instructions for it; otherwise in fp32.
        counters: time every operator, which slows small ones down a little.

    Raises:
        InputError: if OpenVINO is missing or cannot read the file, ``threads`` is below 1, the CPU has no bf16, or
            the file is of dynamic int8.
    """
    if threads < 1:
        raise InputError(f"threads must be at least 1; got {threads}.")
    missing = missing_openvino()
    if missing is not None:
        raise InputError(missing)
    import openvino  # noqa: PLC0415  # optional

    path, core = Path(path), openvino.Core()
    _check_runnable(read_onnx(path), path)
    if bf16:
        _check_bf16(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # a pinned thread cannot leave a core that another process takes
        "PERF_COUNT": counters,
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
    }
    try:
        return core.compile_model(core.read_model(str(path)), DEVICE, options)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"OpenVINO cannot run {path} ({reason}). Export it with the standard dialect.") from error


def predict_from_compiled(compiled: CompiledModel, path: Path) -> Predict:
    """The compiled model as a `Predict`.

    A graph for right padding alone raises `InputError` for other masks.

    Args:
        compiled: the model.
        path: the file it was made from, which knows its masks.
    """
    request = compiled.create_infer_request()
    model = read_onnx(path)
    right_padding = is_right_padding_only(metadata_from_props({x.key: x.value for x in model.metadata_props}))
    inputs, outputs = input_names(model.graph), output_names(model.graph)

    def predict(batch: Batch) -> dict[str, Tensor]:
        if right_padding:
            check_right_padded(batch)
        values = request.infer({name: batch[name].numpy() for name in inputs}, share_inputs=True)
        return {name: torch.from_numpy(values[name]) for name in outputs}

    return predict


def input_names(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Names of the inputs in the file. OpenVINO gives a value more names when it removes an operator after it."""
    stored = {tensor.name for tensor in graph.initializer}
    return tuple(value.name for value in graph.input if value.name not in stored)


def output_names(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Names of the outputs in the file, for the same reason."""
    return tuple(value.name for value in graph.output)


def precision_from_compiled(compiled: CompiledModel) -> str:
    """Precision of most of the products: fp32, fp16, bf16 or int8."""
    products = Counter(
        PRECISION_NAMES.get(_text(info["runtimePrecision"]), _text(info["runtimePrecision"]))
        for info in (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
        if _text(info["layerType"]) == PRODUCT_LAYER
    )
    return products.most_common(1)[0][0] if products else "fp32"


def _text(value: Any) -> str:
    return str(value.astype(str))


def _check_bf16(capabilities: list[str]) -> None:
    if BF16_CAPABILITY not in capabilities:
        raise InputError(
            f"this CPU has no bf16 instructions (AVX512-BF16 or AMX): OpenVINO offers {', '.join(capabilities)}. "
            "Use fp32."
        )


def _check_runnable(model: onnx.ModelProto, path: Path) -> None:
    """OpenVINO takes any version of an operator set for the newest that it knows, without a word."""
    check_operator_sets(model, path, "OpenVINO")
    if any(node.op_type == DYNAMIC_INT8 for node in model.graph.node):
        raise InputError(
            f"{path} is dynamic int8, whose products OpenVINO computes in fp32, slower than the fp32 file. "
            "Pass symmetric Q/DQ (exporter.int8.qdq.qdq_from_onnx), or measure it on ort-cpu."
        )
