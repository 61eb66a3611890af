"""The page of a sweep: one table and one plot, accuracy against measured speedup."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.report import wording
from bench.report.plots import INK, PALETTE, STYLE, legend, svg_text
from bench.report.render import render
from bench.sweep import Bar, Sweep, SweepPoint


def sweep_svg(sweep: Sweep) -> str:
    """Means of the seeds with bars both ways, joined per method; single trials as small dots; the dense model."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        axes = figure.add_subplot()
        axes.axhspan(sweep.dense.low, sweep.dense.high, color=PALETTE[0], alpha=0.18, linewidth=0)
        axes.plot(1.0, sweep.dense.value, "D", color=INK, label="dense")
        methods = list(dict.fromkeys(point.method for point in sweep.points))
        for index, method in enumerate(methods):
            color = PALETTE[(index + 1) % len(PALETTE)]
            points = sorted((x for x in sweep.points if x.method == method), key=lambda x: x.speedup.value)
            speedups, metrics = [x.speedup for x in points], [x.metric for x in points]
            axes.errorbar(
                [x.value for x in speedups], [x.value for x in metrics], xerr=_ends(speedups), yerr=_ends(metrics),
                fmt="o-", color=color, label=method, capsize=2, linewidth=1.4, elinewidth=0.9,
            )  # fmt: skip
            trials = [x for x in sweep.trials if x.method == method]
            single = [(x.speedup.value, x.metric.value) for x in trials if x.speedup and x.metric]
            axes.plot(*zip(*single, strict=True), ".", color=color, alpha=0.45, markersize=4)
        axes.set(xlabel="times the speed of the dense model, measured", ylabel=sweep.metric_name)
        axes.margins(0.06)
        axes.tick_params(length=0)
        axes.grid(axis="both")
        legend(axes)
        return svg_text(figure, f"{sweep.metric_name} against measured speedup of {', '.join(methods) or 'no method'}")


def markdown_from_sweep(sweep: Sweep, command: str) -> str:
    """``frontier.md``."""
    return render("sweep.md.jinja", _values(sweep, command))


def html_from_sweep(sweep: Sweep, command: str) -> str:
    """``frontier.html``: self-contained, without scripts."""
    return render("sweep.html.jinja", _values(sweep, command) | {"plot": sweep_svg(sweep)})


def _values(sweep: Sweep, command: str) -> dict[str, Any]:
    name = wording.metric_name_text(sweep.metric_name)
    rows = [_row(sweep, point) for point in sweep.points]
    refused = [(f"{x.method} at {x.requested:g}x, seed {x.seed}", x.refused) for x in sweep.refused]
    dense = _metric(sweep, sweep.dense)
    return {"sweep": sweep, "metric": name, "rows": rows, "refused": refused, "dense": dense, "command": command}


def _row(sweep: Sweep, point: SweepPoint) -> dict[str, str]:
    speed = point.speedup
    return {
        "method": point.method,
        "requested": f"{point.requested:g}x",
        "speedup": f"{speed.value:.2f}x ({speed.low:.2f} to {speed.high:.2f})",
        "metric": _metric(sweep, point.metric),
        "change": wording.metric_change_text(sweep.metric_name, point.metric.value - sweep.dense.value),
        "seeds": str(point.seeds),
    }


def _metric(sweep: Sweep, bar: Bar) -> str:
    value, low, high = (wording.metric_text(sweep.metric_name, x) for x in (bar.value, bar.low, bar.high))
    return f"{value} ({low} to {high})"


def _ends(bars: list[Bar]) -> list[list[float]]:
    return [[x.value - x.low for x in bars], [x.high - x.value for x in bars]]
