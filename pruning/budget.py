"""What a smaller model may cost: a price for every size of every sublayer, and a limit on their sum.

FLOPs, parameters, bytes and measured milliseconds are all the same kind of thing. Letters: H heads, F ffn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruning.arch import ArchSpec, head_flops, head_params, neuron_flops, neuron_params
from pruning.errors import InputError


@dataclass(frozen=True, eq=False)
class Prices:
    """``heads[i][h]`` and ``neurons[i][f]``: price of ``h`` heads and of ``f`` neurons in layer ``i``.

    Arrays of (H_i + 1,) and (F_i + 1,), one entry per size from 0 to all. ``fixed`` is the price of everything that
    pruning does not touch.

    Raises:
        InputError: if a price is negative, NaN or infinite, or falls where a sublayer grows.
    """

    heads: tuple[np.ndarray, ...]
    neurons: tuple[np.ndarray, ...]
    fixed: float = 0.0

    def __post_init__(self) -> None:
        for name, rows in (("heads", self.heads), ("neurons", self.neurons)):
            for layer, row in enumerate(rows):
                if not (np.isfinite(row).all() and (row >= 0).all() and (np.diff(row) >= 0).all()):
                    raise InputError(
                        f"prices of the {name} in layer {layer} must be finite, >= 0 and not fall with the size; "
                        f"got {row}."
                    )

    def total(self, arch: ArchSpec) -> float:
        """Price of ``arch``, which is the priced model or a smaller version of it."""
        heads = sum(row[layer.heads] for row, layer in zip(self.heads, arch.layers, strict=True))
        neurons = sum(row[layer.ffn] for row, layer in zip(self.neurons, arch.layers, strict=True))
        return float(self.fixed + heads + neurons)


@dataclass(frozen=True, eq=False)
class Budget:
    """``prices``, a ``limit`` on their total, and its ``meaning`` in words."""

    prices: Prices
    limit: float
    meaning: str

    def spent(self, arch: ArchSpec) -> float:
        """What ``arch`` costs."""
        return self.prices.total(arch)


def unit_prices(arch: ArchSpec, head: float, neuron: float, fixed: float = 0.0) -> Prices:
    """One price per head and one per neuron, the same in every layer."""
    heads = tuple(head * np.arange(x.heads + 1.0) for x in arch.layers)
    neurons = tuple(neuron * np.arange(x.ffn + 1.0) for x in arch.layers)
    return Prices(heads, neurons, fixed)


def flops_prices(arch: ArchSpec, sequence: int, *, first_token: bool = False) -> Prices:
    """Encoder FLOPs for one sequence.

    With ``first_token`` the last layer is priced as a first-token classifier runs it: keys and values for every token,
    queries, attention output and FFN for one. An architecture without heads in its last layer is cheaper still
    (`ArchSpec.first_token_layer`); its price is then an upper bound.

    Args:
        arch: of the dense model.
        sequence: tokens.
        first_token: whether only the first token of the last layer is read.
    """
    last = len(arch.layers) - 1
    queries = [1 if first_token and index == last else sequence for index in range(len(arch.layers))]
    rows = list(zip(arch.layers, queries, strict=True))
    heads = tuple(head_flops(arch, sequence, count) * np.arange(x.heads + 1.0) for x, count in rows)
    neurons = tuple(neuron_flops(arch, count) * np.arange(x.ffn + 1.0) for x, count in rows)
    return Prices(heads, neurons)


def flops_budget(arch: ArchSpec, speedup: float, sequence: int, *, first_token: bool = False) -> Budget:
    """The encoder's FLOPs at ``sequence`` tokens, divided by ``speedup``.

    Args:
        arch: of the dense model.
        speedup: ratio of the FLOPs of dense and pruned model, at least 1.
        sequence: tokens at which FLOPs are counted.
        first_token: whether both models compute the last layer for the first token only (see `flops_prices`).

    Raises:
        InputError: if the speedup is below 1, or so large that not even one unit could stay.
    """
    meaning = f"encoder FLOPs / {speedup:g} at sequence {sequence}"
    prices = flops_prices(arch, sequence, first_token=first_token)
    return speedup_budget(arch, prices, speedup, meaning, counted_in="encoder FLOPs")


def speedup_budget(arch: ArchSpec, prices: Prices, speedup: float, meaning: str, *, counted_in: str) -> Budget:
    """The price of ``arch``, divided by ``speedup``.

    Args:
        arch: of the dense model.
        prices: of its sublayers, and of the rest.
        speedup: ratio of the prices of dense and pruned model, at least 1.
        meaning: of the budget, in words.
        counted_in: what the prices are, for error messages.

    Raises:
        InputError: if the speedup is below 1, or so large that not even one unit could stay.
    """
    full = prices.total(arch)
    reachable = largest_speedup(arch, prices)
    if not 1 <= speedup <= reachable:
        raise InputError(
            f"a speedup must be at least 1 and at most {rounded_down(reachable)}, the largest that this model can "
            f"reach (in {counted_in}, with one unit left); got {speedup:g}."
        )
    return Budget(prices, full / speedup, meaning)


def largest_speedup(arch: ArchSpec, prices: Prices, *, ffn_multiple: int = 1) -> float:
    """How many times cheaper than ``arch`` a model can be that keeps a head, or the least FFN width of its grid."""
    return prices.total(arch) / smallest_total(prices, ffn_multiple=ffn_multiple)


def smallest_total(prices: Prices, *, ffn_multiple: int = 1) -> float:
    """Price of the cheapest architecture that keeps a head, or the least FFN width of its grid."""
    empty = prices.fixed + sum(row[0] for row in (*prices.heads, *prices.neurons))
    heads = [row[1] - row[0] for row in prices.heads if len(row) > 1]
    widths = [row[min(ffn_multiple, len(row) - 1)] - row[0] for row in prices.neurons if len(row) > 1]
    return float(empty + min((*heads, *widths), default=np.inf))


def rounded_down(ratio: float) -> str:
    """``ratio`` with two decimals below 100 and none above, never more than it is: a promise must be kept."""
    return f"{np.floor(ratio * 100) / 100:.2f}" if ratio < 100 else f"{np.floor(ratio):.0f}"


def density_budget(arch: ArchSpec, density: float) -> Budget:
    """A fraction of the encoder's matrix weights.

    Raises:
        InputError: unless the density is above 0 and at most 1.
    """
    if not 0 < density <= 1:
        raise InputError(f"a density must be above 0 and at most 1; got {density:g}. 0.5 keeps half of the weights.")
    limit = density * arch.encoder_linear_params
    prices = unit_prices(arch, head_params(arch), neuron_params(arch))
    return Budget(prices, limit, f"{density:.0%} of the encoder's matrix weights")


def params_budget(arch: ArchSpec, params: int, current: int) -> Budget:
    """A number of parameters for the whole model, biases and embeddings included.

    Args:
        arch: of the model to prune.
        params: allowed in the result.
        current: parameters of the model to prune.

    Raises:
        InputError: if ``params`` is more than the model has, or less than it has without any head and neuron.
    """
    return _whole_model_budget(arch, params, current, 1, "parameters")


def bytes_budget(arch: ArchSpec, size_bytes: int, current: int, *, weight_bytes: int = 4) -> Budget:
    """Bytes of all weights, embeddings included.

    Args:
        arch: of the model to prune.
        size_bytes: allowed for the result.
        current: parameters of the model to prune.
        weight_bytes: of one weight; 4 is fp32.

    Raises:
        InputError: if ``size_bytes`` is more than the model has, or less than it has without any head and neuron.
    """
    return _whole_model_budget(arch, size_bytes, current, weight_bytes, "bytes")


def _whole_model_budget(arch: ArchSpec, limit: int, current: int, each: int, unit: str) -> Budget:
    """A limit on the whole model, ``each`` of its ``current`` parameters counting the same."""
    head, neuron = head_params(arch) + 3 * arch.head_dim, neuron_params(arch) + 1
    fixed = current - sum(head * x.heads + neuron * x.ffn for x in arch.layers)
    if not each * (fixed + neuron) <= limit <= each * current:
        raise InputError(
            f"the model has {each * current:,} {unit}, of which {each * fixed:,} can not be pruned (embeddings, norms, "
            f"head); ask for something between; got {limit:,}."
        )
    return Budget(unit_prices(arch, each * head, each * neuron, each * fixed), limit, f"{limit:,} {unit}")
