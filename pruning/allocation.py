"""Which units to keep within a budget: levels per sublayer, then masks.

A sublayer can be kept at several *levels* (numbers of units). Each level has a price and a cost: the sum of the scores
of the units it loses, or what a method measured for it. Choosing one level per sublayer at the lowest total cost within
the budget is the multiple-choice knapsack problem, solved by dynamic programming.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pruning.arch import ArchSpec
from pruning.budget import Budget, Prices, rounded_down
from pruning.errors import InputError
from pruning.masks import Masks
from pruning.scores import Scores

BUCKETS = 10_000
"""Resolution of the dynamic programme: a budget is used up to about one ten-thousandth per sublayer."""


@dataclass(frozen=True, eq=False)
class SublayerLevels:
    """The levels of one sublayer: ``kept`` units, ``cost`` and ``price`` of each level, arrays of one length."""

    kept: np.ndarray
    cost: np.ndarray
    price: np.ndarray


def arch_from_budget(arch: ArchSpec, scores: Scores, budget: Budget, *, ffn_multiple: int) -> ArchSpec:
    """The architecture that loses least within the budget.

    Args:
        arch: of the model that the scores belong to.
        scores: cost of removing each unit.
        budget: prices and limit.
        ffn_multiple: FFN widths are multiples of this, or the full width.

    Raises:
        InputError: if no architecture fits the budget, or only the empty one.
    """
    return arch_from_levels(arch, levels_from_scores(scores, budget.prices, ffn_multiple=ffn_multiple), budget)


def levels_from_scores(scores: Scores, prices: Prices, *, ffn_multiple: int) -> list[SublayerLevels]:
    """Levels whose costs are sums of scores: the attention of each layer, then the FFN of each layer."""
    heads = [_levels(row, price, 1) for row, price in zip(scores.heads, prices.heads, strict=True)]
    neurons = [_levels(row, price, ffn_multiple) for row, price in zip(scores.neurons, prices.neurons, strict=True)]
    return heads + neurons


def grid_widths(units: int, multiple: int) -> list[int]:
    """Numbers of units that a sublayer may keep: multiples, and all of them."""
    return sorted({*range(0, units + 1, multiple), units})


def only_whole(levels: SublayerLevels) -> SublayerLevels:
    """Without the levels between nothing and everything, for layer drop."""
    ends = [0, -1]
    return SublayerLevels(levels.kept[ends], levels.cost[ends], levels.price[ends])


def arch_from_levels(arch: ArchSpec, levels: Sequence[SublayerLevels], budget: Budget) -> ArchSpec:
    """The architecture that loses least within the budget, for costs of any origin.

    Args:
        arch: of the model to prune.
        levels: the attention of each layer, then the FFN of each layer.
        budget: prices and limit; the prices in ``levels`` are its own.

    Raises:
        InputError: if no architecture fits the budget, or only the empty one; the reachable maximum is named.
    """
    if budget.spent(arch) <= budget.limit:  # rounding in `cheapest_levels` must not take a unit that fits
        return arch
    fixed = budget.prices.fixed
    smallest = fixed + _smallest_price(levels)
    if smallest > budget.limit:
        raise InputError(
            f"the budget ({budget.meaning}) leaves no head and no neuron in any layer. "
            f"Ask for less: at most {rounded_down(budget.spent(arch) / smallest)} times smaller can be reached."
        )
    chosen = cheapest_levels(levels, budget.limit - fixed)
    kept = [int(level.kept[index]) for level, index in zip(levels, chosen, strict=True)]
    return ArchSpec.from_lists(arch.hidden, arch.head_dim, kept[: len(arch.layers)], kept[len(arch.layers) :])


def uniform_arch(arch: ArchSpec, budget: Budget, *, ffn_multiple: int) -> ArchSpec:
    """The same fraction of heads and of neurons in every layer, as near to each other as the grid allows.

    Raises:
        InputError: if only the empty architecture fits the budget.
    """
    best: tuple[float, float] | None = None
    for fraction in sorted({h / x.heads for x in arch.layers if x.heads for h in range(x.heads + 1)} | {0.0}):
        heads = [_whole(fraction * x.heads, 1) for x in arch.layers]
        width = _widest_fraction(arch, heads, budget, ffn_multiple)
        if width is not None and (best is None or abs(fraction - width) < abs(best[0] - best[1])):
            best = (fraction, width)
    if best is None:
        raise InputError(f"no uniform architecture fits the budget ({budget.meaning}). Ask for less.")
    heads = [_whole(best[0] * x.heads, 1) for x in arch.layers]
    ffn = [_width(best[1], x.ffn, ffn_multiple) for x in arch.layers]
    if not any(heads) and not any(ffn):
        raise InputError(f"the budget ({budget.meaning}) leaves no head and no neuron in any layer. Ask for less.")
    return ArchSpec.from_lists(arch.hidden, arch.head_dim, heads, ffn)


def masks_from_scores(scores: Scores, target: ArchSpec) -> Masks:
    """Keep the highest-scoring units of each sublayer, as many as ``target`` says.

    Raises:
        InputError: if ``target`` has other layers than the scores, or more units than a sublayer has.
    """
    if len(target.layers) != len(scores.heads):
        raise InputError(f"the shape has {len(target.layers)} layers, the model {len(scores.heads)}.")
    rows = zip(target.layers, scores.heads, scores.neurons, strict=True)
    for index, (layer, heads, neurons) in enumerate(rows):
        if layer.heads > len(heads) or layer.ffn > len(neurons):
            raise InputError(
                f"layer {index} of the shape wants {layer.heads} heads and {layer.ffn} neurons; "
                f"the model has {len(heads)} and {len(neurons)}."
            )
    return Masks(
        [_top(row, layer.heads) for row, layer in zip(scores.heads, target.layers, strict=True)],
        [_top(row, layer.ffn) for row, layer in zip(scores.neurons, target.layers, strict=True)],
    )


def cheapest_levels(sublayers: Sequence[SublayerLevels], limit: float) -> list[int]:
    """One level index per sublayer: the lowest total cost with a total price of at most ``limit``.

    Prices are rounded up to ten-thousandths of the limit, so up to one of them per sublayer is lost to rounding: the
    programme looks that much beyond the limit, too, and takes the best choice whose exact price fits. Nothing within
    the limit less one ten-thousandth per sublayer is better.

    Raises:
        InputError: if even the lowest prices exceed the limit.

    Source: multiple-choice knapsack by dynamic programming, as in ZipLM (Kurtic et al. 2023, arXiv:2302.04089).
    """
    columns = BUCKETS + len(sublayers) + 1
    best = np.zeros(columns)  # lowest cost so far with at most this much spent
    choices = []
    for levels in sublayers:
        spent = np.ceil(levels.price / limit * BUCKETS - 1e-9).astype(np.int64)
        costs = np.full((len(spent), columns), np.inf)
        for index, price in enumerate(spent):
            if price < columns:
                costs[index, price:] = best[: columns - price] + levels.cost[index]
        choice = costs.argmin(axis=0)
        choices.append((choice, spent))
        best = costs[choice, np.arange(columns)]
    for column in reversed(np.flatnonzero(np.isfinite(best)).tolist()):
        chosen = _trace_back(choices, column)
        if column <= BUCKETS or _total_price(sublayers, chosen) <= limit:
            return _filled(sublayers, chosen, limit)
    floor = sum(float(levels.price.min()) for levels in sublayers)
    raise InputError(f"the budget of {limit:g} is below the smallest possible price, {floor:g}. Ask for less.")


def _total_price(sublayers: Sequence[SublayerLevels], chosen: Sequence[int]) -> float:
    return sum(float(x.price[i]) for x, i in zip(sublayers, chosen, strict=True))


def _filled(sublayers: Sequence[SublayerLevels], chosen: Sequence[int], limit: float) -> list[int]:
    """Spend what is left over: while some other level of one sublayer fits and costs less, take the best."""
    chosen = list(chosen)
    while True:
        left = limit - _total_price(sublayers, chosen)
        gains = [
            np.where(x.price - x.price[i] <= left, x.cost[i] - x.cost, -np.inf)
            for x, i in zip(sublayers, chosen, strict=True)
        ]
        best = max(range(len(gains)), key=lambda index: float(gains[index].max()))
        if gains[best].max() <= 0:
            return chosen
        chosen[best] = int(gains[best].argmax())


def _trace_back(choices: Sequence[tuple[np.ndarray, np.ndarray]], left: int) -> list[int]:
    chosen: list[int] = []
    for choice, spent in reversed(choices):
        chosen.append(int(choice[left]))
        left -= int(spent[chosen[-1]])
    return chosen[::-1]


def _levels(scores: Tensor, prices: np.ndarray, multiple: int) -> SublayerLevels:
    units = len(scores)
    kept = np.array(grid_widths(units, multiple))
    lost = np.concatenate([[0.0], np.cumsum(np.sort(scores.double().numpy()))])  # cost of losing the k lowest
    return SublayerLevels(kept, lost[units - kept], prices[kept])


def _smallest_price(levels: Sequence[SublayerLevels]) -> float:
    """Price of the cheapest choice that keeps at least one unit."""
    empty = [float(level.price.min()) for level in levels]
    steps = [float(x.price[x.kept > 0].min()) - low for x, low in zip(levels, empty, strict=True) if x.kept.any()]
    return sum(empty) + min(steps, default=math.inf)


def _top(scores: Tensor, count: int) -> Tensor:
    keep = torch.zeros(len(scores), dtype=torch.bool)
    keep[scores.argsort(descending=True, stable=True)[:count]] = True
    return keep


def _whole(value: float, multiple: int) -> int:
    return int(value / multiple + 1e-9) * multiple


def _width(fraction: float, ffn: int, multiple: int) -> int:
    return ffn if fraction >= 1 else _whole(fraction * ffn, multiple)


def _widest_fraction(arch: ArchSpec, heads: Sequence[int], budget: Budget, multiple: int) -> float | None:
    """The largest fraction of neurons, the same in each layer, that fits beside these heads; 1 if there are none."""
    widest = max(x.ffn for x in arch.layers)
    for kept in sorted({*range(0, widest + 1, multiple), widest}, reverse=True):
        fraction = kept / widest if widest else 1.0
        ffn = [_width(fraction, x.ffn, multiple) for x in arch.layers]
        if budget.spent(ArchSpec.from_lists(arch.hidden, arch.head_dim, heads, ffn)) <= budget.limit:
            return fraction
    return None
