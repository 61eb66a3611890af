"""``slimbert export``: a checkpoint as files that other programs load."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from tools import options
from tools.console import print_json, say


class Format(StrEnum):
    """What can be written."""

    ONNX = "onnx"


def export(
    checkpoint: Annotated[str, Argument(metavar="CHECKPOINT", help="Folder of a dense or compact checkpoint.")],
    out: Annotated[Path, Option("--out", help="Folder to write; must be new or empty.")],
    to: Annotated[Format, Option("--to", help="onnx: config, tokenizer and onnx/model.onnx in fp32.")] = Format.ONNX,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Export a dense or compact checkpoint; the files appear only once they answer like the checkpoint."""
    from tools import standalone

    facts = standalone.export(checkpoint, out)
    say(
        f"{facts['path']}: {facts['bytes'] / 1e6:.1f} MB, {facts['nodes']} nodes, opset {facts['opset']}, largest "
        f"difference {facts['max_abs_diff']:.1e} over {facts['cases']} cases, {facts['seconds']:.1f} s"
    )
    print_json(facts)
