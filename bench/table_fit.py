"""From times of probes to a latency table: differences, a rising fit, and how far the measurements are from it.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import isotonic_regression

from bench.table_probes import Probe, RowProbes
from pruning.latency_table import Row

LOW_PERCENTILE = 10
"""Other processes only ever add time, so the low end of many samples is nearest to the truth."""


def low_ms(samples_ms: Sequence[float]) -> float:
    """The time of a probe: a low percentile of its samples."""
    return float(np.percentile(samples_ms, LOW_PERCENTILE))


def fit_row(probes: RowProbes, times_ms: Mapping[Probe, float]) -> tuple[Row, float]:
    """The row, and the largest distance in milliseconds between it and what was measured.

    The time of one sublayer is that of its probe beyond the empty one, divided by how often the probe holds it.
    """
    base = times_ms[probes.base]
    raw = np.array([(times_ms[probe] - base) / probes.chain for probe in probes.probes])
    if not len(raw):
        return Row((0,), (0.0,)), 0.0
    fitted = np.maximum(isotonic_regression(raw).x, 0.0)
    return Row((0, *probes.sizes), (0.0, *map(float, fitted))), float(np.abs(raw - fitted).max())


def residual_share(rows: Mapping[str, tuple[Row, float]]) -> float:
    """The worst residual as a share of the full sublayer's time; rows of a last layer count as those of the others.

    A last layer that serves one token is nearly free: its own time would be the wrong measure for an error. Where the
    full sublayer seems to take no time at all, nothing but noise was measured, and the share is 1.
    """
    shares = [
        residual / full if (full := rows[name.removeprefix("last_")][0].ms[-1]) > 0 else 1.0
        for name, (_, residual) in rows.items()
        if residual
    ]
    return max(shares, default=0.0)
