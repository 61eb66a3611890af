"""A benchmark result as Markdown and as self-contained HTML."""

from __future__ import annotations

from typing import Any

from bench.cell import CONTROL
from bench.report.experiments_report import html_from_experiments, markdown_from_experiments, tables_from_result
from bench.report.plots import RatioPoint, latency_svg, speedup_svg
from bench.report.render import render
from bench.report.rows import CellRows, caveats_from_result, p99_note, rows_from_result
from bench.report.wording import percent_text, size_text, speedup_text
from bench.result import BenchResult


def markdown_from_result(result: BenchResult) -> str:
    """Tables of every cell and experiment, for a README, an issue or a pull request."""
    if not result.cells:
        return markdown_from_experiments(result)
    return render("bench.md.jinja", _values(result, rows_from_result(result)))


def html_from_result(result: BenchResult) -> str:
    """A page with tables and plots that needs no network and runs no script."""
    if not result.cells:
        return html_from_experiments(result)
    cells = rows_from_result(result)
    plots = {"speedup_plot": speedup_plot(cells), "latency_plots": [latency_plot(cell) for cell in cells]}
    return render("bench.html.jinja", _values(result, cells) | plots)


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
        ("clock", settings.headline_clock),
        ("other programs", f"kept {result.other_load:.2f} cores busy during the measurement"),
        ("inputs", f"{result.inputs}, no padding"),
        ("seed", str(settings.seed)),
    ]


def method_text(result: BenchResult) -> str:
    """How the numbers came about, in a few sentences."""
    settings = result.settings
    return (
        f"Models took turns in {settings.blocks} blocks of {settings.calls} calls each, in random ABBA order, after "
        f"warming up for at least {settings.warmup_seconds:g} s. The speedup is the median ratio of paired calls; its "
        "95 % interval is a bootstrap over blocks. The baseline was loaded twice and compared with itself (A/A): a "
        "model is called faster only if its whole interval lies outside that noise."
    )


def _values(result: BenchResult, cells: tuple[CellRows, ...]) -> dict[str, Any]:
    return {
        "headlines": [
            f"{row.label}: {speedup_text(x.ratio.value, x.ratio.low, x.ratio.high, x.verdict)}"
            for row in cells[0].rows
            if (x := row.comparison) and row.key != CONTROL
        ],
        "where": str(cells[0].cell),
        "baseline": result.baseline.label,
        "models": result.models,
        "cells": cells,
        "caveats": caveats_from_result(result, cells),
        "environment": environment_rows(result),
        "method": method_text(result),
        "p99_note": p99_note(result),
        "percent": percent_text,
        "tables": tables_from_result(result),
    }
