"""What a dialect has to know: the parts of BERT that each one writes with other operators.

``sublayers.py`` describes BERT once and asks a `Operators` for these parts. Letters: B batch, S sequence,
Q queries (S, or 1 where only the first token matters), E hidden, H heads, D head_dim, F ffn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporter.graph_builder import GraphBuilder
from pruning.arch import ArchSpec

ACTIVATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "gelu": ("Gelu", {}),
    "gelu_new": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
}
"""``hidden_act`` of the configuration to operator and attributes."""
LOWEST = float(np.finfo(np.float32).min)
"""Score of a masked token. Finite: a row without any token then attends uniformly, where -inf would give NaN."""


@dataclass(frozen=True)
class EncoderSpec:
    """What the weights do not say: where the encoder's names start, its sizes, epsilon and activation.

    ``first_token``: only the first token of the last layer is read. ``normalised``: norms are LayerNorm, and not the
    scale and shift that is left where it was trained away.
    """

    prefix: str
    arch: ArchSpec
    epsilon: float
    activation: str
    first_token: bool = False
    normalised: bool = True

    def layer(self, index: int) -> str:
        """Where the names of a layer start."""
        return f"{self.prefix}encoder.layer.{index}"

    @property
    def first_token_layer(self) -> int | None:
        """From this layer on, only the first token matters; None if every token is read."""
        return self.arch.first_token_layer if self.first_token else None


class Operators(ABC):
    """The parts of BERT that differ between dialects, appended to one graph.

    Args:
        g: the graph.
        spec: of the encoder.
    """

    def __init__(self, g: GraphBuilder, spec: EncoderSpec) -> None:
        self.g, self.spec = g, spec

    @abstractmethod
    def mask(self, mask: ir.Value) -> ir.Value:
        """The attention mask, int64 (B, S), in the form that `attention` wants."""

    @abstractmethod
    def attention(self, index: int, queries: ir.Value, x: ir.Value, mask: ir.Value) -> ir.Value:
        """Concatenated head contexts (B, Q, H D) of layer ``index``, which has heads.

        Args:
            index: of the layer.
            queries: states that ask, (B, Q, E): ``x`` itself, or its first token.
            x: states that answer, (B, S, E).
            mask: from `mask`.
        """

    def activated_linear(self, name: str, x: ir.Value) -> ir.Value:
        """A linear layer and the model's activation, (B, Q, in) to (B, Q, out)."""
        op_type, attributes = ACTIVATIONS[self.spec.activation]
        return self.g.op(op_type, name, self.g.linear(name, x), **attributes)

    def norm(self, name: str, x: ir.Value) -> ir.Value:
        """The norm called ``name`` of a widened ``x``, (B, Q, E)."""
        return (
            self.g.layer_norm(name, x, self.spec.epsilon) if self.spec.normalised else self.g.scale_and_shift(name, x)
        )

    def output(self, where: str, inner: ir.Value | None, x: ir.Value) -> ir.Value:
        """Output projection, residual and norm; of an empty sublayer only ``norm(x + bias)`` is left.

        Args:
            where: start of the parameters' names.
            inner: what is projected, (B, Q, H D or F); None for an empty sublayer.
            x: the residual, (B, Q, E).
        """
        g, dense, norm = self.g, f"{where}.dense", f"{where}.LayerNorm"
        projected = g.weight(f"{dense}.bias") if inner is None else g.linear(dense, inner)
        terms = g.widened(f"{where}.projected", projected), g.widened(f"{where}.skipped", x)
        return self.norm(norm, g.op("Add", f"{where}.residual", *terms))
