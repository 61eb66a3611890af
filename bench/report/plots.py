"""Figures as inline SVG: no pyplot, no global state, the same bytes for the same numbers.

Text stays text, so that it can be read aloud, searched and printed sharply.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.statistics import Comparison

INK, MUTED, GRID = "#334155", "#64748b", "#e2e8f0"
BEFORE, AFTER, REMOVED = "#94a3b8", "#2563eb", "#e2e8f0"
PALETTE = (BEFORE, AFTER, "#d97706", "#059669", "#7c3aed", "#db2777")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "slimbert",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.axisbelow": True,
    "grid.color": GRID,
}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
BINS = 48


@dataclass(frozen=True)
class RatioPoint:
    """One line of the speedup plot."""

    label: str
    comparison: Comparison


def kept_svg(name: str, kept: Sequence[int], full: Sequence[int]) -> str:
    """Bars per layer, first layer on the left: what is kept, and above it what was removed."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        layers = range(1, len(kept) + 1)
        removed = np.subtract(full, kept)
        axes.bar(layers, kept, width=0.72, color=AFTER, label="kept")
        axes.bar(layers, removed, width=0.72, bottom=kept, color=REMOVED, label="removed")
        top = max(*full, 1)
        size = 8 if len(kept) <= 12 else 6
        for layer, height in zip(layers, kept, strict=True):
            axes.text(layer, height + top * 0.02, f"{height:,}", ha="center", color=INK, fontsize=size)
        axes.set(title=name, xlabel="layer", xticks=layers, ylim=(0, top * 1.1))
        axes.tick_params(length=0)
        axes.grid(axis="y")
        legend(axes)
        return svg_text(figure, f"{name}: " + ", ".join(f"{k} of {f}" for k, f in zip(kept, full, strict=True)))


def latency_svg(samples_ms: Mapping[str, Sequence[float]]) -> str:
    """Histograms of every call's time, from zero, with a line at each median.

    The axis ends a little after the largest 99th percentile; what lies beyond is counted in the corner.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 2.9), layout="constrained")
        axes = figure.add_subplot()
        end = max(float(np.percentile(samples, 99)) for samples in samples_ms.values()) * 1.08
        for (label, samples), color in zip(samples_ms.items(), _colors(len(samples_ms)), strict=True):
            median = float(np.median(samples))
            axes.hist(
                samples, bins=BINS, range=(0, end), color=color, alpha=0.75, label=f"{label}, p50 {median:.3g} ms"
            )
            axes.axvline(median, color=color, linewidth=1.6)
        beyond = sum(int(np.sum(np.asarray(samples) > end)) for samples in samples_ms.values())
        if beyond:
            axes.annotate(
                f"slower calls beyond the axis: {beyond}",
                (1, 0.5), xycoords="axes fraction", ha="right", color=MUTED, fontsize=8,
            )  # fmt: skip
        axes.set(xlabel="milliseconds per call", ylabel="calls", xlim=(0, end))
        axes.tick_params(length=0)
        axes.grid(axis="y")
        legend(axes)
        return svg_text(figure, "Histogram of the latency of " + " and ".join(samples_ms))


def speedup_svg(points: Sequence[RatioPoint]) -> str:
    """Ratios with their intervals, one line each, over the band that the A/A control spans."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 0.8 + 0.46 * len(points)), layout="constrained")
        axes = figure.add_subplot()
        for row, point in enumerate(points):
            ratio, floor = point.comparison.ratio, point.comparison.noise_floor
            axes.barh(row, floor - 1 / floor, left=1 / floor, height=0.7, color=REMOVED, label="A/A noise")
            axes.plot([ratio.low, ratio.high], [row, row], color=AFTER, linewidth=3, solid_capstyle="round")
            axes.plot(ratio.value, row, "o", color=AFTER, markersize=7, label="speedup, 95 % interval")
            axes.annotate(
                f"{ratio.value:.2f}x", (ratio.high, row), (8, 0),
                textcoords="offset points", va="center", color=INK, fontsize=9,
            )  # fmt: skip
        axes.axvline(1, color=MUTED, linewidth=1)
        axes.set(xlabel="times the speed of the baseline", ylim=(len(points) - 0.4, -0.6))
        axes.set_yticks(range(len(points)), [point.label for point in points])
        axes.margins(x=0.12)
        axes.tick_params(length=0)
        axes.grid(axis="x")
        return svg_text(
            figure,
            "Speedup with 95 % interval: " + "; ".join(f"{point.label} {point.comparison.ratio}" for point in points),
        )


def _colors(count: int) -> list[str]:
    return [PALETTE[index % len(PALETTE)] for index in range(count)]


def legend(axes: Any) -> None:
    """Above the axes on the right, each label once."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(
        once.values(),
        once.keys(),
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )


def svg_text(figure: Figure, description: str) -> str:
    """The ``<svg>`` element alone, to be placed in HTML, described for people who cannot see it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=NO_METADATA, transparent=True)
    _, _, body = buffer.getvalue().partition("<svg")
    return f'<svg role="img" aria-label="{_attribute(description)}"{_without_namespaces(body)}'


def _without_namespaces(body: str) -> str:
    """HTML knows the namespaces of SVG by itself; without them the page holds no address at all."""
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", body)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
