"""An fp32 ONNX file to one that runs its matrix products in int8 on a CPU, checked against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import onnx
from onnx import TensorProto

from exporter.int8.draft import DYNAMIC, Int8Check, Int8Draft, Int8Export, check_target, write_int8
from exporter.int8.options import Int8Options, selected_products
from exporter.int8.rewrite import dynamic_int8_graph
from exporter.int8.source import load_float_graph, weight_products
from exporter.ort_session import predict_from_session, session_from_onnx
from pruning.batching import Batch, Predict
from pruning.errors import InputError


def int8_from_onnx(
    source: str | Path,
    target: str | Path,
    options: Int8Options,
    batches: Sequence[Batch],
    *,
    reference: Predict | None = None,
) -> Int8Export:
    """Quantise dynamically: signed weights, one scale per output column; activations scaled at run time.

    No calibration is needed; the batches only prove the result. The same input always gives the same bytes.

    Args:
        source: an fp32 file, of standard operators or with ONNX Runtime's fused ones.
        target: the file to write; an older one is replaced only by one that passed.
        options: what to quantise, and what it may cost.
        batches: real text.
        reference: the truth; the source itself by default.

    Raises:
        InputError: if the source, the options or the target cannot be used.
        Int8Error: if the result is further from the reference than the tolerance; nothing is left behind.
    """
    start, source, target = perf_counter(), Path(source), Path(target)
    check_target(source, target)
    model = load_fp32_graph(source)
    available = weight_products(model)
    products = selected_products(available, options)
    truth = reference or predict_from_session(session_from_onnx(source))
    graph = dynamic_int8_graph(model, products, limit=options.limit, embeddings=options.embeddings)
    check = Int8Check(truth, batches, options.tolerance)
    return write_int8(Int8Draft(graph, DYNAMIC, products, available), target, check, start=start)


def load_fp32_graph(source: Path) -> onnx.ModelProto:
    """Read a file that can be quantised dynamically.

    Raises:
        InputError: as `load_float_graph`, or if the file is fp16, which DynamicQuantizeLinear does not take.
    """
    model = load_float_graph(source)
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        raise InputError(f"{source} is fp16; dynamic int8 starts from the fp32 file.")
    return model
