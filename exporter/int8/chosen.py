"""Dynamic int8 of the products that measurement chose, written and checked on texts that chose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.int8.choice import choose_products
from exporter.int8.draft import Int8Export
from exporter.int8.dynamic import int8_from_onnx
from exporter.int8.options import Int8Options
from pruning.batching import Batch, Predict


@dataclass(frozen=True)
class Int8Texts:
    """Real text as padded batches: what chooses the products, and what proves the result."""

    choice: Sequence[Batch]
    check: Sequence[Batch]


def chosen_int8_from_onnx(
    source: Path, target: Path, options: Int8Options, texts: Int8Texts, reference: Predict
) -> Int8Export:
    """Quantise all that the options allow, less the products with the largest error until the rest passes.

    Args:
        source: an fp32 file.
        target: the file to write; an older one is replaced only by one that passed.
        options: what may be quantised, and what it may cost.
        texts: to choose and to check.
        reference: the truth.

    Raises:
        InputError: if the source, the options or the target cannot be used.
        Int8Error: if no choice passes; nothing is left behind.
    """
    choice = choose_products(source, texts.choice, options, reference=reference)
    return int8_from_onnx(source, target, choice.to_options(options), texts.check, reference=reference)
