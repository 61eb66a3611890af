"""BERT's task heads as ONNX operators: encoder states in, named outputs out.

Each head is a function from states (B, S, E) to graph outputs under the names that `Predict` uses.
Letters: B batch, S sequence, E hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from exporter.dialect import Operators
from exporter.graph_builder import ONNX_FLOAT

HeadOutputs = Callable[[Operators, ir.Value], dict[str, ir.Value]]
SMALLEST_NORM = 1e-12
"""Norms below it count as this, as in `torch.nn.functional.normalize`."""


def encoder_outputs(ops: Operators, states: ir.Value) -> dict[str, ir.Value]:
    """The states themselves; a pooler, which no one asks a bare encoder for, is left out."""
    return {"last_hidden_state": states}


def sequence_classification_outputs(ops: Operators, states: ir.Value) -> dict[str, ir.Value]:
    """Logits (B, labels) from the pooled first token; ``states`` may hold that token alone."""
    g, pooler = ops.g, f"{ops.spec.prefix}pooler"
    first = g.op("Gather", f"{pooler}.first_token", states, g.index(0), axis=1)  # (B, E)
    pooled = g.op("Tanh", pooler, g.linear(f"{pooler}.dense", first))
    return {"logits": g.linear("classifier", pooled)}


def token_classification_outputs(ops: Operators, states: ir.Value) -> dict[str, ir.Value]:
    """Logits (B, S, labels)."""
    return {"logits": ops.g.linear("classifier", states)}


def question_answering_outputs(ops: Operators, states: ir.Value) -> dict[str, ir.Value]:
    """Start and end logits, each (B, S)."""
    g = ops.g
    parts = g.split("qa_outputs", g.linear("qa_outputs", states), 2)  # each (B, S, 1)
    start, end = (
        g.op("Squeeze", name, part, g.integers(-1)) for name, part in zip(("start", "end"), parts, strict=True)
    )
    return {"start_logits": start, "end_logits": end}


def masked_lm_outputs(ops: Operators, states: ir.Value) -> dict[str, ir.Value]:
    """Logits (B, S, V). A decoder tied to the word embeddings is not stored a second time."""
    g, transform, decoder = ops.g, "cls.predictions.transform", "cls.predictions.decoder"
    x = ops.activated_linear(f"{transform}.dense", states)
    x = ops.norm(f"{transform}.LayerNorm", g.widened(transform, x))
    words = f"{ops.spec.prefix}embeddings.word_embeddings.weight"
    if not g.share_memory(words, f"{decoder}.weight"):
        return {"logits": g.linear(decoder, x)}
    tied = g.op("Transpose", decoder, g.weight(words), perm=[1, 0])  # (E, V)
    return {"logits": g.op("Add", decoder, g.op("MatMul", decoder, x, tied), g.weight(f"{decoder}.bias"))}


HEAD_OUTPUTS: dict[str, HeadOutputs] = {
    "encoder": encoder_outputs,
    "sequence-classification": sequence_classification_outputs,
    "token-classification": token_classification_outputs,
    "question-answering": question_answering_outputs,
    "masked-lm": masked_lm_outputs,
}


def sentence_embedding(ops: Operators, states: ir.Value, mask: ir.Value) -> ir.Value:
    """Mean of the tokens' states, scaled to length 1, (B, E); 0 for a row without a token.

    Source: Sentence-BERT, Reimers and Gurevych 2019, arXiv:1908.10084 (mean pooling).

    Args:
        ops: operators of the dialect.
        states: float32 (B, S, E).
        mask: the attention mask, int64 (B, S).
    """
    g, where = ops.g, "sentence_embedding"
    kept = g.op("Cast", f"{where}.mask", mask, to=ONNX_FLOAT)
    row = g.op("Unsqueeze", f"{where}.mask", kept, g.integers(1))  # (B, 1, S)
    summed = g.op("Squeeze", f"{where}.sum", g.op("MatMul", f"{where}.sum", row, states), g.integers(1))  # (B, E)
    tokens = g.op("ReduceSum", f"{where}.tokens", kept, g.integers(1), keepdims=1)  # (B, 1)
    mean = g.op(
        "Div", f"{where}.mean", summed, g.op("Max", f"{where}.tokens", tokens, g.scalar("one", 1.0, ONNX_FLOAT))
    )
    norm = g.op("ReduceL2", f"{where}.norm", mean, g.integers(1), keepdims=1)  # (B, 1)
    floor = g.scalar("smallest_norm", SMALLEST_NORM, ONNX_FLOAT)
    return g.op("Div", f"{where}.unit", mean, g.op("Max", f"{where}.norm", norm, floor))
