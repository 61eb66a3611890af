"""A benchmark result as Markdown and as self-contained HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.cell import CONTROL
from bench.frontier import PublishedPoint, Quality
from bench.ladder import ladder_from_cell
from bench.report.experiments_report import html_from_experiments, markdown_from_experiments, tables_from_result
from bench.report.model_rows import model_rows
from bench.report.plots import RatioPoint, latency_svg, speedup_svg
from bench.report.render import render
from bench.report.rows import CellRows, caveats_from_result, columns_from_cells, rows_from_result, tail_note
from bench.report.trade_plots import frontier_svg, grid_svg, waterfall_svg
from bench.report.wording import percent_text, size_text, speedup_text
from bench.result import BenchResult


@dataclass(frozen=True)
class Extras:
    """What a report may show beside the measurement itself.

    Args:
        ladder: show what each step from model to model gives.
        quality: a metric of the models.
        published: points of the same metric from elsewhere.
    """

    ladder: bool = False
    quality: Quality | None = None
    published: tuple[PublishedPoint, ...] = ()


NOTHING = Extras()
COLD_TEXT = "The GPU's L2 cache was flushed before each call on the gpu and enqueue clocks."
ENERGY_TEXT = (
    "Energy is that of the whole GPU over at least {seconds:g} s of back-to-back calls of each model, after the "
    "blocks; a request is one row of a batch."
)


def markdown_from_result(result: BenchResult, extras: Extras = NOTHING) -> str:
    """Tables of every cell and experiment, for a README, an issue or a pull request."""
    if not result.cells:
        return markdown_from_experiments(result)
    return render("bench.md.jinja", _values(result, rows_from_result(result), extras))


def html_from_result(result: BenchResult, extras: Extras = NOTHING) -> str:
    """A page with tables and plots that needs no network and runs no script."""
    if not result.cells:
        return html_from_experiments(result)
    cells = rows_from_result(result)
    values = _values(result, cells, extras)
    ladders = values["ladders"]
    plots = {
        "speedup_plot": speedup_plot(cells),
        "latency_plots": [latency_plot(cell) for cell in cells],
        "grid_plots": grid_plots(cells),
        "waterfalls": [waterfall_svg(rungs) for _, rungs in ladders],
        "frontier_plot": None if extras.quality is None else _frontier(cells[0], extras.quality, extras.published),
    }
    return render("bench.html.jinja", values | plots)


def grid_plots(cells: tuple[CellRows, ...]) -> list[str]:
    """Latency against batch size and against sequence length in each runtime, where there are several."""
    runtimes = dict.fromkeys(cell.cell.runtime for cell in cells)
    found = [grid_svg(cells, runtime, axis) for runtime in runtimes for axis in ("batch", "seq")]
    return [plot for plot in found if plot is not None]


def speedup_plot(cells: tuple[CellRows, ...]) -> str:
    """Every candidate's ratio in every cell, over the A/A noise."""
    points = [
        RatioPoint(f"{row.label}\n{cell.cell}", row.comparison)
        for cell in cells
        for row in cell.rows
        if row.comparison and row.key != CONTROL
    ]
    return speedup_svg(points)


def latency_plot(cell: CellRows) -> str:
    """Every call's time in one cell; the control is left out, as it repeats the baseline."""
    samples = {row.label: row.latency.samples_ms for row in cell.rows if row.key != CONTROL}
    return latency_svg(samples)


def environment_rows(result: BenchResult) -> list[tuple[str, str]]:
    """The machine and the conditions, as a two-column table."""
    machine, settings = result.environment, result.settings
    return [
        ("processor", f"{machine.cpu}, {machine.cores} logical cores"),
        ("memory", size_text(machine.memory_bytes)),
        ("system", f"{machine.os}, Python {machine.python}"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
        ("threads", str(settings.threads)),
        ("clock", settings.clock_text),
        ("other programs", f"kept {result.other_load:.2f} cores busy during the measurement"),
        ("inputs", _inputs_text(result)),
        ("seed", str(settings.seed)),
    ]


def method_text(result: BenchResult) -> str:
    """How the numbers came about, in a few sentences."""
    settings = result.settings
    several = settings.processes > 1
    units = "processes and the blocks in them" if several else "blocks"
    return (
        (f"Everything was converted, loaded and measured in {settings.processes} fresh processes. " if several else "")
        + f"Models took turns in {settings.blocks} blocks of {settings.calls} calls each, in random ABBA order, after "
        f"warming up for at least {settings.warmup_seconds:g} s. The speedup is the median ratio of paired calls; its "
        f"95 % interval is a bootstrap over {units}. The baseline was loaded twice and compared with itself (A/A): a "
        "model is called faster only if its whole interval lies outside that noise, and no different only if the "
        "interval excludes differences above 5 %."
        + (f" {COLD_TEXT}" if settings.cold_l2 else "")
        + (f" {ENERGY_TEXT.format(seconds=settings.energy_seconds)}" if settings.energy_seconds else "")
    )


def _inputs_text(result: BenchResult) -> str:
    padding = {cell.workload: cell.padding for cell in result.cells}
    return result.inputs + "".join(f"; {name}: {percent_text(share)} padding" for name, share in padding.items())


def _values(result: BenchResult, cells: tuple[CellRows, ...], extras: Extras) -> dict[str, Any]:
    return {
        "headlines": [
            f"{row.label}: {speedup_text(x.ratio.value, x.ratio.low, x.ratio.high, x.verdict)}"
            for row in cells[0].rows
            if (x := row.comparison) and row.key != CONTROL
        ],
        "where": str(cells[0].cell),
        "ladders": [(x.cell, ladder_from_cell(result, x.cell)) for x in cells] if extras.ladder else [],
        "clock": result.settings.headline_clock,
        "baseline": result.baseline.label,
        "models": model_rows(result.models),
        "cells": cells,
        "caveats": caveats_from_result(result, cells),
        "environment": environment_rows(result),
        "method": method_text(result),
        "tables": tables_from_result(result),
        "tail_note": tail_note(result),
        "columns": columns_from_cells(cells),
    }


def _frontier(cell: CellRows, quality: Quality, published: tuple[PublishedPoint, ...]) -> str:
    speedups = {row.key: (row.label, row.comparison.ratio if row.comparison else None) for row in cell.rows}
    return frontier_svg(quality, speedups, published)
