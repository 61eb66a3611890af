"""``slimbert export``: a checkpoint as ONNX files or as a TensorRT engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from transformers import PreTrainedModel

from exporter.deploy import FP16_FILE, INT8_FILE, ONNX_FILE, write_deploy_graphs
from exporter.engine.export import engine_from_onnx
from exporter.engine.library import import_tensorrt
from exporter.engine.options import EngineOptions, EnginePrecision
from exporter.int8.choice import choose_qdq_products
from exporter.int8.chosen import Int8Texts, chosen_int8_from_onnx
from exporter.int8.draft import Int8Export
from exporter.int8.options import Int8Options, refuse_dynamic_int8
from exporter.int8.qdq import activation_ranges, qdq_from_onnx
from exporter.options import Dialect, Dtype, GraphOptions
from exporter.to_onnx import OnnxExport, onnx_from_model
from pruning.atomic import atomic_folder
from pruning.batching import bucketed_batches, encode, predict_from_model
from pruning.checkpoint import Checkpoint, load_checkpoint
from pruning.errors import InputError
from pruning.tasks.reading import rows_as_read
from pruning.tasks.source import load_evaluation
from tools.cards import write_export_card
from tools.console import Steps
from tools.new_folder import require_free
from tools.settings import DataSettings

CHECK_TEXTS = 128
"""Texts that choose what int8 leaves in float, and texts that check the result."""


@dataclass(frozen=True)
class ExportRequest:
    """What to write.

    ``dtype`` is fp32, fp16 or int8. ``options`` describes the fp32 graph that the others are made from and checked
    against; ``data`` is text for the int8 check; ``engine`` says how to build one, None for ONNX files.
    """

    dtype: str
    options: GraphOptions
    data: DataSettings | None = None
    embeddings: bool = False
    engine: EngineOptions | None = None


def export_onnx(checkpoint: str, request: ExportRequest, out: Path) -> dict[str, Any]:
    """Write a deploy folder: the fp32 graph, and the one of the precision asked for beside it.

    Raises:
        InputError: if the request cannot be met, or ``out`` holds something.
        ParityError, FusionError, Int8Error: if a written graph does not keep its promise; nothing is left behind.
    """
    require_free(out)
    if request.dtype == EnginePrecision.INT8 and request.options.dialect == Dialect.ORT_CUDA:
        refuse_dynamic_int8(Dialect.ORT_CUDA)
    check_text(request)
    loaded = load_checkpoint(checkpoint)
    texts = int8_texts(request, loaded)
    graphs = {ONNX_FILE: request.options}
    if request.dtype == Dtype.FP16:
        graphs[FP16_FILE] = replace(request.options, dtype=Dtype.FP16)
    with Steps() as steps, steps.stage("export"), atomic_folder(out) as partial:
        written = write_deploy_graphs(loaded.model, loaded.tokenizer, partial, graphs, source=loaded.path)
        files = [_onnx_facts(file, export) for file, export in written.items()]
        if texts is not None:
            files.append(write_int8(loaded, partial / ONNX_FILE, partial / INT8_FILE, request, texts))
        write_export_card(partial, loaded, checkpoint, {file["path"]: file["note"] for file in files})
    export = written[ONNX_FILE]
    return {
        "out": str(out),
        "head": export.head,
        "arch": export.arch.to_dict(),
        "opset": export.opset,
        "fusion": export.fusion,
        "files": files,
        "seconds": sum(file["seconds"] for file in files),
    }


def export_engine(checkpoint: str, request: ExportRequest, out: Path) -> dict[str, Any]:
    """Build a TensorRT engine with its side-car.

    Raises:
        InputError: if the request cannot be met, the library is not installed, or ``out`` holds something.
        EngineError: if the engine does not have what was asked for; nothing is left behind.
    """
    require_free(out)
    if request.options.dialect != Dialect.STANDARD:
        raise InputError(f"TensorRT parses the standard dialect only; got {request.options.dialect}. Leave it out.")
    options = request.engine
    assert options is not None
    precision = options.precision
    import_tensorrt(options.library)  # a missing library is said before the model is loaded
    check_text(request)
    loaded = load_checkpoint(checkpoint)
    texts = int8_texts(request, loaded)
    with Steps() as steps, steps.stage("build"), TemporaryDirectory(prefix="slimbert-engine-") as scratch:
        source, note = engine_source(loaded.model, request.options, precision, texts, Path(scratch))
        with atomic_folder(out) as partial:
            built = engine_from_onnx(source, partial / f"model_{precision}.engine", options)
    return {
        "out": str(out),
        "engine": built.path.name,
        "precision": built.record.proven_precision.value,
        "fusion": f"attention fused in {built.record.fused_attention_layers} of {built.record.attention_layers} layers",
        "compute_capabilities": list(built.record.compute_capabilities),
        "library": f"{built.record.library} {built.record.version}",
        "bytes": built.record.bytes,
        "seconds": built.record.build_seconds,
        "note": note,
    }


def engine_source(
    model: PreTrainedModel,
    options: GraphOptions,
    precision: EnginePrecision,
    texts: Int8Texts | None,
    scratch: Path,
) -> tuple[Path, str | None]:
    """The ONNX file with the precision that the engine shall have, and what stayed wider in it.

    Int8 is Q/DQ over fp16, of the products that measure well enough on ``texts``.
    """
    dtype = Dtype.FP32 if precision == EnginePrecision.FP32 else Dtype.FP16
    export = onnx_from_model(model, scratch / "model.onnx", options=replace(options, dtype=dtype))
    if precision != EnginePrecision.INT8:
        return export.path, export.fp32_summary
    assert texts is not None
    ranges, allowed = activation_ranges(export.path, texts.choice), Int8Options()
    careful = replace(allowed, tolerance=allowed.tolerance.with_margin())
    chosen = choose_qdq_products(export.path, ranges, texts.choice, careful).to_options(allowed)
    quantised = qdq_from_onnx(export.path, scratch / "model_qdq.onnx", ranges, chosen, batches=texts.check)
    return quantised.path, quantised.summary


def check_text(request: ExportRequest) -> None:
    """Make sure that there is text where the precision needs it.

    Raises:
        InputError: if there is none.
    """
    if request.dtype == EnginePrecision.INT8 and request.data is None:
        raise InputError("int8 is checked on real text: pass --data with a file or a data set.")


def int8_texts(request: ExportRequest, loaded: Checkpoint) -> Int8Texts | None:
    """Real text for int8, one half to choose and one to check; None for the other precisions.

    Raises:
        InputError: if the data cannot be read, or there are fewer than two texts.
    """
    if request.dtype != EnginePrecision.INT8 or request.data is None:
        return None
    rows = rows_as_read(loaded.model, load_evaluation(request.data.source)).sample(2 * CHECK_TEXTS, seed=0)
    if len(rows) < 2:
        raise InputError(f"int8 needs one text to choose with and another to check on; got {len(rows)} in --data.")
    limit = min(128, loaded.model.config.max_position_embeddings)
    half = len(rows) // 2
    choice, check = (
        encode(loaded.tokenizer, part.texts, part.pairs, max_length=limit)
        for part in (rows.subset(range(half)), rows.subset(range(half, len(rows))))
    )
    return Int8Texts(*([item.batch for item in bucketed_batches(part, 32)] for part in (choice, check)))


def write_int8(
    loaded: Checkpoint, source: Path, target: Path, request: ExportRequest, texts: Int8Texts
) -> dict[str, Any]:
    """Quantise what measures well enough, and say what that is.

    Raises:
        InputError, Int8Error: as `chosen_int8_from_onnx`.
    """
    start, options = perf_counter(), Int8Options(embeddings=request.embeddings)
    export = chosen_int8_from_onnx(source, target, options, texts, predict_from_model(loaded.model))
    return {
        "path": INT8_FILE.as_posix(),
        "dtype": "int8",
        "bytes": export.bytes,
        "seconds": perf_counter() - start,
        **int8_facts(export),
        "note": export.summary,
    }


def int8_facts(export: Int8Export) -> dict[str, Any]:
    """Products in int8 and in float, by name, and the largest relative error of an output."""
    return {
        "quantised": [product.name for product in export.products],
        "left_out": [product.name for product in export.left_out],
        "relative_error": max(result.relative_error for result in export.agreement),
    }


def _onnx_facts(file: Path, export: OnnxExport) -> dict[str, Any]:
    lengths = (
        "right for padding on the right alone; slimbert refuses other masks" if export.form.right_padding else None
    )
    return {
        "path": file.as_posix(),
        "dtype": str(export.form.dtype),
        "bytes": export.bytes,
        "nodes": export.nodes,
        "seconds": export.seconds,
        "max_abs_diff": max(case.max_abs_diff for case in export.parity),
        "cases": len(export.parity),
        "fp32_parts": list(export.form.fp32_parts),
        "note": "; ".join(filter(None, (export.fp32_summary, lengths))) or None,
    }
