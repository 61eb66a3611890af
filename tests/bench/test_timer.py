"""Clocks, latencies and warm-up, on a fake clock."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bench.timer import THREAD, WALL, Clock, Latency, WarmupPolicy, samples_for_percentile, time_calls, warm_up
from pruning.errors import InputError


class FakeWork:
    """A callable whose calls take the given milliseconds, the last one for ever, on a clock that it moves itself."""

    def __init__(self, durations_ms: Iterable[float]) -> None:
        self.time_ns = 0
        self.durations_ms = iter(durations_ms)
        self.last_ms = 0.0
        self.calls = 0

    def __call__(self) -> None:
        self.last_ms = next(self.durations_ms, self.last_ms)
        self.time_ns += round(self.last_ms * 1e6)
        self.calls += 1

    def clock(self, name: str = "fake", rate: float = 1.0) -> Clock:
        return Clock(name, lambda: round(self.time_ns * rate))


def test_time_calls_gives_one_sample_per_call() -> None:
    work = FakeWork([3, 1, 2])
    assert time_calls([work] * 3, [work.clock()]) == {"fake": (3.0, 1.0, 2.0)}


def test_time_calls_reads_every_clock_on_the_same_call() -> None:
    work = FakeWork([4, 6])
    samples = time_calls([work] * 2, [work.clock("wall"), work.clock("thread", rate=0.5)])
    assert samples == {"wall": (4.0, 6.0), "thread": (2.0, 3.0)}
    assert work.calls == 2


def test_first_clock_encloses_the_second() -> None:
    ticks = iter(range(100))
    outer, inner = (Clock(name, lambda: next(ticks)) for name in ("outer", "inner"))
    samples = time_calls([lambda: None], [outer, inner])
    assert samples["outer"][0] > samples["inner"][0]


def test_real_clocks_grow_and_are_named() -> None:
    samples = time_calls([lambda: sum(range(1000))] * 3, [WALL, THREAD])
    assert list(samples) == ["wall", "thread"]
    assert all(sample > 0 for sample in samples["wall"])


def test_latency_derives_its_figures_from_the_samples() -> None:
    latency = Latency("wall", tuple(float(x) for x in range(1, 102)))
    assert (latency.p50_ms, latency.p90_ms, latency.percentile_ms(99)) == (51, 91, 100)
    assert latency.iqr_ms == 50


@pytest.mark.parametrize(("percent", "needed"), [(90, 100), (99, 1_000), (99.9, 10_000)])
def test_a_percentile_needs_ten_samples_beyond_it(percent: float, needed: int) -> None:
    assert samples_for_percentile(percent) == needed
    assert Latency("wall", (1.0,) * (needed - 1)).tail_ms(percent) is None
    assert Latency("wall", (1.0,) * needed).tail_ms(percent) == 1.0


def test_latency_is_noisy_when_the_quartiles_are_far_apart() -> None:
    assert Latency("wall", (1.0, 2.0, 3.0)).noisy
    assert not Latency("wall", (1.0, 1.01, 1.02)).noisy
    assert not Latency("wall", (0.0, 0.0)).noisy


def test_latency_prints_its_doubt() -> None:
    assert str(Latency("thread", (2.0, 2.0))) == "p50 2 ms (thread clock, 2 samples, IQR/p50 0%)"
    assert "noisy" in str(Latency("wall", (1.0, 2.0, 3.0)))


def test_latency_without_samples_is_refused() -> None:
    with pytest.raises(InputError, match="at least one sample"):
        Latency("wall", ())


def test_warmup_lasts_the_minimum_time_even_if_stable() -> None:
    work = FakeWork([100])
    warmup = warm_up(work, WarmupPolicy(min_seconds=2.0, max_seconds=9.0), work.clock())
    assert warmup.stable
    assert warmup.seconds == pytest.approx(2.0)
    assert warmup.calls == work.calls == 20


def test_warmup_waits_until_three_windows_agree() -> None:
    work = FakeWork([100 - i for i in range(40)] + [60])
    warmup = warm_up(work, WarmupPolicy(min_seconds=0.1, max_seconds=60), work.clock())
    assert warmup.stable
    assert warmup.calls == 55


def test_warmup_gives_up_at_the_cap_and_says_so() -> None:
    work = FakeWork([1.2**i for i in range(200)])
    warmup = warm_up(work, WarmupPolicy(min_seconds=0.1, max_seconds=1.0), work.clock())
    assert not warmup.stable
    assert warmup.seconds >= 1.0


def test_warmup_runs_three_windows_even_beyond_the_cap() -> None:
    work = FakeWork([1000])
    assert warm_up(work, WarmupPolicy(min_seconds=0, max_seconds=0), work.clock()).calls == 15


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (2.0, 1.0)])
def test_warmup_policy_refuses_impossible_bounds(bounds: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="min_seconds <= max_seconds"):
        WarmupPolicy(*bounds)


def test_warmup_policy_refuses_an_empty_window() -> None:
    with pytest.raises(InputError, match="window_calls >= 1"):
        WarmupPolicy(window_calls=0)
