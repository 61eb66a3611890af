"""Speed ratios from paired samples, with an interval and a verdict. Pure functions of numbers.

Letters: P processes, B blocks, N pairs in a block, R resamples. A ratio is baseline time over candidate time:
above 1 the candidate is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pruning.errors import InputError

RESAMPLES = 5_000
CONFIDENCE = 0.95
NEGLIGIBLE_RATIO = 1.02
"""Differences below two per cent are of no practical interest: an interval inside them means "no difference"."""

Floats = NDArray[np.float64]


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
        """Faster or slower only if the whole interval lies outside the A/A noise."""
        floor = self.noise_floor
        negligible = max(floor, NEGLIGIBLE_RATIO)
        if self.ratio.low > floor:
            return Verdict.FASTER
        if self.ratio.high < 1 / floor:
            return Verdict.SLOWER
        if 1 / negligible <= self.ratio.low and self.ratio.high <= negligible:
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


def ratio_interval(logs: Floats, *, seed: int, resamples: int = RESAMPLES) -> RatioInterval:
    """exp(median) of the log ratios, with a hierarchical percentile bootstrap interval.

    Blocks (and processes, where there are several) are resampled, never single calls: calls of one block share
    its disturbances and would make the interval look too narrow.

    Args:
        logs: (B, N), or (P, B, N) for measurements repeated in several processes.
        seed: of the resampling, so that the figure can be recomputed.
        resamples: R.

    Raises:
        InputError: if there are fewer than two blocks in all: nothing can be said about their spread.

    Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, arXiv:1411.5279 (the tails); the levels
    follow Kalibera and Jones 2013, Rigorous Benchmarking in Reasonable Time, ISMM.
    """
    levels = logs if logs.ndim == 3 else logs[None]  # (P, B, N)
    blocks = levels.shape[0] * levels.shape[1]
    if blocks < 2:
        raise InputError(f"an interval needs at least two blocks; got {blocks}. Measure more blocks.")
    medians = bootstrap_medians(levels, seed=seed, resamples=resamples)
    tail = expanded_tail(blocks)
    low, high = np.quantile(medians, [tail, 1 - tail])
    return RatioInterval(float(np.exp(np.median(levels))), float(np.exp(low)), float(np.exp(high)))


def expanded_tail(units: int) -> float:
    """Share of resamples to cut on each side, less than 2.5 % because ``units`` are few.

    The plain percentile interval covers too little on small samples: it lacks the t quantile's width and the
    factor n / (n - 1) of the variance.

    Source: Hesterberg 2015, arXiv:1411.5279, section 5.3 (expanded percentile interval).
    """
    quantile = np.sqrt(units / (units - 1)) * stats.t.ppf((1 - CONFIDENCE) / 2, units - 1)
    return float(stats.norm.cdf(quantile))


def bootstrap_medians(logs: Floats, *, seed: int, resamples: int) -> Floats:
    """Median of each resample, (R,): processes drawn with replacement, then blocks within each of them.

    Args:
        logs: (P, B, N).
        seed: of the draws.
        resamples: R.
    """
    P, B, _ = logs.shape
    generator = np.random.default_rng(seed)
    process = generator.integers(P, size=(resamples, P, 1))
    block = generator.integers(B, size=(resamples, P, B))
    drawn = logs[process, block]  # (R, P, B, N)
    medians: Floats = np.median(drawn.reshape(resamples, -1), axis=1)
    return medians


def compare_blocks(
    baseline_ms: Sequence[Sequence[float]],
    control_ms: Sequence[Sequence[float]],
    candidate_ms: Sequence[Sequence[float]],
    *,
    seed: int,
) -> Comparison:
    """A candidate against the baseline, beside the baseline's second copy against the baseline.

    All three are milliseconds, (B, N), paired by position.

    Raises:
        InputError: as `log_ratios`.
    """
    return Comparison(
        ratio=ratio_interval(log_ratios(baseline_ms, candidate_ms), seed=seed),
        control=ratio_interval(log_ratios(baseline_ms, control_ms), seed=seed),
    )
