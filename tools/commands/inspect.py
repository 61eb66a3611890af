"""``slimbert inspect``: what a file or folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument

from tools import options
from tools.console import print_json, show


def inspect(
    path: Annotated[Path, Argument(metavar="PATH", help="Checkpoint, run folder, deploy folder or ONNX file.")],
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show architecture per layer, parameters, bytes, precision and operators."""
    from tools import inspection

    facts = inspection.inspect(path)
    show(inspection.table_from_facts(facts))
    print_json(facts)
