"""The contrib dialect: ONNX Runtime's own fused operators (``com.microsoft``), for its CPU and its CUDA provider.

Attention is one operator with the layer's own number of heads, in every layer that has heads; erf GELU takes its bias
along. Letters: as in ``dialect.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import onnx_ir as ir

from exporter.dialect import LOWEST, EncoderSpec, Operators
from exporter.fused import CONTRIB
from exporter.graph_builder import GraphBuilder

FUSED_ACTIVATIONS = {"gelu": "BiasGelu", "gelu_new": "FastGelu"}
"""``hidden_act`` to the operator that adds the bias too: erf, and the tanh form that ``gelu_new`` is."""


class ContribOperators(Operators):
    """What the two providers share.

    Args:
        g: the graph.
        spec: of the encoder.
        right_padding: masks become lengths.
    """

    def __init__(self, g: GraphBuilder, spec: EncoderSpec, right_padding: bool) -> None:
        super().__init__(g, spec)
        self._right_padding = right_padding

    def mask(self, mask: ir.Value) -> ir.Value:
        """The mask itself, int32 (B, S), or the number of tokens in each row, int32 (B,)."""
        g = self.g
        if self._right_padding:
            mask = g.op("ReduceSum", "attention_mask", mask, g.integers(1), keepdims=0)
        return g.op("Cast", "attention_mask", mask, to=ir.DataType.INT32)

    def attention(self, index: int, queries: ir.Value, x: ir.Value, mask: ir.Value) -> ir.Value:
        """See `Operators.attention`. One operator: Attention, or MultiHeadAttention if only the first token asks.

        ``mask_filter_value`` is the lowest float32: at the default, -10000, a row without a token would not attend
        uniformly, and masked tokens would count beside very low scores.
        """
        g, heads = self.g, self.spec.arch.heads[index]
        where = f"{self.spec.layer(index)}.attention.self"
        names = [f"{where}.{part}" for part in ("query", "key", "value")]
        bias = g.vector([f"{name}.bias" for name in names])  # (3 H D,)
        attributes = {"num_heads": heads, "mask_filter_value": LOWEST}
        if queries is x:
            weight = g.transposed([f"{name}.weight" for name in names])  # (E, 3 H D)
            return g.op("Attention", where, x, weight, bias, mask, domain=CONTRIB, **attributes)
        projected = [g.product(name, states) for name, states in zip(names, (queries, x, x), strict=True)]
        return g.op("MultiHeadAttention", where, *projected, bias, mask, domain=CONTRIB, **attributes)

    def activated_linear(self, name: str, x: ir.Value) -> ir.Value:
        """See `Operators.activated_linear`."""
        fused = FUSED_ACTIVATIONS.get(self.spec.activation)
        if fused is None:
            return super().activated_linear(name, x)
        return self.g.op(fused, name, self.g.product(name, x), self.g.weight(f"{name}.bias"), domain=CONTRIB)

    @abstractmethod
    def output(self, where: str, inner: ir.Value | None, x: ir.Value) -> ir.Value:
        """See `Operators.output`; the providers differ in how fast they add and normalise."""


@final
class CpuOperators(ContribOperators):
    """For the CPU provider, whose SkipLayerNormalization is slower than Add and LayerNormalization."""

    def output(self, where: str, inner: ir.Value | None, x: ir.Value) -> ir.Value:
        """See `Operators.output`."""
        return Operators.output(self, where, inner, x)


@final
class CudaOperators(ContribOperators):
    """For the CUDA provider, where one SkipLayerNormalization replaces three launches."""

    def output(self, where: str, inner: ir.Value | None, x: ir.Value) -> ir.Value:
        """See `Operators.output`; a norm that is none, or wider than the rest of the graph, stays apart."""
        g, dense, norm = self.g, f"{where}.dense", f"{where}.LayerNorm"
        if inner is None or g.norm_type != g.float_type or not self.spec.normalised:
            return Operators.output(self, where, inner, x)
        scale, shift, bias = (g.weight(name) for name in (f"{norm}.weight", f"{norm}.bias", f"{dense}.bias"))
        inputs = (g.product(dense, inner), x, scale, shift, bias)
        return g.op("SkipLayerNormalization", norm, *inputs, domain=CONTRIB, epsilon=self.spec.epsilon)
