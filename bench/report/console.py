"""A benchmark result in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.cell import Cell
from bench.ladder import Rung, ladder_from_cell
from bench.report.experiments_report import console_from_experiments
from bench.report.rows import CellRows, Column, caveats_from_result, columns_from_cells, rows_from_result, tail_note
from bench.report.wording import ms_text
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
    columns = columns_from_cells(cells)
    caveats = [Text(f"! {caveat}", style="yellow") for caveat in caveats_from_result(result, cells)]
    tables = [_table_from_cell(cell, columns) for cell in cells]
    return Group(*tables, console_from_experiments(result), *caveats, Text(_footer(result), style="dim"))


def _table_from_cell(cell: CellRows, columns: Sequence[Column]) -> Table:
    table = Table(title=escape(str(cell.cell)), title_justify="left", title_style="bold", header_style="dim")
    table.add_column("model", overflow="fold")
    for column in columns:
        table.add_column(column.name, justify="right" if column.numeric else "left", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for row in cell.rows:
        verdict = Text(row.verdict_text, style=VERDICT_STYLES.get(row.verdict_text, "dim"))
        table.add_row(Text(row.label), *(column.text(row) for column in columns), verdict)
    return table


def console_from_ladder(result: BenchResult) -> Group:
    """What each step from model to model gives, one table per cell."""
    return Group(
        *(_ladder_table(cell, ladder_from_cell(result, cell), result.settings.headline_clock) for cell in result.cells)
    )


def _ladder_table(cell: Cell, rungs: Sequence[Rung], clock: str) -> Table:
    table = Table(title=escape(f"what each step gives: {cell}"), title_justify="left", header_style="dim")
    for name in ("model", "what changed", f"p50 ({clock} clock)", "this step (95 % interval)", "so far"):
        table.add_column(name, justify="left" if name in ("model", "what changed") else "right", overflow="fold")
    for rung in rungs:
        step, total = (str(x.ratio) if x else "" for x in (rung.step, rung.total))
        table.add_row(Text(rung.label), Text(rung.changed), ms_text(rung.p50_ms), step, total)
    return table


def _footer(result: BenchResult) -> str:
    settings = result.settings
    return " ".join(
        filter(
            None,
            (
                f"{settings.clock_text}, {settings.threads} thread(s), {result.inputs};",
                f"{settings.processes} process(es) of {settings.blocks} interleaved blocks of {settings.calls} calls.",
                tail_note(result),
                f"{result.environment.cpu}, {result.environment.cores} cores.",
            ),
        )
    )
