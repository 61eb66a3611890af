"""What a run deploys: the same model as ONNX in every precision that keeps its tolerance, and as engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.compare import compare
from bench.contestants import InputSource
from bench.result import BenchResult, BenchSettings
from exporter.deploy import FP16_FILE, INT8_FILE, ONNX_FILE, save_client_files
from exporter.engine.export import engine_from_onnx
from exporter.engine.options import EngineError, EngineOptions, EnginePrecision, Library
from exporter.fastest import Compare, FasterExport, Speedup, faster_onnx_from_model
from exporter.fused import fusion_summary
from exporter.int8.check import Int8Error
from exporter.int8.chosen import Int8Texts, chosen_int8_from_onnx
from exporter.int8.options import Int8Options
from exporter.int8.source import ProductKind
from exporter.int8.worth import KindWorth, measure_kinds, worthwhile_options
from exporter.options import Dialect, Dtype, GraphOptions
from exporter.parity import ParityError
from exporter.to_onnx import OnnxExport, onnx_from_model
from pruning.atomic import atomic_folder
from pruning.batching import predict_from_model
from pruning.checkpoint import Checkpoint
from tools.exporting import engine_source, int8_facts

Facts = dict[str, Any]
SHORT_BLOCKS, SHORT_WARMUP_SECONDS = 12, 0.3
"""Effort of a measurement that decides between two graphs; what is reported is measured with the run's own effort."""


@dataclass(frozen=True)
class DeployRequest:
    """What to deploy, the dense model's folder, the text for int8, and a clock.

    ``int8_kinds`` are the kinds of products to quantise, if that was decided; None: those that the clock finds faster.
    """

    dtypes: tuple[str, ...]
    options: GraphOptions
    embeddings: bool
    source: Path
    texts: Int8Texts
    compare: Compare
    int8_kinds: frozenset[ProductKind] | None = None


@dataclass
class Shipment:
    """What was written, and what was not because it broke its tolerance: plain facts."""

    artifacts: list[Facts] = field(default_factory=list)
    not_shipped: list[Facts] = field(default_factory=list)

    @contextmanager
    def attempt(self, path: str) -> Iterator[None]:
        """Inside, an artifact that does not keep its promise is noted and left out; any other error is raised."""
        try:
            yield
        except (Int8Error, ParityError, EngineError) as error:
            self.not_shipped.append({"artifact": path, "reason": str(error)})


def write_artifacts(checkpoint: Checkpoint, folder: Path, request: DeployRequest) -> Shipment:
    """Write a deploy folder: fp32 always, fp16 and int8 where asked for and within their tolerance.

    The fp16 graph is of standard operators, because accelerators read it; int8 is made of the fp32 graph.

    Raises:
        FusionError, ParityError: if the fp32 graph does not keep its promise; nothing is left behind.
    """
    shipment = Shipment()
    with atomic_folder(folder) as partial:
        shipment.artifacts.append(_write_fp32(checkpoint, partial, request))
        if Dtype.FP16 in request.dtypes:
            with shipment.attempt(f"{folder.name}/{FP16_FILE.as_posix()}"):
                options = replace(request.options, dialect=Dialect.STANDARD, dtype=Dtype.FP16)
                export = onnx_from_model(checkpoint.model, partial / FP16_FILE, options=options)
                shipment.artifacts.append(_facts(FP16_FILE, export))
        if EnginePrecision.INT8 in request.dtypes:
            with shipment.attempt(f"{folder.name}/{INT8_FILE.as_posix()}"):
                shipment.artifacts.append(_write_int8(checkpoint, partial, request))
        save_client_files(checkpoint.model, checkpoint.tokenizer, partial, source=request.source)
    for facts in shipment.artifacts:
        facts["path"] = f"{folder.name}/{facts['path']}"
    return shipment


def write_engines(
    checkpoint: Checkpoint,
    folder: Path,
    options: EngineOptions,
    precisions: Sequence[EnginePrecision],
    *,
    graph: GraphOptions,
    texts: Int8Texts,
) -> Shipment:
    """Write a folder of engines of one library, each with its side-car.

    Raises:
        InputError: if the library is missing, or cannot build here.
    """
    shipment = Shipment()
    with atomic_folder(folder) as partial:
        for precision in precisions:
            name = f"model_{precision}.engine"
            with shipment.attempt(f"{folder.name}/{name}"), TemporaryDirectory(prefix="slimbert-engine-") as scratch:
                source, note = engine_source(checkpoint.model, graph, precision, texts, Path(scratch))
                built = engine_from_onnx(source, partial / name, replace(options, precision=precision)).record
                shipment.artifacts.append(
                    {
                        "path": f"{folder.name}/{name}",
                        "dtype": built.proven_precision.value,
                        "form": f"{built.library} {built.version} for {', '.join(built.compute_capabilities)}",
                        "bytes": built.bytes,
                        "fusion": fusion_summary(built.fused_attention_layers, built.attention_layers),
                        "note": note,
                    }
                )
    return shipment


def short_compare(settings: BenchSettings, inputs: InputSource) -> Compare:
    """Times two ONNX files in ONNX Runtime on the CPU, interleaved, at the first batch and length of ``settings``."""
    short = replace(
        settings,
        runtimes=("ort-cpu",),
        batches=settings.batches[:1],
        seqs=settings.seqs[:1],
        blocks=min(settings.blocks, SHORT_BLOCKS),
        warmup_seconds=min(settings.warmup_seconds, SHORT_WARMUP_SECONDS),
    )

    def timed(first: Path, second: Path) -> Speedup:
        return speedup_from_result(compare(second, [first], short, inputs=inputs))

    return timed


def speedup_from_result(result: BenchResult) -> Speedup:
    """Speedup of the first candidate in the first cell."""
    ratio = result.comparison(result.cells[0], result.candidates[0].key).ratio
    return Speedup(ratio.value, min(ratio.low, ratio.value), max(ratio.high, ratio.value))


def engine_library_options(library: Library, targets: tuple[str, ...]) -> EngineOptions:
    """Options of one library; only TensorRT-RTX takes targets."""
    return EngineOptions(library, EnginePrecision.FP16, targets=targets if library == Library.TENSORRT_RTX else ())


def _write_fp32(checkpoint: Checkpoint, folder: Path, request: DeployRequest) -> Facts:
    """Fused, unless that is slower here; or of standard operators where those were asked for."""
    if request.options.dialect == Dialect.STANDARD:
        return _facts(ONNX_FILE, onnx_from_model(checkpoint.model, folder / ONNX_FILE, options=request.options))
    found = faster_onnx_from_model(checkpoint.model, folder / ONNX_FILE, request.compare, options=request.options)
    return _facts(ONNX_FILE, found.export) | {"fusion_speedup": _speedup(found.speedup), "note": _kept(found)}


def _write_int8(checkpoint: Checkpoint, folder: Path, request: DeployRequest) -> Facts:
    """Of the products that are faster in int8 here, or of the kinds decided on, as many as the tolerance allows."""
    source = folder / ONNX_FILE
    options, worths = _int8_options(source, request)
    reference = predict_from_model(checkpoint.model)
    export = chosen_int8_from_onnx(source, folder / INT8_FILE, options, request.texts, reference)
    return {
        "path": INT8_FILE.as_posix(),
        "dtype": "int8",
        "form": f"dynamic, {len(export.products)} of {len(export.products) + len(export.left_out)} products in int8",
        "bytes": export.bytes,
        "kinds": {worth.kind.value: _speedup(worth.speedup) for worth in worths},
        **int8_facts(export),
        "note": f"{export.summary}. {_kinds_note(request, worths)}",
    }


def _int8_options(source: Path, request: DeployRequest) -> tuple[Int8Options, tuple[KindWorth, ...]]:
    """What may be quantised, and what was timed to know."""
    allowed = Int8Options(embeddings=request.embeddings)
    if request.int8_kinds is not None:
        return replace(allowed, kinds=request.int8_kinds), ()
    worths = measure_kinds(source, allowed, request.compare)
    return worthwhile_options(allowed, worths), worths


def _kinds_note(request: DeployRequest, worths: Sequence[KindWorth]) -> str:
    if request.int8_kinds is not None:
        kinds = (kind.value for kind in ProductKind if kind in request.int8_kinds)
        return f"Kinds of products in int8 as in the latency table: {', '.join(kinds)}."
    faster = [worth.kind.value for worth in worths if worth.worth_it]
    if faster:
        return f"Products faster in int8 here: {', '.join(faster)}."
    return "No kind of product is faster in int8 here: this file is smaller, not faster."


def _facts(file: Path, export: OnnxExport) -> Facts:
    return {
        "path": file.as_posix(),
        "dtype": export.form.dtype,
        "form": export.form.dialect,
        "bytes": export.bytes,
        "fusion": export.fusion,
        "fp32_parts": list(export.form.fp32_parts),
        "note": export.fp32_summary,
    }


def _kept(found: FasterExport) -> str:
    text = str(found)
    return f"{text[:1].upper()}{text[1:]}."


def _speedup(speedup: Speedup) -> Facts:
    return {"value": speedup.value, "ci95": [speedup.low, speedup.high]}
