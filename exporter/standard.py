"""The standard dialect: operators of the ``ai.onnx`` domain, which every runtime parses.

Which operators, and why: in ONNX Runtime on a CPU every equivalent form of MiniLM-L6 that was tried ran equally
fast within the noise of 2 to 4 % (Q, K and V as one product and Split or as three; Gemm on flattened tokens or MatMul
and Add; Gelu or its Erf form; Attention of opset 23), because the matrix products take nearly all the time. So this is
the form that reads best and that every parser knows: three products that keep BERT's names, MatMul and Add,
Softmax, and the scale folded into the query. Letters: as in ``dialect.py``.
"""

from __future__ import annotations

from typing import final

import onnx_ir as ir

from exporter.dialect import LOWEST, EncoderSpec, Operators
from exporter.graph_builder import ONNX_FLOAT, GraphBuilder

HALF_LOWEST = -65504.0


@final
class StandardOperators(Operators):
    """Attention as products and Softmax.

    Args:
        g: the graph.
        spec: of the encoder.
        softmax_type: type in which scores are masked and turned into weights.
    """

    def __init__(self, g: GraphBuilder, spec: EncoderSpec, softmax_type: ir.DataType) -> None:
        super().__init__(g, spec)
        self._softmax_type = softmax_type

    def mask(self, mask: ir.Value) -> ir.Value:
        """Additive bias (B, 1, 1, S), 0 = attend and the lowest number = ignore; in half precision bool, True = attend.

        Right for padding on either side and for holes. A sum of half precision would overflow or round at the lowest
        number, and a row without a token would not attend uniformly: there the scores are replaced instead.
        """
        g = self.g
        keep = g.op("Cast", "attention_mask", mask, to=ir.DataType.BOOL)
        if self._softmax_type == ONNX_FLOAT:
            attend, ignore = g.scalar("attend", 0.0, ONNX_FLOAT), g.scalar("ignore", LOWEST, ONNX_FLOAT)
            keep = g.op("Where", "attention_mask", keep, attend, ignore)  # (B, S)
        return g.op("Unsqueeze", "attention_mask", keep, g.integers(1, 2))

    def attention(self, index: int, queries: ir.Value, x: ir.Value, mask: ir.Value) -> ir.Value:
        """See `Operators.attention`. A single head needs no axis of its own: TensorRT fuses it only without one."""
        g, heads = self.g, self.spec.arch.heads[index]
        where, scale = f"{self.spec.layer(index)}.attention.self", self.spec.arch.head_dim**-0.5
        query, key, value = (
            g.linear(f"{where}.{part}", states, factor)
            for part, states, factor in (("query", queries, scale), ("key", x, 1.0), ("value", x, 1.0))
        )
        if heads == 1:
            return self._one_head(where, query, key, value, mask)
        query = self._split(f"{where}.query", query, index, [0, 2, 1, 3])  # (B, H, Q, D)
        key = self._split(f"{where}.key", key, index, [0, 2, 3, 1])  # (B, H, D, S)
        value = self._split(f"{where}.value", value, index, [0, 2, 1, 3])  # (B, H, S, D)
        weights = self._softmax(where, g.op("MatMul", f"{where}.scores", query, key), mask)
        context = g.op("MatMul", f"{where}.context", weights, value)  # (B, H, Q, D)
        merged = g.op("Transpose", f"{where}.context", context, perm=[0, 2, 1, 3])  # (B, Q, H, D)
        return g.op("Reshape", f"{where}.context", merged, g.integers(0, 0, heads * self.spec.arch.head_dim))

    def _one_head(self, where: str, query: ir.Value, key: ir.Value, value: ir.Value, mask: ir.Value) -> ir.Value:
        """Context (B, Q, D) of a layer's only head, from projections (B, Q, D) and (B, S, D)."""
        g = self.g
        turned = g.op("Transpose", f"{where}.key", key, perm=[0, 2, 1])  # (B, D, S)
        row = g.op("Squeeze", f"{where}.mask", mask, g.integers(1))  # (B, 1, S)
        weights = self._softmax(where, g.op("MatMul", f"{where}.scores", query, turned), row)
        return g.op("MatMul", f"{where}.context", weights, value)

    def _split(self, name: str, states: ir.Value, index: int, axes: list[int]) -> ir.Value:
        """Separate the heads of (B, S, H D), and order the axes."""
        arch = self.spec.arch
        shape = self.g.integers(0, 0, arch.heads[index], arch.head_dim)  # 0 keeps an axis: (B, S, H, D)
        return self.g.op("Transpose", name, self.g.op("Reshape", name, states, shape), perm=axes)

    def _softmax(self, where: str, scores: ir.Value, mask: ir.Value) -> ir.Value:
        """Attention weights (B, H, Q, S), or (B, Q, S) of a single head."""
        g, softmax_type = self.g, self._softmax_type
        scores = g.cast(f"{where}.scores", scores, g.float_type, softmax_type)
        if softmax_type == ONNX_FLOAT:
            masked = g.op("Add", f"{where}.scores", scores, mask)
        else:
            masked = g.op("Where", f"{where}.scores", mask, scores, g.scalar("ignore", HALF_LOWEST))
        return g.cast(where, g.op("Softmax", where, masked, axis=-1), softmax_type, g.float_type)
