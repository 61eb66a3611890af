"""A float graph to one whose chosen products run in int8, scaled at run time: "dynamic" quantisation.

``x W`` becomes ``(xq Wq) * (sx * sw)`` with integer products (Jacob et al. 2018, arXiv:1712.05877): the weights are
signed and symmetric with one scale per output column, the activations unsigned with one scale per tensor, found at
run time by DynamicQuantizeLinear. The nodes are those that ONNX Runtime fuses into one kernel; all are standard
operators except QAttention, which takes the place of the fused Attention.

One property of this form matters to users: the scale of the activations is that of the whole batch, padding
included, so an answer depends a little on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.int8.source import CONTRIB_DOMAIN, WeightProduct, is_standard, product_name, weight_matrix

FULL_LIMIT, REDUCED_LIMIT = 127, 63
"""Largest integer of a weight: of 8 bits, and of 7."""


def dynamic_int8_graph(
    model: onnx.ModelProto, products: Sequence[WeightProduct], *, limit: int, embeddings: bool
) -> onnx.ModelProto:
    """A new graph with the same inputs and outputs; ``model`` is not modified.

    Args:
        model: fp32.
        products: those to quantise, from `weight_products`.
        limit: largest integer of a weight: `FULL_LIMIT` or `REDUCED_LIMIT`.
        embeddings: also store the tables that are looked up in int8, one scale per row.

    Raises:
        InputError: if a weight is not finite.
    """
    rewriter = _DynamicRewriter(model, products, limit)
    tables = embedding_tables(model) if embeddings else frozenset()
    nodes = [new for node in model.graph.node for new in rewriter.rewrite(node, tables)]
    return rewired(model, nodes, rewriter.added)


def embedding_tables(model: onnx.ModelProto) -> frozenset[str]:
    """Names of the constant fp32 matrices whose rows are looked up."""
    looked_up = {node.input[0] for node in model.graph.node if is_standard(node, "Gather") and not node.attribute}
    matrices = {x.name for x in model.graph.initializer if x.data_type == TensorProto.FLOAT and len(x.dims) == 2}
    return frozenset(looked_up & matrices)


def rewired(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], added: dict[str, TensorProto]) -> onnx.ModelProto:
    """The model with other nodes and more constants; what no node reads any more is left out.

    So are the shapes of inner values, on purpose: with them ONNX Runtime's optimiser fuses Add and LayerNormalization
    into SkipLayerNormalization, whose CPU kernel is so slow that int8 MiniLM takes 15 % longer.
    """
    kept = _without_unread(model, nodes)
    read = {name for node in kept for name in node.input}
    constants = [x for x in (*model.graph.initializer, *added.values()) if x.name in read]
    result = onnx.ModelProto()
    for field in ("ir_version", "producer_name", "producer_version", "doc_string"):
        setattr(result, field, getattr(model, field))
    result.opset_import.extend(model.opset_import)
    result.metadata_props.extend(model.metadata_props)
    result.functions.extend(model.functions)
    result.graph.CopyFrom(
        helper.make_graph(kept, model.graph.name, model.graph.input, model.graph.output, initializer=constants)
    )
    return result


def symmetric_columns(matrix: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers (rows, columns), int8 in -limit .. limit, and the float32 scale of each column; zero stays zero."""
    largest = np.abs(matrix).max(axis=0)  # (columns,)
    scale = np.where(largest > 0, largest / limit, 1.0).astype(np.float32)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)  # a column of subnormal numbers rounds to zero
    return np.clip(np.rint(matrix / scale), -limit, limit).astype(np.int8), scale


@final
class _DynamicRewriter:
    """Turns one node after the other; an activation that several products read is quantised once."""

    def __init__(self, model: onnx.ModelProto, products: Sequence[WeightProduct], limit: int) -> None:
        self.added: dict[str, TensorProto] = {}
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._products = {product.name: product for product in products}
        self._limit = limit
        self._quantised: set[str] = set()

    def rewrite(self, node: onnx.NodeProto, tables: frozenset[str]) -> list[onnx.NodeProto]:
        """The nodes that take the place of ``node``: itself, if it is not to be quantised."""
        if is_standard(node, "Gather") and node.input[0] in tables:
            return self._lookup(node)
        product = self._products.get(product_name(node))
        if product is None:
            return [node]
        integers, scale = self._weight(product)
        quantise = self._quantise(node.input[0])
        if node.domain == CONTRIB_DOMAIN:
            return [*quantise, _integer_attention(node, integers, scale)]
        return [*quantise, *_integer_product(node, integers, scale)]

    def _weight(self, product: WeightProduct) -> tuple[str, str]:
        matrix = weight_matrix(self._stored[product.weight], transposed=product.transposed)
        integers, scale = symmetric_columns(matrix, self._limit)
        stem = f"{product.weight}.T" if product.transposed else product.weight
        return self._constant(f"{stem}.int8", integers), self._constant(f"{stem}.scale", scale)

    def _quantise(self, x: str) -> list[onnx.NodeProto]:
        if x in self._quantised:
            return []
        self._quantised.add(x)
        return [helper.make_node("DynamicQuantizeLinear", [x], list(_parts(x)), name=f"{x}/DynamicQuantizeLinear")]

    def _lookup(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Rows in int8, times the scale of each row."""
        table, indices = node.input
        integers, scale = symmetric_columns(weight_matrix(self._stored[table], transposed=True), FULL_LIMIT)
        rows = self._constant(f"{table}.int8", np.ascontiguousarray(integers.T))  # (V, E)
        scales = self._constant(f"{table}.row_scale", scale[:, None])  # (V, 1)
        y = node.output[0]
        return [
            helper.make_node("Gather", [rows, indices], [f"{y}/int8"], name=f"{y}/int8"),
            helper.make_node("Cast", [f"{y}/int8"], [f"{y}/float"], name=f"{y}/float", to=TensorProto.FLOAT),
            helper.make_node("Gather", [scales, indices], [f"{y}/scale"], name=f"{y}/scale"),
            helper.make_node("Mul", [f"{y}/float", f"{y}/scale"], [y], name=product_name(node)),
        ]

    def _constant(self, name: str, values: np.ndarray) -> str:
        self.added[name] = numpy_helper.from_array(values, name)
        return name


def _parts(x: str) -> tuple[str, str, str]:
    """Names of the integers, scale and zero point of an activation."""
    return f"{x}/uint8", f"{x}/scale", f"{x}/zero_point"


def _integer_product(node: onnx.NodeProto, weight: str, weight_scale: str) -> list[onnx.NodeProto]:
    integers, scale, zero = _parts(node.input[0])
    y = node.output[0]
    return [
        helper.make_node("MatMulInteger", [integers, weight, zero], [f"{y}/int32"], name=f"{y}/int32"),
        helper.make_node("Cast", [f"{y}/int32"], [f"{y}/float"], name=f"{y}/float", to=TensorProto.FLOAT),
        helper.make_node("Mul", [scale, weight_scale], [f"{y}/scale"], name=f"{y}/scale"),
        helper.make_node("Mul", [f"{y}/float", f"{y}/scale"], [y], name=product_name(node)),
    ]


def _integer_attention(node: onnx.NodeProto, weight: str, weight_scale: str) -> onnx.NodeProto:
    """Inputs of Attention: x, weight, bias, mask, past; of QAttention the scales and zero points among them."""
    integers, scale, zero = _parts(node.input[0])
    bias, mask, past = (*node.input[2:5], "", "", "")[:3]
    inputs = [integers, weight, bias, scale, weight_scale, mask, zero, "", past]
    while not inputs[-1]:
        inputs.pop()
    result = helper.make_node("QAttention", inputs, list(node.output), name=product_name(node), domain=CONTRIB_DOMAIN)
    result.attribute.extend(node.attribute)
    return result


def _without_unread(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Drop the transpose of a matrix that is now stored in its final form, and whatever else became unread."""
    read, kept = {value.name for value in model.graph.output}, []
    for node in reversed(nodes):
        if read.isdisjoint(node.output):
            continue
        read.update(node.input)
        kept.append(node)
    return kept[::-1]
