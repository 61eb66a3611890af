"""Sums of operator times on given numbers."""

from __future__ import annotations

import pytest

from bench.profiling.breakdown import OUTSIDE, ProfiledCall, Work, operator_times
from bench.profiling.places import Part, Place
from pruning.errors import InputError

PRODUCT = Work("a/MatMul", "MatMul", Place(Part.FFN, 0))
OTHER_PRODUCT = Work("b/MatMul", "MatMul", Place(Part.ATTENTION, 1))
NORM = Work("c/LayerNormalization", "LayerNormalization", Place(Part.NORMS, 0))


def test_parts_sum_to_the_total_in_every_view() -> None:
    calls = [ProfiledCall(10.0, {PRODUCT: 4.0, NORM: 1.0, OTHER_PRODUCT: 3.0})] * 3
    times = operator_times(calls)
    assert times.total_ms == pytest.approx(10.0)
    assert times.by_part() == pytest.approx({Part.FFN: 4, Part.NORMS: 1, Part.ATTENTION: 3, Part.OTHER: 2})
    assert next(iter(times.by_operator().items())) == ("MatMul", 7.0)
    for view in (times.by_part(), times.by_place(), times.by_operator()):
        assert sum(view.values()) == pytest.approx(10.0)
    assert times.by_operator()[OUTSIDE] == pytest.approx(2.0)


def test_the_faster_half_counts() -> None:
    calls = [ProfiledCall(total, {PRODUCT: total - 1}) for total in (10.0, 500.0, 12.0)]
    times = operator_times(calls)
    assert (times.calls, times.profiled_calls) == (2, 3)
    assert times.total_ms == pytest.approx(11.0)


def test_work_that_only_some_calls_do_is_averaged_over_all() -> None:
    calls = [ProfiledCall(4.0, {PRODUCT: 2.0}), ProfiledCall(4.0, {PRODUCT: 2.0, NORM: 1.0})] + [
        ProfiledCall(9.0, {PRODUCT: 9.0})
    ] * 2
    assert operator_times(calls).by_part()[Part.NORMS] == pytest.approx(0.5)


@pytest.mark.parametrize("calls", [[], [ProfiledCall(1.0, {})]])
def test_a_profile_without_operators_is_refused(calls: list[ProfiledCall]) -> None:
    with pytest.raises(InputError, match="reported no operator"):
        operator_times(calls)
