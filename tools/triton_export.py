"""``slimbert export --to triton``: a model repository with an ONNX file or a TensorRT engine."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from exporter.engine.export import engine_from_onnx
from exporter.engine.options import EnginePrecision
from exporter.int8.options import refuse_dynamic_int8
from exporter.options import Dialect, Dtype
from exporter.to_onnx import onnx_from_model
from exporter.triton import write_triton_repository
from exporter.triton_options import InstanceKind, TritonBackend, TritonOptions
from pruning.checkpoint import Checkpoint, load_checkpoint
from pruning.errors import InputError
from tools.console import Steps
from tools.exporting import ExportRequest, check_text, engine_source, int8_texts, write_int8
from tools.new_folder import require_free

KINDS = {Dialect.STANDARD: InstanceKind.AUTO, Dialect.ORT_CPU: InstanceKind.CPU, Dialect.ORT_CUDA: InstanceKind.GPU}


def export_triton(
    checkpoint: str, request: ExportRequest, backend: TritonBackend, name: str | None, out: Path
) -> dict[str, Any]:
    """Write a model repository for Triton.

    Args:
        checkpoint: a folder or hub name.
        request: precision, dialect and text, as for the other formats.
        backend: ONNX Runtime, or TensorRT with an engine for the GPU of this machine.
        name: of the model; default: made of the checkpoint's.
        out: the repository.

    Raises:
        InputError: if the request cannot be met, or ``out`` holds something.
        ParityError, FusionError, Int8Error, EngineError: if the model does not keep its promise; nothing is left.
    """
    require_free(out)
    options = _options(request, backend, name or _name_from_checkpoint(checkpoint))
    check_text(request)
    loaded = load_checkpoint(checkpoint)
    make = _make_engine if backend is TritonBackend.TENSORRT else _make_onnx
    with Steps() as steps, steps.stage("export"), TemporaryDirectory(prefix="slimbert-triton-") as scratch:
        model = make(loaded, request, options, Path(scratch))
        options = model.options
        written = write_triton_repository(model.file, model.graph, loaded.model.config, loaded.tokenizer, out, options)
    return {
        "out": str(out),
        "model": options.name,
        "path": written.relative_to(out).as_posix(),
        "backend": str(backend),
        "dtype": request.dtype,
        "max_batch": options.max_batch,
        "bytes": written.stat().st_size,
        "note": model.note,
    }


def _options(request: ExportRequest, backend: TritonBackend, name: str) -> TritonOptions:
    """What is known before the model is made; an engine's profiles and largest batch come later."""
    dialect = request.options.dialect
    if backend is TritonBackend.TENSORRT:
        if dialect != Dialect.STANDARD:
            raise InputError(f"TensorRT parses the standard dialect only; got {dialect}. Leave it out.")
        return TritonOptions(name, backend, InstanceKind.GPU, profiles=1)
    int8 = request.dtype == EnginePrecision.INT8
    if int8 and dialect == Dialect.ORT_CUDA:
        refuse_dynamic_int8(Dialect.ORT_CUDA)
    return TritonOptions(name, backend, InstanceKind.CPU if int8 else KINDS[dialect])


@dataclass(frozen=True)
class _Model:
    """What Triton runs, the ONNX file that says what goes in and out, and what is known of the precision."""

    file: Path
    graph: Path
    options: TritonOptions
    note: str | None


def _make_onnx(loaded: Checkpoint, request: ExportRequest, options: TritonOptions, scratch: Path) -> _Model:
    """The ONNX file, which says itself what goes in and out."""
    dtype = Dtype.FP16 if request.dtype == Dtype.FP16 else Dtype.FP32
    export = onnx_from_model(loaded.model, scratch / "model.onnx", options=replace(request.options, dtype=dtype))
    file, note = export.path, export.fp32_summary
    texts = int8_texts(request, loaded)
    if texts is not None:
        quantised = scratch / "model_quantized.onnx"
        note = str(write_int8(loaded, file, quantised, request, texts)["note"])
        file = quantised
    return _Model(file, file, options, note)


def _make_engine(loaded: Checkpoint, request: ExportRequest, options: TritonOptions, scratch: Path) -> _Model:
    """The engine, the ONNX file it was built from, and the options with its profiles and largest batch."""
    assert request.engine is not None
    precision = request.engine.precision
    source, note = engine_source(loaded.model, request.options, precision, int8_texts(request, loaded), scratch)
    built = engine_from_onnx(source, scratch / "model.plan", request.engine)
    profiles = built.record.profiles
    largest = max(profile.batch[2] for profile in profiles)
    return _Model(built.path, source, replace(options, profiles=len(profiles), max_batch=largest), note)


def _name_from_checkpoint(checkpoint: str) -> str:
    """The last part of a path or hub name, with what Triton does not take replaced."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", Path(checkpoint).resolve().name).lstrip("-._") or "bert"
