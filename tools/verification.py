"""Whether a run folder is still what it was: ``slimbert verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.runners.artifact import DEPLOYED
from exporter.to_onnx import parity_with_onnx
from pruning.checkpoint import load_checkpoint
from tools.console import Steps
from tools.manifest import changed_files, read_manifest
from tools.parity_row import parity_row
from tools.run_folder import RunFolder


def verify(path: Path) -> dict[str, Any]:
    """Checksums of all files, and parity of every artifact with the checkpoint.

    Returns:
        ``files``: name to problem, empty if all is well; ``parity``: one row per artifact; ``passed``. A folder with
        changed files is not loaded: its parity is empty.

    Raises:
        InputError: if the folder is not a finished run.
    """
    problems = changed_files(path, read_manifest(path))
    if problems:
        return {"files": problems, "parity": [], "passed": False}
    folder = RunFolder(path)
    with Steps() as steps, steps.stage("parity"):
        cases = parity_with_onnx(load_checkpoint(folder.compact).model, folder.deploy / DEPLOYED)
    row = parity_row((folder.deploy / DEPLOYED).relative_to(path).as_posix(), cases)
    return {"files": {}, "parity": [row], "passed": row["passed"]}
