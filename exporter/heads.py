"""BERT's task heads as ONNX operators: encoder states in, named outputs out.

Each head is a function from states (B, S, E) to graph outputs under the names that `Predict` uses.
Letters: B batch, S sequence, E hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from exporter.graph_builder import GraphBuilder
from exporter.sublayers import EncoderSpec, activated_linear

HeadOutputs = Callable[[GraphBuilder, EncoderSpec, ir.Value], dict[str, ir.Value]]


def encoder_outputs(g: GraphBuilder, spec: EncoderSpec, states: ir.Value) -> dict[str, ir.Value]:
    """The states themselves; a pooler, which no one asks a bare encoder for, is left out."""
    return {"last_hidden_state": states}


def sequence_classification_outputs(g: GraphBuilder, spec: EncoderSpec, states: ir.Value) -> dict[str, ir.Value]:
    """Logits (B, labels) from the pooled first token."""
    pooler = f"{spec.prefix}pooler"
    first = g.op("Gather", f"{pooler}.first_token", states, g.index(0), axis=1)  # (B, E)
    pooled = g.op("Tanh", pooler, g.linear(f"{pooler}.dense", first))
    return {"logits": g.linear("classifier", pooled)}


def token_classification_outputs(g: GraphBuilder, spec: EncoderSpec, states: ir.Value) -> dict[str, ir.Value]:
    """Logits (B, S, labels)."""
    return {"logits": g.linear("classifier", states)}


def question_answering_outputs(g: GraphBuilder, spec: EncoderSpec, states: ir.Value) -> dict[str, ir.Value]:
    """Start and end logits, each (B, S)."""
    parts = g.split("qa_outputs", g.linear("qa_outputs", states), 2)  # each (B, S, 1)
    start, end = (
        g.op("Squeeze", name, part, g.integers(-1)) for name, part in zip(("start", "end"), parts, strict=True)
    )
    return {"start_logits": start, "end_logits": end}


def masked_lm_outputs(g: GraphBuilder, spec: EncoderSpec, states: ir.Value) -> dict[str, ir.Value]:
    """Logits (B, S, V). A decoder tied to the word embeddings is not stored a second time."""
    transform, decoder = "cls.predictions.transform", "cls.predictions.decoder"
    x = activated_linear(g, spec, f"{transform}.dense", states)
    x = g.layer_norm(f"{transform}.LayerNorm", x, spec.epsilon)
    words = f"{spec.prefix}embeddings.word_embeddings.weight"
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
