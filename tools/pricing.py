"""Targets in measured time: the latency tables of a request, checked against the model and this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel

from bench.table import TableSettings, identity_from_model
from exporter.options import Dialect
from pruning.arch import ArchSpec
from pruning.budget import Budget, flops_budget
from pruning.introspect import arch_from_model
from pruning.latency_table import LatencyTable, TableIdentity, latency_budget, load_table
from tools.latency_tables import product_kinds
from tools.one_shot import width_step
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
    request.price.check(request.target)
    if not request.price.tables:
        return request.target.target(arch_from_model(model), params, sequence, first_token=first_token)
    assert request.target.speedup is not None
    return budgets_from_request(model, request, sequence, first_token=first_token)(request.target.speedup)


def budgets_from_request(
    model: PreTrainedModel, request: PruneSettings, sequence: int, *, first_token: bool
) -> Callable[[float], Budget]:
    """The budget of any speedup, in the prices that are asked for.

    Args:
        model: the dense model.
        request: its prices; of its target nothing is used.
        sequence: tokens at which FLOPs are counted.
        first_token: count only what a first-token classifier needs of its last layer.

    Raises:
        InputError: if a table is not for this model, machine and libraries.
    """
    arch, price = arch_from_model(model), request.price
    if not price.tables:
        return partial(flops_budget, arch, sequence=sequence, first_token=first_token)
    tables = tables_from_files(model, price.tables)
    weights = price.weights or (1.0,) * len(tables)
    return partial(latency_budget, arch, list(zip(tables, weights, strict=True)))


def tables_from_files(model: PreTrainedModel, paths: Sequence[str]) -> list[LatencyTable]:
    """Read tables that are for ``model``, this machine, and the installed versions of the libraries.

    Raises:
        InputError: if one cannot be read or is for something else; says how to measure another.
    """
    tables = [load_table(Path(path)) for path in paths]
    for table in tables:
        table.require_identity(identity_from_model(model, settings_from_identity(table.identity)))
    return tables


def table_width_step(request: PruneSettings) -> int:
    """The grid of FFN widths that was asked for, or that suits what the latency tables were measured in."""
    identities = [load_table(Path(path)).identity for path in request.price.tables]
    return width_step(request.ffn_multiple, [(x.runtime, x.dtype) for x in identities])


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
