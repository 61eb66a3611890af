"""Which matrix products of an ONNX file can be quantised, and which files cannot be quantised at all.

Works on the written graph, whoever built it: standard operators or ONNX Runtime's own (``com.microsoft``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from exporter.onnx_file import read_onnx
from pruning.errors import InputError

MIN_OPSET = 13
"""The first version whose DequantizeLinear takes one scale per channel."""
FP16_MIN_OPSET = 19
"""The first version whose QuantizeLinear takes fp16."""
CONTRIB_DOMAIN = "com.microsoft"
STANDARD_DOMAINS = ("", "ai.onnx")
QUANTISED_OPERATORS = frozenset(
    {
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)
FLOAT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16)


class ProductKind(StrEnum):
    """Where in BERT a product stands; ``head`` is the pooler, the task head, and all else."""

    QKV = "qkv"
    ATTENTION_OUTPUT = "attention-output"
    FFN_UP = "ffn-up"
    FFN_DOWN = "ffn-down"
    HEAD = "head"


WEIGHT_KINDS = (
    ("attention.self.", ProductKind.QKV),
    ("attention.output.dense", ProductKind.ATTENTION_OUTPUT),
    ("intermediate.dense", ProductKind.FFN_UP),
    ("output.dense", ProductKind.FFN_DOWN),
)
"""BERT's own parameter names, which our graphs keep for their weights; the first that occurs decides."""


@final
@dataclass(frozen=True)
class WeightProduct:
    """A product of activations with a constant matrix.

    ``name`` is the node's, ``input`` and ``weight`` are those of its operands, and ``rows`` x ``columns`` the
    matrix as it is multiplied: ``rows`` numbers in, ``columns`` out, so ``rows * columns`` multiply-adds per token.
    ``transposed`` says that the file stores it the other way round, as a decoder tied to the word embeddings.
    """

    name: str
    kind: ProductKind
    input: str
    weight: str
    rows: int
    columns: int
    transposed: bool


def load_float_graph(path: str | Path) -> onnx.ModelProto:
    """Read an fp32 or fp16 file that has something to quantise.

    Raises:
        InputError: if the file is missing, damaged, spread over several files, quantised already, older than
            `MIN_OPSET`, or has no product with a constant matrix.
    """
    path = Path(path)
    model = read_onnx(path)
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise InputError(f"{path} keeps its weights in other files; export it again as one file.")
    quantised = sorted(QUANTISED_OPERATORS & {node.op_type for node in model.graph.node})
    if quantised:
        raise InputError(f"{path} is quantised already (it has {', '.join(quantised)}); start from the fp32 file.")
    if opset_of(model) < MIN_OPSET:
        raise InputError(f"{path} has opset {opset_of(model)}; int8 needs {MIN_OPSET} or newer. Export it again.")
    if not weight_products(model):
        raise InputError(f"{path} has no product with a constant matrix: there is nothing to quantise.")
    return model


def weight_products(model: onnx.ModelProto) -> tuple[WeightProduct, ...]:
    """All products that can be quantised, in order of execution.

    MatMul by a constant matrix, stored either way round, and the fused ``com.microsoft`` Attention, whose matrix
    holds Q, K and V side by side (unless their widths differ, for which there is no int8 kernel).
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type in FLOAT_TYPES}
    turned = {node.output[0]: node.input[0] for node in model.graph.node if _is_matrix_transpose(node)}
    products = []
    for node in model.graph.node:
        if not (is_standard(node, "MatMul") or _is_attention(node)):
            continue
        weight = turned.get(node.input[1], node.input[1])
        if weight in stored and len(stored[weight].dims) == 2:
            products.append(_product(node, stored[weight], transposed=node.input[1] in turned))
    return tuple(products)


def product_name(node: onnx.NodeProto) -> str:
    """The node's name, or its output's if it has none."""
    return str(node.name or node.output[0])


def is_standard(node: onnx.NodeProto, op_type: str) -> bool:
    """Whether this is the operator of that name of the standard domain."""
    return node.op_type == op_type and node.domain in STANDARD_DOMAINS


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators; 0 if the file does not say."""
    return max((x.version for x in model.opset_import if x.domain in STANDARD_DOMAINS), default=0)


def weight_matrix(tensor: TensorProto, *, transposed: bool) -> np.ndarray:
    """The matrix as it is multiplied, float32 (rows, columns).

    Raises:
        InputError: if it holds NaN or infinite numbers.
    """
    matrix = numpy_helper.to_array(tensor).astype(np.float32)
    if not np.isfinite(matrix).all():
        raise InputError(f"the weight {tensor.name} holds NaN or infinite numbers. Use a model that answers.")
    return np.ascontiguousarray(matrix.T) if transposed else matrix


def _is_attention(node: onnx.NodeProto) -> bool:
    attention = node.op_type == "Attention" and node.domain == CONTRIB_DOMAIN
    return attention and all(attribute.name != "qkv_hidden_sizes" for attribute in node.attribute)


def _is_matrix_transpose(node: onnx.NodeProto) -> bool:
    if not is_standard(node, "Transpose"):
        return False
    orders = [list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"]
    return orders in ([], [[1, 0]])  # without an order it reverses the axes


def _product(node: onnx.NodeProto, weight: TensorProto, *, transposed: bool) -> WeightProduct:
    rows, columns = reversed(weight.dims) if transposed else weight.dims
    kind = ProductKind.QKV if _is_attention(node) else _weight_kind(weight.name)
    return WeightProduct(product_name(node), kind, node.input[0], weight.name, rows, columns, transposed)


def _weight_kind(weight: str) -> ProductKind:
    return next((kind for part, kind in WEIGHT_KINDS if part in weight), ProductKind.HEAD)
