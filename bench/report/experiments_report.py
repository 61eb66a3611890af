"""The report of experiments: for the terminal, Markdown and a page of their own."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.experiments.results import Experiments
from bench.report.experiment_tables import ReportTable, tables_from_experiments
from bench.report.hardware import hardware_table
from bench.report.model_rows import model_rows
from bench.report.render import render
from bench.result import BenchResult


def tables_from_result(result: BenchResult) -> tuple[ReportTable, ...]:
    """Tables of everything beside latency that a result holds: experiments, and the hardware meanwhile.

    Raises:
        InputError: if the experiments or the telemetry in it are damaged.
    """
    labels = {model.key: model.label for model in result.models}
    experiments = tables_from_experiments(Experiments.from_dict(result.experiments), labels)
    hardware = hardware_table(result)
    return experiments if hardware is None else (*experiments, hardware)


def console_from_experiments(result: BenchResult) -> Group:
    """One table after the other, each with its note."""
    parts: list[Table | Text] = []
    for table in tables_from_result(result):
        parts += [_rich_table(table), Text(f"{table.note}\n", style="dim")]
    return Group(*parts)


def markdown_from_experiments(result: BenchResult) -> str:
    """Tables for a README, an issue or a pull request; empty if there is none."""
    return render("experiments.md.jinja", {"tables": tables_from_result(result)})


def html_from_experiments(result: BenchResult) -> str:
    """A page with the tables alone, for when no latency was measured."""
    machine = result.environment
    facts = [
        ("processor", f"{machine.cpu}, {machine.cores} logical cores"),
        ("system", f"{machine.os}, Python {machine.python}"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
        ("threads", str(result.settings.threads)),
        ("inputs", result.inputs),
        *model_rows(result.models),
    ]
    return render(
        "experiments.html.jinja",
        {"tables": tables_from_result(result), "environment": facts, "baseline": result.baseline.label},
    )


def _rich_table(table: ReportTable) -> Table:
    shown = Table(title=escape(table.title), title_justify="left", title_style="bold", header_style="dim")
    for index, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if index < table.text_columns else "right")
    for row in table.rows:
        shown.add_row(*map(Text, row), end_section=_ends_section(table, row))
    return shown


def _ends_section(table: ReportTable, row: tuple[str, ...]) -> bool:
    """A line before the sum of all rows."""
    return table.rows[-1][0] == "total" and len(table.rows) > 1 and row is table.rows[-2]
