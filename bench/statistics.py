"""Speed ratios from paired samples, with an interval and a verdict. Pure functions of numbers.

Letters: P processes, B blocks in a process, N pairs in a block, R resamples. A ratio is baseline time over candidate
time: above 1 the candidate is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from pruning.errors import InputError

RESAMPLES = 5_000
CONFIDENCE = 0.95
FEW_BLOCKS = 10
EQUIVALENCE_MARGIN = 1.05
"""Only an interval that excludes differences above five per cent may be called "no difference"."""

Floats = NDArray[np.float64]
Processes = Sequence[Sequence[Sequence[float]]]
"""Milliseconds by process, block and call."""


class Verdict(StrEnum):
    """What a measurement allows one to say about a candidate."""

    FASTER = "faster"
    SLOWER = "slower"
    NO_DIFFERENCE = "no difference"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class RatioInterval:
    """A speed ratio and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f}x ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Comparison:
    """A candidate against the baseline, and the baseline against itself (A/A): the noise floor."""

    ratio: RatioInterval
    control: RatioInterval

    @property
    def noise_floor(self) -> float:
        """The largest ratio, at least 1, that the A/A interval reaches in either direction."""
        return float(np.exp(max(abs(np.log(self.control.low)), abs(np.log(self.control.high)))))

    @property
    def verdict(self) -> Verdict:
        """What the interval allows one to say.

        Faster or slower only if the whole interval lies outside the A/A noise. No difference only if it excludes any
        difference above 5 %, and holds 1 or does not leave the noise. Everything else is undecided.
        """
        low, high, floor = self.ratio.low, self.ratio.high, self.noise_floor
        if low > floor:
            return Verdict.FASTER
        if high < 1 / floor:
            return Verdict.SLOWER
        equivalent = low >= 1 / EQUIVALENCE_MARGIN and high <= EQUIVALENCE_MARGIN
        if equivalent and (low <= 1 <= high or (1 / floor <= low and high <= floor)):
            return Verdict.NO_DIFFERENCE
        return Verdict.UNDECIDED


def log_ratios(baseline_ms: Sequence[Sequence[float]], candidate_ms: Sequence[Sequence[float]]) -> Floats:
    """log(baseline / candidate) of every pair of samples, (B, N).

    Raises:
        InputError: if the two differ in shape, are empty, or hold a time that is not positive.
    """
    baseline, candidate = np.asarray(baseline_ms, float), np.asarray(candidate_ms, float)
    if baseline.shape != candidate.shape or baseline.ndim != 2 or not baseline.size:
        raise InputError(
            f"paired samples must share a shape (blocks, calls) and not be empty; "
            f"got {baseline.shape} and {candidate.shape}."
        )
    if not (np.isfinite(baseline) & np.isfinite(candidate) & (baseline > 0) & (candidate > 0)).all():
        raise InputError("paired samples must be positive times in ms; got zero, negative, NaN or infinite.")
    ratios: Floats = np.log(baseline / candidate)
    return ratios


def ratio_interval(processes: Sequence[Floats], *, seed: int, resamples: int = RESAMPLES) -> RatioInterval:
    """The ratio and its 95 % interval, from a hierarchical bootstrap over processes and the blocks within them.

    The ratio is exp of the median log ratio; with several processes, of the mean of their medians. Blocks are resampled
    whole, never single calls: calls of one block share its disturbances and would make the interval look too narrow.

    Drawing few units with replacement gives intervals of the wrong width. With one process the tails are expanded
    (`expanded_tail`); where that does not suffice, below ten blocks, each block counts as a process. With several
    processes, drawing them and then their blocks counts the noise of the blocks twice and has no t quantile, so the
    bootstrap gives the interval's shape and the spread of the processes its width (`stretch`). Simulated coverage is
    94 to 96 %, from 5 blocks or 2 processes on, with process effects from none to dominant.

    Args:
        processes: log ratios of each process, (B, N); B may differ.
        seed: of the resampling, so that the figure can be recomputed.
        resamples: R.

    Raises:
        InputError: if there are fewer than two blocks in all: nothing can be said about their spread.

    Source: Kalibera and Jones 2013, Rigorous Benchmarking in Reasonable Time, ISMM (levels, t interval over the
    highest); Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8 (width of hierarchical
    resampling); Hesterberg 2015, arXiv:1411.5279 (tails).
    """
    blocks = sum(map(len, processes))
    if blocks < 2:
        raise InputError(f"an interval needs at least two blocks; got {blocks}. Measure more blocks.")
    if len(processes) == 1 and blocks < FEW_BLOCKS:
        processes = np.split(processes[0], blocks)
    medians = np.array([np.median(logs) for logs in processes])  # (P,)
    drawn = bootstrap_means(processes, seed=seed, resamples=resamples)  # (R,)
    if len(processes) == 1:
        tail = expanded_tail(blocks)
        low, high = np.quantile(drawn, [tail, 1 - tail])
    else:
        tail = (1 - CONFIDENCE) / 2
        low, high = medians.mean() + stretch(medians, drawn) * (np.quantile(drawn, [tail, 1 - tail]) - medians.mean())
    return RatioInterval(float(np.exp(medians.mean())), float(np.exp(low)), float(np.exp(high)))


def expanded_tail(units: int) -> float:
    """Share of resamples to cut on each side, less than 2.5 % because ``units`` are few.

    The plain percentile interval covers too little on small samples: it lacks the t quantile's width and the
    factor n / (n - 1) of the variance.

    Source: Hesterberg 2015, arXiv:1411.5279, section 5.3 (expanded percentile interval).
    """
    quantile = np.sqrt(units / (units - 1)) * stdtrit(units - 1, (1 - CONFIDENCE) / 2)
    return float(ndtr(quantile))


def stretch(medians: Floats, drawn: Floats) -> float:
    """Factor that gives the bootstrap's spread the width of a t interval over the processes.

    The standard error of a mean of independent processes is known without bias from how far their medians, (P,), lie
    apart: it holds the differences between processes and the noise of their blocks, each once.
    """
    spread = float(np.std(drawn))
    if spread == 0:
        return 1.0
    error = float(np.std(medians, ddof=1)) / np.sqrt(len(medians))
    quantile = stdtrit(len(medians) - 1, (1 + CONFIDENCE) / 2) / ndtri((1 + CONFIDENCE) / 2)
    return float(quantile * error / spread)


def bootstrap_means(processes: Sequence[Floats], *, seed: int, resamples: int) -> Floats:
    """The ratio's logarithm in each resample, (R,): processes drawn with replacement, and blocks within each of them.

    Args:
        processes: P arrays of log ratios, (B, N).
        seed: of the draws.
        resamples: R.
    """
    generator, P = np.random.default_rng(seed), len(processes)
    medians = np.stack([_bootstrap_medians(logs, generator, resamples) for logs in processes])  # (P, R)
    if P == 1:
        drawn: Floats = medians[0]
        return drawn
    process = generator.integers(P, size=(resamples, P))
    draw = generator.integers(resamples, size=(resamples, P))
    means: Floats = medians[process, draw].mean(axis=1)
    return means


def compare_processes(
    baseline_ms: Processes, candidate_ms: Processes, *, control: tuple[Processes, Processes], seed: int
) -> Comparison:
    """A candidate against the baseline, and the two copies of the A/A control against each other.

    All are milliseconds by process, (B, N) each, paired by position.

    Raises:
        InputError: as `log_ratios`.
    """
    return Comparison(
        ratio=_interval_from_samples(baseline_ms, candidate_ms, seed),
        control=_interval_from_samples(*control, seed),
    )


def _interval_from_samples(baseline_ms: Processes, candidate_ms: Processes, seed: int) -> RatioInterval:
    return ratio_interval(list(map(log_ratios, baseline_ms, candidate_ms)), seed=seed)


def _bootstrap_medians(logs: Floats, generator: np.random.Generator, resamples: int) -> Floats:
    """Median of each resample of whole blocks, (R,), of one process's log ratios, (B, N)."""
    B = len(logs)
    drawn = logs[generator.integers(B, size=(resamples, B))]  # (R, B, N)
    medians: Floats = np.median(drawn.reshape(resamples, -1), axis=1)
    return medians
