"""Latency tables: measured with a progress display, their samples kept beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel

from bench.table import Progress, TableSettings, measure_table
from bench.table_samples import read_table_samples, samples_path, write_table_samples
from exporter.int8.source import ProductKind
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError
from pruning.latency_table import NOISY, LatencyTable, load_table
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
        table = measure_keeping_samples(loaded, settings, samples, partial(steps.update, "table"), resume=resume)
    table.save(out)
    return table


def measure_keeping_samples(
    model: PreTrainedModel, settings: TableSettings, samples: Path, progress: Progress, *, resume: bool
) -> LatencyTable:
    """Measure a table and keep every block in a file.

    Args:
        model: dense or compact BERT that is to be pruned.
        settings: what to measure.
        samples: the file.
        progress: called after each probe that is ready and each block.
        resume: measure only the blocks that the file lacks.

    Raises:
        InputError: as `bench.table.measure_table`.
    """
    previous = read_table_samples(samples) if resume and samples.exists() else None
    keep = partial(write_table_samples, samples)
    return measure_table(model, settings, progress, previous=previous, keep=keep)


def measure_usable(model: PreTrainedModel, settings: TableSettings, out: Path, progress: Progress) -> LatencyTable:
    """The table in a file; if there is none, measure it, going on where an earlier measurement was stopped.

    Raises:
        InputError: as `bench.table.measure_table`, or if the table is noise; then nothing of it is kept.
    """
    if not out.is_file():
        samples = samples_path(out)
        table = measure_keeping_samples(model, settings, samples, progress, resume=True)
        if table.verdict == NOISY:
            samples.unlink()
        table.require_usable()
        table.save(out)
    return load_table(out)


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
