"""BERT's embeddings and layers, described once for every dialect.

The computation is that of Devlin et al. 2019 (arXiv:1810.04805); the size of each layer comes from the
architecture. Letters: B batch, S sequence, E hidden.
"""

from __future__ import annotations

import onnx_ir as ir

from exporter.dialect import Operators


def encoder_states(ops: Operators, ids: ir.Value, mask: ir.Value, types: ir.Value) -> ir.Value:
    """Last hidden states (B, S, E), or (B, 1, E) if only the first token is read.

    The first token needs the keys and values of all tokens, but its own query, attention output, residual and FFN
    alone: exact, and the rest of the last layer is not computed.

    Args:
        ops: operators of the dialect, with the graph and the encoder's sizes.
        ids: token ids, int64 (B, S).
        mask: attention mask, int64 (B, S).
        types: token types, int64 (B, S).
    """
    spec = ops.spec
    x = _embeddings(ops, ids, types)
    prepared = ops.mask(mask)
    for index, layer in enumerate(spec.arch.layers):
        where = spec.layer(index)
        queries = _first_token(ops, where, x) if index == spec.first_token_layer else x
        inner = ops.attention(index, queries, x, prepared) if layer.heads else None
        x = ops.output(f"{where}.attention.output", inner, queries)
        inner = ops.activated_linear(f"{where}.intermediate.dense", x) if layer.ffn else None
        x = ops.output(f"{where}.output", inner, x)
    return x


def _first_token(ops: Operators, where: str, x: ir.Value) -> ir.Value:
    """(B, S, E) to (B, 1, E)."""
    g = ops.g
    return g.op("Slice", f"{where}.first_token", x, g.integers(0), g.integers(1), g.integers(1))


def _embeddings(ops: Operators, ids: ir.Value, types: ir.Value) -> ir.Value:
    g, where = ops.g, f"{ops.spec.prefix}embeddings"
    words = g.op("Gather", f"{where}.word_embeddings", g.weight(f"{where}.word_embeddings.weight"), ids)
    kinds = g.op("Gather", f"{where}.token_type_embeddings", g.weight(f"{where}.token_type_embeddings.weight"), types)
    length = g.op("Shape", f"{where}.sequence", ids, start=1, end=2)  # (1,)
    table = g.weight(f"{where}.position_embeddings.weight")
    positions = g.op("Slice", f"{where}.position_embeddings", table, g.integers(0), length, g.integers(0))  # (S, E)
    tokens = g.op("Add", f"{where}.tokens", words, kinds)
    summed = g.widened(where, g.op("Add", where, tokens, positions))
    return ops.norm(f"{where}.LayerNorm", summed)
