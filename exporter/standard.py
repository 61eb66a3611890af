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
        """See `Operators.attention`."""
        g, arch = self.g, self.spec.arch
        where, heads, head_dim = f"{self.spec.layer(index)}.attention.self", arch.heads[index], arch.head_dim
        split_shape = g.integers(0, 0, heads, head_dim)  # 0 keeps an axis: (B, Q, H, D)

        def head_states(part: str, states: ir.Value, axes: list[int], scale: float = 1.0) -> ir.Value:
            projected = g.linear(f"{where}.{part}", states, scale)
            split = g.op("Reshape", f"{where}.{part}", projected, split_shape)
            return g.op("Transpose", f"{where}.{part}", split, perm=axes)

        query = head_states("query", queries, [0, 2, 1, 3], head_dim**-0.5)  # (B, H, Q, D)
        key = head_states("key", x, [0, 2, 3, 1])  # (B, H, D, S)
        value = head_states("value", x, [0, 2, 1, 3])  # (B, H, S, D)
        weights = self._softmax(where, g.op("MatMul", f"{where}.scores", query, key), mask)
        context = g.op("MatMul", f"{where}.context", weights, value)  # (B, H, Q, D)
        merged = g.op("Transpose", f"{where}.context", context, perm=[0, 2, 1, 3])  # (B, Q, H, D)
        return g.op("Reshape", f"{where}.context", merged, g.integers(0, 0, heads * head_dim))

    def _softmax(self, where: str, scores: ir.Value, mask: ir.Value) -> ir.Value:
        """Attention weights (B, H, Q, S)."""
        g, softmax_type = self.g, self._softmax_type
        scores = g.cast(f"{where}.scores", scores, g.float_type, softmax_type)
        if softmax_type == ONNX_FLOAT:
            masked = g.op("Add", f"{where}.scores", scores, mask)
        else:
            masked = g.op("Where", f"{where}.scores", mask, scores, g.scalar("ignore", HALF_LOWEST))
        return g.cast(where, g.op("Softmax", where, masked, axis=-1), softmax_type, g.float_type)
