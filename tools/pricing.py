"""Targets in measured time: the latency tables of a request, checked against the model and this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from bench.table import TableSettings, identity_from_model
from exporter.options import Dialect
from pruning.arch import ArchSpec
from pruning.budget import Budget
from pruning.introspect import arch_from_model
from pruning.latency_table import LatencyTable, TableIdentity, latency_budget, load_table
from tools.latency_tables import product_kinds
from tools.settings import PruneSettings


def target_from_request(
    model: PreTrainedModel, request: PruneSettings, params: int, sequence: int, *, first_token: bool
) -> Budget | ArchSpec:
    """The budget or shape that is asked for, in the prices of its latency tables if it has any.

    Args:
        model: the dense model.
        request: target and prices.
        params: of the dense model, embeddings included.
        sequence: tokens at which FLOPs are counted.
        first_token: count only what a first-token classifier needs of its last layer.

    Raises:
        InputError: if the target cannot be met, or a table is not for this model, machine and libraries.
    """
    arch, price = arch_from_model(model), request.price
    price.check(request.target)
    if not price.tables:
        return request.target.target(arch, params, sequence, first_token=first_token)
    assert request.target.speedup is not None
    tables = tables_from_files(model, price.tables)
    weights = price.weights or (1.0,) * len(tables)
    return latency_budget(arch, list(zip(tables, weights, strict=True)), request.target.speedup)


def tables_from_files(model: PreTrainedModel, paths: Sequence[str]) -> list[LatencyTable]:
    """Read tables that are for ``model``, this machine, and the installed versions of the libraries.

    Raises:
        InputError: if one cannot be read or is for something else; says how to measure another.
    """
    tables = [load_table(Path(path)) for path in paths]
    for table in tables:
        table.require_identity(identity_from_model(model, settings_from_identity(table.identity)))
    return tables


def settings_from_identity(identity: TableIdentity) -> TableSettings:
    """What to measure for another table in the same runtime and input shape."""
    return TableSettings(
        runtime=identity.runtime,
        dtype=identity.dtype,
        batch=identity.batch,
        seq=identity.seq,
        threads=identity.threads,
        dialect=None if identity.dialect is None else Dialect(identity.dialect),
        int8_kinds=product_kinds(identity.int8_kinds),
    )
