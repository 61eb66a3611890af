"""Two samples files compared, in a terminal and as plain data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.regression import Regression
from bench.report.console import VERDICT_STYLES


def console_from_regression(regression: Regression) -> Group:
    """One line per candidate and cell, then what else differs between the files."""
    table = Table(header_style="dim", title="speedup over the baseline, then and now", title_justify="left")
    for name in ("candidate", "cell", "then", "now", "now / then (95 % interval)", "verdict"):
        table.add_column(name, overflow="fold")
    for change in regression.changes:
        verdict = change.verdict.value
        table.add_row(
            Text(change.label),
            str(change.cell),
            str(change.old.ratio),
            str(change.new.ratio),
            str(change.comparison.ratio),
            Text(verdict, style=VERDICT_STYLES.get(verdict, "dim")),
        )
    notes = [f"! {line}" for line in (*regression.differences, *regression.missing)]
    return Group(table, *(Text(note, style="yellow") for note in notes))


def dict_from_regression(regression: Regression) -> dict[str, Any]:
    """Plain data for machines."""
    return {
        "changes": [
            {
                "candidate": change.label,
                "cell": str(change.cell),
                "old": asdict(change.old.ratio),
                "new": asdict(change.new.ratio),
                "ratio": asdict(change.comparison.ratio),
                "verdict": change.verdict.value,
            }
            for change in regression.changes
        ],
        "missing": list(regression.missing),
        "differences": list(regression.differences),
    }
