"""A float ONNX file to symmetric int8 for TensorRT: QuantizeLinear and DequantizeLinear around its weight products.

TensorRT takes precision from the graph: a product whose two inputs come from DequantizeLinear runs in int8. It wants
zero points of 0, weights with one scale per output column and activations with one scale per tensor, known
beforehand. Scores, softmax, LayerNorm and the residual stream stay in the base precision, fp32 or fp16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from exporter.int8.check import predict_from_proto
from exporter.int8.draft import QDQ, Int8Check, Int8Draft, Int8Export, check_target, write_int8
from exporter.int8.options import Int8Options, selected_products
from exporter.int8.rewrite import FULL_LIMIT, rewired, symmetric_columns
from exporter.int8.source import (
    FP16_MIN_OPSET,
    STANDARD_DOMAINS,
    WeightProduct,
    load_float_graph,
    opset_of,
    product_name,
    weight_matrix,
    weight_products,
)
from exporter.ort_session import predict_from_session, session_from_onnx
from pruning.batching import Batch
from pruning.errors import InputError

SMALLEST_SCALE = float(np.finfo(np.float16).tiny)
"""Scales are at least this, so that fp16 can hold them as normal numbers."""


def activation_ranges(source: str | Path, batches: Sequence[Batch], *, percentile: float = 100.0) -> dict[str, float]:
    """Largest magnitude of the input of every weight product, by the name of the input.

    Padding is left out: what stands there is nobody's answer. Below 100, the largest over the batches of each
    batch's percentile of the magnitudes: rare outliers are clipped and all other numbers get finer steps.

    Args:
        source: an fp32 or fp16 file.
        batches: real text, a few hundred rows.
        percentile: share of the magnitudes that must fit, in (0, 100].

    Raises:
        InputError: if the source cannot be used, there is no batch, an input is not finite, or the percentile is
            out of range.
    """
    if not 0 < percentile <= 100:
        raise InputError(f"the percentile must be above 0 and at most 100; got {percentile:g}.")
    if not batches:
        raise InputError("ranges are measured on real text; pass at least one batch.")
    session_from_onnx(source)  # refuses what is not a BERT
    model = load_float_graph(source)
    names = sorted({product.input for product in weight_products(model)})
    predict = predict_from_proto(_with_outputs(model, names))
    ranges = dict.fromkeys(names, 0.0)
    for batch in batches:
        found = predict(batch)
        for name in names:
            largest = _magnitude(name, found[name], batch["attention_mask"].bool(), percentile)
            ranges[name] = max(ranges[name], largest)
    return ranges


def qdq_from_onnx(
    source: str | Path,
    target: str | Path,
    ranges: Mapping[str, float],
    options: Int8Options | None = None,
    *,
    batches: Sequence[Batch] = (),
) -> Int8Export:
    """Quantise symmetrically with fixed scales, for TensorRT; the graph also runs in ONNX Runtime.

    Args:
        source: an fp32 or fp16 file of standard operators.
        target: the file to write; an older one is replaced only by one that passed.
        ranges: from `activation_ranges`.
        options: what to quantise, and what it may cost; every product by default. Embeddings cannot be.
        batches: real text to check the file on in ONNX Runtime, other than the calibration's; none: not checked.

    Raises:
        InputError: if the source, the ranges, the options or the target cannot be used.
        Int8Error: if the result is further from the source than the tolerance; nothing is left behind.
    """
    start, source, target = perf_counter(), Path(source), Path(target)
    options = options or Int8Options()
    check_target(source, target)
    model = load_qdq_graph(source, options)
    available = weight_products(model)
    products = selected_products(available, options)
    check_ranges(products, ranges)
    reference = predict_from_session(session_from_onnx(source))
    draft = Int8Draft(qdq_graph(model, products, ranges), QDQ, products, available)
    check = Int8Check(reference, batches, options.tolerance) if batches else None
    return write_int8(draft, target, check, start=start)


def load_qdq_graph(source: Path, options: Int8Options) -> onnx.ModelProto:
    """Read a file that can be quantised symmetrically as the options say.

    Raises:
        InputError: as `load_float_graph`, or if the file has operators that TensorRT does not know, an opset too old
            for fp16, or the options ask for embeddings.
    """
    model = load_float_graph(source)
    foreign = sorted({node.domain for node in model.graph.node} - set(STANDARD_DOMAINS))
    if foreign:
        raise InputError(f"{source} has operators of {', '.join(foreign)}, which TensorRT does not know; "
                         "start from the standard graph.")  # fmt: skip
    if options.embeddings:
        raise InputError("embeddings stay as they are in a Q/DQ graph; leave the option out.")
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    if half and opset_of(model) < FP16_MIN_OPSET:
        raise InputError(f"{source} has opset {opset_of(model)}; Q/DQ over fp16 needs {FP16_MIN_OPSET} or newer.")
    return model


def check_ranges(products: Sequence[WeightProduct], ranges: Mapping[str, float]) -> None:
    """Do nothing if the input of every product has a range.

    Raises:
        InputError: if one is missing or impossible.
    """
    for product in products:
        if product.input not in ranges:
            raise InputError(f"ranges has no {product.input}, the input of {product.name}; measure this very file.")
        value = ranges[product.input]
        if not (np.isfinite(value) and value >= 0):
            raise InputError(f"the range of {product.input} must be finite and not negative; got {value}.")


def qdq_graph(
    model: onnx.ModelProto, products: Sequence[WeightProduct], ranges: Mapping[str, float]
) -> onnx.ModelProto:
    """A new graph with the same inputs and outputs; an activation that several products read is quantised once.

    Weights have all 8 bits: GPUs add in 32 bits, and signed activations cannot saturate a CPU's 16 either.
    """
    rewriter = _QdqRewriter(model, products, ranges)
    nodes = [new for node in model.graph.node for new in rewriter.rewrite(node)]
    return rewired(model, nodes, rewriter.added)


@final
class _QdqRewriter:
    def __init__(self, model: onnx.ModelProto, products: Sequence[WeightProduct], ranges: Mapping[str, float]) -> None:
        self.added: dict[str, TensorProto] = {}
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._products = {product.name: product for product in products}
        self._ranges = ranges
        self._done: set[str] = set()

    def rewrite(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes that take the place of ``node``: itself, if it is not to be quantised."""
        product = self._products.get(product_name(node))
        if product is None:
            return [node]
        stored = self._stored[product.weight]
        dtype = helper.tensor_dtype_to_np_dtype(stored.data_type)
        weight, weight_nodes = self._weight(product, stored, dtype)
        x, nodes = self._activation(product.input, dtype)
        result = helper.make_node("MatMul", [x, weight], list(node.output), name=product_name(node))
        return [*nodes, *weight_nodes, result]

    def _activation(self, x: str, dtype: np.dtype) -> tuple[str, list[onnx.NodeProto]]:
        scale = max(self._ranges[x] / FULL_LIMIT, SMALLEST_SCALE)
        parameters = [
            self._constant(f"{x}/scale", np.array(scale, dtype=dtype)),
            self._constant(f"{x}/zero_point", np.array(0, dtype=np.int8)),
        ]
        quantise = helper.make_node("QuantizeLinear", [x, *parameters], [f"{x}/int8"], name=f"{x}/QuantizeLinear")
        return f"{x}/float", self._once([quantise, _dequantise(x, parameters)])

    def _weight(self, product: WeightProduct, stored: TensorProto, dtype: np.dtype) -> tuple[str, list[onnx.NodeProto]]:
        integers, scale = symmetric_columns(weight_matrix(stored, transposed=product.transposed), FULL_LIMIT)
        name = f"{product.weight}.T" if product.transposed else product.weight
        self._constant(f"{name}/int8", integers)  # (rows, columns)
        parameters = [
            self._constant(f"{name}/scale", np.maximum(scale, SMALLEST_SCALE).astype(dtype)),  # (columns,)
            self._constant(f"{name}/zero_point", np.zeros(product.columns, dtype=np.int8)),
        ]
        return f"{name}/float", self._once([_dequantise(name, parameters, axis=1)])

    def _once(self, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
        new = [node for node in nodes if node.name not in self._done]
        self._done.update(node.name for node in new)
        return new

    def _constant(self, name: str, values: np.ndarray) -> str:
        self.added[name] = numpy_helper.from_array(values, name)
        return name


def _dequantise(name: str, parameters: list[str], **attributes: int) -> onnx.NodeProto:
    inputs = [f"{name}/int8", *parameters]
    return helper.make_node(
        "DequantizeLinear", inputs, [f"{name}/float"], name=f"{name}/DequantizeLinear", **attributes
    )


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model with inner values as its outputs; those that are inputs of the graph cannot be asked for."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return result


def _magnitude(name: str, value: Tensor, mask: Tensor, percentile: float) -> float:
    """Value: (B, S, ...), where padding is left out, or (B, ...)."""
    kept = value[mask] if value.shape[:2] == mask.shape else value
    if not kept.numel():
        return 0.0
    if not torch.isfinite(kept).all():
        raise InputError(f"{name} is not finite on the calibration text. Use a model that answers.")
    magnitudes = kept.float().abs().flatten()
    rank = max(1, int(np.ceil(magnitudes.numel() * percentile / 100)))
    return float(magnitudes.kthvalue(rank).values)
