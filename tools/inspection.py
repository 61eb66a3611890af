"""What a file or folder holds: ``slimbert inspect``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text
from safetensors import safe_open

from bench.runners.artifact import Artifact, artifact_from_path
from exporter.deploy import ONNX_FILE
from exporter.describe import describe_onnx
from exporter.engine.profile_shapes import ProfileShapes
from exporter.engine.record import read_engine
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError
from pruning.introspect import head_from_model, inner_density
from tools.model_facts import facts_from_model
from tools.run_folder import STATE, RunFolder

TENSORS = ("inputs", "outputs")
"""Facts whose lists are dimensions."""


def inspect(path: Path) -> dict[str, Any]:
    """Facts about a checkpoint, an ONNX file or an engine; of a run folder, about its compact checkpoint.

    Raises:
        InputError: if there is nothing that slimbert can read.
    """
    if (path / STATE).is_dir():
        if not RunFolder(path).compact.is_dir():
            raise InputError(f"{path} holds a run that has not pruned yet. Continue it with slimbert run --resume.")
        path = RunFolder(path).compact
    kind = artifact_from_path(path)
    if kind is Artifact.CHECKPOINT:
        return _checkpoint_facts(path)
    if kind is Artifact.ENGINE:
        return _engine_facts(path)
    return _onnx_facts(path if path.is_file() else path / ONNX_FILE)


def table_from_facts(facts: Mapping[str, Any]) -> Group:
    """The facts for a terminal: a line each, then the layers."""
    lines = [
        Text(f"{name.replace('_', ' ')}: {_shown(value, ' x ' if name in TENSORS else ', ')}")
        for name, value in facts.items()
        if name != "arch"
    ]
    if facts.get("arch") is None:
        return Group(*lines)
    table = Table("layer", "heads", "FFN neurons", "matrix weights", title_justify="left")
    for column in table.columns:
        column.justify = "right"
    hidden, head_dim = facts["arch"]["hidden"], facts["arch"]["head_dim"]
    for index, layer in enumerate(facts["arch"]["layers"]):
        weights = 4 * hidden * head_dim * layer["heads"] + 2 * hidden * layer["ffn"]
        table.add_row(str(index), str(layer["heads"]), str(layer["ffn"]), f"{weights:,}")
    return Group(*lines, Text(f"hidden {hidden}, head size {head_dim}"), table)


def _checkpoint_facts(path: Path) -> dict[str, Any]:
    loaded = load_checkpoint(path)
    attention, ffn = inner_density(loaded.model)
    return {
        "kind": "checkpoint",
        "path": str(path),
        "architecture": type(loaded.model).__name__,
        "head": head_from_model(loaded.model),
        "precision": _stored_precision(path),
        "file_bytes": sum(file.stat().st_size for file in path.glob("*.safetensors")),
        **facts_from_model(loaded.model),
        "inner_density": {"attention": attention, "ffn": ffn},
    }


def _onnx_facts(path: Path) -> dict[str, Any]:
    found = describe_onnx(path)
    return {
        "kind": "onnx",
        "path": str(path),
        "producer": found.producer,
        "head": found.head,
        "file_bytes": found.bytes,
        "params": found.parameters,
        "precision": dict(found.precisions),
        "form": None if found.form is None else asdict(found.form),
        "fused_attention": found.fused_attention,
        "attention_layers": found.attention_layers,
        "opsets": dict(found.opsets),
        "operators": dict(found.nodes),
        "inputs": {x.name: list(x.dims) for x in found.inputs},
        "outputs": {x.name: list(x.dims) for x in found.outputs},
        "arch": None if found.arch is None else found.arch.to_dict(),
    }


def _engine_facts(path: Path) -> dict[str, Any]:
    """What the side-car says, after the checksum."""
    record = json.loads(read_engine(path)[1].to_json())
    profiles = [str(ProfileShapes.from_dict(profile)) for profile in record.pop("profiles")]
    return {"kind": "engine", "path": str(path), **record, "profiles": profiles}


def _stored_precision(path: Path) -> dict[str, int]:
    """Tensors per element type, as stored."""
    counts: dict[str, int] = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # not a mapping
                dtype = str(tensors.get_slice(name).get_dtype())
                counts[dtype] = counts.get(dtype, 0) + 1
    return counts


def _shown(value: object, separator: str = ", ") -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(item, separator)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return separator.join(map(str, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
