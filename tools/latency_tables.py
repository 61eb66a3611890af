"""Latency tables: measured with a progress display."""

from __future__ import annotations

from bench.table import TableSettings, measure_table
from pruning.checkpoint import load_checkpoint
from pruning.latency_table import LatencyTable
from tools.console import Steps


def measure(model: str, settings: TableSettings) -> LatencyTable:
    """Measure a table for a checkpoint.

    Raises:
        InputError: as `bench.table.measure_table`.
    """
    loaded = load_checkpoint(model).model
    with Steps() as steps:
        return measure_table(
            loaded, settings, progress=lambda done, total, what: steps.update("table", done, total, what)
        )
