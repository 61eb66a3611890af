"""Interleaved blocks: order, pairing and bookkeeping, with a timer that writes down what it is asked to run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.paired import BlockPlan, Samples, block_orders, measure_blocks, samples_from_blocks
from bench.timer import Call
from pruning.errors import InputError

INPUTS = tuple(range(8))


class Notebook:
    """A block timer; the "milliseconds" of a call are what the call returns, and calls are noted in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def contestant(self, name: str, factor: int):
        def call(item: int) -> float:
            self.calls.append((name, item))
            return float(factor * (item + 1))

        return call

    def time_block(self, calls: Sequence[Call]) -> dict[str, tuple[float, ...]]:
        times = tuple(call() for call in calls)
        return {"wall": times, "thread": times}


def measure(plan: BlockPlan, notebook: Notebook | None = None) -> tuple[Samples, list[tuple[str, int]]]:
    notebook = notebook or Notebook()
    contestants = {name: notebook.contestant(name, factor) for name, factor in {"a": 1, "b": 10, "c": 100}.items()}
    blocks = list(measure_blocks(contestants, INPUTS, plan, notebook.time_block))
    return samples_from_blocks(blocks), notebook.calls


def test_samples_are_kept_per_clock_contestant_block_and_call() -> None:
    samples, _ = measure(BlockPlan(blocks=3, calls=4))
    assert set(samples) == {"wall", "thread"}
    assert list(samples["wall"]) == ["a", "b", "c"]
    assert [len(block) for block in samples["wall"]["a"]] == [4, 4, 4]


def test_calls_at_one_position_saw_the_same_input() -> None:
    samples, _ = measure(BlockPlan(blocks=5, calls=3))
    for a, b in zip(samples["wall"]["a"], samples["wall"]["b"], strict=True):
        assert b == tuple(10 * x for x in a)


def test_a_block_is_a_random_order_and_then_its_reverse() -> None:
    _, calls = measure(BlockPlan(blocks=6, calls=2))
    names = [name for name, _ in calls]
    blocks = [names[start : start + 6] for start in range(0, len(names), 6)]
    assert all(block == block[::-1] and set(block) == {"a", "b", "c"} for block in blocks)
    assert len({tuple(block) for block in blocks}) > 1


def test_the_seed_decides_the_order() -> None:
    orders = [measure(BlockPlan(blocks=8, calls=2, seed=seed))[1] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_inputs_rotate_through_every_buffer() -> None:
    _, calls = measure(BlockPlan(blocks=2, calls=4))
    assert {item for name, item in calls if name == "a"} == set(INPUTS)


def test_an_odd_number_of_calls_is_kept() -> None:
    samples, _ = measure(BlockPlan(blocks=2, calls=5))
    assert [len(block) for block in samples["wall"]["c"]] == [5, 5]


def test_a_stopped_measurement_goes_on_where_it_was() -> None:
    plan, notebook = BlockPlan(blocks=5, calls=4), Notebook()
    whole = list(measure_blocks({"a": notebook.contestant("a", 1)}, INPUTS, plan, notebook.time_block))
    rest = list(measure_blocks({"a": notebook.contestant("a", 1)}, INPUTS, plan, notebook.time_block, first=3))
    assert rest == whole[3:]


def test_more_blocks_keep_the_order_of_the_first_ones() -> None:
    few, many = (block_orders(["a", "b", "c"], BlockPlan(blocks=blocks)) for blocks in (4, 9))
    assert few == many[:4]


def test_too_few_buffers_are_refused() -> None:
    with pytest.raises(InputError, match="at least 8 buffers; got 3"):
        list(measure_blocks({}, INPUTS[:3], BlockPlan(), Notebook().time_block))


@pytest.mark.parametrize("counts", [(0, 4), (3, 1)])
def test_plan_refuses_too_little(counts: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="calls per block >= 2"):
        BlockPlan(*counts)
