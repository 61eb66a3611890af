"""``slimbert export``: a checkpoint as files that other programs load."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option

from exporter.engine.options import Library
from exporter.options import DEFAULT_OPSET, Dialect, GraphOptions, Pooling
from exporter.triton_options import TritonBackend
from pruning.errors import InputError
from tools import options
from tools.console import print_json, say

UNFUSED = ", because standard operators run everywhere; --dialect ort-cpu or ort-cuda fuses it for ONNX Runtime"


class Format(StrEnum):
    """What can be written."""

    ONNX = "onnx"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"
    TRITON = "triton"


class Precision(StrEnum):
    """Type of the matrix products."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def export(
    context: Context,
    checkpoint: Annotated[str, Argument(metavar="CHECKPOINT", help="Folder of a dense or compact checkpoint.")],
    out: Annotated[Path, Option("--out", help="Folder to write; must be new or empty.")],
    to: Annotated[Format, Option("--to", help="ONNX files, an engine, or a repository for Triton.")] = Format.ONNX,
    dtype: Annotated[
        Precision, Option("--dtype", help="Precision. In ONNX, the fp32 file is written too.")
    ] = Precision.FP32,
    dialect: Annotated[
        Dialect, Option("--dialect", help="standard runs everywhere; the others fuse attention for ONNX Runtime.")
    ] = Dialect.STANDARD,
    opset: options.Opset = DEFAULT_OPSET,
    first_token: options.FirstToken = True,
    right_padding: Annotated[
        bool, Option("--right-padding", help="Masks become lengths: wrong for any other padding, and refused there.")
    ] = False,
    mean_pooling: Annotated[
        bool, Option("--mean-pooling", help="Bare encoders: add the output sentence_embedding.")
    ] = False,
    quantize_embeddings: options.QuantizeEmbeddings = False,
    data: Annotated[
        str | None, Option("--data", help="int8: text to choose, check and (engines) calibrate on.")
    ] = None,
    text_column: options.TextColumn = None,
    target: options.Target = "",
    profile: options.Profile = None,
    optimization_level: options.OptimizationLevel = None,
    timing_cache: options.TimingCache = None,
    version_compatible: options.VersionCompatible = False,
    hardware_compatibility: options.HardwareCompatibility = None,
    tf32: options.Tf32 = False,
    backend: Annotated[
        TritonBackend | None, Option("--backend", help="triton: what runs the model there; default: onnxruntime.")
    ] = None,
    name: Annotated[str | None, Option("--name", help="triton: the model's name; default: the checkpoint's.")] = None,
    push: options.Push = None,
    private: options.Private = False,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Export a dense or compact checkpoint; the files appear only once they answer like the checkpoint."""
    from tools import engine_options, exporting, pushing, settings, triton_export

    if to is not Format.TRITON and (backend or name):
        raise InputError(f"--backend and --name are for --to triton; got --to {to}. Leave them out.")
    pushing.check(push, private=private)
    request = exporting.ExportRequest(
        dtype=dtype.value,
        options=GraphOptions(
            dialect=dialect,
            opset=opset,
            right_padding=right_padding,
            first_token=first_token,
            pooling=Pooling.MEAN if mean_pooling else None,
        ),
        data=None if data is None else settings.settings_from_options(settings.DataSettings, context.params),
        embeddings=quantize_embeddings,
        engine=engine_options.engine_options_from_given(_library(to, backend), dtype.value, context.params),
    )
    if to is Format.ONNX:
        facts = exporting.export_onnx(checkpoint, request, out)
        for file in facts["files"]:
            say(f"{out / file['path']}: {file['dtype']}, {file['bytes'] / 1e6:.1f} MB, {file['seconds']:.1f} s")
            if file["note"]:
                say(f"  {file['note']}")
    elif to is Format.TRITON:
        chosen = backend or TritonBackend.ONNXRUNTIME
        facts = triton_export.export_triton(checkpoint, request, chosen, name, out)
        say(f"{out / facts['path']}: {facts['dtype']}, {facts['bytes'] / 1e6:.1f} MB, {facts['backend']}")
        if facts["note"]:
            say(f"  {facts['note']}")
    else:
        facts = exporting.export_engine(checkpoint, request, out)
        say(f"{out / facts['engine']}: {facts['precision']}, {facts['bytes'] / 1e6:.1f} MB, {facts['library']}")
        say(f"for {', '.join(facts['compute_capabilities'])}")
        if facts["note"]:
            say(f"  {facts['note']}")
    if "fusion" in facts:
        say(facts["fusion"] + (UNFUSED if to is Format.ONNX and dialect is Dialect.STANDARD else ""))
    if push:
        facts["pushed"] = pushing.push(out, push, private=private)
    print_json(facts)


def _library(to: Format, backend: TritonBackend | None) -> Library | None:
    """What builds the engine; None if an ONNX file is asked for."""
    if to is Format.TENSORRT_RTX:
        return Library.TENSORRT_RTX
    return Library.TENSORRT if to is Format.TENSORRT or backend is TritonBackend.TENSORRT else None
