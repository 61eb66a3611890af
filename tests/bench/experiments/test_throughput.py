"""The batch sweep on models whose times are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from bench.experiments.throughput import (
    ThroughputCurve,
    ThroughputPoint,
    ThroughputResult,
    is_saturated,
    sweep,
)
from bench.paired import Blocks
from pruning.errors import InputError


def blocks(milliseconds: float) -> Blocks:
    return ((milliseconds, milliseconds), (milliseconds, milliseconds))


def device(fixed_ms: float, ms_per_row: float, until: int) -> Callable[[int], float]:
    """A call costs a fixed time up to a batch that fills the device, and grows with the batch from there."""
    return lambda batch: fixed_ms + ms_per_row * max(batch, until)


def measured(asked: list[int], **models: Callable[[int], float]) -> Callable[[int], Mapping[str, Blocks]]:
    def measure(batch: int) -> Mapping[str, Blocks]:
        asked.append(batch)
        return {key: blocks(time_ms(batch)) for key, time_ms in models.items()}

    return measure


def test_a_rate_counts_all_calls_slow_ones_included() -> None:
    point = ThroughputPoint(4, 128, ((10.0, 10.0), (10.0, 50.0)))
    assert point.requests_per_second == pytest.approx(4 * 4 / 0.080)
    assert point.tokens_per_second == pytest.approx(128 * 200)


@pytest.mark.parametrize(
    ("rates", "saturated"),
    [
        ([100.0, 104.0], False),
        ([100.0, 104.0, 108.0], True),
        ([100.0, 104.0, 110.0], False),
        ([100.0, 120.0, 121.0], False),
        ([100.0, 120.0, 121.0, 110.0], True),
    ],
)
def test_two_doublings_that_bring_less_than_five_per_cent_are_the_end(rates: list[float], saturated: bool) -> None:
    assert is_saturated(rates) is saturated


def test_the_sweep_ends_when_the_last_model_is_saturated() -> None:
    asked: list[int] = []
    *_, curves = sweep(
        measured(asked, early=device(0.0, 1.0, until=2), late=device(0.0, 0.5, until=8)), seq=16, largest=1024
    )
    assert asked == [1, 2, 4, 8, 16, 32]
    assert [curve.key for curve in curves] == ["early", "late"]
    assert all(curve.saturated for curve in curves)
    assert curves[1].best.batch == 8
    assert curves[1].best.requests_per_second == pytest.approx(2000)


def test_the_sweep_ends_at_the_largest_batch() -> None:
    asked: list[int] = []
    *_, (curve,) = sweep(measured(asked, only=device(10.0, 0.0, until=1)), seq=16, largest=5)
    assert asked == [1, 2, 4]
    assert not curve.saturated


def test_ratios_are_paired_at_one_batch_and_free_at_the_best() -> None:
    *_, curves = sweep(
        measured([], baseline=device(4.0, 1.0, until=1), candidate=device(4.0, 0.5, until=1)), seq=8, largest=4
    )
    result = ThroughputResult("ort-cpu", 8, curves)
    assert result.ratio("candidate", 4).value == pytest.approx(8 / 6)
    assert result.best_ratio("candidate") == pytest.approx(8 / 6)
    assert result.best_ratio("baseline") == 1.0
    with pytest.raises(InputError, match="baseline was not measured at batch 3"):
        result.ratio("candidate", 3)


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="at least one call; got 1, 8 and 0 calls"):
        ThroughputPoint(1, 8, ())
    with pytest.raises(InputError, match="needs growing batch sizes"):
        ThroughputCurve("x", (ThroughputPoint(2, 8, blocks(1)), ThroughputPoint(1, 8, blocks(1))))
    with pytest.raises(InputError, match="largest batch of a sweep must be at least 1; got 0"):
        next(sweep(measured([]), seq=8, largest=0))


def test_a_stopped_sweep_goes_on_where_it_was() -> None:
    models = {"early": device(0.0, 1.0, until=2), "late": device(0.0, 0.5, until=8)}
    steps = list(sweep(measured([], **models), seq=16, largest=1024))
    assert [len(curves[0].points) for curves in steps] == list(range(1, len(steps) + 1))
    asked: list[int] = []
    rest = list(sweep(measured(asked, **models), seq=16, largest=1024, before=steps[1]))
    assert rest == steps[2:]
    assert asked[0] == 4
    assert list(sweep(measured([], **models), seq=16, largest=1024, before=steps[-1])) == []
