"""Numbers as people read them: three digits that matter, and the unit beside them."""

from __future__ import annotations

from bench.statistics import Verdict

SHARES = frozenset({"accuracy", "balanced_accuracy", "exact_match", "f1", "precision", "recall"})
"""Metrics between 0 and 1 that people read as per cent; correlations and cosines are left as they are."""


def ms_text(milliseconds: float) -> str:
    """Milliseconds with three significant digits."""
    digits = 0 if milliseconds >= 100 else 1 if milliseconds >= 10 else 2 if milliseconds >= 1 else 3
    return f"{milliseconds:.{digits}f} ms"


def count_text(count: float) -> str:
    """A large count in millions or thousands."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def size_text(size_bytes: float) -> str:
    """Bytes in decimal units, as file managers and registries show them."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= size:
            return f"{size_bytes / size:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def seconds_text(seconds: float) -> str:
    """Seconds, or minutes and seconds from two minutes on."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def percent_text(share: float, digits: int = 0) -> str:
    """A share between 0 and 1 in per cent."""
    return f"{share * 100:.{digits}f} %"


def metric_text(name: str, value: float) -> str:
    """A metric's value: per cent for shares, three decimals for the rest."""
    return percent_text(value, 1) if name in SHARES else f"{value:.3f}"


def metric_change_text(name: str, change: float) -> str:
    """The difference of two values of a metric, with its sign."""
    return f"{change * 100:+.1f} points" if name in SHARES else f"{change:+.3f}"


def metric_name_text(name: str) -> str:
    """A metric's name without underscores."""
    return name.replace("_", " ")


def change_text(before: float, after: float) -> str:
    """A change relative to ``before``: "41 % smaller", "3 % larger", "same"."""
    share = 1 - after / before if before else 0.0
    if abs(share) < 0.0005:
        return "same"
    digits = 0 if abs(share) >= 0.01 else 1
    return f"{percent_text(abs(share), digits)} {'smaller' if share > 0 else 'larger'}"


def speedup_text(ratio: float, low: float, high: float, verdict: Verdict) -> str:
    """A speedup in words; a claim only where the verdict allows one."""
    interval = f"95 % interval {low:.2f} to {high:.2f}"
    match verdict:
        case Verdict.FASTER:
            return f"{ratio:.2f}x faster ({interval})"
        case Verdict.SLOWER:
            return f"slower: {ratio:.2f}x the speed ({interval})"
        case Verdict.NO_DIFFERENCE:
            return f"no difference in speed: {ratio:.2f}x ({interval})"
        case Verdict.UNDECIDED:
            return f"speedup not proven: {ratio:.2f}x ({interval}) against the noise of this machine"
