"""What a path holds: a checkpoint folder, an ONNX file, a deploy folder with ONNX files inside, or an engine."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from exporter.deploy import ONNX_FILE
from pruning.errors import InputError

ENGINE_SUFFIX = ".engine"


class Artifact(Enum):
    """The kinds of thing a runner may be handed."""

    CHECKPOINT = "a checkpoint folder"
    ONNX_FILE = "an ONNX file"
    DEPLOY_FOLDER = "a deploy folder"
    ENGINE = "a TensorRT engine"


def artifact_from_path(path: Path) -> Artifact:
    """Tell what ``path`` holds. A folder with weights is a checkpoint even if an ONNX file lies beside them.

    Raises:
        InputError: if there is nothing there, or nothing that can be run.
    """
    if not path.exists():
        raise InputError(f"nothing to measure at {path}: no such file or folder.")
    if path.is_file() and path.suffix == ".onnx":
        return Artifact.ONNX_FILE
    if path.is_file() and path.suffix == ENGINE_SUFFIX:
        return Artifact.ENGINE
    if (path / ONNX_FILE).is_file() and not any(path.glob("*.safetensors")):
        return Artifact.DEPLOY_FOLDER
    if (path / "config.json").is_file():
        return Artifact.CHECKPOINT
    raise InputError(
        f"cannot run {path}: expected a checkpoint folder (config.json, model.safetensors), "
        f"a deploy folder ({ONNX_FILE.as_posix()}), an .onnx file or an {ENGINE_SUFFIX} file."
    )
