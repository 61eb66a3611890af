"""``slimbert export``: a checkpoint as files that other programs load."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option

from exporter.options import Dialect, GraphOptions, Pooling
from exporter.triton_options import TritonBackend
from pruning.errors import InputError
from tools import options
from tools.console import print_json, say


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
    first_token: options.FirstToken = True,
    right_padding: Annotated[
        bool, Option("--right-padding", help="Masks become lengths: wrong for any other padding, and refused there.")
    ] = False,
    mean_pooling: Annotated[
        bool, Option("--mean-pooling", help="Bare encoders: add the output sentence_embedding.")
    ] = False,
    quantize_embeddings: options.QuantizeEmbeddings = False,
    data: Annotated[str | None, Option("--data", help="int8: text to check (and, for engines, calibrate) on.")] = None,
    text_column: options.TextColumn = None,
    target: options.Target = "",
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
    from exporter.engine.options import Library
    from tools import exporting, pushing, settings, triton_export

    if to is not Format.TRITON and (backend or name):
        raise InputError(f"--backend and --name are for --to triton; got --to {to}. Leave them out.")
    pushing.check(push, private=private)
    if target and to is not Format.TENSORRT_RTX:
        raise InputError(f"--target is for --to tensorrt-rtx; got --to {to}. Leave it out.")
    request = exporting.ExportRequest(
        dtype=dtype.value,
        options=GraphOptions(
            dialect=dialect,
            right_padding=right_padding,
            first_token=first_token,
            pooling=Pooling.MEAN if mean_pooling else None,
        ),
        data=None if data is None else settings.settings_from_options(settings.DataSettings, context.params),
        embeddings=quantize_embeddings,
        targets=options.names(target),
    )
    if to is Format.ONNX:
        facts = exporting.export_onnx(checkpoint, request, out)
        for file in facts["files"]:
            say(f"{out / file['path']}: {file['dtype']}, {file['bytes'] / 1e6:.1f} MB, {file['seconds']:.1f} s")
    elif to is Format.TRITON:
        chosen = backend or TritonBackend.ONNXRUNTIME
        facts = triton_export.export_triton(checkpoint, request, chosen, name, out)
        say(f"{out / facts['path']}: {facts['dtype']}, {facts['bytes'] / 1e6:.1f} MB, {facts['backend']}")
    else:
        facts = exporting.export_engine(checkpoint, Library(to.value), request, out)
        say(f"{out / facts['engine']}: {facts['precision']}, {facts['bytes'] / 1e6:.1f} MB, {facts['library']}")
    if "fusion" in facts:
        say(facts["fusion"])
    if push:
        facts["pushed"] = pushing.push(out, push, private=private)
    print_json(facts)
