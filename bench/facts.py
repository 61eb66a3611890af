"""What identifies a model on disk: checksum, size, architecture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from bench.result import ArtifactFacts
from bench.runners.artifact import Artifact, artifact_from_path
from exporter.deploy import ONNX_FILE
from exporter.describe import describe_onnx
from pruning.arch import ArchSpec
from pruning.checkpoint import read_config


def artifact_facts(path: Path) -> ArtifactFacts:
    """Checksum and size of the file that holds the weights, and the architecture where it can be read.

    Raises:
        InputError: if there is nothing that can be run.
    """
    kind = artifact_from_path(path)
    arch: ArchSpec | None
    first_token = False
    if kind is Artifact.CHECKPOINT:
        files, arch = sorted(path.glob("*.safetensors")), arch_from_folder(path)
        first_token = classifies_sequences(path)
    else:
        files = [path / ONNX_FILE if kind is Artifact.DEPLOY_FOLDER else path]
        found = describe_onnx(files[0]) if files[0].suffix == ".onnx" else None
        arch = None if found is None else found.arch
        first_token = found is not None and found.form is not None and found.form.first_token
    size = sum(file.stat().st_size for file in files)
    return ArtifactFacts(_sha256(files), size, None if arch is None else arch.to_dict(), first_token)


def arch_from_folder(folder: Path) -> ArchSpec:
    """The architecture as ``config.json`` states it, without reading weights.

    Raises:
        InputError: as `pruning.checkpoint.read_config`.
    """
    config = read_config(folder)
    layers, hidden, heads = (config[key] for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    return ArchSpec.from_lists(
        hidden,
        config.get("head_dim") or hidden // heads,
        config.get("layer_num_heads") or [heads] * layers,
        config.get("layer_intermediate_sizes") or [config["intermediate_size"]] * layers,
    )


def classifies_sequences(folder: Path) -> bool:
    """Whether the head reads the first token alone, so that an export computes the last layer for it alone."""
    return any(name.endswith("ForSequenceClassification") for name in read_config(folder).get("architectures") or ())


def _sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
