"""Figures that put cells or models side by side: latency over the grid, accuracy against speedup, a ladder's steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, StrMethodFormatter

from bench.cell import BASELINE, CONTROL, FULL
from bench.frontier import PublishedPoint, Quality
from bench.ladder import Rung
from bench.report.plots import AFTER, BEFORE, GRID, INK, MUTED, PALETTE, STYLE, svg_text
from bench.report.rows import CellRows
from bench.report.wording import ms_text
from bench.statistics import RatioInterval

LINE_STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MORE = "#d97706"
"""Time that a step of a ladder adds."""


def grid_svg(cells: Sequence[CellRows], runtime: str, axis: str) -> str | None:
    """Median latency against the batch size or the sequence length, one line per model and value of the other.

    Args:
        cells: of the fixed grid or not; only fixed cells of ``runtime`` are drawn.
        runtime: whose cells.
        axis: ``batch`` or ``seq``.

    Returns:
        The figure; None if the cells hold a single value of the axis.
    """
    chosen = [x for x in cells if x.cell.runtime == runtime and x.cell.workload == FULL]
    other = "seq" if axis == "batch" else "batch"
    if len({getattr(x.cell, axis) for x in chosen}) < 2:
        return None
    lines: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for found in chosen:
        for row in (row for row in found.rows if row.key == BASELINE or (row.comparison and row.key != CONTROL)):
            line = lines.setdefault((row.label, getattr(found.cell, other)), [])
            line.append((getattr(found.cell, axis), row.latency.p50_ms))
    names = {"batch": "batch size", "seq": "sequence length"}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.2), layout="constrained")
        axes = figure.add_subplot()
        labels = dict.fromkeys(label for label, _ in lines)
        colors = dict(zip(labels, cycle(PALETTE), strict=False))
        styles = dict(zip(sorted({value for _, value in lines}), cycle(LINE_STYLES), strict=False))
        for (label, value), points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), styles[value], marker="o", color=colors[label])
        ticks = sorted({getattr(x.cell, axis) for x in chosen})
        axes.set(title=runtime, xlabel=names[axis], ylabel="median ms per call", xscale="log", yscale="log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.tick_params(length=0)
        axes.grid(axis="both")
        handles = [Line2D([], [], color=color, marker="o", label=label) for label, color in colors.items()]
        if len(styles) > 1:
            handles += [
                Line2D([], [], color=MUTED, linestyle=style, label=f"{names[other]} {value}")
                for value, style in styles.items()
            ]
        _legend_beside(axes, handles)
        return svg_text(figure, f"Median latency in {runtime} against {names[axis]}")


def _legend_beside(axes: Axes, handles: Sequence[Artist]) -> None:
    """On the right, where it covers no line."""
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8, labelcolor=INK)


def frontier_svg(
    quality: Quality, speedups: dict[str, tuple[str, RatioInterval | None]], published: Sequence[PublishedPoint]
) -> str:
    """The metric against the measured speedup of each model, and published points as hollow marks.

    Args:
        quality: the metric by contestant.
        speedups: label and measured ratio by contestant; None for the baseline.
        published: on other hardware; their scale of 0 to 100 is matched where ours is 0 to 1.
    """
    scale = 100.0 if max(quality.values.values()) <= 1 and any(x.value > 1 for x in published) else 1.0
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        axes = figure.add_subplot()
        systems = dict.fromkeys(point.system for point in published)
        for system, marker in zip(systems, cycle(MARKERS), strict=False):
            found = [point for point in published if point.system == system]
            axes.plot(
                [point.speedup for point in found], [point.value for point in found], marker, linestyle="none",
                markerfacecolor="none", color=BEFORE, label=f"{system}, published",
            )  # fmt: skip
        for key, value in quality.values.items():
            label, ratio = speedups[key]
            x = ratio.value if ratio else 1.0
            if ratio:
                axes.plot([ratio.low, ratio.high], [value * scale] * 2, color=AFTER, linewidth=2)
            axes.plot(x, value * scale, "o", color=AFTER if ratio else INK, markersize=7, label="measured here")
            axes.annotate(
                label, (x, value * scale), (7, 6), textcoords="offset points", color=INK, fontsize=9, fontweight="bold"
            )
        axes.set(xlabel="times the speed of the baseline", ylabel=f"{quality.metric} {quality.task}".strip())
        axes.margins(0.12)
        axes.tick_params(length=0)
        axes.grid(axis="both")
        handles, labels = axes.get_legend_handles_labels()
        _legend_beside(axes, list(dict(zip(labels, handles, strict=True)).values()))
        return svg_text(figure, f"{quality.metric} against speedup" + "".join(f"; {point}" for point in published))


def waterfall_svg(rungs: Sequence[Rung]) -> str:
    """The median latency of each rung, and between two of them the time that the step took away (hatched) or added."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 0.9 + 0.62 * len(rungs)), layout="constrained")
        axes = figure.add_subplot()
        for row, (before, rung) in enumerate(zip((rungs[0], *rungs), rungs, strict=False)):
            low, high = sorted((before.p50_ms, rung.p50_ms))
            axes.barh(row, rung.p50_ms, height=0.56, color=AFTER if row else BEFORE)
            if row:
                (bar,) = axes.barh(row, high - low, left=low, height=0.56, color=MORE)
                if rung.p50_ms == low:
                    bar.set(color=GRID, hatch="///", edgecolor="white")
            gain = f", {rung.step.ratio.value:.2f}x by this step" if rung.step else ""
            axes.annotate(
                f"{ms_text(rung.p50_ms)}{gain}", (high, row), (6, 0),
                textcoords="offset points", va="center", color=INK, fontsize=9,
            )  # fmt: skip
        axes.set(xlabel="median milliseconds per call", ylim=(len(rungs) - 0.5, -0.5))
        axes.set_xlim(0, max(rung.p50_ms for rung in rungs) * 1.35)
        axes.set_yticks(range(len(rungs)), [f"{rung.label}\n{rung.changed}" for rung in rungs])
        axes.tick_params(length=0)
        axes.grid(axis="x")
        return svg_text(
            figure, "Latency after each step: " + "; ".join(f"{x.label} {ms_text(x.p50_ms)}" for x in rungs)
        )
