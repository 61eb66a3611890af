"""Which method fits a target, where nobody named one: widths where narrower is faster, else whole sublayers."""

from __future__ import annotations

from dataclasses import dataclass

from pruning.arch import ArchSpec
from pruning.budget import Budget, Prices
from pruning.methods.names import Method

LEAST_WIDTH_GAIN = 0.1
"""Halving sublayers should save at least this share of what removing them saves; 0.5 where time goes with width."""


@dataclass(frozen=True)
class MethodChoice:
    """The method, and why, in a sentence, where it is not the one that most people get."""

    method: Method
    reason: str | None = None


def width_gain(prices: Prices) -> float:
    """What half of every sublayer's units saves, as a share of what all of them save.

    0.5 where prices are proportional to width; near 0 where launching a sublayer costs more than computing it, as for
    small batches on a GPU. 1 where no size of any sublayer saves anything.
    """
    rows = [row for row in (*prices.heads, *prices.neurons) if len(row) > 1]
    removal = sum(float(row[-1] - row[0]) for row in rows)
    halving = sum(float(row[-1] - row[(len(row) - 1) // 2]) for row in rows)
    return halving / removal if removal > 0 else 1.0


def method_for_target(target: Budget | ArchSpec) -> MethodChoice:
    """``oneshot``; but ``drop`` for a budget in whose prices width hardly counts."""
    if isinstance(target, ArchSpec) or (gain := width_gain(target.prices)) >= LEAST_WIDTH_GAIN:
        return MethodChoice(Method.ONESHOT)
    return MethodChoice(
        Method.DROP,
        f"Whole sublayers were dropped (method {Method.DROP}): narrower ones are hardly faster here. Halving every "
        f"sublayer would save {gain:.0%} of what removing them saves, where 50% is usual.",
    )
