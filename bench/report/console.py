"""A benchmark result in a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.report.experiments_report import console_from_experiments
from bench.report.rows import CellRows, Row, caveats_from_result, p99_note, rows_from_result
from bench.report.wording import ms_text, percent_text
from bench.result import BenchResult
from bench.statistics import Verdict

VERDICT_STYLES = {
    Verdict.FASTER.value: "bold green",
    Verdict.SLOWER.value: "bold red",
    Verdict.UNDECIDED.value: "yellow",
}


def console_from_result(result: BenchResult) -> Group:
    """One table per cell and experiment, the caveats, and the machine: print it with ``Console().print``."""
    if not result.cells:
        return console_from_experiments(result)
    cells = rows_from_result(result)
    caveats = [Text(f"! {caveat}", style="yellow") for caveat in caveats_from_result(result, cells)]
    return Group(
        *map(_table_from_cell, cells), console_from_experiments(result), *caveats, Text(_footer(result), style="dim")
    )


def _table_from_cell(cell: CellRows) -> Table:
    table = Table(title=escape(str(cell.cell)), title_justify="left", title_style="bold", header_style="dim")
    table.add_column("model", overflow="fold")
    table.add_column("dtype")
    for name in ("p50", "p90", "p99", "IQR/p50"):
        table.add_column(name, justify="right")
    table.add_column("speedup (95 % interval)", justify="right")
    table.add_column("verdict")
    for row in cell.rows:
        table.add_row(*_cells_from_row(row))
    return table


def _cells_from_row(row: Row) -> tuple[str | Text, ...]:
    latency = row.latency
    spread = Text(percent_text(latency.spread), style="yellow" if latency.noisy else "")
    return (
        Text(row.label),
        row.dtype,
        *map(ms_text, (latency.p50_ms, latency.p90_ms, latency.p99_ms)),
        spread,
        str(row.comparison.ratio) if row.comparison else "",
        Text(row.verdict_text, style=VERDICT_STYLES.get(row.verdict_text, "dim")),
    )


def _footer(result: BenchResult) -> str:
    settings = result.settings
    return " ".join(
        filter(
            None,
            (
                f"{settings.headline_clock} clock, {settings.threads} thread(s), {result.inputs};",
                f"{settings.blocks} interleaved blocks of {settings.calls} calls.",
                p99_note(result),
                f"{result.environment.cpu}, {result.environment.cores} cores.",
            ),
        )
    )
