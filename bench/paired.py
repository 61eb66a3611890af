"""Measure several callables against each other in interleaved blocks, so that drift hits all of them alike.

Knows neither BERT nor a runtime. A block visits every contestant in a random order and then in the reverse of it
(ABBA): whatever grows steadily during the block cancels in the ratio.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from bench.timer import BlockTimer
from pruning.errors import InputError

MIN_BUFFERS = 8

Input = TypeVar("Input")

Blocks = tuple[tuple[float, ...], ...]
"""Milliseconds of one contestant on one clock: one inner tuple per block, one number per call."""

Samples = dict[str, dict[str, Blocks]]
"""Blocks by clock, then by contestant."""

Block = dict[str, dict[str, tuple[float, ...]]]
"""Milliseconds of the calls of one block by contestant, then by clock."""


@dataclass(frozen=True)
class BlockPlan:
    """How much to measure: ``blocks`` blocks of ``calls`` calls per contestant, in an order drawn from ``seed``.

    Raises:
        InputError: if a count is below its minimum; ABBA needs two calls per block.
    """

    blocks: int = 30
    calls: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.calls < 2:
            raise InputError(
                f"a measurement needs blocks >= 1 and calls per block >= 2; got {self.blocks} and {self.calls}."
            )


def block_orders(names: Sequence[str], plan: BlockPlan) -> list[tuple[str, ...]]:
    """The order of contestants in each block, from the seed; more blocks never change the first ones."""
    generator = random.Random(plan.seed)
    return [tuple(generator.sample(sorted(names), len(names))) for _ in range(plan.blocks)]


def measure_blocks(
    contestants: Mapping[str, Callable[[Input], object]],
    inputs: Sequence[Input],
    plan: BlockPlan,
    time_block: BlockTimer,
    first: int = 0,
) -> Iterator[Block]:
    """Time every contestant on the same rotating inputs, one interleaved ABBA block at a time.

    The i-th call of a block sees the same input for every contestant, so samples pair up by position.

    Args:
        contestants: what to time, by name.
        inputs: at least 8 buffers, so that no contestant lives off one hot input.
        plan: blocks, calls and the seed of the order.
        time_block: reads the clocks, for instance ``time_calls`` bound to ``WALL``.
        first: index of the first block to measure, when the ones before are there already.

    Raises:
        InputError: if there are fewer than 8 inputs.
    """
    if len(inputs) < MIN_BUFFERS:
        raise InputError(f"rotating inputs need at least {MIN_BUFFERS} buffers; got {len(inputs)}.")
    orders = block_orders(list(contestants), plan)
    for index in range(first, plan.blocks):
        rotated = [inputs[(index * plan.calls + call) % len(inputs)] for call in range(plan.calls)]
        measured = _measure_block(contestants, rotated, orders[index], time_block)
        yield {name: measured[name] for name in contestants}


def samples_from_blocks(blocks: Sequence[Block]) -> Samples:
    """Blocks put together by clock and contestant."""
    return {
        clock: {name: tuple(block[name][clock] for block in blocks) for name in blocks[0]}
        for clock in next(iter(blocks[0].values()))
    }


def _measure_block(
    contestants: Mapping[str, Callable[[Input], object]],
    inputs: Sequence[Input],
    order: Sequence[str],
    time_block: BlockTimer,
) -> Block:
    """Samples of one block by contestant, then by clock: first half of the inputs in order, second in reverse."""
    half = len(inputs) // 2
    taken: dict[str, list[Mapping[str, tuple[float, ...]]]] = {name: [] for name in order}
    for names, part in ((order, inputs[:half]), (tuple(reversed(order)), inputs[half:])):
        for name in names:
            taken[name].append(time_block([partial(contestants[name], item) for item in part]))
    return {name: {clock: first[clock] + second[clock] for clock in first} for name, (first, second) in taken.items()}
