"""Ratios, intervals and verdicts against simulated experiments whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.statistics import (
    Comparison,
    RatioInterval,
    Verdict,
    bootstrap_means,
    compare_processes,
    expanded_tail,
    log_ratios,
    ratio_interval,
)
from pruning.errors import InputError

QUICK = 300


def simulate(rng: np.random.Generator, *speedups: float) -> list[np.ndarray]:
    """Lognormal times in ms, (30 blocks, 4 calls) per contestant: drift they share, noise per block and per call."""
    drift = rng.normal(0, 0.3, (30, 1))
    return [
        20.0 / speedup * np.exp(drift + rng.normal(0, 0.05, (30, 1)) + rng.normal(0, 0.05, (30, 4)))
        for speedup in speedups
    ]


def test_ratio_of_exact_times_is_exact() -> None:
    baseline = np.arange(1.0, 13.0).reshape(3, 4)
    interval = ratio_interval([log_ratios(baseline, baseline / 2)], seed=0)
    assert (interval.value, interval.low, interval.high) == pytest.approx((2, 2, 2))


def test_ratio_is_the_exponential_of_the_median_log_ratio() -> None:
    logs = np.random.default_rng(0).exponential(1.0, (12, 3))
    assert ratio_interval([logs], seed=0).value == pytest.approx(np.exp(np.median(logs)))


def test_ratio_of_several_processes_is_the_mean_of_their_medians() -> None:
    processes = [np.full((4, 2), 1.0), np.full((3, 2), 2.0), np.array([[0.0, 9.0, 3.0]])]
    assert ratio_interval(processes, seed=0).value == pytest.approx(np.exp(2.0))


@pytest.mark.parametrize(
    ("processes", "blocks", "between_processes"),
    [(1, 30, 0.0), (1, 6, 0.0), (2, 10, 0.02), (3, 8, 0.2), (5, 6, 0.0), (5, 6, 0.03), (10, 4, 0.2)],
)
def test_interval_covers_the_truth_as_often_as_it_says(processes: int, blocks: int, between_processes: float) -> None:
    rng, truth, experiments = np.random.default_rng(processes * blocks), 1.7, 1000
    hits = 0
    for seed in range(experiments):
        logs = (
            np.log(truth)
            + rng.normal(0, between_processes, (processes, 1, 1))
            + rng.normal(0, 0.05, (processes, blocks, 1))
            + rng.normal(0, 0.05, (processes, blocks, 4))
        )
        interval = ratio_interval(list(logs), seed=seed, resamples=QUICK)
        hits += interval.low <= truth <= interval.high
    assert 0.93 <= hits / experiments <= 0.97


def test_a_against_a_is_hardly_ever_called_faster() -> None:
    rng, experiments = np.random.default_rng(2), 400
    verdicts = []
    for seed in range(experiments):
        baseline, control, candidate = simulate(rng, 1.0, 1.0, 1.0)
        comparison = Comparison(
            ratio_interval([log_ratios(baseline, candidate)], seed=seed, resamples=QUICK),
            ratio_interval([log_ratios(baseline, control)], seed=seed, resamples=QUICK),
        )
        verdicts.append(comparison.verdict)
    assert verdicts.count(Verdict.FASTER) / experiments <= 0.05
    assert verdicts.count(Verdict.SLOWER) / experiments <= 0.05


@pytest.mark.parametrize(("speedup", "verdict"), [(1.5, Verdict.FASTER), (0.7, Verdict.SLOWER)])
def test_a_real_difference_is_found(speedup: float, verdict: Verdict) -> None:
    baseline, control, candidate = simulate(np.random.default_rng(3), 1.0, 1.0, speedup)
    assert compare_processes([baseline], [candidate], control=([baseline], [control]), seed=0).verdict is verdict


def test_common_drift_cancels() -> None:
    rng = np.random.default_rng(4)
    drift = np.exp(rng.normal(0, 2, (30, 1)))
    interval = ratio_interval([log_ratios(30.0 * drift * np.ones(4), 20.0 * drift * np.ones(4))], seed=0)
    assert (interval.low, interval.high) == pytest.approx((1.5, 1.5))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.06, 1.20, Verdict.FASTER),
        (1.04, 1.20, Verdict.UNDECIDED),
        (0.80, 0.94, Verdict.SLOWER),
        (0.80, 0.96, Verdict.UNDECIDED),
        (0.98, 1.03, Verdict.NO_DIFFERENCE),
        (1.01, 1.04, Verdict.NO_DIFFERENCE),
        (0.94, 1.03, Verdict.UNDECIDED),
        (0.90, 1.20, Verdict.UNDECIDED),
    ],
)
def test_verdict_needs_the_interval_outside_the_noise(low: float, high: float, verdict: Verdict) -> None:
    noise = RatioInterval(1.0, 0.99, 1.05)
    assert Comparison(RatioInterval((low * high) ** 0.5, low, high), noise).verdict is verdict


def test_noise_floor_is_the_farther_end_in_either_direction() -> None:
    ratio = RatioInterval(1.0, 1.0, 1.0)
    assert Comparison(ratio, RatioInterval(1.0, 0.8, 1.1)).noise_floor == pytest.approx(1.25)
    assert Comparison(ratio, RatioInterval(1.0, 0.99, 1.3)).noise_floor == pytest.approx(1.3)


def test_an_interval_that_leaves_a_quiet_control_needs_to_hold_one() -> None:
    quiet = RatioInterval(1.0, 1.0, 1.01)
    assert Comparison(RatioInterval(1.02, 1.005, 1.04), quiet).verdict is Verdict.UNDECIDED
    assert Comparison(RatioInterval(1.02, 0.995, 1.04), quiet).verdict is Verdict.NO_DIFFERENCE
    quiet = RatioInterval(1.0, 1.0, 1.0)
    assert Comparison(RatioInterval(1.0, 0.99, 1.01), quiet).verdict is Verdict.NO_DIFFERENCE
    assert Comparison(RatioInterval(1.015, 1.01, 1.02), quiet).verdict is Verdict.FASTER


def test_interval_widens_with_differences_between_processes() -> None:
    rng = np.random.default_rng(5)
    same = rng.normal(0, 0.01, (6, 20, 2))
    apart = same + rng.normal(0, 0.2, (6, 1, 1))
    narrow, wide = (ratio_interval(list(logs), seed=0, resamples=QUICK) for logs in (same, apart))
    assert np.log(wide.high / wide.low) > 3 * np.log(narrow.high / narrow.low)


def test_blocks_are_resampled_whole() -> None:
    logs = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    assert set(bootstrap_means([logs], seed=0, resamples=200)) == {1.0, 1.5, 2.0}


def test_the_seed_decides_the_interval() -> None:
    logs = log_ratios(*simulate(np.random.default_rng(6), 1.0, 1.2))
    first, again, other = (ratio_interval([logs], seed=seed, resamples=QUICK) for seed in (0, 0, 1))
    assert first == again != other


def test_tail_is_smaller_for_few_blocks_and_tends_to_a_fortieth() -> None:
    assert expanded_tail(5) < expanded_tail(30) < 0.025
    assert expanded_tail(100_000) == pytest.approx(0.025, rel=1e-3)


def test_interval_prints_value_and_ends() -> None:
    assert str(RatioInterval(1.9, 1.876, 1.934)) == "1.90x (1.88 to 1.93)"


def test_unpaired_samples_are_refused() -> None:
    with pytest.raises(InputError, match="must share a shape"):
        log_ratios([[1.0, 2.0]], [[1.0]])


def test_impossible_times_are_refused() -> None:
    with pytest.raises(InputError, match="must be positive times"):
        log_ratios([[1.0, 0.0]], [[1.0, 1.0]])


def test_one_block_gives_no_interval() -> None:
    with pytest.raises(InputError, match="at least two blocks; got 1"):
        ratio_interval([np.zeros((1, 4))], seed=0)
