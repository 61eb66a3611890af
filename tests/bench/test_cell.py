"""A cell pairs samples by process, leaves invalid blocks out, and counts real tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.cell import BASELINE, CONTROL, Cell, InputShape, Repetition
from bench.timer import Warmup
from pruning.errors import InputError

WARM = {"baseline": Warmup(1.0, 10, stable=True)}


def repetition(*blocks: tuple[float, ...], factor: float = 2.0, **fields: object) -> Repetition:
    halved = tuple(tuple(x / factor for x in block) for block in blocks)
    samples = {"wall": {BASELINE: blocks, CONTROL: blocks, "candidate-1": halved}}
    return Repetition(WARM, samples, **fields)


def cell(*repetitions: Repetition) -> Cell:
    runtimes = dict.fromkeys((BASELINE, CONTROL, "candidate-1"), "ort-cpu")
    shapes = (InputShape(2, 8, 16), InputShape(2, 8, 10))
    return Cell("ort-cpu", 2, 8, runtimes, dict.fromkeys(runtimes, "fp32"), shapes, repetitions)


def test_samples_of_all_processes_count() -> None:
    found = cell(repetition((1.0, 2.0), (3.0, 4.0)), repetition((5.0, 6.0)))
    assert found.latency(BASELINE, "wall").samples_ms == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert found.comparison("candidate-1", "wall", seed=0).ratio.value == pytest.approx(2.0)


def test_invalid_blocks_are_left_out_and_counted() -> None:
    found = cell(repetition((1.0, 2.0), (300.0, 4.0), (3.0, 3.0), invalid_blocks=(1,)), repetition((5.0, 6.0)))
    assert found.latency(BASELINE, "wall").samples_ms == (1.0, 2.0, 3.0, 3.0, 5.0, 6.0)
    assert found.invalid_blocks == 1


def test_a_candidate_can_be_compared_with_another_one() -> None:
    found = cell(repetition((1.0, 2.0), (3.0, 4.0)))
    assert found.comparison("candidate-1", "wall", seed=0, against="candidate-1").ratio.value == pytest.approx(1.0)


def test_tokens_per_second_count_real_tokens_of_the_buffers_used() -> None:
    found = cell(repetition((1.0, 2.0), (3.0, 4.0), factor=1.0, invalid_blocks=(1,)))
    assert found.tokens_per_second(BASELINE, "wall") == pytest.approx(1_000 * 26 / 3)
    assert found.padding == pytest.approx(1 - 26 / 32)


def test_the_name_says_how_texts_were_batched() -> None:
    found = cell(repetition((1.0, 2.0)))
    assert str(found) == "ort-cpu, batch 2, sequence 8"
    assert str(replace(found, workload="packed")) == "ort-cpu, batch 2, packed texts up to 8 tokens"
    mixed = replace(found, runtimes={**found.runtimes, "candidate-1": "torch-cpu"})
    assert str(mixed) == "several runtimes, batch 2, sequence 8"


def test_unequal_blocks_are_refused() -> None:
    with pytest.raises(InputError, match="samples must pair up"):
        Repetition(WARM, {"wall": {BASELINE: ((1.0,),), CONTROL: ((1.0, 2.0),)}})


def test_an_invalid_block_must_exist() -> None:
    with pytest.raises(InputError, match="among the 1 measured"):
        repetition((1.0, 2.0), invalid_blocks=(1,))


def test_processes_with_other_contestants_are_refused() -> None:
    with pytest.raises(InputError, match="same contestants"):
        cell(repetition((1.0, 2.0)), Repetition(WARM, {"wall": {BASELINE: ((1.0, 2.0),)}}))


def test_without_a_valid_block_nothing_is_said() -> None:
    with pytest.raises(InputError, match="every block of ort-cpu, batch 2, sequence 8 is invalid"):
        cell(repetition((1.0, 2.0), invalid_blocks=(0,))).latency(BASELINE, "wall")
