"""The architecture of a pruned encoder: how many heads and FFN neurons each layer keeps.

Standard library only, so that reading an architecture never loads torch. Letters: E hidden, D head_dim,
H heads, F ffn, S sequence length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pruning.errors import InputError


@dataclass(frozen=True)
class LayerSpec:
    """Heads and FFN neurons of one layer. Zero is legal: that sublayer is only its output bias.

    Raises:
        InputError: if either count is negative or not an integer.
    """

    heads: int
    ffn: int

    def __post_init__(self) -> None:
        for name, value in (("heads", self.heads), ("ffn", self.ffn)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InputError(
                    f"{name} of a layer must be an integer >= 0; got {value!r}. Use 0 for an empty sublayer."
                )


@dataclass(frozen=True)
class ArchSpec:
    """The encoder's shape: ``hidden`` (E), ``head_dim`` (D) and one `LayerSpec` per layer.

    Raises:
        InputError: if a dimension is not positive or there is no layer.
    """

    hidden: int
    head_dim: int
    layers: tuple[LayerSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for name, value in (("hidden", self.hidden), ("head_dim", self.head_dim)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} must be an integer >= 1; got {value!r}.")
        if not self.layers:
            raise InputError("an architecture needs at least one layer; got none.")

    @classmethod
    def from_lists(cls, hidden: int, head_dim: int, heads: Sequence[int], ffn: Sequence[int]) -> ArchSpec:
        """Build a spec from one head count and one FFN width per layer.

        Raises:
            InputError: if the two lists differ in length.
        """
        if len(heads) != len(ffn):
            raise InputError(
                f"heads and ffn need one entry per layer; got {len(heads)} head counts and {len(ffn)} FFN widths."
            )
        layers = tuple(LayerSpec(h, f) for h, f in zip(heads, ffn, strict=True))
        return cls(hidden, head_dim, layers)

    @property
    def heads(self) -> tuple[int, ...]:
        """Head count of each layer."""
        return tuple(layer.heads for layer in self.layers)

    @property
    def ffn(self) -> tuple[int, ...]:
        """FFN width of each layer."""
        return tuple(layer.ffn for layer in self.layers)

    @property
    def encoder_linear_params(self) -> int:
        """Weights of the encoder's matrices, biases left out: 4 E D per head and 2 E per neuron."""
        return sum(head_params(self) * x.heads + neuron_params(self) * x.ffn for x in self.layers)

    @property
    def first_token_layer(self) -> int:
        """From this layer on, a first-token classifier needs the first token alone.

        It is the last layer with heads, because tokens meet nowhere else; without any heads, it is the first layer.
        """
        return max((index for index, heads in enumerate(self.heads) if heads), default=0)

    def encoder_flops(self, sequence: int, *, first_token: bool = False) -> int:
        """Floating-point operations of the encoder for one sequence of ``sequence`` tokens.

        Matrix products only, a multiply-add counted as two.

        Args:
            sequence: tokens.
            first_token: leave out what a first-token classifier does not need (see `first_token_layer`).
        """
        narrow = self.first_token_layer if first_token else len(self.layers)
        queries = [sequence if index < narrow else 1 for index in range(len(self.layers))]
        return sum(
            head_flops(self, sequence, count) * layer.heads + neuron_flops(self, count) * layer.ffn
            for layer, count in zip(self.layers, queries, strict=True)
        )

    def to_dict(self) -> dict[str, object]:
        """Plain data, the form used in ``report.json``."""
        layers = [{"heads": x.heads, "ffn": x.ffn} for x in self.layers]
        return {"hidden": self.hidden, "head_dim": self.head_dim, "layers": layers}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArchSpec:
        """Read what `to_dict` wrote.

        Raises:
            InputError: if a key is missing or a value has the wrong type.
        """
        expected = '{"hidden": E, "head_dim": D, "layers": [{"heads": H, "ffn": F}, ...]}'
        try:
            hidden, head_dim = data["hidden"], data["head_dim"]
            specs = tuple(LayerSpec(x["heads"], x["ffn"]) for x in data["layers"])
        except (KeyError, TypeError) as error:
            raise InputError(f"not an architecture: expected {expected}; got {str(data)[:200]}.") from error
        return cls(hidden, head_dim, specs)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> ArchSpec:
        """Read what `to_json` wrote.

        Raises:
            InputError: if the text is not JSON, or not an architecture.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"not an architecture: invalid JSON ({error}).") from error
        if not isinstance(data, dict):
            raise InputError(f"not an architecture: expected a JSON object; got {type(data).__name__}.")
        return cls.from_dict(data)

    def __str__(self) -> str:
        heads = ",".join(map(str, self.heads))
        ffn = ",".join(map(str, self.ffn))
        return f"hidden {self.hidden}, head_dim {self.head_dim}, heads [{heads}], ffn [{ffn}]"


def head_params(arch: ArchSpec) -> int:
    """Matrix weights of one head: its rows of Q, K, V and its columns of the output projection."""
    return 4 * arch.hidden * arch.head_dim


def neuron_params(arch: ArchSpec) -> int:
    """Matrix weights of one FFN neuron: a row of the first matrix and a column of the second."""
    return 2 * arch.hidden


def head_flops(arch: ArchSpec, sequence: int, queries: int | None = None) -> int:
    """FLOPs of one head for one sequence: four projections, then QK^T and the weighted sum of V.

    Args:
        arch: of the encoder.
        sequence: tokens that have a key and a value.
        queries: tokens that have a query and an output; default: all.
    """
    queries = sequence if queries is None else queries
    keys_and_values = 4 * sequence * arch.hidden * arch.head_dim
    return keys_and_values + 4 * queries * arch.head_dim * (arch.hidden + sequence)


def neuron_flops(arch: ArchSpec, tokens: int) -> int:
    """FLOPs of one FFN neuron for ``tokens`` tokens."""
    return 4 * tokens * arch.hidden
