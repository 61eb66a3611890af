"""An ONNX file to a TensorRT engine whose precision and fused attention are proven from its layers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from exporter.engine.builder import BuiltEngine, build_engine
from exporter.engine.layers import EngineProof, prove
from exporter.engine.library import TensorRt, import_tensorrt
from exporter.engine.options import EngineError, EngineOptions, EnginePrecision
from exporter.engine.profile_shapes import ProfileShapes, check_profiles, default_profiles
from exporter.engine.record import EngineRecord, record_path
from exporter.engine.source import EngineSource, source_from_onnx
from pruning.atomic import atomic_file, require_writable
from pruning.errors import InputError


@dataclass(frozen=True)
class EngineExport:
    """An engine that is in place, its side-car, and what the side-car says."""

    path: Path
    side_car: Path
    record: EngineRecord

    def __str__(self) -> str:
        r = self.record
        return (
            f"{self.path}: {r.proven_precision}, attention fused in {r.fused_attention_layers} of {r.attention_layers} "
            f"layers, {r.bytes} bytes, for {', '.join(r.compute_capabilities)}, {r.library} {r.version}"
        )


def engine_from_onnx(source: str | Path, target: str | Path, options: EngineOptions) -> EngineExport:
    """Build an engine and write it with its side-car ``<target>.json``.

    The engine is strongly typed: its precision is that of the graph, and is proven from the layers that TensorRT
    reports, product by product. Neither file appears unless both are complete and everything asked for is there; an
    engine whose side-car is of another engine, which a crash between two renames may leave, is refused when opened.

    Args:
        source: an ONNX file that slimbert wrote, standard operators only.
        target: the engine file to write; an older one is replaced.
        options: library, precision, shapes, GPUs.

    Raises:
        InputError: if the library is missing, the file or a target cannot be used, or the graph has another precision.
        EngineError: if the build fails, the engine has another precision than the graph, or attention is not
            fused in a layer of a half-precision engine.
    """
    source, target = Path(source), Path(target)
    _check_writable(target)
    graph = source_from_onnx(source)
    _check_precision(graph, options.precision)
    profiles = options.profiles or default_profiles(graph.metadata.arch, graph.max_sequence)
    check_profiles(profiles, graph.max_sequence)
    trt = import_tensorrt(options.library)
    built = build_engine(trt, graph, options, profiles)
    proof = prove(graph, built.layers, len(profiles))
    _check_fused(proof, options)
    record = _record(trt, graph, options, built, proof, profiles)
    side_car = record_path(target)
    with atomic_file(side_car) as partial_record, atomic_file(target) as partial_engine:
        partial_engine.write_bytes(built.data)
        partial_record.write_text(record.to_json(), encoding="utf-8")
    return EngineExport(target, side_car, record)


def _check_writable(target: Path) -> None:
    """A build takes minutes on some machines: find out before it that its result cannot be written."""
    if target.is_dir():
        raise InputError(f"{target} is a folder; pass the file to write, such as {target / 'model.engine'}.")
    require_writable(target)


def _check_precision(graph: EngineSource, wanted: EnginePrecision) -> None:
    if graph.precision != wanted:
        found = ", ".join(sorted(set(graph.products.values()))) or "no"
        raise InputError(
            f"{graph.path} has {found} products, not {wanted}: an engine has the precision of its graph. "
            f"Export the graph as {wanted} first."
        )


def _check_fused(proof: EngineProof, options: EngineOptions) -> None:
    """TensorRT has no fused attention for fp32."""
    if proof.unfused and options.precision != EnginePrecision.FP32 and not options.allow_unfused:
        raise EngineError(
            f"attention is fused in {proof.fused_attentions} of {proof.attentions} layers only; not in "
            f"{', '.join(proof.unfused)}. A layer of one head needs profiles that reach batch 2; "
            "allow_unfused=True builds it all the same."
        )


def _record(
    trt: TensorRt,
    graph: EngineSource,
    options: EngineOptions,
    built: BuiltEngine,
    proof: EngineProof,
    profiles: tuple[ProfileShapes, ...],
) -> EngineRecord:
    return EngineRecord(
        sha256=hashlib.sha256(built.data).hexdigest(),
        bytes=len(built.data),
        library=trt.library,
        version=trt.version_text,
        compute_capabilities=built.compute_capabilities,
        gpu=built.gpu,
        hardware_compatibility=options.hardware_compatibility,
        version_compatible=options.version_compatible,
        profiles=profiles,
        requested_precision=options.precision,
        proven_precision=proof.precision,
        attention_layers=proof.attentions,
        fused_attention_layers=proof.fused_attentions,
        unfused=proof.unfused,
        layers=proof.layers,
        tf32=options.tf32,
        optimization_level=options.optimization_level,
        build_seconds=built.seconds,
        onnx_sha256=graph.sha256,
        arch=graph.metadata.arch,
        head=graph.metadata.head,
    )
