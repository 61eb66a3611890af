"""What the int8 tests share: models wide enough for 8 bits, their files, and batches with every kind of mask."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

from exporter.int8.check import Int8Tolerance
from exporter.int8.options import Int8Options
from exporter.options import GraphOptions
from exporter.to_onnx import onnx_from_model
from tests.exporter.compact import tiny_compact
from tests.tiny import randomise, tiny_batch

HEADS, FFN = [3, 1, 0], [96, 0, 31]
"""A one-head layer, an empty attention, an empty FFN and an odd width, over hidden 64 and head_dim 16."""
ANYTHING = Int8Tolerance(relative_error=1e9, argmax_agreement=0.0, cosine=0.0)
LOOSE = Int8Tolerance(relative_error=0.2, argmax_agreement=0.8, cosine=0.98)
"""Random weights of width 64 average out less than real ones, and random logits are often close to a tie."""
BATCHES = tuple(tiny_batch(8, 12, seed, padding) for seed, padding in enumerate(("none", "right", "left", "holes")))


def write_float(path: Path, head: str = "encoder", options: GraphOptions | None = None, **sizes: object) -> Path:
    model = tiny_compact(head, HEADS, FFN, **({"hidden_size": 64, "head_dim": 16} | sizes))
    randomise(model, seed=0, std=0.1)
    return onnx_from_model(model, path, options=options).path


def loose(**choices: object) -> Int8Options:
    return Int8Options(**({"tolerance": LOOSE} | choices))


def constants(path: Path) -> dict:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def edited(source: Path, target: Path, change) -> Path:
    """A copy of a file with its graph changed in place."""
    model = onnx.load(source)
    change(model)
    onnx.save(model, target)
    return target
