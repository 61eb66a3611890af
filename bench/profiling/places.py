"""Where in BERT a piece of work belongs, told by the name it carries.

The graphs that slimbert builds and the modules of PyTorch are both named after BERT's parameters, so one reading serves
every runtime. A graph from another program, whose names say nothing, ends up in ``OTHER``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")
HEAD_WORDS = frozenset(
    {"pooler", "classifier", "qa_outputs", "cls", "sentence_embedding", "logits", "start", "end", "start_logits"}
    | {"end_logits", "last_hidden_state"}
)


class Part(StrEnum):
    """The parts of BERT that a user thinks in. ``NORMS`` are residual sums and LayerNorms of the layers."""

    EMBEDDINGS = "embeddings"
    ATTENTION = "attention"
    FFN = "ffn"
    NORMS = "norms"
    HEAD = "head"
    OTHER = "other"


@dataclass(frozen=True)
class Place:
    """A part, and the layer it is in; None outside the layers."""

    part: Part
    layer: int | None = None


NOWHERE = Place(Part.OTHER)


def place_from_name(name: str) -> Place:
    """Where a node or module belongs, such as ``bert.encoder.layer.3.output.dense/MatMul``."""
    words = name.partition("/")[0].split(".")
    if "layer" in words[:-1] and (number := words[words.index("layer") + 1]).isdigit():
        return Place(_part_of_layer(words[words.index("layer") + 2 :]), int(number))
    if "embeddings" in words:
        return Place(Part.EMBEDDINGS)
    if words[0] == "attention_mask":
        return Place(Part.ATTENTION)
    return Place(Part.HEAD) if HEAD_WORDS & set(words) else NOWHERE


def place_from_names(names: Iterable[str]) -> Place:
    """Where a fused piece of work belongs: see `main_name`."""
    main = main_name(names)
    return NOWHERE if main is None else place_from_name(main)


def main_name(names: Iterable[str]) -> str | None:
    """What a fused piece of work is called after: its first matrix product, else its first name that says a place."""
    known = [name for name in names if place_from_name(name) != NOWHERE]
    products = [name for name in known if operator_from_name(name) in PRODUCTS]
    return next(iter(products or known), None)


def operator_from_name(name: str) -> str:
    """``MatMul`` of ``classifier/MatMul``; the whole of a name without a slash."""
    return name.partition("/")[2] or name


def _part_of_layer(words: list[str]) -> Part:
    match words:
        case ["attention", "output", "dense", *_] | ["attention", "self", *_] | ["attention"] | ["first_token", *_]:
            return Part.ATTENTION
        case ["attention", "output", *_] | ["output"]:
            return Part.NORMS
        case ["intermediate", *_] | ["output", "dense", *_]:
            return Part.FFN
        case ["output", *_]:
            return Part.NORMS
    return Part.OTHER
