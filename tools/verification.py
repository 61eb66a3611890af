"""Do artifacts answer like their checkpoint, and is a run folder still what it was? ``slimbert verify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from exporter.artifact_parity import parity_with_artifact
from exporter.engine.builder import gpu_name_and_capability
from exporter.engine.library import import_tensorrt
from exporter.engine.record import check_gpu, check_version, read_engine
from exporter.text_cases import texts_from_file
from pruning.batching import Encodings
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError
from tools.console import Steps
from tools.manifest import changed_files, read_manifest
from tools.parity_row import parity_row
from tools.run_folder import RunFolder

ARTIFACTS = ("deploy/onnx/*.onnx", "tensorrt/*.engine", "tensorrt-rtx/*.engine")


def verify(path: Path) -> dict[str, Any]:
    """Checksums of all files, and parity of every artifact with the checkpoint.

    Returns:
        ``files``: name to problem, empty if all is well; ``parity``: one row per artifact; ``not_run``: artifacts that
        this machine cannot run, with what they need; ``passed``. A folder with changed files is not loaded: its parity
        is empty.

    Raises:
        InputError: if the folder is not a finished run.
    """
    problems = changed_files(path, read_manifest(path))
    if problems:
        return {"files": problems, "parity": [], "not_run": {}, "passed": False}
    folder = RunFolder(path)
    artifacts = [file.relative_to(path).as_posix() for pattern in ARTIFACTS for file in sorted(path.glob(pattern))]
    texts = texts_from_file(folder.texts) if folder.texts.is_file() else None
    with Steps() as steps, steps.stage("parity"):
        rows, not_run = parity_rows(load_checkpoint(folder.compact).model, path, artifacts, texts)
    return {"files": {}, "parity": rows, "not_run": not_run, "passed": all(row["passed"] for row in rows)}


def parity_rows(
    model: PreTrainedModel, path: Path, artifacts: Sequence[str], texts: Encodings | None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One row for each artifact that can be run here, and what the others need.

    Args:
        model: the reference.
        path: the run folder.
        artifacts: files relative to it.
        texts: real text, if there is some.

    Raises:
        InputError: if an ONNX file cannot be run.
    """
    not_run = {name: reason for name in artifacts if (reason := _missing(path / name)) is not None}
    rows = [
        parity_row(name, parity_with_artifact(model, path / name, texts)) for name in artifacts if name not in not_run
    ]
    return rows, not_run


def _missing(artifact: Path) -> str | None:
    """What an engine needs that is not here; None for everything that can be run."""
    if artifact.suffix != ".engine":
        return None
    record = read_engine(artifact)[1]
    try:
        check_gpu(record, gpu_name_and_capability())
        check_version(record, import_tensorrt(record.library).version)
    except InputError as error:
        return str(error)
    return None
