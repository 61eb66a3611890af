"""Figures of block movement pruning: the way there, and what is left of every matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from bench.report.plots import AFTER, BEFORE, MUTED, PALETTE, REMOVED, STYLE, legend, svg_text

KEPT_COLORS = LinearSegmentedColormap.from_list("kept", [REMOVED, AFTER])
MATRIX_INCHES = 1.35
Record = Mapping[str, Any]


def schedule_svg(history: Sequence[Record], wanted: float | None) -> str:
    """Density, threshold and penalty over the optimiser steps, one below the other."""
    steps = [record["step"] for record in history]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 5.6), layout="constrained")
        density, threshold, strength = figure.subplots(3, 1, sharex=True)
        density.plot(steps, [x["density"] for x in history], color=AFTER, label="heads and neurons that live")
        density.plot(steps, [x["nonzero"] for x in history], color=PALETTE[2], label="weights that are not masked")
        if wanted is not None:
            density.axhline(wanted, color=MUTED, linewidth=1, linestyle="--", label="target")
        density.set(title="density", ylim=(0, 1.05))
        legend(density)
        threshold.plot(steps, [x["threshold"] for x in history], color=AFTER)
        threshold.set(title="threshold", ylim=(0, None))
        strength.plot(steps, [x["penalty_lambda"] for x in history], color=AFTER, label="lambda")
        strength.plot(steps, [x["penalty"] for x in history], color=BEFORE, label="penalty in the loss")
        strength.set(title="penalty", xlabel="step", ylim=(0, None))
        legend(strength)
        for axes in (density, threshold, strength):
            axes.tick_params(length=0)
            axes.grid(axis="y")
        last = history[-1]
        return svg_text(figure, f"From step {steps[0]} to {steps[-1]}; density at the end {last['density']:.3f}")


def matrices_svg(pictures: Sequence[Record]) -> str:
    """The matrices of one layer side by side, blue where weights are kept; the paler, the fewer of a cell."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(MATRIX_INCHES * max(len(pictures), 1), MATRIX_INCHES + 0.4), layout="constrained")
        row = np.atleast_1d(figure.subplots(1, max(len(pictures), 1)))
        for axes, picture in zip(row, pictures, strict=False):
            axes.pcolormesh(np.array(picture["kept"])[::-1], cmap=KEPT_COLORS, vmin=0, vmax=1, edgecolors="none")
            axes.set_title(picture["name"], fontsize=8, fontweight="normal", loc="center")
            axes.set_xlabel(f"{picture['rows']} x {picture['columns']}", fontsize=7)
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.set_box_aspect(1)
        shares = ", ".join(f"{x['name']} {np.mean(x['kept']):.0%}" for x in pictures)
        return svg_text(figure, f"Kept: {shares}" if pictures else "Nothing to prune in this layer")
