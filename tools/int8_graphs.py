"""int8 where its speed is asked for: the same products in the latency table, in the rounds and in what is deployed.

Which kinds of products are worth quantising is decided once, before the table is measured. Which of them stay in fp32
because the answers need it depends on the pruned weights: that is decided anew for every graph that is written.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

from bench.runners.base import Precision
from exporter.int8.check import Int8Error
from exporter.int8.chosen import chosen_int8_from_onnx
from exporter.int8.options import Int8Options
from exporter.int8.source import ProductKind
from exporter.int8.worth import measure_kinds, worthwhile_options
from exporter.options import Dialect
from exporter.to_onnx import onnx_from_model
from pruning.batching import predict_from_model
from pruning.latency_table import load_table
from tools.deploying import short_compare
from tools.latency_tables import product_kinds
from tools.workspace import Facts, Workspace

KINDS = "int8-kinds"


def run_kinds(work: Workspace) -> frozenset[ProductKind]:
    """Kinds of products that a run puts into int8 where the requested speedup is one of int8.

    Those of the table given; without one, those that are faster in int8 in the dense model here. A resumed run keeps
    them.
    """
    if work.settings.headline_dtype != Precision.INT8:
        return frozenset(ProductKind)
    given = work.settings.prune.price.tables
    if given:
        return frozenset(product_kinds(load_table(Path(given[0])).identity.int8_kinds))
    found = work.folder.facts(KINDS)
    if found is None:
        found = _kinds_from_dense(work)
        work.folder.finish(KINDS, found)
    return frozenset(product_kinds(found["kinds"]))


def int8_graph(work: Workspace, model: PreTrainedModel, name: str, fp32: Path, target: Path) -> Path:
    """Write ``model`` in int8, as the run deploys it.

    Args:
        work: its settings and texts decide what is quantised.
        model: the truth.
        name: which model it is, in words.
        fp32: its graph.
        target: the file to write.

    Raises:
        Int8Error: if no choice of products keeps the tolerance.
    """
    options = Int8Options(kinds=run_kinds(work), embeddings=work.settings.export.quantize_embeddings)
    try:
        return chosen_int8_from_onnx(fp32, target, options, work.int8_texts, predict_from_model(model)).path
    except Int8Error as error:
        raise Int8Error(error.failed, name) from error


def dense_graph(work: Workspace, dialect: Dialect, dtype: str, scratch: Path) -> Path:
    """The dense model as the run exports it: an fp32 file in ``scratch``, or an int8 one that the run keeps.

    Raises:
        Int8Error: if no choice of products keeps the tolerance.
    """
    kept = work.folder.state / f"dense-{dialect}-int8.onnx"
    if dtype == Precision.INT8 and kept.is_file():
        return kept
    fp32 = scratch / "dense.onnx"
    onnx_from_model(work.dense.model, fp32, options=work.graph_options(dialect))
    return int8_graph(work, work.dense.model, "the dense model", fp32, kept) if dtype == Precision.INT8 else fp32


def _kinds_from_dense(work: Workspace) -> Facts:
    """What is faster in the dense model, timed kind by kind."""
    allowed = Int8Options(embeddings=work.settings.export.quantize_embeddings)
    with TemporaryDirectory(dir=work.folder.state, prefix="kinds-") as scratch:
        fp32 = dense_graph(work, Dialect(work.settings.export.dialect), Precision.FP32, Path(scratch))
        worths = measure_kinds(fp32, allowed, short_compare(work.bench_settings, work.bench_inputs))
    kinds = worthwhile_options(allowed, worths).kinds
    speedups = {worth.kind.value: asdict(worth.speedup) for worth in worths}
    return {"kinds": [kind.value for kind in ProductKind if kind in kinds], "speedups": speedups}
