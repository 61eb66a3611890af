"""The latency table of a run: which one it needs, whether the one given is that, and else its measurement."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.runners.base import Precision
from bench.runners.ort_cpu import OrtCpuRunner
from bench.runners.registry import runner_class_from_runtime
from bench.table import TableSettings, identity_from_model
from exporter.int8.source import ProductKind
from exporter.options import Dialect
from pruning.budget import Budget
from pruning.errors import InputError
from pruning.latency_table import LatencyTable, latency_budget, load_table
from tools.int8_graphs import run_kinds
from tools.latency_tables import measure_usable, product_kinds
from tools.pricing import tables_from_files
from tools.settings import RunSettings
from tools.workspace import Workspace

TABLE_FILE = "latency_table.json"
THREAD = "thread"


def table_settings(settings: RunSettings, kinds: Collection[ProductKind] = tuple(ProductKind)) -> TableSettings:
    """The table that fits what a run measures first: in int8, with products of these kinds.

    Raises:
        InputError: if the run measures several runtimes, exports in a way that tables do not cover, or names a
            precision first that its runtime does not compute in.
    """
    grid, export = settings.bench, settings.export
    if len(grid.runtime) > 1:
        raise InputError(f"measured prices are for one --runtime; got {', '.join(grid.runtime)}. Choose one.")
    if not export.first_token:
        raise InputError("measured prices are for graphs with --first-token. Leave --no-first-token out.")
    _check_precision(grid.runtime[0], settings.headline_dtype)
    standard = grid.runtime == (OrtCpuRunner.runtime,) and Dialect(export.dialect) == Dialect.STANDARD
    return TableSettings(
        runtime=grid.runtime[0],
        dtype=settings.headline_dtype,
        batch=grid.batch[0],
        seq=grid.seq[0],
        threads=grid.threads,
        clock=THREAD if grid.clock == THREAD else "wall",
        seed=settings.seed,
        dialect=Dialect.STANDARD if standard else None,
        int8_kinds=tuple(kind for kind in ProductKind if kind in kinds),
    )


def check_measurable(work: Workspace) -> None:
    """Refuse what cannot be measured, and a table that is not for what the run measures or ends below the request.

    Raises:
        InputError: naming the difference, or what is reachable.
    """
    model, settings = work.dense.model, work.settings
    wanted = table_settings(settings)
    identity_from_model(model, wanted)
    for table in tables_from_files(model, settings.prune.price.tables):
        kinds = product_kinds(table.identity.int8_kinds)
        table.require_identity(identity_from_model(model, replace(wanted, int8_kinds=kinds)))
        run_budget(work, table, settings.prune.target.speedup or 1.0)


def run_table(work: Workspace) -> LatencyTable:
    """The table given, or the one measured in this run, which goes on where it was stopped."""
    given = work.settings.prune.price.tables
    if given:
        return load_table(Path(given[0]))
    settings = table_settings(work.settings, run_kinds(work))
    progress = partial(work.steps.update, "table")
    return measure_usable(work.dense.model, settings, work.folder.state / TABLE_FILE, progress)


def run_budget(work: Workspace, table: LatencyTable, speedup: float) -> Budget:
    """The budget of a speedup in the prices of a table of this run."""
    return latency_budget(work.dense_arch, [(table, 1.0)], speedup)


def _check_precision(runtime: str, dtype: str) -> None:
    """Refuse what the runtime cannot do, or does in another precision."""
    runner_class_from_runtime(runtime).check_precision(Precision(dtype))
    if (runtime, dtype) == (OrtCpuRunner.runtime, Precision.FP16):
        raise InputError(
            "the measured speedup is for the first --dtype, and ort-cpu computes fp16 in fp32. Name fp32 or int8 first."
        )
