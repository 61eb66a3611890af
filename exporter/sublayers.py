"""BERT's embeddings, attention and FFN as ONNX operators of the standard domain.

The computation is that of Devlin et al. 2019 (arXiv:1810.04805); the size of each layer comes from the
architecture. Letters: B batch, S sequence, E hidden, H heads, D head_dim, F ffn.

Which operators, and why: in ONNX Runtime on a CPU every equivalent form of MiniLM-L6 that was tried ran equally
fast within the noise of 2 to 4 % (Q, K and V as one product and Split or as three; Gemm on flattened tokens or MatMul
and Add; Gelu or its Erf form; Attention of opset 23), because the matrix products take nearly all the time. So this is
the form that reads best and that every parser knows: three products that keep BERT's names, MatMul and Add,
Softmax, and the scale folded into the query.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporter.graph_builder import GraphBuilder
from pruning.arch import ArchSpec

ACTIVATIONS: dict[str, tuple[str, dict[str, object]]] = {
    "gelu": ("Gelu", {}),
    "gelu_new": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
}
"""``hidden_act`` of the configuration to operator and attributes."""


@dataclass(frozen=True)
class EncoderSpec:
    """What the weights do not say: where the encoder's names start, its sizes, epsilon and activation."""

    prefix: str
    arch: ArchSpec
    epsilon: float
    activation: str

    def layer(self, index: int) -> str:
        """Where the names of a layer start."""
        return f"{self.prefix}encoder.layer.{index}"


def encoder_states(g: GraphBuilder, spec: EncoderSpec, ids: ir.Value, mask: ir.Value, types: ir.Value) -> ir.Value:
    """Last hidden states (B, S, E) of token ids, attention mask and token types, each int64 (B, S)."""
    x = _embeddings(g, spec, ids, types)
    bias = _attention_bias(g, mask)
    for index, layer in enumerate(spec.arch.layers):
        where = spec.layer(index)
        inner = _attention_context(g, spec, index, x, bias) if layer.heads else None
        x = _output(g, spec, f"{where}.attention.output", inner, x)
        inner = activated_linear(g, spec, f"{where}.intermediate.dense", x) if layer.ffn else None
        x = _output(g, spec, f"{where}.output", inner, x)
    return x


def activated_linear(g: GraphBuilder, spec: EncoderSpec, name: str, x: ir.Value) -> ir.Value:
    """A linear layer and the model's activation, (B, S, in) to (B, S, out)."""
    op_type, attributes = ACTIVATIONS[spec.activation]
    return g.op(op_type, name, g.linear(name, x), **attributes)


def _embeddings(g: GraphBuilder, spec: EncoderSpec, ids: ir.Value, types: ir.Value) -> ir.Value:
    where = f"{spec.prefix}embeddings"
    words = g.op("Gather", f"{where}.word_embeddings", g.weight(f"{where}.word_embeddings.weight"), ids)
    kinds = g.op("Gather", f"{where}.token_type_embeddings", g.weight(f"{where}.token_type_embeddings.weight"), types)
    length = g.op("Shape", f"{where}.sequence", ids, start=1, end=2)  # (1,)
    table = g.weight(f"{where}.position_embeddings.weight")
    positions = g.op("Slice", f"{where}.position_embeddings", table, g.integers(0), length, g.integers(0))  # (S, E)
    tokens = g.op("Add", f"{where}.tokens", words, kinds)
    return g.layer_norm(f"{where}.LayerNorm", g.op("Add", where, tokens, positions), spec.epsilon)


def _attention_bias(g: GraphBuilder, mask: ir.Value) -> ir.Value:
    """Additive bias (B, 1, 1, S): 0 = attend, lowest finite number = ignore.

    Right for padding on either side and for holes. A row without any token attends uniformly, where -inf would
    give NaN.
    """
    keep = g.op("Cast", "attention_mask", mask, to=ir.DataType.BOOL)
    lowest = float(np.finfo(np.float32).min)
    bias = g.op("Where", "attention_mask", keep, g.scalar("attend", 0.0), g.scalar("ignore", lowest))  # (B, S)
    return g.op("Unsqueeze", "attention_mask", bias, g.integers(1, 2))


def _attention_context(g: GraphBuilder, spec: EncoderSpec, index: int, x: ir.Value, bias: ir.Value) -> ir.Value:
    """Concatenated head contexts (B, S, H D), for H > 0."""
    where, heads, head_dim = f"{spec.layer(index)}.attention.self", spec.arch.heads[index], spec.arch.head_dim
    split_shape = g.integers(0, 0, heads, head_dim)  # 0 keeps an axis: (B, S, H, D)

    def head_states(part: str, axes: list[int], scale: float = 1.0) -> ir.Value:
        projected = g.linear(f"{where}.{part}", x, scale)
        split = g.op("Reshape", f"{where}.{part}", projected, split_shape)
        return g.op("Transpose", f"{where}.{part}", split, perm=axes)

    query = head_states("query", [0, 2, 1, 3], head_dim**-0.5)  # (B, H, S, D)
    key = head_states("key", [0, 2, 3, 1])  # (B, H, D, S)
    value = head_states("value", [0, 2, 1, 3])  # (B, H, S, D)
    scores = g.op("Add", f"{where}.scores", g.op("MatMul", f"{where}.scores", query, key), bias)
    weights = g.op("Softmax", where, scores, axis=-1)  # (B, H, S, S)
    context = g.op("MatMul", f"{where}.context", weights, value)  # (B, H, S, D)
    merged = g.op("Transpose", f"{where}.context", context, perm=[0, 2, 1, 3])  # (B, S, H, D)
    return g.op("Reshape", f"{where}.context", merged, g.integers(0, 0, heads * head_dim))


def _output(g: GraphBuilder, spec: EncoderSpec, where: str, inner: ir.Value | None, x: ir.Value) -> ir.Value:
    """Output projection, residual and LayerNorm; of an empty sublayer only ``LayerNorm(x + bias)`` is left."""
    dense = f"{where}.dense"
    projected = g.weight(f"{dense}.bias") if inner is None else g.linear(dense, inner)
    return g.layer_norm(f"{where}.LayerNorm", g.op("Add", f"{where}.residual", projected, x), spec.epsilon)
