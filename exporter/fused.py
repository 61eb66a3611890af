"""Is attention really fused, in every layer that has heads? Counted from the written file, not from the intention."""

from __future__ import annotations

from pathlib import Path

import onnx

from pruning.arch import ArchSpec

CONTRIB = "com.microsoft"
"""Domain of the operators that only ONNX Runtime has."""
FUSED_ATTENTION = ("Attention", "MultiHeadAttention", "QAttention")
"""Operators of that domain that hold a whole attention: scores, mask, softmax and contexts. QAttention is int8."""


class FusionError(RuntimeError):
    """A graph that should be fused is not, or has other heads than the model: a bug of ours, with the numbers."""


def fused_heads(model: onnx.ModelProto) -> tuple[int, ...]:
    """Number of heads of each fused attention operator, in the order of the graph."""
    nodes = [node for node in model.graph.node if node.domain == CONTRIB and node.op_type in FUSED_ATTENTION]
    return tuple(attribute.i for node in nodes for attribute in node.attribute if attribute.name == "num_heads")


def attention_layers(arch: ArchSpec) -> int:
    """Layers that have heads, which are the ones to fuse."""
    return sum(1 for heads in arch.heads if heads)


def fusion_summary(fused: int, layers: int) -> str:
    """What a report says, for example "attention fused in 6 of 6 layers"."""
    return f"attention fused in {fused} of {layers} layers"


def require_fused(path: Path, arch: ArchSpec) -> int:
    """Number of fused attention operators in an ONNX file: one per layer with heads, each with its layer's heads.

    Raises:
        FusionError: if one is missing, or has another number of heads.
    """
    found = fused_heads(onnx.load(path, format="protobuf", load_external_data=False))
    expected = tuple(heads for heads in arch.heads if heads)
    if found != expected:
        raise FusionError(
            f"{fusion_summary(len(found), len(expected))}, with {list(found)} heads where the model has "
            f"{list(expected)}. This is a bug in slimbert: please report it with the model's config.json."
        )
    return len(found)
