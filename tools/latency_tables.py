"""Latency tables: measured with a progress display, their samples kept beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.table import TableSettings, measure_table
from bench.table_samples import read_table_samples, samples_path, write_table_samples
from exporter.int8.source import ProductKind
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError
from pruning.latency_table import LatencyTable, load_table
from tools.console import Steps


def measure(model: str, settings: TableSettings, out: Path, *, resume: bool) -> LatencyTable:
    """Measure a table for a checkpoint, and write it; whatever was measured is beside it, also after Ctrl-C.

    Args:
        model: the checkpoint.
        settings: what to measure.
        out: the file of the table.
        resume: measure only what the samples beside ``out`` lack.

    Raises:
        InputError: if there is something else at ``out`` or beside it, and as `bench.table.measure_table`.
    """
    samples = samples_path(out)
    for path, read in ((out, load_table), (samples, read_table_samples)):
        if path.exists():
            _require_ours(path, read)
    loaded = load_checkpoint(model).model
    with Steps() as steps:
        steps.note(f"keeping samples in {samples} ...")
        table = measure_table(
            loaded,
            settings,
            lambda done, total, what: steps.update("table", done, total, what),
            previous=read_table_samples(samples) if resume and samples.exists() else None,
            keep=partial(write_table_samples, samples),
        )
    table.save(out)
    return table


def product_kinds(names: Sequence[str]) -> tuple[ProductKind, ...]:
    """Kinds of products from their names; all of them without any.

    Raises:
        InputError: if there is no such kind.
    """
    unknown = sorted(set(names) - set(ProductKind))
    if unknown:
        raise InputError(f"there is no kind of product {unknown[0]!r}; there are {', '.join(ProductKind)}.")
    return tuple(kind for kind in ProductKind if not names or kind in names)


def _require_ours(path: Path, read: Callable[[Path], object]) -> None:
    try:
        read(path)
    except InputError as error:
        raise InputError(
            f"{path} would be overwritten, and it is no latency table of ours. Pass another --out."
        ) from error
