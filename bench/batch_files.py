"""Batches in a file, for another process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from pruning.batching import Batch


def save_batches(batches: Sequence[Batch], path: Path) -> None:
    """Write batches in their order."""
    tensors = {f"{index:04}.{name}": x for index, batch in enumerate(batches) for name, x in batch.items()}
    save_file({name: x.contiguous().clone() for name, x in tensors.items()}, path)


def load_batches(path: Path) -> list[Batch]:
    """Read what `save_batches` wrote."""
    batches: dict[str, Batch] = {}
    for name, tensor in sorted(load_file(path).items()):
        index, _, field = name.partition(".")
        batches.setdefault(index, {})[field] = tensor
    return list(batches.values())
