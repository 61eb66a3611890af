"""The thread that takes readings: what it keeps, and what it does when a reading fails."""

from __future__ import annotations

import itertools
import threading

import pytest

from bench.telemetry.sampler import Sampler
from pruning.errors import InputError


def test_readings_are_taken_at_both_ends_and_in_between() -> None:
    numbers, enough = itertools.count(), threading.Event()

    def read() -> int:
        number = next(numbers)
        if number == 3:
            enough.set()
        return number

    with Sampler(read, period_s=0.001) as sampler:
        assert enough.wait(10)
    assert sampler.samples[:4] == (0, 1, 2, 3)
    assert list(sampler.samples) == list(range(len(sampler.samples)))
    assert len(sampler.samples) >= 5


def test_a_failed_reading_is_not_silent() -> None:
    failed = threading.Event()

    def read() -> int:
        if threading.current_thread() is not threading.main_thread():
            failed.set()
            raise OSError("the GPU is lost")
        return 1

    with pytest.raises(OSError, match="the GPU is lost"), Sampler(read, period_s=0.001):
        assert failed.wait(10)


def test_the_error_of_the_measurement_comes_first() -> None:
    with pytest.raises(ValueError, match="mine"), Sampler(lambda: 1, period_s=10.0):
        raise ValueError("mine")


def test_a_period_must_be_positive() -> None:
    with pytest.raises(InputError, match="must be positive; got 0"):
        Sampler(lambda: 1, period_s=0)
